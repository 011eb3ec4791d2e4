"""Read the size, rate and duration of a video, and check that picture and sound can be decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from opendance_hf.music import AudioError
from opendance_hf.music.sound import measure_sound
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Dropped, Result, Stage
from opendance_hf.pipeline.video import probe


@dataclass(frozen=True)
class Probe(Stage):
    """Read a video's size, rate and duration, decode its first frame, and measure its sound.

    Args:
        min_duration_s: shorter videos are dropped.
        max_duration_s: longer videos are dropped.
        max_side_px: videos with a longer side are dropped.
        max_silence_s: longest silence within the music, or before or after it.
    """

    name = "probe"
    version = 3
    writes = ("video",)
    runs_while_loading = True

    min_duration_s: float = 4.0
    max_duration_s: float = 3600.0
    max_side_px: int = 8192
    max_silence_s: float = 2.0

    def __call__(self, clip: Clip) -> Result:
        """Process a whole video."""
        info = probe(clip.path, self.max_side_px, self.max_duration_s)
        if not info.has_audio:
            reason = "no audio track: a music-dance pair needs the music; mux it into the file"
            return Dropped(0.0, info.duration_s, reason)
        if info.duration_s < self.min_duration_s:
            detail = f"{info.duration_s:.1f} s, at least {self.min_duration_s:g} s needed"
            return Dropped(0.0, info.duration_s, "too short", detail)
        try:
            sound = measure_sound(clip.path)
        except AudioError as error:
            cause = str(error).removeprefix(f"{clip.path}: ")
            return Dropped(0.0, info.duration_s, "the sound cannot be read", cause)
        if silent := sound.silence():
            return Dropped(0.0, info.duration_s, "no music: the sound is silent", silent)
        music_s = sound.music(self.max_silence_s, info.duration_s)
        return replace(clip, video=replace(info, music_s=music_s, sound_gaps_s=sound.gaps))
