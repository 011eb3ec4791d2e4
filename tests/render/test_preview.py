"""A preview shows source and dancers at the same instants, with the fitted skeleton where the camera sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.render.avatar import dancer_colour
from opendance_hf.render.preview import write_preview
from opendance_hf.schema import DanceSequence, per_dancer
from tests.factories import make_sequence

HEIGHT, SOURCE = 160, (96, 64)


def source(seconds: float, fps: float, start_s: float) -> Iterator[tuple[float, np.ndarray]]:
    """Grey pictures whose level says their time: 0 at ``start_s``, 20 more every 0.1 s."""
    for number in range(round(seconds * fps)):
        time_s = start_s + number / fps
        level = np.clip(round(200 * (time_s - start_s)), 0, 255)
        yield time_s, np.full((*SOURCE, 3), level, np.uint8)


def read(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def without_camera(seq: DanceSequence) -> DanceSequence:
    return dataclasses.replace(seq, provenance=dataclasses.replace(seq.provenance, camera=None))


def left_width() -> int:
    return 2 * round(SOURCE[1] * HEIGHT / SOURCE[0] / 2)


@pytest.mark.parametrize("source_fps", [12.5, 29.97, 60])
def test_source_and_time_agree(tmp_path: Path, source_fps: float) -> None:
    seq = without_camera(make_sequence(0, num_dancers=1, num_frames=60))
    start = seq.provenance.start_s
    write_preview(tmp_path / "a.mp4", source(2, source_fps, start), seq, None, height=HEIGHT, fps=30)
    frames = read(tmp_path / "a.mp4")
    assert len(frames) == 30
    levels = frames[:, 20 : HEIGHT - 20, 10 : left_width() - 10].mean(axis=(1, 2, 3))
    assert levels == pytest.approx(200 * np.arange(30) / 30, abs=200 * 0.5 / source_fps + 5)


def test_the_source_alone_is_what_the_preview_shows_without_a_skeleton(tmp_path: Path) -> None:
    seq, start = make_sequence(2, num_dancers=2, num_frames=40), 1.25
    clip = tmp_path / "clip.mp4"
    sound = np.zeros(22_050, np.float32)
    write_preview(
        tmp_path / "a.mp4", source(1, 30, start), seq, (sound, 22_050), height=HEIGHT, source_path=clip
    )
    plain, preview = read(clip).astype(int), read(tmp_path / "a.mp4").astype(int)
    assert plain.shape == (len(preview), HEIGHT, left_width(), 3)
    assert plain.std(axis=(1, 2)).max() < 2, "grey, with nothing drawn on it"
    assert preview[:, :HEIGHT, : left_width()].std(axis=(1, 2)).max() > 10
    levels = np.clip(200 * np.arange(len(plain)) / 30, 0, 255)
    assert plain.mean(axis=(1, 2, 3)) == pytest.approx(levels, abs=8)
    with av.open(str(clip)) as file:
        assert file.streams.audio, "with its sound"


def test_sound_is_kept(tmp_path: Path) -> None:
    seq = make_sequence(1, num_dancers=2, num_frames=90)
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 22_050 * 2).astype(np.float32)
    write_preview(tmp_path / "a.mp4", source(1, 30, 0), seq, (sound, 22_050), height=HEIGHT)
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.audio[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(1.5, abs=0.05)


def test_the_skeleton_is_drawn_where_the_camera_sees_it(tmp_path: Path) -> None:
    seq = make_sequence(2, num_dancers=2, num_frames=4)
    camera = seq.provenance.camera
    assert camera is not None
    # No jitter between dancers: the second is the first, moved aside.
    joints = per_dancer(seq.joints, 2, NUM_JOINTS, 3)[:, 0]
    grey = [(seq.provenance.start_s, np.full((1280, 720, 3), 90, np.uint8))]
    write_preview(tmp_path / "a.mp4", iter(grey), seq, None, height=640)
    write_preview(tmp_path / "b.mp4", iter(grey), without_camera(seq), None, height=640)
    picture, bare = (read(tmp_path / name)[0, :640, :360].astype(int) for name in ("a.mp4", "b.mp4"))
    changed = np.abs(picture - bare).max(axis=-1) > 30
    points = camera.project(joints) / 2
    inside = ((points >= 2) & (points < [358, 638])).all(axis=-1)
    assert inside.sum() > 20
    for dancer in (0, 1):
        for x, y in points[dancer][inside[dancer]].astype(int):
            assert changed[y - 1 : y + 2, x - 1 : x + 2].any()
    # Each colour is in the picture, and changes keep near the bones.
    for dancer in (0, 1):
        distance = np.abs(picture - dancer_colour(dancer)).max(axis=-1)
        assert (distance < 60).sum() > 50
    low, high = points.reshape(-1, 2).min(axis=0), points.reshape(-1, 2).max(axis=0)
    rows, columns = np.nonzero(changed)
    assert columns.min() > low[0] - 8
    assert columns.max() < high[0] + 8
    assert rows.min() > low[1] - 8
    assert rows.max() < high[1] + 8


def test_the_dot_flashes_on_beats(tmp_path: Path) -> None:
    seq = make_sequence(0, num_frames=60)
    seq = dataclasses.replace(without_camera(seq), music_beats=np.array([20, 50], np.int32))
    write_preview(tmp_path / "a.mp4", source(1, 30, 0), seq, None, height=HEIGHT, fps=30)
    frames = read(tmp_path / "a.mp4").astype(int)
    dot = frames[:, -16:-12, -17:-13, 0].mean(axis=(1, 2))
    assert set(np.nonzero(dot > 220)[0].tolist()) == {10, 25}


def test_files_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    seq = make_sequence(0, num_frames=60)
    for threads in (1, 3):
        name = tmp_path / f"{threads}.mp4"
        write_preview(name, source(1, 30, 0), seq, None, height=HEIGHT, threads=threads)
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "3.mp4").read_bytes()


def test_without_pictures_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        write_preview(tmp_path / "a.mp4", iter([]), make_sequence(0), None)
    assert not list(tmp_path.iterdir())


def test_long_names_are_cut_not_spilled(tmp_path: Path) -> None:
    seq = dataclasses.replace(make_sequence(0, num_frames=4), id="a" * 128)
    write_preview(tmp_path / "a.mp4", source(0.2, 30, 0), seq, None, height=HEIGHT)
    assert len(read(tmp_path / "a.mp4")) == 2
