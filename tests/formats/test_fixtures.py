"""The files under tests/fixtures/formats: they come from their script, and they hold the motion of truth.npz.

The evaluators here are written from the formats' descriptions and share no code with the readers of the package.
"""

import importlib.util
import json
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

FOLDER = Path(__file__).parents[1] / "fixtures" / "formats"


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_fixtures", FOLDER / "make_fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def notes():
    return json.loads((FOLDER / "fixtures.json").read_text())


@pytest.fixture(scope="module")
def truth():
    with np.load(FOLDER / "truth.npz") as file:
        return dict(file)


def tokens(text):
    """Split text into words and numbers, so that the last digit may differ between machines."""
    words, numbers = [], []
    for word in text.split():
        try:
            numbers.append(float(word))
        except ValueError:
            words.append(word)
    return words, np.array(numbers)


@pytest.mark.parametrize(
    ("group", "names"),
    [("truth", ["truth.npz"]), ("odd", ["odd.bvh"]), ("asf", ["01.asf", "01_01.amc"]), ("amass", ["amass_smplh_poses.npz"]),
     ("smplcodec", ["dance_smplx.smpl"]), ("c3d", ["markers.c3d"]), ("humanml3d", ["humanml3d/new_joint_vecs/000001.npy"]),
     ("phantomdance", ["phantomdance/motion/001.json"])],
)  # fmt: skip
def test_the_script_still_makes_the_committed_files(make, tmp_path, group, names):
    make.GROUPS[group](tmp_path)
    for name in names:
        made, kept = tmp_path / name, FOLDER / name
        if name.endswith((".npz", ".smpl")):
            with np.load(made) as a, np.load(kept) as b:
                assert a.files == b.files
                for key in a.files:
                    assert a[key].dtype == b[key].dtype
                    if a[key].dtype.kind == "f":
                        np.testing.assert_allclose(a[key], b[key], atol=3e-6)
                    else:
                        np.testing.assert_array_equal(a[key], b[key])
        elif name.endswith(".npy"):
            np.testing.assert_allclose(np.load(made), np.load(kept), atol=1e-4)
        elif name.endswith(".c3d"):
            assert made.read_bytes()[:1024] == kept.read_bytes()[:1024]
        else:
            (words, numbers), (kept_words, kept_numbers) = tokens(made.read_text()), tokens(kept.read_text())
            if not name.endswith(".json"):
                assert words == kept_words
            np.testing.assert_allclose(numbers, kept_numbers, atol=1e-3)


def test_every_file_has_a_note_and_no_file_is_large(notes):
    for path in FOLDER.rglob("*"):
        name = path.relative_to(FOLDER).as_posix()
        if path.suffix in (".bvh", ".glb", ".amc", ".asf", ".c3d", ".pt", ".smpl", ".pkl") or name.startswith(
            "amass"
        ):
            assert name in notes, name
            assert path.stat().st_size < 60_000, name
    assert all(note["source"] for note in notes.values())


def truth_of(make, note):
    """Return the truth (T, 24, 3) at the frames of a file with one dancer."""
    t = note.get("first_time", 0.0) + np.arange(note["frames"]) / note["fps"]
    return make.motion(t, note["dancers"][0])[2]


def read_bvh(text):
    """Evaluate a BVH: names, and positions (T, nodes, 3) in the file's units; position channels replace the OFFSET."""
    head, data = re.split(r"Frame Time:\s*\S+\s", text)
    names, parents, offsets, channels, stack = [], [], [], [], []
    lines = [line.split() for line in head.splitlines() if line.split()]
    for line in lines:
        if line[0] in ("ROOT", "JOINT", "End"):
            names.append(line[1])
            parents.append(stack[-1] if stack else -1)
            channels.append([])
            offsets.append(None)
        elif line[0] == "{":
            stack.append(len(names) - 1)
        elif line[0] == "}":
            stack.pop()
        elif line[0] == "OFFSET":
            offsets[stack[-1]] = np.array(line[1:], float)
        elif line[0] == "CHANNELS":
            channels[stack[-1]] = line[2:]
    rows = np.array([line.split() for line in data.splitlines() if line.strip()], float)
    column, world, points = 0, [], []
    for i, p in enumerate(parents):
        place, local = np.tile(offsets[i], (len(rows), 1)), Rotation.identity(len(rows))
        for name in channels[i]:
            axis = "XYZ".index(name[0])
            if name.endswith("position"):
                place[:, axis] = rows[:, column]
            else:
                local = local * Rotation.from_euler("xyz"[axis], rows[:, [column]], degrees=True)
            column += 1
        points.append(place if p < 0 else points[p] + world[p].apply(place))
        world.append(local if p < 0 else world[p] * local)
    assert column == rows.shape[1]
    return names, np.stack(points, axis=1)


@pytest.mark.parametrize("name", ["cmu", "mixamo", "lafan1", "motorica", "bandai_namco", "odd"])
def test_bvh_holds_the_truth(make, notes, name):
    note = notes[f"{name}.bvh"]
    names, points = read_bvh((FOLDER / f"{name}.bvh").read_text())
    joints = truth_of(make, note)
    assert len(points) == len(joints)
    if note["up"] == "z":
        points = points @ make.Z_UP
    for node, joint in note["joints"].items():
        error = np.abs(points[:, names.index(node)] * note["unit_m"] - joints[:, make.J[joint]]).max()
        assert error < 3e-5, (node, error)


def test_acclaim_holds_the_truth(make, notes):
    note = notes["01_01.amc"]
    text = (FOLDER / "01.asf").read_text()
    bones = {}
    for block in re.findall(r"  begin\s+id.*?  end", text, flags=re.S):
        row = {line.split()[0]: line.split()[1:] for line in block.splitlines() if len(line.split()) > 1}
        bones[row["name"][0]] = row
    hierarchy = [line.split() for line in text.split(":hierarchy")[1].splitlines() if len(line.split()) > 1]
    parent = {child: line[0] for line in hierarchy for child in line[1:]}
    frames = re.split(r"\n\d+\n", (FOLDER / "01_01.amc").read_text())[1:]
    joints = truth_of(make, note)
    assert len(frames) == len(joints)
    for k in (0, 17, 59):
        values = {line.split()[0]: np.array(line.split()[1:], float) for line in frames[k].splitlines()}
        world = {"root": Rotation.from_euler("xyz", values["root"][3:], degrees=True)}
        ends = {"root": values["root"][:3]}
        for name, row in bones.items():
            angles = np.zeros(3)
            for dof, value in zip(row.get("dof", []), values.get(name, []), strict=True):
                angles["xyz".index(dof[1])] = value
            c = Rotation.from_euler("xyz", np.array(row["axis"][:3], float), degrees=True)
            world[name] = world[parent[name]] * c * Rotation.from_euler("xyz", angles, degrees=True) * c.inv()
            bone = np.array(row["direction"], float) * float(row["length"][0])
            ends[name] = ends[parent[name]] + world[name].apply(bone)
        for name, joint in note["bone_ends"].items():
            error = np.abs(ends[name] * note["unit_m"] - joints[k, make.J[joint]]).max()
            assert error < 5e-5, (name, error)


def read_glb(path):
    data = path.read_bytes()
    magic, version, total, length, _ = struct.unpack_from("<IIIII", data)
    assert (magic, version, total) == (0x46546C67, 2, len(data))
    tree = json.loads(data[20 : 20 + length])
    return tree, data[28 + length :]


def accessor(tree, blob, index):
    entry = tree["accessors"][index]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[entry["type"]]
    dtype = {5126: "<f4", 5122: "<i2"}[entry["componentType"]]
    view = tree["bufferViews"][entry["bufferView"]]
    values = (
        np.frombuffer(blob, dtype, entry["count"] * width, view["byteOffset"])
        .reshape(-1, width)
        .astype(float)
    )
    return values / 32767 if entry.get("normalized") else values


@pytest.mark.parametrize("name", ["linear", "step", "shorts", "cubicspline"])
def test_glb_holds_the_truth(make, notes, name):
    tree, blob = read_glb(FOLDER / f"{name}.glb")
    note = notes[f"{name}.glb"]
    moved = {}
    animation = tree["animations"][0]
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        values = accessor(tree, blob, sampler["output"])
        values = values[1::3] if sampler["interpolation"] == "CUBICSPLINE" else values
        moved[channel["target"]["node"], channel["target"]["path"]] = values
        assert len(values) == len(accessor(tree, blob, sampler["input"])) == note["frames"]
    points = {}

    def visit(index, matrix):
        node = tree["nodes"][index]
        count = note["frames"]
        local = np.tile(np.eye(4), (count, 1, 1))
        rotation = moved.get((index, "rotation"), np.tile(node.get("rotation", [0, 0, 0, 1]), (count, 1)))
        local[:, :3, :3] = Rotation.from_quat(rotation).as_matrix() * np.array(node.get("scale", [1, 1, 1]))
        local[:, :3, 3] = moved.get(
            (index, "translation"), np.array(node.get("translation", [0, 0, 0]), float)
        )
        matrix = matrix @ local
        points[node["name"]] = matrix[:, :3, 3]
        for child in node.get("children", []):
            visit(child, matrix)

    visit(tree["scenes"][0]["nodes"][0], np.eye(4))
    joints = truth_of(make, note)
    names = note.get("joints", {joint: joint for joint in make.J})
    for node, joint in names.items():
        assert np.abs(points[node] - joints[:, make.J[joint]]).max() < (2e-4 if name == "shorts" else 1e-5), (
            node
        )


def test_c3d_points(make, notes):
    with np.load(FOLDER / "markers_truth.npz") as file:
        kept = dict(file)
    for name, dtype, tolerance in (("markers.c3d", "<f4", 1e-6), ("markers_int.c3d", "<i2", 1e-4)):
        data = (FOLDER / name).read_bytes()
        _, key, count, _, first, last = struct.unpack_from("<BBHHHH", data)
        scale, start = struct.unpack_from("<fH", data, 12)
        assert (key, count, last - first + 1, data[515]) == (80, 41, notes[name]["frames"], 84)
        words = np.frombuffer(data, dtype, 4 * count * (last - first + 1), 512 * (start - 1)).reshape(
            -1, count, 4
        )
        points = words[..., :3] * (scale if scale > 0 else 1.0) / 1000 @ make.Z_UP
        seen = words[..., 3] >= 0
        assert np.abs(points - kept["markers"])[seen].max() < tolerance
        assert (~seen).sum() == (10 if name == "markers.c3d" else 0)


def test_humanml3d_positions_come_back(make):
    data = np.load(FOLDER / "humanml3d/new_joint_vecs/000001.npy").astype(float)
    angle = np.concatenate([[0], np.cumsum(data[:-1, 0])])
    back = Rotation.from_rotvec(np.outer(-2 * angle, [0, 1, 0]))
    step = np.zeros((len(data), 3))
    step[1:, [0, 2]] = data[:-1, 1:3]
    root = np.cumsum(back.apply(step), axis=0)
    near = data[:, 4:67].reshape(-1, 21, 3)
    joints = np.stack([back.apply(near[:, j]) for j in range(21)], axis=1) + root[:, None] * [1, 0, 1]
    kept = np.load(FOLDER / "humanml3d/new_joints/000001.npy").astype(float)
    # The features start with the smoothed facing of the first frame as +z: one turn about y is free.
    a, b = joints - joints[:1, :1] * [1, 0, 1], kept[:, 1:] - kept[:1, 1:2] * [1, 0, 1]
    turn = Rotation.align_vectors(b.reshape(-1, 3), a.reshape(-1, 3))[0]
    assert np.abs(turn.as_rotvec()[[0, 2]]).max() < 1e-4
    assert np.abs(turn.apply(a.reshape(-1, 3)) - b.reshape(-1, 3)).max() < 1e-4


def smpl_files():
    """Yield (name, poses (T, joints, 3), translation (T, 3), turn of the file's axes to y up)."""
    same, z_up, down = (
        np.eye(3),
        Rotation.from_euler("x", -90, degrees=True).as_matrix(),
        np.diag([1.0, -1, -1]),
    )
    for name in ("amass_smpl.npz", "amass_smplh_poses.npz", "amass_smplx_stageii.npz"):
        with np.load(FOLDER / name) as file:
            yield name, file["poses"][:, :66], file["trans"], z_up
    for name in ("dance_smplx.smpl", "dance_smplh.smpl"):
        with np.load(FOLDER / name) as file:
            assert {file[key].dtype.str for key in file.files} == {"<i4", "<f4"}
            yield name, file["bodyPose"], file["bodyTranslation"], same
    with np.load(FOLDER / "humandata.npz", allow_pickle=True) as file:
        smpl = file["smpl"].item()
        yield (
            "humandata.npz",
            np.concatenate([smpl["global_orient"][:, None], smpl["body_pose"]], axis=1),
            smpl["transl"],
            same,
        )
    name = "aist_plusplus_final/motions/gBR_sBM_cAll_d04_mBR0_ch03.pkl"
    data = pickle.loads((FOLDER / name).read_bytes())
    yield name, data["smpl_poses"], data["smpl_trans"] / data["smpl_scaling"], same
    name = "gdance/motions_smpl/sBM_two_00_120.pkl"
    data = pickle.loads((FOLDER / name).read_bytes())
    yield name, data["smpl_poses"][0], data["root_trans"][0], same
    name = "dd100/motion/smplx/all/Waltz_5_0_00.npy"
    data = np.load(FOLDER / name, allow_pickle=True).item()
    yield name, data["poses"][:, :66], data["transl"], down
    for name, start in (("finedance/motion/063.npy", 0), ("finedance/motion_fea319/001.npy", 4)):
        data = np.load(FOLDER / name).astype(float)[:, start:]
        rows = data[:, 3:].reshape(len(data), 52, 2, 3)
        matrices = np.concatenate([rows, np.cross(rows[..., :1, :], rows[..., 1:, :])], axis=-2)
        poses = Rotation.from_matrix(matrices[:, :22].reshape(-1, 3, 3)).as_rotvec().reshape(len(data), 22, 3)
        yield name, poses, data[:, :3], same


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parameter_files_hold_the_truth(make, notes):
    for name, poses, translation, turn in smpl_files():
        count = len(translation)
        full = np.zeros((count, 24, 3))
        poses = np.asarray(poses, float).reshape(count, -1, 3)[:, :22]
        full[:, : poses.shape[1]] = poses
        joints, _ = make.forward(full, translation + np.array(notes[name]["rest_pelvis"]))
        note = notes[name] | {"fps": notes[name]["fps"] or 30}
        error = np.abs(joints[:, :22] @ turn.T - truth_of(make, note)[:, :22]).max()
        assert error < 1e-5, (name, error)


def test_phantomdance_holds_the_truth(make, notes):
    """In Unity's axes a child is at its parent plus the parent's world rotation of the mirrored rest offset."""
    data = json.loads((FOLDER / "phantomdance/motion/001.json").read_text())
    joints = truth_of(make, notes["phantomdance/motion/001.json"]) * [-1, 1, 1]
    q = np.array(data["rotations"])
    points = [np.array(data["root_positions"])]
    for j in range(1, 24):
        p = make.PARENTS[j]
        points.append(points[p] + Rotation.from_quat(q[:, p]).apply(make.OFFSETS[j] * [-1, 1, 1]))
    assert np.abs(np.stack(points, axis=1) - joints).max() < 1e-5


def test_estimators_project_where_the_camera_sees_them(make, notes):
    torch = pytest.importorskip("torch")
    data = torch.load(FOLDER / "hmr4d_results.pt", weights_only=True)
    note = notes["hmr4d_results.pt"]
    smpl = data["smpl_params_incam"]
    poses = np.zeros((note["frames"], 24, 3))
    poses[:, 0], poses[:, 1:22] = smpl["global_orient"], smpl["body_pose"].numpy().reshape(-1, 21, 3)
    joints, _ = make.forward(poses, smpl["transl"].numpy() + note["rest_pelvis"])
    camera = note["camera"]
    seen = (truth_of(make, note) - camera["position"]) * [1, -1, -1]
    assert np.abs(joints[:, :22] - seen[:, :22]).max() < 1e-5
    pixels = joints @ data["K_fullimg"][0].numpy().T
    centre = pixels[:, 0, :2] / pixels[:, 0, 2:]
    assert np.abs(centre - [camera["width"] / 2, camera["height"] / 2]).max() < 200
