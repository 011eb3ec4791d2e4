"""Read and write VRM Animations (``.vrma``): glTF with the names of VRM's humanoid bones, one dancer a file, for any VRM avatar.

The rest pose is VRM's T-pose, looking to +z; only hips have a translation. Source: vrm-c/vrm-specification,
``specification/VRMC_vrm_animation-1.0`` (README and schema ``VRMC_vrm_animation.humanoid.humanBones``).
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from opendance_hf.files import atomic_write
from opendance_hf.formats import glb
from opendance_hf.formats.body import Axis
from opendance_hf.formats.gltf import GltfFile, GltfWriter
from opendance_hf.formats.motion import Motion, check_suffix, one_file_a_dancer
from opendance_hf.formats.rigged import rigged
from opendance_hf.formats.rigs import check_rig, names_of, table_of

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".vrma"
FILE_A_DANCER: Final = True
_EXTENSION = "VRMC_vrm_animation"


def read(
    path: Path, *, fps: float | None = None, up: Axis | None = None, names: str | Path | None = None
) -> Motion:
    """Read the dancer of a file: its nodes are the bones that the extension says they are, whatever their names.

    Args:
        path: the file.
        fps: frames per second to sample it at; by default that of its keys.
        up: axis that points up; measured by default.
        names: table of the nodes' names, for files without the extension or with a wrong one.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is damaged, or has no animation of a person.
    """
    file = GltfFile.load(path)
    table = table_of(names)
    if table is None and (bones := _human_bones(file)):
        for number, node in enumerate(file.items("nodes")):
            node["name"] = bones.get(number, "")
        table = names_of("vrm")
    return glb.motion_of_file(file, kind="VRM animation", fps=fps, up=up, names=table)


def _human_bones(file: GltfFile) -> dict[int, str]:
    """Return the names of VRM's bones by node; none if the file does not have the extension.

    Raises:
        FormatError: if a node does not exist.
    """
    found: Any = file.content
    for key in ("extensions", _EXTENSION, "humanoid", "humanBones"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return {}
    bones: dict[int, str] = {}
    for name, bone in found.items():
        node: Any = bone.get("node") if isinstance(bone, dict) else None
        file.item("nodes", node)
        bones[node] = name
    return bones


def write(motion: Motion, path: Path) -> list[Path]:
    """Write one file per dancer.

    Raises:
        FormatError: if the motion has no poses, or ``path`` does not end in ``.vrma``.
        OSError: if a file cannot be written.
    """
    check_suffix(path, ".vrma")
    written = []
    with ExitStack() as files:  # after an error none is written
        for dancer, file in one_file_a_dancer(motion, path):
            scene = glb.Scene(GltfWriter(), file.stem, motion.fps, motion.num_frames)
            body = rigged(path, dancer, check_rig("vrm"))
            nodes = scene.add_skeleton(body, "Armature")
            bones = {name: {"node": node} for name, node in zip(body.animation.names, nodes, strict=True)}
            extension = {_EXTENSION: {"specVersion": "1.0", "humanoid": {"humanBones": bones}}}
            licence = str(motion.meta.get("licence", ""))
            partial = files.enter_context(atomic_write(file))
            scene.save(partial, copyright_=licence, extensionsUsed=[_EXTENSION], extensions=extension)
            written.append(file)
    return written
