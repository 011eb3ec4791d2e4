"""Damaged and hostile files of every format: one error that names the file, no other exception, no hang, bounded memory."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opendance_hf.errors import OpenDanceError
from opendance_hf.formats import FORMATS, FormatError, bvh, csvtable, format_named, glb, smplcodec, vrma
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigs import load_names
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from tests.formats import asffile, c3dfile
from tests.formats.support import dance
from tests.formats.test_c3d import walk

#: Formats that are only written; their readers refuse any file.
WRITTEN_ONLY = ("fbx", "usd")
#: What files do not tell.
ANSWERS: dict[str, dict[str, Any]] = {"gvhmr": {"fps": 30}, "wham": {"fps": 30}}
FIXTURES = Path(__file__).parents[1] / "fixtures" / "formats"
MAX_MEMORY = 100 * 2**20
READERS = [name for name in FORMATS if name != "c3d" or find_spec("ezc3d")]

each_format = pytest.mark.parametrize("name", READERS)


def read(name: str, path: Path) -> Motion | None:
    """Read a file that may be damaged: return a motion of finite numbers, or None after an error that names a file."""
    try:
        motion = format_named(name).read(path, **ANSWERS.get(name, {}))
    except OpenDanceError as error:
        said = str(error)
    else:
        # What was changed may be a number, or of no meaning.
        assert np.isfinite(motion.joints).all()
        return motion
    assert str(path.parent) in said
    assert len(said) < 2000, said
    return None


def _amc(folder: Path) -> Path:
    return asffile.write(dance(1, 6), folder / "a.amc")


def _c3d(folder: Path) -> Path:
    places = c3dfile.markers(*walk(121))[0]
    return c3dfile.write(folder / "a.c3d", {name: value * 1000 for name, value in places.items()})


def _pickled(folder: Path, **content: Any) -> Path:
    (folder / "a.pkl").write_bytes(pickle.dumps(content))
    return folder / "a.pkl"


def _smpl(motion: Motion) -> dict[str, np.ndarray]:
    assert motion.poses is not None
    assert motion.transl is not None
    return {"poses": motion.poses[0].reshape(6, 72), "transl": motion.transl[0]}


def _edge(folder: Path) -> Path:
    smpl = _smpl(dance(1, 6))
    lying = smpl["poses"] * 0
    lying[:, 0] = np.pi / 2  # z points up
    joints = forward_kinematics(lying.reshape(6, 24, 3), smpl["transl"] * 0, MEAN_OFFSETS)
    return _pickled(folder, smpl_poses=lying, smpl_trans=smpl["transl"] * 0, full_pose=joints)


def _lodge(folder: Path) -> Path:
    row = np.tile([1.0, 0, 0, 0, 1, 0], 22)
    np.save(folder / "a.npy", np.hstack([np.zeros((6, 3)), np.repeat(row[None], 6, axis=0)]))
    return folder / "a.npy"


def _gvhmr(folder: Path) -> Path:
    smpl = _smpl(dance(1, 6))
    poses = torch.from_numpy(smpl["poses"])
    section = {
        "global_orient": poses[:, :3],
        "body_pose": poses[:, 3:66],
        "transl": torch.from_numpy(smpl["transl"]),
    }
    torch.save({"smpl_params_global": section}, folder / "a.pt")
    return folder / "a.pt"


def _coco(folder: Path) -> Path:
    joints = dance(1, 6).joints[0]
    head = joints[:, [15]] + np.array([[0, 0, 0.1], [0, 0, 0.1], [0, 0, 0.1], [0.1, 0, 0], [-0.1, 0, 0]])
    points = np.concatenate([head, joints[:, [16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8]]], axis=1)
    return _pickled(folder, keypoints3d_optim=points * 100)


def _dd100(folder: Path) -> Path:
    smpl = _smpl(dance(1, 6))
    content = {
        "poses": np.pad(smpl["poses"][:, :66], ((0, 0), (0, 99))),
        "transl": smpl["transl"],
        "meta": {"gender": "male"},
    }
    np.save(folder / "a.npy", np.array(content, dtype=object), allow_pickle=True)
    return folder / "a.npy"


def _gdance(folder: Path) -> Path:
    smpl = _smpl(dance(1, 6))
    return _pickled(folder, smpl_poses=smpl["poses"][None], root_trans=smpl["transl"][None])


def _humanml3d(folder: Path) -> Path:
    return Path(shutil.copy(FIXTURES / "humanml3d" / "new_joint_vecs" / "000001.npy", folder / "a.npy"))


def _phantomdance(folder: Path) -> Path:
    return Path(shutil.copy(FIXTURES / "phantomdance" / "motion" / "001.json", folder / "a.json"))


def _wham(folder: Path) -> Path:
    smpl = _smpl(dance(1, 6))
    person = {
        "pose": smpl["poses"],
        "trans": smpl["transl"],
        "pose_world": smpl["poses"],
        "trans_world": smpl["transl"],
    }
    joblib.dump({0: {**person, "betas": np.zeros((6, 10)), "frame_ids": np.arange(6)}}, folder / "a.pkl")
    return folder / "a.pkl"


def _written(name: str, suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        module: Any = format_named(name)
        return Path(module.write(dance(1, 6), folder / f"a{suffix}")[0])

    return write


def _refused(folder: Path) -> Path:
    (folder / "a.bin").write_bytes(b"PXR-USDC" * 20)
    return folder / "a.bin"


MAKERS: dict[str, Callable[[Path], Path]] = {
    "aistpp": _written("aistpp", ".pkl"), "amass": _written("amass", ".npz"), "amc": _amc, "bvh": _written("bvh", ".bvh"),
    "c3d": _c3d, "coco": _coco, "csv": _written("csv", ".csv"), "dd100": _dd100, "edge": _edge, "fbx": _refused,
    "gdance": _gdance, "glb": _written("glb", ".glb"), "gvhmr": _gvhmr, "humandata": _written("humandata", ".npz"),
    "humanml3d": _humanml3d, "lodge": _lodge, "opendance": _written("opendance", ".npz"), "phantomdance": _phantomdance,
    "smplcodec": _written("smplcodec", ".smpl"), "usd": _refused, "vrma": _written("vrma", ".vrma"), "wham": _wham,
}  # fmt: skip


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A valid file of each format."""
    return {name: MAKERS[name](tmp_path_factory.mktemp(name)) for name in READERS}


@each_format
def test_the_files_that_are_damaged_below_are_read(name: str, valid: dict[str, Path]) -> None:
    assert (read(name, valid[name]) is None) == (name in WRITTEN_ONLY)


def few(name: str) -> int:
    """Number of examples; ezc3d runs in a process of its own, which takes half a second."""
    return 6 if name == "c3d" else 40


@each_format
def test_truncated_anywhere(name: str, valid: dict[str, Path], tmp_path: Path) -> None:
    whole = valid[name].read_bytes()

    @settings(max_examples=few(name), suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(whole) - 1))
    def run(length: int) -> None:
        copy = copied(valid[name], tmp_path)
        copy.write_bytes(whole[:length])
        motion = read(name, copy)
        # Text may end in the middle of its last number, which is then another one; and zip files end in their directory.
        # Text without a number of frames may end after any frame: it is a shorter dance.
        assert (
            motion is None or length > len(whole) * 0.9 or (name in {"amc", "csv"} and motion.num_frames < 6)
        )

    run()


def copied(path: Path, folder: Path) -> Path:
    """Return a copy of a file in another folder, with those beside it."""
    for beside in path.parent.iterdir():
        shutil.copy(beside, folder / beside.name)
    return folder / path.name


@each_format
def test_flipped_bytes(name: str, valid: dict[str, Path], tmp_path: Path) -> None:
    whole = valid[name].read_bytes()

    @settings(max_examples=few(name) * 2, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=8),
        st.booleans(),
    )
    def run(flips: list[tuple[int, int]], near: bool) -> None:
        data = bytearray(whole)
        for place, value in flips:
            data[place % 600 if near else place] = value  # headers are more than numbers
        copy = copied(valid[name], tmp_path)
        copy.write_bytes(data)
        read(name, copy)

    run()


@pytest.mark.parametrize("seed", range(3))
def test_a_skeleton_with_flipped_bytes(seed: int, tmp_path: Path) -> None:
    path = _amc(tmp_path)
    skeleton = path.with_suffix(".asf")
    whole, rng = skeleton.read_bytes(), np.random.default_rng(seed)
    for _ in range(40):
        data = bytearray(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 8)):
            data[place] = rng.integers(256)
        skeleton.write_bytes(data if rng.random() < 0.7 else whole[: rng.integers(len(whole))])
        read("amc", path)


@each_format
def test_what_is_no_such_file(name: str, valid: dict[str, Path], tmp_path: Path) -> None:
    module = format_named(name)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OpenDanceError, match=r"folder\.npz"):
        module.read(tmp_path / "folder.npz", **ANSWERS.get(name, {}))
    with pytest.raises(FileNotFoundError):
        module.read(tmp_path / "missing.npz")
    for content in (
        b"",
        b"\0",
        b"\0" * 5000,
        b"PK\x03\x04" + b"\0" * 100,
        b"\x80\x04.",
        b"{" * 5000,
        b"\xff\xfe" * 500,
    ):
        (tmp_path / "noise").write_bytes(content)
        assert read(name, tmp_path / "noise") is None
    # Files of all other formats under any name.
    for other, path in valid.items():
        if {name, other} not in ({"glb", "vrma"}, {"aistpp", "edge"}) and other != name:
            shutil.copy(path, tmp_path / "other")
            motion = read(name, tmp_path / "other")
            assert motion is None or {name, other} <= {"amass", "smplcodec", "opendance", "humandata"}, other


def bounded(name: str, path: Path) -> None:
    """Read a file that must be refused, and check how much memory that took."""
    tracemalloc.start()
    try:
        assert read(name, path) is None
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()


def array_header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text = text.ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("name", ["amass", "humandata", "opendance", "smplcodec"])
def test_archives_that_promise_too_much(name: str, valid: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(valid[name]) as archive:
        members = {info: archive.read(info) for info in archive.namelist()}
    path = tmp_path / "a.npz"
    worst = {
        "amass": "poses.npy",
        "humandata": "meta.npy",
        "opendance": "joints.npy",
        "smplcodec": "bodyPose.npy",
    }[name]
    for member in members:
        for content in (
            array_header((10**9, 24, 3)),
            array_header((10**18, 10**18)),
            array_header((-1, 3)),
            array_header((2**63,)),
            array_header((6, 3), "|O") + pickle.dumps(print),
            *([bytes(150 * 2**20)] if member == worst else []),  # zeros pack to a thousandth
        ):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for other, data in members.items():
                    archive.writestr(other, content if other == member else data)
            tracemalloc.start()
            try:
                read(name, path)  # members that are not read may be anything
                assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY, member
            finally:
                tracemalloc.stop()


@pytest.mark.parametrize("name", ["amass", "humandata", "opendance", "smplcodec"])
def test_names_in_archives_are_never_paths(name: str, valid: dict[str, Path], tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "a.npz"
    shutil.copy(valid[name], path)
    with zipfile.ZipFile(path, "a") as archive:
        for bad in ("../out.npy", "/tmp/opendance_out.npy", "..\\out.npy", "a/../../out.npy"):
            archive.writestr(bad, array_header((0,)))
    read(name, path)
    assert sorted(found.name for found in tmp_path.rglob("*")) == ["a.npz", "inner"]
    assert not Path("/tmp/opendance_out.npy").exists()


def test_positions_near_the_largest_float_are_refused_at_once(valid: dict[str, Path], tmp_path: Path) -> None:
    content = pickle.loads(valid["coco"].read_bytes())
    content["keypoints3d_optim"][3, 9] = 1e303
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(
        FormatError, match=r"a\.pkl: read in centimetres, a position is 1e\+301 m from the origin"
    ):
        format_named("coco").read(tmp_path / "a.pkl")


def test_lodge_arrays_that_promise_too_much(tmp_path: Path) -> None:
    for header in (array_header((10**10, 135)), array_header((10**20, 135)), array_header((6, 135), "|O")):
        (tmp_path / "a.npy").write_bytes(header + bytes(100))
        bounded("lodge", tmp_path / "a.npy")


def bvh_text(hierarchy: str, motion: str) -> str:
    return f"HIERARCHY\n{hierarchy}\nMOTION\n{motion}\n"


@pytest.mark.parametrize(
    "text",
    [
        bvh_text("ROOT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n}", "Frames: 999999999\nFrame Time: 0.01\n0 0 0"),
        bvh_text("ROOT a\n{\nOFFSET 0 0 0\nCHANNELS 0\n}", "Frames: 29000000\nFrame Time: 0.01\n"),
        bvh_text("ROOT a\n{\nOFFSET 0 0 0\n}", "Frames: 29000000\nFrame Time: 0.01\n"),
        bvh_text("ROOT a\n{\n" + "JOINT b\n{\n" * 15_000, "Frames: 1\nFrame Time: 0.01\n"),
        bvh_text("ROOT a\n{\n" + "JOINT b\n{\n" * 990 + "}\n" * 991, "Frames: 29000\nFrame Time: 0.01\n"),
        bvh_text("ROOT a\n{\nCHANNELS 99999999999 Xposition\n}", "Frames: 1\nFrame Time: 0.01\n0"),
        bvh_text("ROOT a\n{\nOFFSET 1e999 0 0\n}", "Frames: 1\nFrame Time: 0.01\n0"),
        bvh_text("ROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xposition\n}", "Frames: 1\nFrame Time: 1e-320\n0"),
        bvh_text("ROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xposition\n}", "Frames: -5\nFrame Time: 0.01\n0"),
        bvh_text("ROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xposition\n}", f"Frames: {'9' * 5000}\nFrame Time: 0.01\n0"),
        "HIERARCHY " + "x" * 10_000_000,
        "\n" * 300_000,
    ],
    ids=lambda text: text[10:30],
)  # fmt: skip
def test_bvh_that_promises_too_much(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text)
    bounded("bvh", tmp_path / "a.bvh")


@pytest.mark.parametrize("name", ["amc", "bvh"])
def test_a_line_that_does_not_end_is_not_read_to_its_end(
    name: str, valid: dict[str, Path], tmp_path: Path
) -> None:
    path = copied(valid[name], tmp_path)
    path.write_text("1" * 20_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=rf"{path.name}: has a line of 100,000 characters or more"):
            format_named(name).read(path)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_a_word_without_end_in_the_motion_of_a_bvh_is_refused_at_once(
    valid: dict[str, Path], tmp_path: Path
) -> None:
    path = copied(valid["bvh"], tmp_path)
    with path.open("a") as file:
        file.write("1" * 20_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="has a word of more than 100,000 characters"):
            format_named("bvh").read(path)
        assert tracemalloc.get_traced_memory()[1] < 15e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("number", ["nan", "inf", "-1e300", "1e308", "1e-320", "0"])
@pytest.mark.parametrize("name", ["amc", "asf", "bvh", "csv"])
def test_numbers_in_text_that_are_none(
    name: str, number: str, valid: dict[str, Path], tmp_path: Path
) -> None:
    path = valid["amc" if name == "asf" else name]
    copy = copied(path, tmp_path)
    changed = copy.with_suffix(".asf") if name == "asf" else copy
    text = changed.read_text()
    rng = np.random.default_rng(0)
    words = text.replace(",", " , ").replace("\n", " \n ").split(" ")
    numeric = [
        index
        for index, word in enumerate(words)
        if word.strip("-").replace(".", "").isdigit() and "." in word
    ]
    for index in rng.choice(numeric, size=8):
        new = [*words]
        new[index] = number
        changed.write_text(" ".join(new))
        read("amc" if name == "asf" else name, copy)


def test_skeletons_of_too_many_or_circling_bones(tmp_path: Path) -> None:
    path = _amc(tmp_path)
    skeleton = path.with_suffix(".asf")
    text = skeleton.read_text()
    head, bones, links = (
        text[: text.index("  begin")],
        text[text.index("  begin") : text.index(":hier")],
        text[text.index(":hier") :],
    )
    many = "".join(f"begin\nname b{n}\nlength 1\ndirection 1 0 0\nend\n" for n in range(12_000))
    chain = ":hierarchy\nbegin\nroot b0\n" + "".join(f"b{n} b{n + 1}\n" for n in range(900)) + "end\n"
    for hostile in (
        head + many + links,
        head + many[:40_000] + chain,
        head + bones + links.replace("    lfemur to_ltibia", "    lfemur to_ltibia\n    ltibia to_lfemur"),
        head + bones + ":hierarchy\nbegin\nroot root\nend\n",
        head + bones + ":hierarchy\nbegin\n" + "lfemur ltibia\nltibia lfemur\n" + "end\n",
        "a" * 2_000_000,
        ":bonedata\n" + "begin\n" * 1000,
    ):
        skeleton.write_text(hostile)
        bounded("amc", path)
    skeleton.write_text(text)
    path.write_text(":DEGREES\n" + "1\n" * 500_000)
    bounded("amc", path)
    path.write_text("1\n" * 3 + "root " + "0 " * 100_000)
    bounded("amc", path)


def gltf(valid: dict[str, Path], tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write the valid GLB with another JSON."""
    data = valid["glb"].read_bytes()
    (size,) = struct.unpack_from("<I", data, 12)
    content = json.loads(data[20 : 20 + size])
    change(content)
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    path = tmp_path / "a.glb"
    path.write_bytes(
        struct.pack("<III", 0x46546C67, 2, 20 + len(text) + len(rest))
        + struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + rest
    )
    return path


def set_at(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        at: Any = content
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return change


def _deep(content: dict[str, Any]) -> None:
    """Hang a chain of 900 nodes on the first one."""
    first = len(content["nodes"])
    content["nodes"] += [{"children": [first + n + 1]} for n in range(899)] + [{"name": "last"}]
    content["nodes"][0]["children"].append(first)
    content["skins"][0]["joints"].append(first + 899)
    del content["skins"][0]["inverseBindMatrices"]


HOSTILE_GLTF: dict[str, Callable[[dict[str, Any]], None]] = {
    "a node below itself": set_at("nodes", 1, "children", value=[1]),
    "a ring of nodes": set_at("nodes", 3, "children", value=[1]),
    "a child of two": set_at("nodes", 2, "children", value=[4, 3, 4]),
    "children that are numbers no node has": set_at("nodes", 1, "children", value=[-1, 10**12]),
    "children that are text": set_at("nodes", 1, "children", value="children"),
    "children that are a float": set_at("nodes", 1, "children", value=[1.0]),
    "a count of 1e15": set_at("accessors", 0, "count", value=10**15),
    "a count below 0": set_at("accessors", 0, "count", value=-3),
    "a count that is true": set_at("accessors", 0, "count", value=True),
    "an offset below 0": set_at("accessors", 0, "byteOffset", value=-4),
    "a stride of 1": set_at("bufferViews", 0, "byteStride", value=1),
    "a component that is a list": set_at("accessors", 0, "componentType", value=[5126]),
    "times of another type": set_at("accessors", 0, "type", value="VEC3"),
    "a type that is an object": set_at("accessors", 0, "type", value={}),
    "a view that is text": set_at("accessors", 0, "bufferView", value="0"),
    "a view far away": set_at("bufferViews", 0, "byteOffset", value=2**40),
    "a buffer of another file": set_at("buffers", 0, value={"uri": "../secret.bin", "byteLength": 4}),
    "a buffer of the root": set_at("buffers", 0, value={"uri": "/etc/passwd", "byteLength": 4}),
    "a buffer with an encoded path": set_at("buffers", 0, value={"uri": "%2e%2e%2fsecret.bin", "byteLength": 4}),
    "a buffer of the net": set_at("buffers", 0, value={"uri": "http://127.0.0.1:9/x.bin", "byteLength": 4}),
    "a buffer of a device": set_at("buffers", 0, value={"uri": "file:///dev/zero", "byteLength": 4}),
    "a buffer with a null": set_at("buffers", 0, value={"uri": "a%00b", "byteLength": 4}),
    "a buffer with a long name": set_at("buffers", 0, value={"uri": "a" * 5000, "byteLength": 4}),
    "a buffer of damaged data": set_at("buffers", 0, value={"uri": "data:;base64,@@@", "byteLength": 4}),
    "a buffer that is a list": set_at("buffers", 0, value=[1]),
    "no animation": set_at("animations", value=[]),
    "an animation that is a list": set_at("animations", value=[[]]),
    "channels that are none": set_at("animations", 0, "channels", value=None),
    "a sampler that is text": set_at("animations", 0, "channels", 0, "sampler", value="x"),
    "a path that is a list": set_at("animations", 0, "channels", 0, "target", "path", value=[]),
    "a node that is a list": set_at("animations", 0, "channels", 0, "target", "node", value=[]),
    "an interpolation that is a list": set_at("animations", 0, "samplers", 0, "interpolation", value=[1]),
    "an input far away": set_at("animations", 0, "samplers", 0, "input", value=10**9),
    "a matrix of NaN": set_at("nodes", 1, "matrix", value=[float("nan")] * 16),
    "a matrix of zeros": set_at("nodes", 2, "matrix", value=[0] * 16),
    "a matrix of 3": set_at("nodes", 1, "matrix", value=[1, 2, 3]),
    "a rotation of zeros": set_at("nodes", 2, "rotation", value=[0, 0, 0, 0]),
    "a scale of zero": set_at("nodes", 1, "scale", value=[0, 0, 0]),
    "a scale of 1e300": set_at("nodes", 1, "scale", value=[1e300, 1e300, 1e300]),
    "a translation of 1e308": set_at("nodes", 2, "translation", value=[1e308, 1e308, 1e308]),
    "a translation of huge whole numbers": set_at("nodes", 1, "translation", value=[10**400, 0, 0]),
    "names that are lists": set_at("nodes", 2, "name", value=["pelvis"]),
    "a skin of all": set_at("skins", 0, "joints", value=list(range(10**4))),
    "a skin of no joints": set_at("skins", 0, "joints", value=[]),
    "a skin whose joints are text": set_at("skins", 0, "joints", value=["1"]),
    "bind matrices of another": set_at("skins", 0, "inverseBindMatrices", value=0),
    "a hundred thousand nodes": set_at("nodes", value=[{}] * 100_000),
    "a thousand skins": lambda content: content["skins"].extend(content["skins"] * 1000),
    "a chain of 900 nodes": _deep,
    "nodes that are an object": set_at("nodes", value={"0": {}}),
    "an asset that is text": set_at("asset", value="2.0"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE_GLTF)
def test_hostile_gltf(what: str, valid: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4))
    inner = tmp_path / "inner"
    inner.mkdir()
    path = gltf(valid, inner, HOSTILE_GLTF[what])
    tracemalloc.start()
    try:
        motion = read("glb", path)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()
    harmless = (
        "a rotation of zeros", "an asset that is text", "names that are lists", "a skin of no joints", "a chain of 900 nodes",
        "a scale of zero", "a thousand skins", "a path that is a list", "a matrix of zeros",
    )  # fmt: skip
    assert motion is None or what in harmless


def test_gltf_of_nested_or_huge_json(tmp_path: Path) -> None:
    for text in (
        b"[" * 10**6,
        b'{"asset":' * 10**5,
        b'{"asset":{"version":"2.0"},"nodes":[' + b"{}," * 10**6 + b"{}]}",
    ):
        (tmp_path / "a.gltf").write_bytes(text)
        read("glb", tmp_path / "a.gltf")
    for sizes in ((2**32 - 1, 4), (100, 2**32 - 1), (12, 0), (0, 0)):
        (tmp_path / "a.glb").write_bytes(
            struct.pack("<IIIII", 0x46546C67, 2, sizes[0], sizes[1], 0x4E4F534A) + bytes(80)
        )
        bounded("glb", tmp_path / "a.glb")


def test_gltf_buffers_that_are_links_or_pipes(valid: dict[str, Path], tmp_path: Path) -> None:
    import os

    (tmp_path / "real.bin").write_bytes(bytes(10**6))
    (tmp_path / "link.bin").symlink_to(tmp_path / "real.bin")
    os.mkfifo(tmp_path / "pipe.bin")
    for name in ("link.bin", "pipe.bin", "none.bin"):
        path = gltf(valid, tmp_path, set_at("buffers", 0, value={"uri": name, "byteLength": 10**6}))
        assert read("glb", path) is None


@pytest.mark.skipif(not find_spec("ezc3d"), reason="needs the extra c3d")
def test_c3d_headers_that_promise_too_much(valid: dict[str, Path], tmp_path: Path) -> None:
    whole = valid["c3d"].read_bytes()
    path = tmp_path / "a.c3d"
    rng = np.random.default_rng(0)
    for place, value in (
        (0, 255), (0, 0), (2, 65535), (4, 65535), (6, 65535), (8, 65535), (16, 65535), (16, 1), (16, 0), (18, 65535),
        (512 + 2, 255), (512 + 4, 127), (512 + 5, 0), (512 + 11, 65535),
    ):  # fmt: skip
        data = bytearray(whole)
        struct.pack_into("<B" if value < 256 else "<H", data, place, value)
        path.write_bytes(data)
        read("c3d", path)
    for _ in range(10):  # in the parameters, where sizes are
        data = bytearray(whole)
        data[512 + rng.integers(200)] = rng.integers(256)
        path.write_bytes(data)
        read("c3d", path)


def test_tables_that_promise_too_much(valid: dict[str, Path], tmp_path: Path) -> None:
    lines = valid["csv"].read_text().splitlines()
    path = tmp_path / "a.csv"
    for text in (
        lines[0] + "\n" + lines[1].replace("0", "1e18", 1),
        lines[0] + "\n" + lines[1].replace("0", "0.5", 1),
        "\n".join([lines[0], lines[1], lines[1].replace(",0,", ",1000000000,", 1)]),
        ",".join(f"c{n}" for n in range(10**6)),
        lines[0] + "\n" + "\n".join(["," * 150] * 10**4),
        '"' + "a" * 10**6,
        lines[0] + "\n\0\n",
    ):
        path.write_text(text)
        bounded("csv", path)


def test_smplcodec_counts(valid: dict[str, Path], tmp_path: Path) -> None:
    content = dict(np.load(valid["smplcodec"]))
    for changes in (
        {"frameCount": np.int32(-6)}, {"frameCount": np.int64(2**62)}, {"frameRate": np.float32(np.nan)},
        {"frameRate": np.float32(-30)}, {"frameRate": np.float32(np.inf)}, {"frameRate": np.zeros((0,), np.float32)},
        {"smplVersion": np.int32(-1)}, {"bodyPose": np.float32(0)}, {"bodyPose": np.zeros((6, 22, 3), np.int32)},
        {"bodyPose": np.zeros((6, 66), np.float32)}, {"bodyTranslation": np.zeros((5, 3), np.float32)},
        {"bodyTranslation": np.full((6, 3), np.nan, np.float32)},
    ):  # fmt: skip
        path = tmp_path / "a.smpl"
        with path.open("wb") as file:
            np.savez(file, **(content | changes))
        bounded("smplcodec", path)


def test_errors_are_of_this_package() -> None:
    assert issubclass(FormatError, OpenDanceError)
    assert {bvh.SUFFIX, glb.SUFFIX, vrma.SUFFIX, csvtable.SUFFIX, smplcodec.SUFFIX} == {
        ".bvh",
        ".glb",
        ".vrma",
        ".csv",
        ".smpl",
    }


@pytest.mark.parametrize(
    "text",
    [
        "joints: {pelvis: Hips}\nbetween: [1]", "joints: {pelvis: Hips}\nbetween: {a: 1}", "joints: {pelvis: Hips}\nbetween: {a: [b]}",
        "joints: {pelvis: Hips}\nrest: [T]", "joints: {pelvis: {a: b}}", "joints: {pelvis: [[Hips]]}", "joints: {1: a}",
        "joints: {[1]: a}", "a: &a [1]\njoints: *a", "[" * 9000, "? [a]\n: b", "\0", "joints: !!python/name:os.system",
        "joints: {pelvis: Hips}\n1: 2", "joints: {pelvis: 2024-01-01}", "- joints",
        "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)), "joints: *a8"]),
    ],
)  # fmt: skip
def test_hostile_tables_of_names(text: str, tmp_path: Path) -> None:
    path = tmp_path / "names.yaml"
    path.write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=r"names\.yaml"):
            load_names(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_MEMORY
    finally:
        tracemalloc.stop()
