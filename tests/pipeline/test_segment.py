"""Spans of the right length with one or two dancers; everything else is dropped with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opendance_hf.pipeline.clip import CameraMotion, Clip, Tracks, VideoInfo
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.segment import Segment, Span

FPS = 25
HEIGHT_PX = 720


def find_spans(shot: Tracks, height_px: int) -> tuple[list[Span], list[Dropped]]:
    found = Segment().find_spans(shot, height_px)
    return [s for s in found if isinstance(s, Span)], [s for s in found if isinstance(s, Dropped)]


def tracks(
    *presence: list[tuple[float, float]], length_s: float, start_s: float = 0.0, fps: float = FPS
) -> Tracks:
    """Dancers who are seen during the given seconds of a shot."""
    times = start_s + np.arange(round(length_s * fps)) / fps
    boxes = np.full((len(presence), len(times), 4), np.nan, np.float32)
    for dancer, spans in enumerate(presence):
        for a, b in spans:
            boxes[dancer, (times >= a - 1e-6) & (times < b - 1e-6)] = (100, 50, 300, 600)
    return Tracks(times, boxes)


def test_whole_shot() -> None:
    (span,), dropped = find_spans(tracks([(2.0, 12.0)], length_s=10.0, start_s=2.0), HEIGHT_PX)
    assert (span.start_s, span.dancers) == (2.0, (0,))
    assert span.end_s == pytest.approx(12.0)
    assert not dropped


def test_short_gap_is_bridged_and_a_long_one_cuts() -> None:
    (span,), dropped = find_spans(tracks([(0, 5), (5.9, 11)], length_s=11), HEIGHT_PX)
    assert (span.start_s, span.end_s) == pytest.approx((0, 11))
    assert not dropped
    spans, (gap,) = find_spans(tracks([(0, 5), (6.6, 11)], length_s=11), HEIGHT_PX)
    assert [(s.start_s, s.end_s) for s in spans] == [pytest.approx((0, 5)), pytest.approx((6.6, 11))]
    assert (gap.start_s, gap.end_s) == pytest.approx((5, 6.6))
    assert "nobody" in gap.reason


def test_a_change_of_company_cuts() -> None:
    spans, dropped = find_spans(tracks([(0, 15)], [(5, 10)], length_s=15), HEIGHT_PX)
    assert [(s.start_s, s.end_s, s.dancers) for s in spans] == [
        (pytest.approx(0), pytest.approx(5), (0,)),
        (pytest.approx(5), pytest.approx(10), (0, 1)),
        (pytest.approx(10), pytest.approx(15), (0,)),
    ]
    assert not dropped


@pytest.mark.parametrize(
    ("gap_s", "partner_x", "parts"),
    [(1.6, 150, 1), (1.6, 500, 3), (2.4, 150, 3)],
    ids=["hidden", "away", "too long"],
)
def test_a_dancer_whom_the_partner_hides_has_not_left(gap_s: float, partner_x: float, parts: int) -> None:
    shot = tracks([(0, 5), (5 + gap_s, 12)], [(0, 12)], length_s=12)
    shot.boxes[1, :, [0, 2]] += partner_x - 100
    spans, dropped = find_spans(shot, HEIGHT_PX)
    assert len(spans) + len(dropped) == parts
    assert spans[0].dancers == (0, 1)
    assert spans[0].end_s == pytest.approx(12 if parts == 1 else 5)


def test_a_lone_moment_does_not_cut() -> None:
    """A second box for a few frames is a false one."""
    (span,), dropped = find_spans(tracks([(0, 10)], [(5, 5.2)], length_s=10), HEIGHT_PX)
    assert (span.start_s, span.end_s, span.dancers) == (pytest.approx(0), pytest.approx(10), (0,))
    assert not dropped


def test_third_person() -> None:
    spans, (crowd,) = find_spans(tracks([(0, 12)], [(0, 12)], [(5, 7)], length_s=12), HEIGHT_PX)
    assert [s.dancers for s in spans] == [(0, 1), (0, 1)]
    assert str(crowd) == "too many people (3, at most 2 allowed)"
    assert (crowd.start_s, crowd.end_s) == pytest.approx((5, 7))


def test_too_short() -> None:
    spans, (dropped,) = find_spans(tracks([(0, 3.9)], length_s=3.9), HEIGHT_PX)
    assert not spans
    assert "3.9 s, at least 4 s needed" in dropped.detail
    assert len(find_spans(tracks([(0, 4)], length_s=4), HEIGHT_PX)[0]) == 1


@pytest.mark.parametrize(("length_s", "parts"), [(119, 1), (120, 1), (121, 2), (250, 3)])
def test_long_spans_are_cut_evenly(length_s: float, parts: int) -> None:
    spans, dropped = find_spans(tracks([(0, length_s)], length_s=length_s), HEIGHT_PX)
    assert [s.end_s - s.start_s for s in spans] == [pytest.approx(length_s / parts)] * parts
    assert [s.start_s for s in spans[1:]] == [s.end_s for s in spans[:-1]]
    assert not dropped


def test_cut_off_at_head_and_feet_counts_as_unseen() -> None:
    shot = tracks([(0, 10)], length_s=10)
    shot.boxes[0, 125:, 1], shot.boxes[0, 125:, 3] = 0, HEIGHT_PX
    (span,), (dropped,) = find_spans(shot, HEIGHT_PX)
    assert (span.start_s, span.end_s) == pytest.approx((0, 5))
    assert dropped.reason == "nobody is visible from head to foot"


@pytest.mark.parametrize(
    ("top_px", "bottom_px", "seen"),
    [
        (0, HEIGHT_PX, False),
        (5, HEIGHT_PX - 5, False),
        (0, 600, True),
        (50, HEIGHT_PX, True),
        (20, 700, True),
    ],
)
def test_only_who_reaches_both_edges_of_the_picture_is_cut_off(
    top_px: float, bottom_px: float, seen: bool
) -> None:
    """Raised hands may leave the picture, and so may the feet; a box is cut off from within a hundredth of an edge."""
    shot = tracks([(0, 10)], length_s=10)
    shot.boxes[0, :, 1], shot.boxes[0, :, 3] = top_px, bottom_px
    spans, dropped = find_spans(shot, HEIGHT_PX)
    assert (len(spans), len(dropped)) == ((1, 0) if seen else (0, 1))


def test_a_span_becomes_a_clip_with_the_boxes_and_the_camera_of_its_frames() -> None:
    """The shot ends with a cut at 14.9 s, before the last detected frame would; detections are sparser than frames."""
    shot = tracks([(2, 15)], [(2, 9)], length_s=13, start_s=2.0, fps=7.5)
    shot.boxes[1, :, [0, 2]] += 400
    shot.boxes[0, :, 0] = shot.times_s
    frames = 2.0 + np.arange(13 * 30) / 30
    camera = CameraMotion(frames, frames / 100)
    video = VideoInfo(1280, HEIGHT_PX, 30.0, 20.0, True)
    clip = Clip(
        Path("v.mp4"), "0" * 64, start_s=2.0, end_s=14.9, video=video, camera_motion=camera, tracks=shot
    )
    both, alone = (part for part in Segment()(clip) if isinstance(part, Clip))
    assert both.end_s == alone.start_s == pytest.approx(9.0, abs=0.1)
    assert (both.start_s, alone.end_s) == (2.0, 14.9)
    assert (len(both.boxes), len(alone.boxes)) == (2, 1)
    for part in (both, alone):
        times = part.camera_motion.times_s
        assert times.tolist() == [t for t in frames if part.start_s - 1e-6 <= t < part.end_s - 1e-6]
        np.testing.assert_array_equal(part.camera_motion.shifts, times / 100)
        assert part.boxes.shape[1:] == (len(times), 4)
        inner = times < part.end_s - 1 / 7.5
        np.testing.assert_allclose(part.boxes[0, inner, 0], times[inner], atol=1e-5)


def test_what_is_dropped_is_returned_between_the_clips() -> None:
    shot = tracks([(0, 5), (8, 13)], length_s=13)
    camera = CameraMotion(shot.times_s, np.zeros(len(shot.times_s)))
    video = VideoInfo(1280, HEIGHT_PX, FPS, 13.0, True)
    clip = Clip(Path("v.mp4"), "0" * 64, video=video, camera_motion=camera, tracks=shot)
    assert [type(part) for part in Segment()(clip)] == [Clip, Dropped, Clip]


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 300), st.floats(0.1, 200)), max_size=4), min_size=1, max_size=4),
    st.floats(1, 320),
    st.floats(0, 1000),
    st.sampled_from([10, 23.976, 30]),
)
def test_every_second_is_used_or_dropped_once(
    presence: list[list[tuple[float, float]]], length_s: float, start_s: float, fps: float
) -> None:
    moved = [[(start_s + a, start_s + a + b) for a, b in spans] for spans in presence]
    shot = tracks(*moved, length_s=length_s, start_s=start_s, fps=fps)
    spans, dropped = find_spans(shot, HEIGHT_PX)
    pieces = sorted([(s.start_s, s.end_s) for s in spans] + [(d.start_s, d.end_s) for d in dropped])
    assert pieces[0][0] == shot.times_s[0]
    assert pieces[-1][1] == pytest.approx(shot.times_s[-1] + 1 / fps)
    assert [end for _, end in pieces[:-1]] == [start for start, _ in pieces[1:]]
    for span in spans:
        assert Segment().min_duration_s <= span.end_s - span.start_s <= Segment().max_duration_s + 1e-6
        assert 1 <= len(span.dancers) <= 2
        inside = (shot.times_s >= span.start_s - 1e-6) & (shot.times_s < span.end_s - 1e-6)
        assert all(shot.seen[dancer, inside].any() for dancer in span.dancers)
    assert all(d.reason for d in dropped)
