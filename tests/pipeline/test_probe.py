"""A video is taken with its size and duration, or dropped with the reason before any work is spent on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Dropped, Rejected
from opendance_hf.pipeline.stages.probe import Probe
from tests.pipeline.clips import flat, write_clip


def probed(path: Path, stage: Probe | None = None) -> Clip | Dropped:
    found = (stage or Probe())(Clip(path, "0" * 64))
    assert isinstance(found, Clip | Dropped)
    return found


def film(path: Path, seconds: float, *, sound: bool = True) -> Path:
    return write_clip(path, flat([90] * round(20 * seconds)), sound_s=(0.0, seconds) if sound else None)


def test_a_video_with_sound_is_taken(tmp_path: Path) -> None:
    found = probed(film(tmp_path / "a.mkv", 4.2))
    assert isinstance(found, Clip)
    assert (found.video.width_px, found.video.height_px, found.video.has_audio) == (64, 48, True)
    assert found.video.duration_s == pytest.approx(4.2, abs=0.06)


def test_a_short_video_is_dropped_with_its_duration(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", 3.0)
    dropped = probed(path)
    assert isinstance(dropped, Dropped)
    assert (dropped.start_s, dropped.end_s) == (0.0, pytest.approx(3.0, abs=0.06))
    assert str(dropped) == "too short (3.0 s, at least 4 s needed)"
    assert isinstance(probed(path, Probe(min_duration_s=2.5)), Clip)


def test_a_video_without_sound_is_dropped(tmp_path: Path) -> None:
    for seconds in (4.2, 2.0):
        dropped = probed(film(tmp_path / "mute.mkv", seconds, sound=False))
        assert isinstance(dropped, Dropped)
        assert dropped.reason.startswith("no audio track")
        assert dropped.end_s == pytest.approx(seconds, abs=0.06)


def test_sound_that_cannot_be_decoded_is_named_before_the_pictures_are_looked_at(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv", 4.2)
    data = path.read_bytes()
    assert b"A_PCM/INT/LIT" in data
    path.write_bytes(data.replace(b"A_PCM/INT/LIT", b"A_PCM/INT/XXX"))
    dropped = probed(path)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "the sound cannot be read"
    assert dropped.detail
    assert str(tmp_path) not in str(dropped), "reasons name no paths"


def test_a_video_that_is_too_long_or_too_large_is_refused(tmp_path: Path) -> None:
    hours = write_clip(tmp_path / "long.mkv", flat([90, 91]), [0.0, 3700.0], sound_s=(0.0, 0.1))
    with pytest.raises(Rejected, match=r"3700 s long; the limit is 3600 s"):
        probed(hours)
    assert isinstance(probed(hours, replace(Probe(), max_duration_s=4000.0)), Clip)
    wide = write_clip(tmp_path / "wide.mkv", flat([90] * 100, 16, 8200), sound_s=(0.0, 5.0), codec="ffv1")
    with pytest.raises(Rejected, match=r"8200 x 16 pixels; the limit is 8192"):
        probed(wide)
    assert isinstance(probed(wide, replace(Probe(), max_side_px=9000)), Clip)
