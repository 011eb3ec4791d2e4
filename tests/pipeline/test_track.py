"""Who is who: clothing keeps dancers apart through a crossing, motion where clothing cannot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.pipeline import relinking
from opendance_hf.pipeline.backends.base import Backend, Tracker
from opendance_hf.pipeline.backends.bytetrack import ByteTrack
from opendance_hf.pipeline.box_overlap import box_iou
from opendance_hf.pipeline.bystanders import measure, without_bystanders
from opendance_hf.pipeline.clip import Clip, Detections, Tracks, VideoInfo
from opendance_hf.pipeline.clothing import CLOTHING_DIM
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.track import Track

FPS = 30
HEIGHT, WIDTH = 400.0, 140.0


def wear(*bins: int) -> np.ndarray:
    clothing = np.full(CLOTHING_DIM, 0.002)
    clothing[list(bins)] += 1.0
    return clothing / clothing.sum()


RED, BLUE = wear(2, 12, 30), wear(5, 20, 25)


def box(x: float, y: float = 100.0, score: float = 0.9, height: float = HEIGHT) -> list[float]:
    width = WIDTH * height / HEIGHT
    return [x - width / 2, y, x + width / 2, y + height, score]


def detections(
    frames: list[list[tuple[list[float], np.ndarray]]],
    order: np.random.Generator | None = None,
    noise: float = 0.0,
) -> Detections:
    """Frames of (box, clothing) pairs, optionally in random order and with restless boxes and colours."""
    rng = np.random.default_rng(0)
    all_boxes, all_clothing = [np.zeros((0, 5), np.float32)], [np.zeros((0, CLOTHING_DIM), np.float32)]
    for people_here in frames:
        boxes = np.array([b for b, _ in people_here], np.float32).reshape(-1, 5)
        boxes[:, :4] += rng.normal(0, 6 * noise, (len(boxes), 4))
        boxes[:, 4] -= rng.uniform(0, 0.1 * noise, len(boxes))
        clothing = np.array([c for _, c in people_here], np.float32).reshape(-1, CLOTHING_DIM)
        clothing = np.abs(clothing + rng.normal(0, 0.01 * noise, clothing.shape))
        clothing /= clothing.sum(axis=1, keepdims=True)
        index = np.arange(len(boxes)) if order is None else order.permutation(len(boxes))
        all_boxes.append(boxes[index])
        all_clothing.append(clothing[index].astype(np.float32))
    counts = np.array([len(boxes) for boxes in all_boxes[1:]], np.int64)
    times = np.arange(len(frames)) / FPS
    return Detections(times, counts, np.concatenate(all_boxes), np.concatenate(all_clothing))


def crossing(
    left: np.ndarray, right: np.ndarray, *, merged_s: float = 0.5, meet: bool = True
) -> tuple[list[list[tuple[list[float], np.ndarray]]], np.ndarray]:
    """Two dancers walk past each other in 4 s, seen as one box while they overlap; and their true x (2, T)."""
    time = np.arange(4 * FPS) / FPS
    x = np.stack([200 + 150 * time, 800 - 150 * time])
    if not meet:
        x = np.stack([250 + 100 * np.sin(time * 3), 750 + 100 * np.cos(time * 3)])
    frames = []
    for t in range(len(time)):
        if meet and abs(time[t] - 2.0) <= merged_s / 2:
            frames.append([(box(float(x[:, t].mean()), score=0.85), (left + right) / 2)])
        else:
            frames.append([(box(float(x[0, t])), left), (box(float(x[1, t])), right)])
    return frames, x


def centres(tracks: Tracks) -> np.ndarray:
    return tracks.boxes[..., [0, 2]].mean(axis=-1)


def track(found: Detections, num_dancers: int) -> Tracks:
    return Track().follow(found, num_dancers, ByteTrack().load()(FPS))


@pytest.mark.parametrize("swap", [False, True])
def test_clothing_keeps_identities_through_a_crossing(swap: bool) -> None:
    left, right = (BLUE, RED) if swap else (RED, BLUE)
    frames, x = crossing(left, right)
    tracks = track(detections(frames, np.random.default_rng(1), noise=1.0), 2)
    assert tracks.boxes.shape == (2, len(frames), 4)
    apart = np.array([len(frame) == 2 for frame in frames])
    assert tracks.seen[:, apart].all()
    assert np.abs(centres(tracks) - x)[:, apart].max() < 30
    # One box is one dancer at most.
    assert tracks.seen[:, ~apart].sum(axis=0).max() <= 1


def test_same_clothing_is_followed_by_motion() -> None:
    frames, x = crossing(RED, RED, meet=False)
    tracks = track(detections(frames, np.random.default_rng(2), noise=1.0), 2)
    assert np.abs(centres(tracks) - x).max() < 30


def test_dancers_are_numbered_from_left_to_right() -> None:
    frames = [[(box(700), RED), (box(200), BLUE)] for _ in range(30)]
    tracks = track(detections(frames), 2)
    assert np.nanmean(centres(tracks), axis=1) == pytest.approx([200, 700])


def test_one_dancer_among_false_boxes() -> None:
    rng = np.random.default_rng(3)
    x = 400 + 100 * np.sin(np.arange(90) / 15)
    frames = []
    for t in range(90):
        here = [(box(float(x[t])), RED)]
        if t % 3 == 0:
            here.append((box(float(rng.uniform(0, 900)), score=0.3), BLUE))
        if t % 4 == 0:  # an arm of the dancer
            here.append(([x[t], 150, x[t] + 60, 260, 0.4], RED))
        frames.append(here)
    frames[40:50] = [[] for _ in range(10)]
    found = detections(frames, np.random.default_rng(4))
    assert Track().count_people(found) == 1
    tracks = track(found, 1)
    assert not tracks.seen[0, 40:50].any()
    seen = tracks.seen[0]
    assert seen[:40].all()
    assert seen[50:].all()
    assert np.abs(centres(tracks)[0, seen] - x[seen]).max() < 5


def test_a_dancer_who_leaves_is_unseen_and_comes_back() -> None:
    frames = [
        [(box(300), RED), (box(700), BLUE)] if not 30 <= t < 60 else [(box(300), RED)] for t in range(90)
    ]
    tracks = track(detections(frames, noise=0.5), 2)
    assert tracks.seen[0].all()
    np.testing.assert_array_equal(tracks.seen[1], [len(frame) == 2 for frame in frames])


def test_count_ignores_parts_and_people_far_away() -> None:
    dancer, other = (box(300), RED), (box(700), BLUE)
    torso = ([250.0, 120.0, 350.0, 380.0, 0.8], RED)
    tiny = (box(500, height=0.3 * HEIGHT), BLUE)
    unsure = (box(500, score=0.4), BLUE)
    assert Track().count_people(detections([[dancer]] * 20)) == 1
    assert Track().count_people(detections([[dancer, torso, tiny, unsure]] * 20)) == 1
    assert Track().count_people(detections([[dancer, other, torso, tiny]] * 20)) == 2
    assert Track().count_people(detections([[torso, tiny, dancer]] * 20)) == 1
    assert len(Track().people(np.array([dancer[0], torso[0], other[0]], np.float32))) == 2


def test_count_needs_a_fifth_of_the_frames() -> None:
    alone, together = [(box(300), RED)], [(box(300), RED), (box(700), BLUE)]
    assert Track().count_people(detections([alone] * 85 + [together] * 15)) == 1
    assert Track().count_people(detections([alone] * 75 + [together] * 25)) == 2
    crowd = [*together, (box(1100), RED)]
    assert Track().count_people(detections([alone] * 76 + [together] * 12 + [crowd] * 12)) == 2
    assert Track().count_people(detections([[]] * 30)) == 0
    assert Track().count_people(detections([])) == 0


@pytest.mark.parametrize("num_dancers", [0, 7])
def test_impossible_number_of_dancers(num_dancers: int) -> None:
    with pytest.raises(ValueError, match="1 to 6"):
        track(detections([[(box(300), RED)]] * 3), num_dancers)


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_order_of_boxes_within_a_frame_does_not_matter(seed: int) -> None:
    frames, _ = crossing(RED, BLUE)
    frames = [[*frame, (box(500, 20, 0.3, 200), wear(seed % 40))] for frame in frames]
    usual = track(detections(frames, noise=1.0), 2)
    shuffled = track(detections(frames, np.random.default_rng(seed), noise=1.0), 2)
    np.testing.assert_array_equal(usual.boxes, shuffled.boxes)


@given(
    st.lists(
        st.tuples(st.floats(0, 900), st.floats(0, 600), st.floats(1, 300), st.floats(1, 300)),
        min_size=1,
        max_size=5,
    )
)
def test_iou(rows: list[tuple[float, float, float, float]]) -> None:
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in rows])
    iou = box_iou(boxes, boxes)
    np.testing.assert_allclose(iou, iou.T)
    np.testing.assert_allclose(np.diag(iou), 1)
    assert iou.min() >= 0
    assert iou.max() <= 1 + 1e-6


class Numbered:
    """A tracker that gives the boxes of each frame the next of some lists of numbers."""

    def __init__(self, numbers: list[list[int]]) -> None:
        self.numbers = iter(numbers)

    def update(self, boxes: np.ndarray) -> np.ndarray:
        return np.array(next(self.numbers)[: len(boxes)])


#: Two dancers who walk through each other: for one frame their boxes are one.
MEETING = np.arange(-15, 16)


@pytest.mark.parametrize("swap", [False, True])
def test_dancers_in_the_same_clothes_stay_on_the_trackers_tracks(swap: bool) -> None:
    """Neither clothes nor overlap tell who walks on to which side."""
    frames, numbers = [], []
    for t in MEETING:
        order = [1, 0] if swap and t > 0 else [0, 1]
        here = [(box(500.0 + 10 * t), RED), (box(500.0 - 10 * t), RED)]
        frames.append([here[k] for k in order])
        numbers.append(order)
    tracks = Track().follow(detections(frames), 2, Numbered(numbers))
    np.testing.assert_allclose(centres(tracks)[0], 500.0 + 10 * MEETING)
    np.testing.assert_allclose(centres(tracks)[1], 500.0 - 10 * MEETING)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("turn", [False, True], ids=["walk on", "turn round"])
def test_clothes_are_learned_where_dancers_stand_apart(swap: bool, turn: bool) -> None:
    """They stand so close for most of the shot that each box shows the clothes of both."""
    frames = []
    for t in range(120):
        left, right = (box(300), RED), (box(700), BLUE)
        if 20 <= t < 100:
            aside = 0 if 55 <= t < 65 else 25
            left, right = ((box(x), (RED + BLUE) / 2) for x in (500.0 - aside, 500.0 + aside))
        elif t >= 100 and not turn:
            left, right = (box(300), BLUE), (box(700), RED)
        frames.append([right, left] if swap and t >= 100 else [left, right])
    tracks = Track().follow(detections(frames), 2, Numbered([[-1, -1]] * 120))
    assert np.nanmean(centres(tracks)[0, 100:]) == pytest.approx(300 if turn else 700, abs=20)
    assert np.nanmean(centres(tracks)[1, 100:]) == pytest.approx(700 if turn else 300, abs=20)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("turn", [False, True], ids=["walk on", "turn round"])
def test_clothes_of_dancers_who_are_never_surely_seen_are_learned_as_they_are_followed(
    swap: bool, turn: bool
) -> None:
    frames = []
    for t in range(120):
        left, right = (box(300, score=0.4), RED), (box(700, score=0.4), BLUE)
        if 90 <= t < 100:
            left = right = (box(500, score=0.4), (RED + BLUE) / 2)
        elif t >= 100 and not turn:
            left, right = (box(300, score=0.4), BLUE), (box(700, score=0.4), RED)
        frames.append([right, left] if swap and t >= 100 else [left, right])
    tracks = Track().follow(detections(frames), 2, Numbered([[-1, -1]] * 120))
    assert np.nanmean(centres(tracks)[0, 100:]) == pytest.approx(300 if turn else 700, abs=20)
    assert np.nanmean(centres(tracks)[1, 100:]) == pytest.approx(700 if turn else 300, abs=20)


def test_a_sure_box_far_off_beats_a_weak_one_that_stays() -> None:
    """Somebody leaps away, and the detector goes on seeing a shadow in the old place."""
    frames = [[(box(200), RED)]] * 10 + [[(box(600), RED), (box(200, score=0.3), RED)]] * 20
    tracks = track(detections(frames), 1)
    # For one frame nobody is seen, which costs less than a jump.
    assert (centres(tracks)[0, 11:] == 600).all()


def test_a_dancer_who_left_is_not_seen_in_the_others_clothes() -> None:
    leg = (box(320, 300, 0.7, 180), RED)
    frames = [
        [(box(300), RED), (box(700), BLUE)] if not 30 <= t < 60 else [(box(300), RED), leg] for t in range(90)
    ]
    tracks = track(detections(frames), 2)
    assert (centres(tracks)[0] == 300).all()
    assert not tracks.seen[1, 30:60].any()


def test_of_a_crowded_frame_only_the_surest_boxes_are_assigned() -> None:
    crowd = [(box(50.0 + 150 * n, score=0.9), wear(n)) for n in range(Track().max_boxes)]
    frames = [[(box(1200), RED)]] * 10 + [[*crowd, (box(1200, score=0.6), RED)]] + [[(box(1200), RED)]] * 10
    tracks = track(detections(frames), 1)
    assert (centres(tracks)[0, tracks.seen[0]] == 1200).all()
    assert np.flatnonzero(~tracks.seen[0]).tolist() == [10]


RATES: list[float] = []


@dataclass(frozen=True)
class NotesItsRate(Backend):
    name = "notes-its-rate"
    version = "1"

    def load(self) -> object:
        return self.start

    def start(self, rate_hz: float) -> Tracker:
        RATES.append(rate_hz)
        return ByteTrack().load()(rate_hz)


def shot(people: int, frames: int = 20, rate_hz: float = 7.5) -> Clip:
    """The end of a video of 30 s, with so many people side by side."""
    found = detections([[(box(200.0 + 300 * k), wear(k)) for k in range(people)]] * frames)
    found = replace(found, times_s=12.0 + np.arange(frames) / rate_hz)
    video = VideoInfo(1920, 1080, 30.0, 30.0, True)
    return Clip(Path("v.mp4"), "0" * 64, start_s=12.0, video=video, detections=found)


def test_a_shot_with_the_right_number_of_people_is_followed_at_its_own_rate() -> None:
    RATES.clear()
    for people in (1, 2):
        followed = replace(Track(), tracker=NotesItsRate())(shot(people))
        assert isinstance(followed, Clip)
        assert followed.tracks.seen.shape == (people, 20)
        assert followed.tracks.seen.all()
    assert pytest.approx([7.5, 7.5]) == RATES


@pytest.mark.parametrize(
    ("stage", "people", "detail"),
    [
        (Track(), 3, "3, at most 2 allowed"),
        (replace(Track(), max_dancers=1), 2, "2, at most 1 allowed"),
        (replace(Track(), max_dancers=9), 7, "7, at most 6 allowed"),
    ],
)
def test_a_shot_with_too_many_people_is_dropped_with_their_number(
    stage: Track, people: int, detail: str
) -> None:
    assert stage(shot(people)) == Dropped(12.0, 30.0, "too many people", detail)


def test_the_number_of_dancers_can_be_set() -> None:
    followed = replace(Track(), max_dancers=3)(shot(3))
    assert isinstance(followed, Clip)
    assert len(followed.tracks.boxes) == 3


@pytest.mark.parametrize(
    ("people", "frames", "reason"),
    [(0, 20, "nobody in the picture"), (1, 0, "nobody in the picture"), (1, 1, "fewer than two frames")],
)
def test_a_shot_without_people_or_frames_is_dropped(people: int, frames: int, reason: str) -> None:
    assert Track()(shot(people, frames)) == Dropped(12.0, 30.0, reason)
    assert Track()(replace(shot(people, frames), end_s=14.0)) == Dropped(12.0, 14.0, reason)


def test_rows_name_the_tracker_and_the_relinking() -> None:
    assert [row[:2] for row in Track().provenance()] == [
        ("track", "bytetrack"),
        ("relink", "clothing-viterbi"),
    ]


def shot_with(*others: list[list[float]], dancers: int = 1) -> Clip:
    """A shot of 12 s in which dancers move, and with boxes of other people in it, one list of 90 boxes for each."""
    time = np.arange(90) / 7.5
    frames = []
    for t in range(90):
        here = [
            (
                box(
                    700.0 + 500 * k + 80 * np.sin(2 * time[t] + k),
                    height=HEIGHT * (0.9 + 0.1 * np.cos(time[t])),
                ),
                wear(k),
            )
            for k in range(dancers)
        ]
        frames.append(here + [(other[t], wear(10 + k)) for k, other in enumerate(others)])
    found = replace(detections(frames, noise=0.3), times_s=time)
    return Clip(Path("v.mp4"), "0" * 64, video=VideoInfo(1920, 1080, 30.0, 12.0, True), detections=found)


def still(x: float, height: float) -> list[list[float]]:
    return [box(x, height=height)] * 90


#: Somebody at the left edge, of whom half is in the picture.
AT_THE_EDGE = [[0.0, 100.0, WIDTH / 2, 100.0 + HEIGHT, 0.9]] * 90


@pytest.mark.parametrize("dancers", [1, 2])
@pytest.mark.parametrize("other", [still(300, 0.65 * HEIGHT), AT_THE_EDGE], ids=["behind", "at the edge"])
def test_who_stands_in_the_background_or_at_the_edge_is_not_a_dancer(
    dancers: int, other: list[list[float]]
) -> None:
    alone, followed = Track()(shot_with(dancers=dancers)), Track()(shot_with(other, dancers=dancers))
    assert isinstance(followed, Clip)
    assert isinstance(alone, Clip)
    assert len(followed.tracks.boxes) == dancers
    np.testing.assert_allclose(followed.tracks.boxes, alone.tracks.boxes, atol=15)


def test_two_bystanders_are_none_of_the_dancers() -> None:
    followed = Track()(shot_with(still(300, 0.6 * HEIGHT), AT_THE_EDGE, dancers=2))
    assert isinstance(followed, Clip)
    assert len(followed.tracks.boxes) == 2
    assert centres(followed.tracks).min() > 500


def test_a_still_partner_of_the_same_size_is_a_dancer() -> None:
    followed = Track()(shot_with(still(300, 0.9 * HEIGHT)))
    assert isinstance(followed, Clip)
    assert len(followed.tracks.boxes) == 2


def test_a_smaller_partner_who_stands_still_before_dancing_is_a_dancer() -> None:
    x = 300.0 + 60 * np.sin(np.arange(90) / 4) * (np.arange(90) > 55)
    followed = Track()(shot_with([box(float(at), height=0.65 * HEIGHT) for at in x]))
    assert isinstance(followed, Clip)
    assert len(followed.tracks.boxes) == 2


def test_where_nobody_moves_everybody_counts() -> None:
    clip = replace(shot_with(), detections=detections([[(box(300), RED), (box(700, height=250), BLUE)]] * 20))
    followed = Track()(clip)
    assert isinstance(followed, Clip)
    assert len(followed.tracks.boxes) == 2


def test_three_dancers_and_a_bystander_are_too_many() -> None:
    assert Track()(shot_with(still(300, 0.6 * HEIGHT), dancers=3)) == Dropped(
        0.0, 12.0, "too many people", "3, at most 2 allowed"
    )


def walking(start_s: float, seconds: float, height: float = 0.8 * HEIGHT) -> list[list[float] | None]:
    """Somebody who walks through the picture of 1920 pixels from left to right, and is in it for some seconds."""
    time = np.arange(90) / 7.5 - start_s
    return [box(1920 * t / seconds, height=height) if 0 <= t < seconds else None for t in time]


def shot_with_guests(*guests: list[list[float] | None], dancers: int = 1, seed: int = 0) -> Clip:
    """The shot of :func:`shot_with`, with people who are not in every frame."""
    clip = shot_with(dancers=dancers)
    boxes, clothing = clip.detections.by_frame()
    frames = []
    for t in range(90):
        here = [(b.tolist(), c) for b, c in zip(boxes[t], clothing[t], strict=True)]
        here += [(guest[t], wear(10 + k)) for k, guest in enumerate(guests) if guest[t] is not None]
        frames.append(here)
    found = replace(
        detections(frames, np.random.default_rng(seed), noise=0.3), times_s=clip.detections.times_s
    )
    return replace(clip, detections=found)


def dancers_of(clip: Clip) -> tuple[np.ndarray, float]:
    """The (K, T) middles of those who are tracked, and the number of bystanders."""
    followed = Track()(clip)
    assert isinstance(followed, Clip)
    return centres(followed.tracks), followed.scores["bystanders"]


@pytest.mark.parametrize("dancers", [1, 2])
@pytest.mark.parametrize("seconds", [3.0, 4.5])
def test_who_walks_through_the_picture_is_not_a_dancer(dancers: int, seconds: float) -> None:
    alone, _ = dancers_of(shot_with_guests(dancers=dancers))
    x, bystanders = dancers_of(shot_with_guests(walking(4.0, seconds), dancers=dancers))
    assert (len(x), bystanders) == (dancers, 1)
    # The dancers are hidden by the passer-by, or mistaken for them, for a few frames at most.
    assert (np.abs(x - alone) < 20).mean() > 0.9


def test_who_walks_in_and_stays_is_a_dancer() -> None:
    time = np.arange(90) / 7.5
    entering = [box(min(1800 - 250 * (t - 4), 1500 + 60 * np.sin(2 * t))) if t > 4 else None for t in time]
    x, bystanders = dancers_of(shot_with_guests(entering))
    assert (len(x), bystanders) == (2, 0)


def test_who_is_hardly_in_the_picture_is_not_a_dancer() -> None:
    """Somebody moves at the left edge; somebody else looks in at the right edge from time to time."""
    rng = np.random.default_rng(0)
    narrow = [
        [0.0, 100.0, 50 + 20 * rng.random(), 100 + HEIGHT * (0.8 + 0.2 * rng.random()), 0.9]
        for _ in range(90)
    ]
    peeping = [
        [1920 - 150.0 - 3 * (t % 10), 100.0, 1920.0, 480.0, 0.9] if t % 30 < 12 else None for t in range(90)
    ]
    x, bystanders = dancers_of(shot_with_guests(narrow, peeping))
    assert (len(x), bystanders) == (1, 2)
    assert np.nanmin(x) > 500


def test_a_dancer_at_the_edge_is_a_dancer() -> None:
    """The edge cuts off an arm in every other second."""
    time = np.arange(90) / 7.5
    x1 = np.maximum(0, 60 + 80 * np.sin(3 * time))
    at_edge = [[float(x), 100.0, float(x) + 150, 100 + HEIGHT, 0.9] for x in x1]
    x, bystanders = dancers_of(shot_with_guests(at_edge))
    assert (len(x), bystanders) == (2, 0)


def test_a_life_size_picture_is_not_a_dancer() -> None:
    clip = shot_with_guests()
    boxes, clothing = clip.detections.by_frame()
    frames = [[*zip(b, c, strict=True), (box(1300), BLUE)] for b, c in zip(boxes, clothing, strict=True)]
    found = replace(detections(frames), times_s=clip.detections.times_s)  # its box does not move at all
    x, bystanders = dancers_of(replace(clip, detections=found))
    assert (len(x), bystanders) == (1, 1)
    assert np.nanmax(x) < 900


def dancing(x: float, height: float, phase: float, side: float = 1.0) -> list[list[float] | None]:
    """Somebody whose box changes like that of a dancer; equal phases and the other side are a mirror image."""
    out: list[list[float] | None] = []
    for t in np.arange(90) / 7.5 + phase:
        wide, high = 0.4 + 0.2 * np.sin(2.3 * t), 1.0 - 0.15 * np.sin(3.1 * t + 1)
        middle = x + side * height * (0.2 * np.sin(1.1 * t) + 0.1 * np.sin(2.9 * t))
        out.append([middle - wide * height / 2, 600 - high * height, middle + wide * height / 2, 600.0, 0.9])
    return out


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_smaller_image_of_a_dancer_is_not_a_dancer(side: float) -> None:
    frames = [
        [(here, RED), (image, RED)]
        for here, image in zip(dancing(600, HEIGHT, 0), dancing(1200, 0.6 * HEIGHT, 0, side), strict=True)
    ]
    clip = replace(
        shot_with(), detections=replace(detections(frames, noise=0.3), times_s=np.arange(90) / 7.5)
    )
    x, bystanders = dancers_of(clip)
    assert (len(x), bystanders) == (1, 1)
    assert np.nanmean(x) == pytest.approx(600, abs=60)


@pytest.mark.parametrize(
    ("height", "phase"), [(0.95, 0.0), (0.7, 0.5)], ids=["of one size", "half a beat late"]
)
def test_partners_who_dance_the_same_are_two_dancers(height: float, phase: float) -> None:
    frames = [
        [(here, RED), (other, RED)]
        for here, other in zip(
            dancing(600, HEIGHT, 0), dancing(1200, height * HEIGHT, phase, -1), strict=True
        )
    ]
    clip = replace(
        shot_with(), detections=replace(detections(frames, noise=0.3), times_s=np.arange(90) / 7.5)
    )
    x, bystanders = dancers_of(clip)
    assert (len(x), bystanders) == (2, 0)


@pytest.mark.parametrize("merged_s", [0.0, 0.3, 0.6])
def test_dancers_in_the_same_clothes_walk_on_after_one_hid_the_other(merged_s: float) -> None:
    """Neither clothes nor the tracker tell who is who; seen 7.5 times a second."""
    frames, x = crossing(RED, RED, merged_s=merged_s)
    frames, x = frames[::4], x[:, ::4]
    found = detections(frames, np.random.default_rng(3), noise=0.5)
    found = replace(found, times_s=4 * found.times_s)
    tracks = Track().follow(found, 2, Numbered([[-1, -1]] * len(frames)))
    late = found.times_s > 2.6
    assert np.abs(centres(tracks) - x)[:, late & tracks.seen.all(axis=0)].max() < 30
    assert tracks.seen[:, late].mean() > 0.9


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_up_to_six_dancers_are_followed(num_dancers: int, seed: int) -> None:
    """Each dances in a place of their own, two of them in the same clothes."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 6, num_dancers)
    places = np.array(
        [200.0 + 300 * k + 60 * np.sin(phases[k] + np.arange(24) / 4) for k in range(num_dancers)]
    )
    frames = [[(box(float(x)), wear(min(k, 4))) for k, x in enumerate(places[:, t])] for t in range(24)]
    found = detections(frames, rng, noise=0.5)
    assert Track().count_people(found) == num_dancers
    tracks = track(found, num_dancers)
    assert tracks.seen.mean() > 0.95
    assert np.nanmax(np.abs(centres(tracks) - places)) < 30


def test_few_of_the_assignments_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three dancers, of whom two cross; of the 34 assignments of three boxes or more, 8 are kept."""
    frames, _ = crossing(RED, BLUE)
    frames = [[*frame, (box(1300), wear(9))] for frame in frames]
    found = detections(frames, noise=1.0)
    usual = track(found, 3)
    monkeypatch.setattr(relinking, "MAX_STATES", 8)
    np.testing.assert_array_equal(track(found, 3).boxes, usual.boxes)


def test_a_dancer_gets_back_the_boxes_that_a_bystander_got() -> None:
    """At first the passer-by, who is not there yet, has the dancer's boxes; then both have their own."""
    dancer = np.array([box(600.0 + t)[:4] for t in range(20)], np.float32)
    passing = np.array([box(100.0 + 60 * t, height=0.7 * HEIGHT)[:4] for t in range(20)], np.float32)
    boxes = np.stack([dancer, passing])
    boxes[1, :4], boxes[0, :4] = dancer[:4], np.nan
    kept = without_bystanders(Tracks(np.arange(20) / 7.5, boxes), np.array([True, False]))
    np.testing.assert_array_equal(kept.boxes, dancer[None])
    boxes[1, :4] = np.nan  # nobody has them
    kept = without_bystanders(Tracks(np.arange(20) / 7.5, boxes), np.array([True, False]))
    np.testing.assert_array_equal(kept.seen[0], np.arange(20) >= 4)


def test_the_score_counts_bystanders() -> None:
    for others, bystanders in (([], 0), ([still(300, 0.6 * HEIGHT), AT_THE_EDGE], 2)):
        assert dancers_of(shot_with(*others, dancers=2))[1] == bystanders


def test_shares_of_frames_seen_and_seen_alone_differ_where_people_overlap() -> None:
    boxes = np.zeros((2, 40, 4), np.float32)
    boxes[:] = (100, 50, 200, 450)
    boxes[1, :20] += (300, 0, 300, 0)
    tracks = Tracks(np.arange(40) / 7.5, boxes)
    alone = np.zeros((2, 40), dtype=bool)
    alone[:, :20] = True
    people = measure(tracks, alone, 5.0, 800)
    np.testing.assert_array_equal(people.seen_shares, 1.0)
    np.testing.assert_array_equal(people.alone_shares, 0.5)


def test_who_has_left_does_not_get_the_boxes_of_who_comes_later() -> None:
    boxes = np.full((2, 90, 4), np.nan, np.float32)
    boxes[0, :30] = boxes[1, 60:] = (100, 50, 200, 450)
    tracks = Tracks(np.arange(90) / 7.5, boxes)
    kept = without_bystanders(tracks, np.array([True, False]))
    np.testing.assert_array_equal(kept.seen[0], np.arange(90) < 30)
