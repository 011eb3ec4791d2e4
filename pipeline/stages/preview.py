"""Write preview videos for annotators: source and reconstruction side by side, and the source alone."""

from __future__ import annotations

from dataclasses import dataclass

from opendance_hf.music import decode_audio
from opendance_hf.pipeline.background import steady_picture
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.video import read_pictures


@dataclass(frozen=True)
class Preview(Stage):
    """Write ``previews/{id}.mp4`` and ``clips/{id}.mp4``, which stay in the build folder.

    Where a turn or zoom of the camera was taken out of the landmarks, it is taken out of the pictures as well.

    Args:
        height_px: height of the source and of the reconstruction.
        rate_hz: frames per second.
        sample_rate_hz: sample rate of the sound.
    """

    name = "preview"
    version = 3
    reads = ("sequence",)
    files = ("previews/{id}.mp4", "clips/{id}.mp4")
    changes_rows = False

    height_px: int = 480
    rate_hz: float = 30.0
    sample_rate_hz: int = 44100

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        from opendance_hf.render.preview import write_preview

        source = clip.sequence.provenance
        assert source.camera is not None
        preview, copy = (clip.job.build / name.format(id=clip.id) for name in self.files)
        for file in (preview, copy):
            file.parent.mkdir(exist_ok=True)
        sound = decode_audio(clip.path, self.sample_rate_hz, source.start_s, source.end_s)
        pictures = read_pictures(clip.path, source.start_s - 0.1, source.end_s + 0.1)
        longer_px = max(source.camera.width_px, source.camera.height_px)
        side_px = round(self.height_px / source.camera.height_px * longer_px)
        frames = ((picture.time_s, picture.rgb(side_px)) for picture in pictures)
        if clip.steadied is not None:
            path = clip.steadied
            frames = ((time_s, steady_picture(image, path, time_s)) for time_s, image in frames)
        write_preview(
            preview,
            frames,
            clip.sequence,
            (sound, self.sample_rate_hz),
            height=self.height_px,
            fps=self.rate_hz,
            source_path=copy,
            threads=clip.job.threads,
        )
        return clip
