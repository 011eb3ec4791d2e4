"""Extract the music features, beats and tempo of a sequence (paper section 3.1, Audio Processing)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from importlib.metadata import version

from opendance_hf.music import MusicAnnotation, extract
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage


@dataclass(frozen=True)
class Music(Stage):
    """Add the columns of :class:`opendance_hf.music.MusicAnnotation`, aligned with the frames of the motion."""

    name = "music"
    version = 2
    reads = ("motion",)
    writes = ("columns",)
    columns = tuple(field.name for field in fields(MusicAnnotation))
    libraries = ("librosa",)

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        found = extract(clip.path, clip.start_s, clip.end_s, clip.motion.num_frames)
        columns = {field.name: getattr(found, field.name) for field in fields(found)}
        return replace(clip, columns={**clip.columns, **columns})

    def provenance(self) -> tuple[tuple[str, str, str], ...]:
        """Return the version of librosa, see :meth:`Stage.provenance`."""
        return ((self.name, "librosa", version("librosa")),)
