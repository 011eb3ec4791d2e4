"""Write FBX with the user's own Blender (4.2 or newer), in a process of its own: ``opendance export --to fbx --blender PATH``.

One dancer a file, in one world: Blender's exporter mixes up skeletons whose bones have the same names.

PATH is the program ``blender``, or a Python that has the package ``bpy``. Blender is under the GPL and is neither a
dependency nor an extra of this package; the script that it runs is :mod:`opendance_hf.formats.blender_fbx`. Files are not
read: Blender and others convert FBX to glTF, which is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NoReturn

from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError, glb
from opendance_hf.formats.motion import Motion, check_suffix, one_file_a_dancer

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".fbx"
FILE_A_DANCER: Final = True
_SCRIPT: Final = Path(__file__).with_name("blender_fbx.py")
_TIMEOUT_S: Final = 1800
_REMEDY: Final = "give Blender 4.2 or newer with --blender PATH: the program, or a Python with the package bpy (pip install bpy)"


def read(path: Path) -> NoReturn:
    """Refuse to read: FBX is only written.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: otherwise.
    """
    path.stat()
    raise FormatError(
        f"{path}: FBX is written, not read; convert it to .glb or .bvh in Blender, and read that"
    )


def missing() -> str:
    """Return what this machine lacks to write FBX; empty if nothing."""
    return "" if shutil.which("blender") else "Blender"


def write(
    motion: Motion, path: Path, *, rig: str = "mixamo", detail: str = "full", blender: str = "blender"
) -> list[Path]:
    """Write one file per dancer.

    Args:
        motion: the motion; it needs poses.
        path: the file; numbered if there are several dancers.
        rig: names, rest pose and bone axes of the joints, see :data:`opendance_hf.formats.rigs.RIGS`.
        detail: of the body: ``full``, ``low`` or ``none``.
        blender: program ``blender``, or a Python that has ``bpy``.

    Raises:
        FormatError: if Blender is not found, is too old or fails; the message has its last lines.
        OSError: if the file cannot be written.
    """
    check_suffix(path, ".fbx")
    program = shutil.which(blender)
    if program is None:
        raise FormatError(f"{path}: no program {blender!r}; {_REMEDY}")
    written = []
    with ExitStack() as files:  # after an error none is written
        for dancer, file in one_file_a_dancer(motion, path):
            _convert(dancer, file, files.enter_context(atomic_write(file)), program, rig, detail)
            written.append(file)
    return written


def _convert(motion: Motion, path: Path, partial: Path, program: str, rig: str, detail: str) -> None:
    """Write one dancer as GLB and let Blender convert it to ``partial``; ``path`` is the name in messages."""
    with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        source, target = Path(folder) / "dance.glb", Path(folder) / "dance.fbx"
        glb.write(motion, source, rig=rig, detail=detail)
        is_python = Path(program).name.startswith("python")
        start = (
            [program]
            if is_python
            else [program, "--background", "--factory-startup", "--python-exit-code", "1", "--python"]
        )
        command = [
            *start,
            str(_SCRIPT),
            "--",
            str(source),
            str(target),
            repr(motion.fps),
            str(motion.num_frames),
        ]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise FormatError(f"{path}: {program} did not end within {_TIMEOUT_S} s") from None
        if done.returncode or not target.is_file():
            said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise FormatError(f"{path}: {program} did not write it: {said[-500:]}; {_REMEDY}")
        os.replace(target, partial)
