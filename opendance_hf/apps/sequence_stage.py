"""Make the stage of a sequence in a build folder, beside the clip of its source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opendance_hf.apps.stage_video import MAX_VIDEO_BYTES
from opendance_hf.apps.view import check_size, ready, song_of, stage_data
from opendance_hf.formats.opendance import motion_of
from opendance_hf.music.sound import NoAudioError
from opendance_hf.storage import load_sequence


def sequence_stage(build: Path, sequence: str, *, detail: str = "auto", video: bool = True) -> dict[str, Any]:
    """Return the stage of a sequence, see :func:`opendance_hf.apps.view.stage_data`, with sound and picture of its clip.

    Args:
        build: the working folder of ``opendance build``.
        sequence: id; a name of a file, which the caller has checked.
        detail: of the bodies.
        video: True for the picture too; it is left out if it is large, or the build has no clips.

    Raises:
        FileNotFoundError: if the build has no such sequence.
        SchemaError: if it is damaged.
        ViewError: if it has too many dancers or frames.
        AudioError: if the clip is damaged.
    """
    motion = ready(motion_of(load_sequence(build / "sequences" / f"{sequence}.npz")))
    check_size([sequence], [motion])
    clip = build / "clips" / f"{sequence}.mp4"
    samples = shown = None
    if clip.is_file():
        try:
            samples = song_of([motion], clip, 0.0)
        except NoAudioError:
            samples = None
        shown = clip.read_bytes() if video and clip.stat().st_size <= MAX_VIDEO_BYTES else None
    return stage_data([sequence], [motion], samples, detail=detail, video=shown)
