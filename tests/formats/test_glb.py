"""GLB files: what is written, samplings and scales that are read, and what damaged files say."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendance_hf.formats import FormatError, glb
from opendance_hf.formats.gltf import GltfFile
from opendance_hf.formats.resample import at_frames
from tests.formats.support import dance, joint_error_mm


def content_of(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    size = struct.unpack_from("<I", data, 12)[0]
    return json.loads(data[20 : 20 + size]), data[20 + size + 8 :]


def save(file: Path, content: dict[str, Any], binary: bytes) -> Path:
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<III", 0x46546C67, 2, 28 + len(text) + len(binary))
    file.write_bytes(
        head
        + struct.pack("<II", len(text), 0x4E4F534A)
        + text
        + struct.pack("<II", len(binary), 0x004E4942)
        + binary
    )
    return file


def test_dancers_have_skeleton_body_and_one_animation(tmp_path: Path) -> None:
    (file,) = glb.write(dance(2), tmp_path / "d.glb", rig="mixamo", detail="low")
    content, _ = content_of(file)
    assert len(content["skins"]) == len(content["meshes"]) == 2
    assert [len(skin["joints"]) for skin in content["skins"]] == [24, 24]
    assert len(content["animations"]) == 1
    names = {content["nodes"][joint]["name"] for joint in content["skins"][0]["joints"]}
    assert "mixamorig:LeftForeArm" in names
    vertices = [
        GltfFile.load(file).array(m["primitives"][0]["attributes"]["POSITION"]) for m in content["meshes"]
    ]
    assert len(vertices[0]) == 1897
    # At rest the sole is on the ground and the left hand on +x.
    assert abs(vertices[0][:, 1].min()) < 0.02
    assert 1.6 < np.ptp(vertices[0][:, 1]) < 1.9


def test_a_skeleton_alone_has_no_mesh(tmp_path: Path) -> None:
    (file,) = glb.write(dance(), tmp_path / "d.glb", detail="none")
    assert not {"meshes", "skins", "materials"} & content_of(file)[0].keys()
    assert joint_error_mm(glb.read(file).joints, dance().joints) < 0.01


def test_a_single_pose_is_written(tmp_path: Path) -> None:
    pose = at_frames(dance(), np.zeros(1))
    (file,) = glb.write(pose, tmp_path / "d.glb", detail="none")
    rotations = [
        c["sampler"]
        for c in content_of(file)[0]["animations"][0]["channels"]
        if c["target"]["path"] == "rotation"
    ]
    assert rotations
    assert (
        len(
            GltfFile.load(file).array(
                content_of(file)[0]["animations"][0]["samplers"][rotations[0]]["output"]
            )
        )
        == 1
    )


def test_terms_are_in_the_file(tmp_path: Path) -> None:
    from dataclasses import replace

    motion = replace(dance(), meta={"licence": "free, but not to be resold"})
    (file,) = glb.write(motion, tmp_path / "d.glb", detail="none")
    assert content_of(file)[0]["asset"]["copyright"] == "free, but not to be resold"


def test_scaled_and_turned_nodes_above_the_skeleton_are_applied(tmp_path: Path) -> None:
    """As Blender writes a Mixamo character: centimetres under a scale of 0.01, z up under a turn about x."""
    (file,) = glb.write(dance(), tmp_path / "d.glb", detail="low")
    content, binary = content_of(file)
    top = content["scenes"][0]["nodes"][0]
    content["nodes"][top] |= {"scale": [0.01] * 3, "rotation": [-(0.5**0.5), 0, 0, 0.5**0.5]}
    # What is below is in centimetres and turned the other way: only the pelvis' track has to be.
    pelvis = content["skins"][0]["joints"][0]
    content["nodes"].append(
        {"name": "turn", "rotation": [0.5**0.5, 0, 0, 0.5**0.5], "scale": [100] * 3, "children": [pelvis]}
    )
    content["nodes"][top]["children"] = [len(content["nodes"]) - 1]
    found = glb.read(save(tmp_path / "e.glb", content, binary))
    assert joint_error_mm(found.joints, dance().joints) < 0.1


def test_other_rates_are_sampled(tmp_path: Path) -> None:
    (file,) = glb.write(dance(), tmp_path / "d.glb", detail="none")
    half = glb.read(file, fps=30)
    assert (half.fps, half.num_frames) == (30, 45)
    assert joint_error_mm(half.joints, dance().joints[:, ::2]) < 0.01


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (("nodes", 2, "children"), [1], "below itself|two parents"),
        (("nodes", 3, "children"), [99999], "no number 99999 in 'nodes'"),
        (("accessors", 1, "count"), 10**12, "reaches beyond the data"),
        (("accessors", 1, "componentType"), 7, "unknown type"),
        (("bufferViews", 1, "byteOffset"), -4, "damaged"),
        (("animations",), [], "has no animation"),
        (("animations", 0, "channels", 0, "sampler"), 5000, "no number 5000 in 'samplers'"),
        (("animations", 0, "samplers", 0, "interpolation"), "MAGIC", "unknown interpolation"),
        (("buffers", 0, "uri"), "../../etc/passwd", "outside its folder"),
        (("nodes", 2, "translation"), [0, 1], "translation of a node is damaged"),
        (("nodes",), 3, "not a list of objects"),
    ],
)
def test_damaged_files_are_refused_by_name(key: tuple, value: Any, said: str, tmp_path: Path) -> None:
    (file,) = glb.write(dance(), tmp_path / "d.glb", detail="none")
    content, binary = content_of(file)
    at = content
    for part in key[:-1]:
        at = at[part]
    at[key[-1]] = value
    with pytest.raises(FormatError, match=said) as error:
        glb.read(save(file, content, binary))
    assert str(error.value).startswith(str(file))


def test_unknown_rigs_and_details_are_refused_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="unknown rig 'maya': expected one of smpl, mixamo"):
        glb.write(dance(), tmp_path / "d.glb", rig="maya")
    with pytest.raises(FormatError, match="unknown detail 'big': expected one of full, low, none"):
        glb.write(dance(), tmp_path / "d.glb", detail="big")
