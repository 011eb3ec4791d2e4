"""Which frames can be used, and how short gaps are filled."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from opendance_hf.pipeline.clip import Bodies, Clip, Landmarks, VideoInfo
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.complete import Complete, complete_landmarks

FPS = 30
STAGE = Complete()
#: A picture that holds all of the landmarks.
VIDEO = VideoInfo(4000, 4000, float(FPS), 40.0, True)


def landmarks(length_s: float, *hidden: list[tuple[float, float]]) -> Landmarks:
    """Dancers who move at constant speed from 5 s on, each not seen at all during the given seconds."""
    times = 5.0 + np.arange(round(length_s * FPS)) / FPS
    shape = (len(hidden), len(times), 33)
    visibility = np.full(shape, 0.9, np.float32)
    for dancer, spans in enumerate(hidden):
        for a, b in spans:
            visibility[dancer, (times >= 5 + a - 1e-6) & (times < 5 + b - 1e-6)] = 0
    line = np.broadcast_to(times[None, :, None, None], (*shape, 3))
    return Landmarks(
        times_s=times,
        image=(100 * line[..., :2]).astype(np.float32),
        world=line.astype(np.float32),
        visibility=visibility,
        regions_px=np.full(shape[:2], 300, np.float32),
    )


def boxed(found: Landmarks, bodies: Bodies | None = None, bottom_px: float = 3000) -> Clip:
    """A clip in which every dancer's box ends at a height in the picture."""
    boxes = np.tile(np.array([100, 100, 500, bottom_px], np.float32), (*found.regions_px.shape, 1))
    return Clip(Path("a.mp4"), "0" * 64, 5.0, 25.0, VIDEO, boxes=boxes, landmarks=found, bodies=bodies)


def completed(found: Landmarks, bodies: Bodies | None = None) -> tuple[list[Clip], list[Dropped]]:
    results = STAGE(boxed(found, bodies))
    clips = [result for result in results if isinstance(result, Clip)]
    return clips, [result for result in results if isinstance(result, Dropped)]


def spans(found: Landmarks) -> list[tuple[float, float]]:
    """Seconds from the start of the landmarks at which the usable clips start and end."""
    return [(clip.start_s - 5, clip.end_s - 5) for clip in completed(found)[0]]


def test_all_seen_is_one_clip() -> None:
    found = landmarks(6, [], [])
    (clip,), dropped = completed(found)
    assert (clip.start_s, clip.end_s) == (5, pytest.approx(11))
    assert not dropped
    np.testing.assert_array_equal(clip.landmarks.image, found.image)


def test_short_gaps_stay_inside_a_clip_and_long_ones_end_it() -> None:
    found = landmarks(12, [(5, 5.8)], [(6.5, 7.2)])
    assert spans(found) == [(0, pytest.approx(12))]
    assert not completed(found)[1]
    found = landmarks(12, [(5, 6.5)], [])
    clips, (gap,) = completed(found)
    assert spans(found) == [pytest.approx((0, 5)), pytest.approx((6.5, 12))]
    assert (gap.start_s, gap.end_s) == pytest.approx((10, 11.5), abs=0.04)
    assert [len(clip.landmarks.times_s) for clip in clips] == [150, 165]


def test_results_are_in_order_of_time() -> None:
    results = STAGE(boxed(landmarks(14, [(0, 1), (6, 8), (13, 14)])))
    assert [type(result) for result in results] == [Dropped, Clip, Dropped, Clip, Dropped]
    assert [result.start_s for result in results] == sorted(result.start_s for result in results)


def test_a_clip_needs_every_dancer() -> None:
    found = landmarks(12, [(0, 4)], [(9, 12)])
    (clip,), _ = completed(found)
    assert clip.start_s == pytest.approx(9, abs=0.3)
    assert clip.end_s == pytest.approx(14, abs=0.3)
    # No frame inside is one where somebody is gone at the edge.
    assert clip.landmarks.visibility[:, [0, -1]].min() > 0


def test_hidden_feet_are_not_a_reason_to_stop() -> None:
    found = landmarks(6, [])
    found.visibility[:, :, 27:] = 0.0
    assert spans(found) == [(0, pytest.approx(6))]


def test_too_short_and_nobody() -> None:
    clips, dropped = completed(landmarks(8, [(3.5, 5)]))
    assert not clips
    short = [drop for drop in dropped if drop.detail]
    assert [drop.detail for drop in short] == ["3.5 s, at least 4 s needed", "3.0 s, at least 4 s needed"]
    assert len({drop.reason for drop in short}) == 1
    clips, (everything,) = completed(landmarks(8, [(0, 8)]))
    assert not clips
    assert (everything.start_s, everything.end_s) == pytest.approx((5, 13), abs=0.04)


def test_a_clip_starts_and_ends_where_the_body_is_well_seen() -> None:
    """Half hidden behind something for two seconds at both ends, which would do in between."""
    found = landmarks(12, [])
    found.visibility[:, :60] = found.visibility[:, 150:180] = found.visibility[:, 300:] = 0.6
    ((start_s, end_s),) = spans(found)
    assert start_s == pytest.approx(2, abs=0.3)
    assert end_s == pytest.approx(10, abs=0.3)


def test_a_start_that_flickers_is_judged_by_its_mean() -> None:
    found = landmarks(8, [])
    found.visibility[:, 2:60:3] = 0.05  # every third frame of the first two seconds: 0.62 on average
    ((start_s, _),) = spans(found)
    assert start_s == pytest.approx(2, abs=0.3)


def test_a_glimpse_before_or_after_does_not_lengthen_a_clip() -> None:
    """Seen for 0.6 s, then hidden for longer, but less than a gap may last."""
    found = landmarks(10, [(0.6, 1.5), (8.5, 9.4)])
    ((start_s, end_s),) = spans(found)
    assert start_s == pytest.approx(1.5, abs=0.3)
    assert end_s == pytest.approx(8.5, abs=0.3)


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 20), st.floats(0.05, 5)), max_size=5), min_size=1, max_size=2),
    st.floats(4.5, 20),
)
def test_clips_are_long_and_their_gaps_short(gaps: list[list[tuple[float, float]]], length_s: float) -> None:
    found = landmarks(length_s, *[[(a, a + b) for a, b in dancer] for dancer in gaps])
    clips, dropped = completed(found)
    assert clips or dropped
    for before, after in pairwise(clips):
        assert before.end_s <= after.start_s + 1e-6
    for clip in clips:
        assert clip.end_s - clip.start_s >= STAGE.min_duration_s - 1e-6
        part = clip.landmarks
        assert (clip.start_s, clip.end_s) == pytest.approx((part.times_s[0], part.times_s[-1] + 1 / FPS))
        seen = part.visibility.min(axis=(0, 2)) > 0
        assert seen[0]
        assert seen[-1]
        assert np.diff(part.times_s[seen]).max() <= STAGE.max_gap_s + 1e-6
        assert np.isfinite(part.image).all()
        first = np.flatnonzero(found.times_s == part.times_s[0])[0]
        shown = found.visibility[:, first : first + len(part.times_s)]
        np.testing.assert_array_equal(part.visibility, shown)


def test_gap_is_filled_on_a_straight_line_in_time() -> None:
    found = landmarks(6, [(2, 2.7)])
    times_s = found.times_s + np.random.default_rng(0).uniform(0, 0.01, 180)
    found = replace(found, times_s=times_s)
    found.image[0, :, :, 0] = 100 * times_s[:, None]
    truth = found.image.copy()
    found.image[found.visibility == 0] = 12345
    found.world[found.visibility == 0] = 12345
    filled = complete_landmarks(found.part(slice(10, 170)))
    np.testing.assert_allclose(filled.image[..., 0], truth[:, 10:170, :, 0], rtol=1e-5)
    assert filled.world.max() < 20
    assert filled.confidence()[0, 55] == 0
    assert found.image.max() == 12345, "the input is left as it was"


def test_a_hidden_limb_keeps_the_estimators_guess() -> None:
    found = landmarks(6, [])
    found.visibility[0, 60:80, 15] = 0
    found.image[0, 60:80, 15] = 77
    np.testing.assert_array_equal(complete_landmarks(found).image, found.image)


def test_bodies_are_cut_and_completed_as_landmarks_are() -> None:
    """Bodies that turn and move at constant speed; those of hidden frames are nonsense."""
    found = landmarks(10, [(0, 2), (5, 5.7)], [(0, 2)])
    times_s = found.times_s
    turn = Rotation.from_rotvec(0.3 * (times_s[:, None] - 8) * (0, 0.6, 0.8)).as_matrix()
    exact = Bodies(
        times_s,
        np.tile(turn[None, :, None], (2, 1, 24, 1, 1)).astype(np.float32),
        np.broadcast_to(times_s[None, :, None], (2, 300, 10)).astype(np.float32),
        np.broadcast_to(times_s[None, :, None], (2, 300, 3)).astype(np.float32),
    )
    hidden = found.visibility.max(axis=-1) == 0
    broken = Bodies(times_s, exact.rotations.copy(), exact.betas.copy(), exact.transl.copy())
    broken.rotations[hidden], broken.betas[hidden], broken.transl[hidden] = np.eye(3), 99, 99
    (clip,), _ = completed(found, broken)
    assert clip.bodies is not None
    np.testing.assert_array_equal(clip.bodies.times_s, clip.landmarks.times_s)
    first = np.flatnonzero(times_s == clip.bodies.times_s[0])[0]
    for name in ("rotations", "betas", "transl"):
        np.testing.assert_allclose(getattr(clip.bodies, name), getattr(exact, name)[:, first:], atol=1e-4)
    np.testing.assert_array_equal(clip.bodies.rotations[1], broken.rotations[1, first:])
    assert broken.transl.max() == 99, "the input is left as it was"


ANKLES = [LANDMARK_INDEX["left_ankle"], LANDMARK_INDEX["right_ankle"]]


def in_picture(length_s: float, dancers: int = 1) -> Landmarks:
    """Dancers whose bodies end at 0.7 of the picture's height."""
    found = landmarks(length_s, *[[]] * dancers)
    found.image[..., 1] = 2000
    found.image[:, :, ANKLES, 1] = 2800
    return found


def legs_cut_off(clip: Clip, frames: slice, dancer: int = 0, *, invented: bool = False) -> None:
    """Let the bottom of the picture cut off a dancer, whose ankles are estimated below it or invented above it."""
    clip.boxes[dancer, frames, 3] = 3990
    clip.landmarks.image[dancer, frames, ANKLES, 1] = 2300 if invented else 4400
    clip.landmarks.visibility[dancer, frames, ANKLES] = 0.8 if invented else 0.0


@pytest.mark.parametrize("invented", [False, True])
@pytest.mark.parametrize("dancer", [0, 1])
def test_a_dancer_without_legs_throughout_is_dropped_by_that_name(dancer: int, invented: bool) -> None:
    clip = boxed(in_picture(8, 2))
    legs_cut_off(clip, slice(None), dancer, invented=invented)
    (dropped,) = STAGE(clip)
    assert isinstance(dropped, Dropped)
    assert (dropped.start_s, dropped.end_s) == pytest.approx((5, 13))
    assert "lower body" in dropped.reason
    assert "100%" in dropped.detail
    assert "50%" in dropped.detail
    kept, *rest = replace(STAGE, keep_half_bodies=True)(clip)
    assert isinstance(kept, Clip)
    assert not rest
    assert kept.scores["legs_out"] == 1
    np.testing.assert_array_equal(kept.landmarks.image, clip.landmarks.image)


def test_only_the_part_without_legs_is_dropped() -> None:
    clip = boxed(in_picture(20))
    legs_cut_off(clip, slice(6 * FPS, 11 * FPS))
    before, dropped, after = STAGE(clip)
    assert (before.start_s, before.end_s) == pytest.approx((5, 11), abs=0.1)
    assert (dropped.start_s, dropped.end_s) == pytest.approx((11, 16), abs=0.1)
    assert (after.start_s, after.end_s) == pytest.approx((16, 25), abs=0.1)
    assert isinstance(dropped, Dropped)
    first = round((before.start_s - 5) * FPS)
    count = len(before.landmarks.times_s)
    np.testing.assert_array_equal(before.landmarks.image, clip.landmarks.image[:, first : first + count])
    assert isinstance(after, Clip)
    assert after.scores["legs_out"] < 0.02


def test_a_short_rest_with_legs_is_dropped_with_its_length() -> None:
    clip = boxed(in_picture(6))
    legs_cut_off(clip, slice(round(3.5 * FPS), None))
    rest, without = STAGE(clip)
    assert isinstance(rest, Dropped)
    assert "3.5 s, at least 4 s needed" in rest.detail
    assert isinstance(without, Dropped)
    assert "100%" in without.detail


def test_a_short_rest_beside_a_long_span_without_legs_is_part_of_it() -> None:
    """An estimator that invents legs finds them where an ankle should be for a moment."""
    clip = boxed(in_picture(10))
    legs_cut_off(clip, slice(0, 3 * FPS))
    legs_cut_off(clip, slice(5 * FPS, None))
    (dropped,) = STAGE(clip)
    assert isinstance(dropped, Dropped)
    assert "80%" in dropped.detail
    assert (dropped.start_s, dropped.end_s) == pytest.approx((5, 15))


@pytest.mark.parametrize("start", [0, 90, 210])
def test_legs_that_leave_the_picture_for_a_moment_stay(start: int) -> None:
    clip = boxed(in_picture(8))
    legs_cut_off(clip, slice(start, start + 25))
    (kept,) = STAGE(clip)
    assert isinstance(kept, Clip)
    assert len(kept.landmarks.times_s) == 8 * FPS
    assert kept.scores["legs_out"] == pytest.approx(25 / 240)


def test_feet_at_the_bottom_of_the_picture_are_in_it() -> None:
    """The box of a dancer who fills the picture ends at its edge, and so do the ankles."""
    clip = boxed(in_picture(8), bottom_px=3999)
    clip.landmarks.image[:, :, ANKLES, 1] = 3700
    clip.landmarks.visibility[:, :, ANKLES[0]] = 0.1
    (kept,) = STAGE(clip)
    assert isinstance(kept, Clip)
    assert kept.scores["legs_out"] == 0


def test_legs_behind_something_are_in_the_picture() -> None:
    found = in_picture(8)
    found.visibility[:, :, ANKLES] = 0.1
    (kept,) = STAGE(boxed(found))
    assert isinstance(kept, Clip)
    assert kept.scores["legs_out"] == 0


def test_frames_without_an_estimate_do_not_count_as_frames_with_legs() -> None:
    """The dancer is found in a third of the frames only, always without legs, and at the end in all frames with legs."""
    clip = boxed(in_picture(16))
    legs_cut_off(clip, slice(0, 10 * FPS))
    for first in (1, 2):
        clip.landmarks.visibility[:, first : 10 * FPS : 3] = 0
    dropped, *_, kept = STAGE(clip)
    assert isinstance(dropped, Dropped)
    assert "lower body" in dropped.reason
    assert "100%" in dropped.detail
    assert isinstance(kept, Clip)
    assert kept.start_s == pytest.approx(15, abs=0.8)
