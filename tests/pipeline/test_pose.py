"""Two passes with steady regions; strangers are dropped by their clothes; what is outside the picture is not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.pipeline.backends.base import Backend, Keypoints, Region
from opendance_hf.pipeline.clip import Clip, Image, Job, Landmarks
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stages.pose import Pose
from tests.pipeline.clips import flat, write_clip
from tests.pipeline.fakes import Still

WIDTH, HEIGHT = 640, 360
RED, BLUE = (200, 30, 30), (30, 30, 200)
#: A standing body in a square of side 1, x and y from its centre.
BODY = np.zeros((33, 2), np.float32)
for _name, _place in {
    "nose": (0, -0.4), "left_shoulder": (0.1, -0.28), "right_shoulder": (-0.1, -0.28), "left_hip": (0.07, 0.0),
    "right_hip": (-0.07, 0.0), "left_knee": (0.07, 0.2), "right_knee": (-0.07, 0.2), "left_ankle": (0.07, 0.4),
    "right_ankle": (-0.07, 0.4), "left_wrist": (0.2, 0.0), "right_wrist": (-0.2, 0.0),
}.items():  # fmt: skip
    BODY[LANDMARK_INDEX[_name]] = _place


class FakeEstimator:
    """Sees the person of a scene who is nearest to the region's centre; notes the regions it was given."""

    def __init__(
        self, people: np.ndarray, answer: Callable[[int, Keypoints], Keypoints] | None = None
    ) -> None:
        self.people, self.answer = people, answer
        self.regions: list[Region] = []

    def region_of_box(self, box: np.ndarray) -> Region:
        x1, y1, x2, y2 = (float(value) for value in box[:4])
        return Region((x1 + x2) / 2, (y1 + y2) / 2, 1.25 * max(x2 - x1, y2 - y1, 1.0))

    def estimate(self, image: Image, region: Region) -> Keypoints:
        frame = int(image[0, 0, 0])
        self.regions.append(region)
        x, y, side = min(
            self.people[:, frame], key=lambda person: np.hypot(person[0] - region.cx, person[1] - region.cy)
        )
        points = BODY * side + (x, y)
        found = Keypoints(
            image=points.astype(np.float32),
            world=np.zeros((33, 3), np.float32),
            visibility=np.full(33, 0.9, np.float32),
            score=0.95,
            region=Region(float(x), float(y), 1.25 * float(side)),
        )
        return self.answer(frame, found) if self.answer else found


def standing(*xs: float, frames: int = 40, side: float = 240) -> np.ndarray:
    """(D, T, 3) centre and size of people who stand still."""
    return np.tile(np.array([[[x, HEIGHT / 2, side]] for x in xs], float), (1, frames, 1))


def boxes_of(people: np.ndarray) -> np.ndarray:
    half = people[..., 2:] * (0.2, 0.45)
    return np.concatenate([people[..., :2] - half, people[..., :2] + half], axis=-1).astype(np.float32)


def film(
    people: np.ndarray, colours: list[tuple[int, int, int]], fps: float = 30
) -> Callable[[], list[Still]]:
    """Frames with a coloured torso for each person, the last in front; pixel (0, 0) holds the frame's number."""

    def frames() -> list[Still]:
        out = []
        for t in range(people.shape[1]):
            image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            for (x, y, side), colour in zip(people[:, t], colours, strict=True):
                rows = slice(int(y - 0.35 * side), int(y + 0.1 * side))
                image[rows, max(int(x - 0.15 * side), 0) : int(x + 0.15 * side)] = colour
            image[0, 0] = t
            out.append(Still(t / fps, image))
        return out

    return frames


def every_frame(frames: Callable[[], list[Still]], boxes: np.ndarray, estimator: FakeEstimator) -> Landmarks:
    """Look at every frame, with one estimator for both passes."""
    return Pose(rate_hz=1000.0).estimate(frames, boxes, [estimator], [estimator])[0]


def test_shapes_and_values() -> None:
    people = standing(180, 450)
    found = every_frame(film(people, [RED, BLUE]), boxes_of(people), FakeEstimator(people))
    assert found.image.shape == (2, 40, 33, 2)
    assert found.world.shape == (2, 40, 33, 3)
    np.testing.assert_allclose(found.times_s, np.arange(40) / 30)
    np.testing.assert_allclose(found.image[1, 7], BODY * 240 + (450, 180), atol=1e-3)
    np.testing.assert_allclose(found.visibility, 0.9)
    np.testing.assert_allclose(found.confidence(), 0.9)
    np.testing.assert_allclose(found.regions_px, 300, rtol=0.02)


def test_regions_of_the_second_pass_are_steady() -> None:
    """Restless and missing boxes, a restless first pass: the accurate model's crop moves smoothly with the dancer."""
    rng = np.random.default_rng(0)
    people = standing(0, frames=90)
    people[0, :, 0] = np.linspace(200, 440, 90)
    boxes = boxes_of(people) + rng.normal(0, 8, (1, 90, 4)).astype(np.float32)
    boxes[0, 30:38] = np.nan

    def restless(frame: int, found: Keypoints) -> Keypoints:
        own = found.region
        moved = Region(
            own.cx + rng.normal(0, 8), own.cy + rng.normal(0, 8), own.size * rng.uniform(0.95, 1.05)
        )
        bad = Region(own.cx + 400, own.cy, own.size * 3) if frame % 20 == 10 else moved
        return Keypoints(found.image, found.world, found.visibility, found.score, bad)

    estimator = FakeEstimator(people, restless)
    every_frame(film(people, [RED]), boxes, estimator)
    path = np.array([[r.cx, r.cy, r.size] for r in estimator.regions[-90:]])
    assert np.abs(path[:, 0] - people[0, :, 0]).max() < 15
    assert np.abs(np.diff(path[:, :2], 2, axis=0)).max() < 3
    # Independent noise of 8 pixels has mean second differences of 16.
    assert np.abs(np.diff(path[:, :2], 2, axis=0)).mean() < 1
    assert np.abs(path[:, 2] / 300 - 1).max() < 0.1


def test_the_second_pass_looks_twelve_times_a_second() -> None:
    people = there_and_back(90)
    estimator = FakeEstimator(people)
    first = FakeEstimator(people)
    found, exchanged = Pose().estimate(film(people, [RED]), boxes_of(people), [estimator], [first])
    assert exchanged == 0
    assert len(estimator.regions) == 36 + 1, "three seconds, and the last frame"
    assert len(first.regions) == 23
    assert found.image.shape == (1, 90, 33, 2)
    np.testing.assert_allclose(found.image[0, :, :, 0], BODY[:, 0] * 240 + people[0, :, :1], atol=0.5)


def test_what_one_look_misses_is_missing_between_its_neighbours() -> None:
    people = standing(300, frames=30)

    def unsure(frame: int, found: Keypoints) -> Keypoints:
        strange = found.image + 500
        return Keypoints(strange, found.world, found.visibility, 0.2, found.region) if frame == 15 else found

    found, _ = Pose(rate_hz=10.0).estimate(
        film(people, [RED]), boxes_of(people), [FakeEstimator(people, unsure)], [FakeEstimator(people)]
    )
    missing = found.visibility[0].max(axis=-1) == 0
    assert np.flatnonzero(missing).tolist() == [13, 14, 15, 16, 17]
    np.testing.assert_allclose(
        found.image[0, ~missing], (BODY * 240 + people[0, :, None, :2])[~missing], atol=1
    )


@pytest.mark.parametrize(("x", "y"), [(20, 180), (WIDTH - 20, 180), (320, 40), (320, HEIGHT - 40)])
def test_outside_the_picture_is_not_seen(x: float, y: float) -> None:
    people = standing(x)
    people[..., 1] = y
    found = every_frame(film(people, [RED]), boxes_of(people), FakeEstimator(people))
    outside = ((found.image < 0) | (found.image >= (WIDTH, HEIGHT))).any(axis=-1)
    assert outside.any()
    assert not found.visibility[outside].any()
    assert (found.visibility[~outside] > 0.8).all()


def test_nobody_there_is_not_seen() -> None:
    people = standing(300)

    def unsure(frame: int, found: Keypoints) -> Keypoints:
        return Keypoints(
            found.image, found.world, found.visibility, 0.2 if 10 <= frame < 15 else 0.9, found.region
        )

    found = every_frame(film(people, [RED]), boxes_of(people), FakeEstimator(people, unsure))
    assert not found.visibility[0, 10:15].any()
    assert (np.delete(found.visibility[0], range(10, 15), axis=0) > 0.8).all()


@pytest.mark.parametrize("front", [0, 1])
def test_the_one_in_front_keeps_the_estimate(front: int) -> None:
    """While one hides the other, both estimates are of the one in front; the clothes say who that is."""
    people = standing(180, 450, frames=60)
    hidden = slice(25, 35)
    meeting = people.copy()
    meeting[:, hidden] = people[front, hidden]
    colours = [RED, BLUE]
    shown = film(meeting[[1 - front, front]], [colours[1 - front], colours[front]])
    boxes = boxes_of(meeting)
    boxes[1 - front, hidden] = np.nan
    # Whoever is asked for the hidden dancer's region sees the one in front.
    found = every_frame(shown, boxes, FakeEstimator(meeting))
    same = np.linalg.norm(found.image[0] - found.image[1], axis=-1).mean(axis=-1) < 20
    assert same[hidden].any()
    assert (found.visibility[front].max(axis=-1) > 0.8).all()
    assert not found.visibility[1 - front, same].any()
    assert (found.visibility[1 - front, ~same].max(axis=-1) > 0.8).all()


def wrong_first(
    wrong: Callable[[Region], Region], score: float = 0.95
) -> Callable[[int, Keypoints], Keypoints]:
    """Answers with another region than the person's."""

    def answer(frame: int, found: Keypoints) -> Keypoints:
        return Keypoints(found.image, found.world, found.visibility, score, wrong(found.region))

    return answer


def regions_of_second_pass(
    people: np.ndarray, answer: Callable[[int, Keypoints], Keypoints] | None, boxes: np.ndarray | None = None
) -> np.ndarray:
    """(T, 3) centre and size of the regions that the second pass looks at."""
    estimator = FakeEstimator(people, answer)
    boxes = boxes_of(people) if boxes is None else boxes
    every_frame(film(people, [RED]), boxes, estimator)
    return np.array([[r.cx, r.cy, r.size] for r in estimator.regions[-people.shape[1] :]])


def there_and_back(frames: int = 90) -> np.ndarray:
    people = standing(0, frames=frames)
    people[0, :, 0] = 320 + 120 * np.sin(np.linspace(0, 2 * np.pi, frames))
    return people


def test_the_first_pass_looks_at_few_frames() -> None:
    people = standing(320, frames=60)
    estimator = FakeEstimator(people)
    every_frame(film(people, [RED]), boxes_of(people), estimator)
    assert len(estimator.regions) == 60 + 15, "two seconds at 7.5 Hz, and every frame"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda region: Region(region.cx + 0.5 * region.size, region.cy, region.size),
        lambda region: Region(region.cx, region.cy, 0.3 * region.size),
        lambda region: Region(region.cx, region.cy, 2.0 * region.size),
    ],
    ids=["somebody else", "an arm", "a crowd"],
)
def test_a_first_pass_that_found_something_else_does_not_count(wrong: Callable[[Region], Region]) -> None:
    path = regions_of_second_pass(standing(320), wrong_first(wrong))
    np.testing.assert_allclose(path, [[320, HEIGHT / 2, 270]] * 40, atol=1)


def test_a_first_pass_that_is_unsure_does_not_count() -> None:
    aside = wrong_first(lambda region: Region(region.cx + 50, region.cy, region.size), score=0.3)
    np.testing.assert_allclose(regions_of_second_pass(standing(320), aside)[:, 0], 320, atol=1)
    sure = wrong_first(lambda region: Region(region.cx + 50, region.cy, region.size))
    np.testing.assert_allclose(regions_of_second_pass(standing(320), sure)[:, 0], 370, atol=1)


def test_a_dancer_who_was_not_detected_is_looked_for_further_away() -> None:
    """Between two detections the box is a guess: the first pass may correct it by half of a region."""
    people = standing(320, frames=90)
    people[0, 20:70, 0] = 450
    boxes = boxes_of(standing(320, frames=90))
    boxes[0, 20:70] = np.nan
    path = regions_of_second_pass(people, None, boxes)
    np.testing.assert_allclose(path[35:55, 0], 450, atol=3)
    boxes[0, 20:70] = boxes[0, 0]
    path = regions_of_second_pass(people, None, boxes)
    np.testing.assert_allclose(path[35:55, 0], 320, atol=3)


def test_regions_follow_the_dancer_with_and_without_the_first_pass() -> None:
    people = there_and_back()
    unsure = wrong_first(lambda region: region, score=0.1)
    for answer in (None, unsure):
        path = regions_of_second_pass(people, answer)
        assert np.abs(path[:, 0] - people[0, :, 0]).max() < 20


def test_boxes_that_are_wrong_for_two_frames_move_nothing() -> None:
    people = standing(320)
    boxes = boxes_of(people)
    boxes[0, 20:22] += 150
    unsure = FakeEstimator(people, wrong_first(lambda region: region, score=0.1))
    every_frame(film(people, [RED], fps=7.5), boxes, unsure)
    path = np.array([[r.cx, r.cy] for r in unsure.regions])
    assert len(path) == 80, "at this rate the first pass looks at every frame"
    np.testing.assert_allclose(path, [[320, HEIGHT / 2]] * 80, atol=1)


def test_the_first_pass_looks_at_steady_boxes() -> None:
    people = standing(320, frames=200)
    boxes = boxes_of(people) + np.random.default_rng(0).normal(0, 8, (1, 200, 1)).astype(np.float32)
    estimator = FakeEstimator(people)
    every_frame(film(people, [RED], fps=7.5), boxes, estimator)
    # Mean second differences: 14.6 for the boxes, 2.9 for their median over five, 0.8 for that smoothed.
    assert np.abs(np.diff([region.cx for region in estimator.regions[:200]], 2)).mean() < 2


def test_a_first_pass_that_is_wrong_once_moves_nothing() -> None:
    def once(frame: int, found: Keypoints) -> Keypoints:
        own = found.region
        aside = Region(own.cx + (0.3 * own.size if frame == 20 else 0), own.cy, own.size)
        return Keypoints(found.image, found.world, found.visibility, found.score, aside)

    np.testing.assert_allclose(regions_of_second_pass(standing(320), once)[:, 0], 320, atol=1)


@pytest.mark.parametrize("front", [0, 1])
def test_clothes_are_learned_where_the_dancers_stand_apart(front: int) -> None:
    """Though one hides the other most of the time."""
    people = standing(180, 450, frames=60)
    hidden = slice(10, 50)
    meeting = people.copy()
    meeting[:, hidden] = people[front, hidden]
    colours = [RED, BLUE]
    shown = film(meeting[[1 - front, front]], [colours[1 - front], colours[front]])
    rng = np.random.default_rng(0)

    def restless(frame: int, found: Keypoints) -> Keypoints:
        image = found.image + rng.normal(0, 2, 2).astype(np.float32)
        return Keypoints(image, found.world, found.visibility, found.score, found.region)

    found = every_frame(shown, boxes_of(meeting), FakeEstimator(meeting, restless))
    assert (found.visibility[front].max(axis=-1) > 0.8).all()
    assert not found.visibility[1 - front, 20:40].any()


def test_of_two_estimates_that_are_always_of_one_person_the_first_stays() -> None:
    people = standing(320, 320)
    found = every_frame(film(people, [RED, RED]), boxes_of(people), FakeEstimator(people))
    assert (found.visibility[0].max(axis=-1) > 0.8).all()
    assert not found.visibility[1].any()


def test_clothes_are_learned_from_sure_estimates() -> None:
    """For most of the time the estimate of one dancer is of an empty stage, and known to be of nobody."""
    people = standing(180, 450, frames=60)
    hidden, lost = slice(50, 60), slice(0, 40)
    meeting = people.copy()
    meeting[:, hidden] = people[1, hidden]

    def answer(frame: int, found: Keypoints) -> Keypoints:
        if frame >= lost.stop or found.image[:, 0].mean() < 315:
            return found
        return Keypoints(found.image + np.float32([150, 0]), found.world, found.visibility, 0.2, found.region)

    found = every_frame(film(meeting, [RED, BLUE]), boxes_of(meeting), FakeEstimator(meeting, answer))
    assert (found.visibility[1, lost.stop :].max(axis=-1) > 0.8).all()
    assert not found.visibility[0, 54:].any()


@dataclass(frozen=True)
class Standing(Backend):
    """Sees one person in the middle of the picture."""

    name = "standing"
    version = "1"

    def load(self) -> FakeEstimator:
        return FakeEstimator(np.array([[[32.0, 24.0, 40.0]]]).repeat(200, axis=1))


def test_the_frames_of_the_span_are_looked_at_twice_with_progress(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", flat([100] * 60))
    shares: list[float] = []
    boxes = np.tile(np.float32([20, 4, 44, 44]), (1, 20, 1))
    clip = Clip(path, "0" * 64, start_s=1.0, end_s=2.0, boxes=boxes, job=Job(report=shares.append))
    found = Pose(estimator=Standing(), region_estimator=Standing())(clip).landmarks
    np.testing.assert_allclose(found.times_s, 1.0 + np.arange(20) / 20)
    assert found.image.shape == (1, 20, 33, 2)
    assert shares == sorted(shares)
    assert shares[19] == pytest.approx(0.95 / 5)
    assert shares[39] == pytest.approx((1 + 4 * 0.95) / 5)
    assert len(shares) == 40


def test_an_estimate_of_nobody_takes_nothing_from_the_other_dancer() -> None:
    people = standing(180, 450, frames=60)
    meeting = people.copy()
    meeting[0, 40:] = people[1, 40:]
    estimator = FakeEstimator(meeting)

    def second_is_unsure(frame: int, found: Keypoints) -> Keypoints:
        unsure = frame >= 40 and len(estimator.regions) % 2 == 0
        score = 0.2 if unsure else 0.95
        return Keypoints(found.image, found.world, found.visibility, score, found.region)

    estimator.answer = second_is_unsure
    found = every_frame(film(meeting, [RED, BLUE]), boxes_of(meeting), estimator)
    assert not found.visibility[1, 45:].any()
    assert (found.visibility[0, 45:].max(axis=-1) > 0.8).all()


def exchanged_at(*frames: int) -> Callable[[int, Keypoints], Keypoints]:
    """Answers with left and right exchanged in these frames."""
    sides = [
        LANDMARK_INDEX[name.replace("left", "?").replace("right", "left").replace("?", "right")]
        for name in LANDMARK_INDEX
    ]

    def answer(frame: int, found: Keypoints) -> Keypoints:
        image = found.image[sides] if frame in frames else found.image
        return Keypoints(image, found.world, found.visibility, found.score, found.region)

    return answer


def test_sides_that_are_exchanged_for_a_moment_are_exchanged_back() -> None:
    people = there_and_back(90)
    frames, boxes = film(people, [RED]), boxes_of(people)
    plain, share = Pose().estimate(frames, boxes, [FakeEstimator(people)], [FakeEstimator(people)])
    assert share == 0
    wrong = [FakeEstimator(people, exchanged_at(*range(12, 19)))]
    found, share = Pose().estimate(frames, boxes, wrong, [FakeEstimator(people)])
    assert share == pytest.approx(3 / 37)
    body = [row for name, row in LANDMARK_INDEX.items() if name.split("_")[-1] in ("wrist", "knee", "ankle")]
    np.testing.assert_allclose(found.image[:, :, body], plain.image[:, :, body], atol=1e-3)
    kept, share = Pose(max_exchange_s=0).estimate(frames, boxes, wrong, [FakeEstimator(people)])
    assert share == 0
    assert np.abs(kept.image - plain.image).max() > 20
