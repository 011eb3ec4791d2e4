"""Read and write VRM Animations (``.vrma``): glTF with the names of VRM's humanoid bones, one dancer a file, for any VRM avatar.

The rest pose is VRM's T-pose, looking to +z; only hips have a translation. Source: vrm-c/vrm-specification,
``specification/VRMC_vrm_animation-1.0`` (README and schema ``VRMC_vrm_animation.humanoid.humanBones``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from opendance_hf.formats import glb
from opendance_hf.formats.gltf import GltfWriter
from opendance_hf.formats.motion import Motion, check_suffix, one_file_a_dancer
from opendance_hf.formats.rigged import rigged
from opendance_hf.formats.rigs import check_rig

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".vrma"
FILE_A_DANCER: Final = True
_EXTENSION = "VRMC_vrm_animation"

read = glb.read


def write(motion: Motion, path: Path) -> list[Path]:
    """Write one file per dancer.

    Raises:
        FormatError: if the motion has no poses, or ``path`` does not end in ``.vrma``.
        OSError: if a file cannot be written.
    """
    check_suffix(path, ".vrma")
    written = []
    for dancer, file in one_file_a_dancer(motion, path):
        scene = glb.Scene(GltfWriter(), file.stem, motion.fps, motion.num_frames)
        body = rigged(path, dancer, check_rig("vrm"))
        nodes = scene.add_skeleton(body, "Armature")
        bones = {name: {"node": node} for name, node in zip(body.animation.names, nodes, strict=True)}
        extension = {_EXTENSION: {"specVersion": "1.0", "humanoid": {"humanBones": bones}}}
        licence = str(motion.meta.get("licence", ""))
        scene.save(file, copyright_=licence, extensionsUsed=[_EXTENSION], extensions=extension)
        written.append(file)
    return written
