"""Write the preview that people inspect: the source video left, the reconstructed dancers right, at the same instants."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS
from opendance_hf.render.avatar import AvatarRenderer, dancer_colour
from opendance_hf.render.raster import draw_strokes
from opendance_hf.render.video import VideoWriter
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.threads import in_order

Image = npt.NDArray[np.uint8]

PREVIEW_HEIGHT_PX: Final = 480
_STRIP_PX: Final = 28
#: Half the encoding time of x264's default, and files of two to three times the size, which are not published.
_PRESET: Final = "ultrafast"
_BEAT_GLOW_S: Final = 0.12
_DARK, _TEXT, _QUIET = (24, 26, 31), (232, 234, 238), (150, 155, 164)


def write_preview(
    path: str | os.PathLike[str],
    source_frames: Iterator[tuple[float, Image]],
    seq: DanceSequence,
    sound: tuple[npt.NDArray[np.floating], int] | None,
    *,
    height: int = PREVIEW_HEIGHT_PX,
    fps: float = 30,
    source_path: str | os.PathLike[str] | None = None,
    threads: int = 1,
) -> None:
    """Write a side-by-side video of a sequence and its source, with the fitted skeleton drawn over the source.

    Overlay and figure of a dancer have one colour, so a swapped identity or a bad fit is seen at once. A strip below
    shows id, time, motion frame, the confidence of each dancer and a dot that flashes on music beats.

    Args:
        path: the MP4 to write.
        source_frames: (seconds, (H, W, 3) RGB) pictures in order; seconds on the clock of the source video, as
            ``seq.provenance.start_s`` is. Read as a stream; the picture nearest to an instant is shown.
        seq: the sequence; the skeleton is drawn where ``seq.provenance.camera`` sees it, not at all without one.
        sound: (N,) mono samples of the sequence's span and their rate in Hz, or None.
        height: of both pictures, pixels; the strip comes on top of it.
        fps: pictures per second.
        source_path: also write the source alone to this MP4, without skeleton and strip: what people judge before
            they see the result (paper 3.1, the first round of inspection).
        threads: to draw in; the files do not depend on their number.

    Raises:
        ValueError: if there is no source picture, or ``height`` or ``fps`` is not positive.
    """
    if height <= 0 or fps <= 0:
        raise ValueError(f"height and fps must be positive, got {height} and {fps}")
    poses = per_dancer(seq.smpl_pose, seq.num_dancers, NUM_JOINTS, 3)
    transl = per_dancer(seq.smpl_transl, seq.num_dancers, 3)
    joints = per_dancer(seq.joints, seq.num_dancers, NUM_JOINTS, 3)
    camera = seq.provenance.camera
    points = None if camera is None else camera.project(joints) / [camera.width_px, camera.height_px]
    instants = np.arange(max(1, round(seq.num_frames / FPS * fps))) / fps
    sources = _nearest(source_frames, instants + seq.provenance.start_s)

    height += height % 2
    first = next(sources)
    width = 2 * max(1, round(first.shape[1] * height / first.shape[0] / 2))
    renderer = AvatarRenderer.for_sequence(seq, max(width, height), height)
    renderers = [renderer, *(renderer.twin() for _ in range(threads - 1))]

    def draw(renderer: AvatarRenderer, item: tuple[float, Image]) -> tuple[Image, Image]:
        time_s, source = item
        frame = min(round(time_s * FPS), seq.num_frames - 1)
        bare = _at_size(source, width, height)
        left = bare if points is None else _with_skeletons(bare, points[:, frame])
        picture = np.concatenate([left, renderer.draw(poses[:, frame], transl[:, frame])], axis=1)
        return np.concatenate([picture, _strip(picture.shape[1], seq, time_s, frame)]), bare

    audio, sample_rate = sound or (None, 44_100)
    with contextlib.ExitStack() as files:
        video = files.enter_context(
            VideoWriter(path, fps, audio=audio, sample_rate=sample_rate, preset=_PRESET)
        )
        plain: VideoWriter | None = None
        if source_path is not None:
            plain = files.enter_context(
                VideoWriter(source_path, fps, audio=audio, sample_rate=sample_rate, preset=_PRESET)
            )
        # Some are drawn while this one is encoded.
        for picture, bare in in_order(draw, zip(instants, chain([first], sources), strict=True), renderers):
            video.write(picture)
            if plain is not None:
                plain.write(bare)


def _nearest(frames: Iterator[tuple[float, Image]], instants: npt.NDArray[np.floating]) -> Iterator[Image]:
    """Yield the picture nearest to every instant, holding two at a time; the last one stays when the stream ends.

    At equal distance the later one is yielded, whatever the rounding of the times, as repairs of a span rely on it
    (``opendance_hf.pipeline.repairs.frames_of``).
    """
    frames = iter(frames)
    current = next(frames, None)
    if current is None:
        raise ValueError("source_frames is empty")
    following = next(frames, None)
    for instant in instants:
        while following is not None and (current[0] + following[0]) / 2 <= instant + 1e-6:
            current, following = following, next(frames, None)
        yield current[1]


def _at_size(source: Image, width: int, height: int) -> Image:
    if source.shape[:2] == (height, width):
        return source
    small = Pillow.fromarray(source).resize((width, height), Pillow.Resampling.BILINEAR, reducing_gap=1.5)
    return np.asarray(small, dtype=np.uint8)


def _with_skeletons(picture: Image, points: npt.NDArray[np.floating]) -> Image:
    """Draw the bones of (D, 24, 2) points, in fractions of the picture, on a copy of it."""
    picture = picture.copy()
    height, width = picture.shape[:2]
    thick = max(1.0, height / 400)
    for dancer, skeleton in enumerate(points):
        at = skeleton * (width, height)
        # Points behind the camera or far outside are not seen anyway.
        seen = np.isfinite(at).all(axis=-1) & (np.abs(skeleton) < 4).all(axis=-1)
        bones = [joint for joint in range(1, NUM_JOINTS) if seen[joint] and seen[PARENTS[joint]]]
        strokes = np.concatenate([at[[PARENTS[joint] for joint in bones]], at[bones]], axis=1)
        dots = np.concatenate([at[seen], at[seen]], axis=1)
        for extra, colour in ((0.8, _DARK), (0.0, dancer_colour(dancer))):
            shade = np.array(colour, dtype=np.float64)
            draw_strokes(picture, strokes, thick + extra, shade)
            draw_strokes(picture, dots, 1.6 * thick + extra, shade)
    return picture


def _strip(width: int, seq: DanceSequence, time_s: float, frame: int) -> Image:
    picture = Pillow.new("RGB", (width, _STRIP_PX), _DARK)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    middle = _STRIP_PX / 2

    right = width - 30.0
    confidences = [(f"{seq.confidence[frame, d]:.2f}", dancer_colour(d)) for d in range(seq.num_dancers)]
    for text, colour in [*reversed(confidences), ("confidence", _QUIET)]:
        right -= draw.textlength(text, font=font)
        draw.text((right, middle), text, fill=colour, font=font, anchor="lm")
        right -= 8
    clock = f"{time_s:6.2f} s   frame {frame}/{seq.num_frames}"
    right -= 8 + draw.textlength(clock, font=font)
    draw.text((right, middle), clock, fill=_QUIET, font=font, anchor="lm")
    name = seq.id
    while name and draw.textlength(name, font=font) > right - 22:
        name = name.removesuffix("...")[:-1] and name.removesuffix("...")[:-1] + "..."
    draw.text((10, middle), name, fill=_TEXT, font=font, anchor="lm")

    since = time_s - seq.music_beats / FPS + 1e-6
    recent = since[since >= 0].min() if (since >= 0).any() else np.inf
    glow = max(0.0, 1 - recent / _BEAT_GLOW_S)
    beat = tuple(round(60 + glow * (full - 60)) for full in (255, 214, 64))
    draw.ellipse([width - 21, middle - 6, width - 9, middle + 6], fill=beat)
    return np.asarray(picture, dtype=np.uint8)
