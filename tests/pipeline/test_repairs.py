"""Repairs change what they name, go through the same fit and gate, say so in the row, and leave no trace when undone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.backends.skeleton import Skeleton
from opendance_hf.pipeline.clip import CameraMotion, Clip, Job, Landmarks, Pins, Repair
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.outcome import Outcome
from opendance_hf.pipeline.pipelines import default_pipeline
from opendance_hf.pipeline.process import StageTimes, process
from opendance_hf.pipeline.repairs import (
    PREVIEW_FPS,
    REPAIRS,
    Dancers,
    RepairError,
    check_repair,
    describe_in_row,
    frames_of,
    repairs_at,
    span_of_frames,
)
from opendance_hf.pipeline.stage import Rejected, Stage
from opendance_hf.render.preview import _nearest
from opendance_hf.schema import DanceSequence, per_dancer
from opendance_hf.storage import load_sequence
from tests.pipeline.result_files import dancers_before
from tests.pipeline.truth import VIDEO, camera_at, landmarks_of

FPS, FRAMES, START_S = 20.0, 110, 7.0
SHA = "c" * 64
TRUTH = dancers_before(camera_at(1.2, 5.5, pitch_deg=5), FRAMES, 2, FPS)
#: Frames of the source that are spoilt, and their span in seconds of the source.
SPOILT = slice(40, 80)
SPAN = span_of_frames(START_S, 60, 119)
FOOT = [JOINT_INDEX["left_foot"], JOINT_INDEX["left_ankle"]]


def sides(found: Landmarks) -> Landmarks:
    """Left and right of the first dancer exchanged, as an estimator does that takes a front for a back."""
    out = {name: getattr(found, name).copy() for name in ("image", "world", "visibility")}
    for name, values in out.items():
        for mark, index in LANDMARK_INDEX.items():
            if "left" in mark:
                other = LANDMARK_INDEX[mark.replace("left", "right")]
                before = getattr(found, name)[0, SPOILT]
                values[0, SPOILT, index], values[0, SPOILT, other] = before[:, other], before[:, index]
    out["world"][0, SPOILT, :, 2] *= -1
    return replace(found, **out)


def dancers(found: Landmarks) -> Landmarks:
    """The two dancers exchanged."""
    names = ("image", "world", "visibility", "regions_px")
    out = {name: getattr(found, name).copy() for name in names}
    for values in out.values():
        values[:, SPOILT] = values[::-1, SPOILT]
    return replace(found, **out)


def sliding(found: Landmarks) -> Landmarks:
    """The left foot of the first dancer drifts to the side by half a metre."""
    image = found.image.copy()
    marks = [LANDMARK_INDEX[f"left_{name}"] for name in ("ankle", "heel", "foot_index")]
    image[0, SPOILT, marks, 0] += np.linspace(0, 60, 40)
    return replace(found, image=image)


FAULTS = {"none": lambda found: found, "sides": sides, "dancers": dancers, "sliding": sliding}


@dataclass(frozen=True)
class Found(Stage):
    """What a perfect estimator finds of two dancers, with a fault."""

    name = "found"
    writes = ("video", "camera_motion", "boxes", "landmarks", "columns")
    fault: str = "none"

    def __call__(self, clip: Clip) -> Clip:
        found = landmarks_of(TRUTH)
        found = FAULTS[self.fault](replace(found, times_s=found.times_s + START_S))
        corners = (found.image.min(axis=2), found.image.max(axis=2))
        return replace(
            clip,
            start_s=START_S,
            end_s=float(found.times_s[-1]) + 1 / FPS,
            video=VIDEO,
            camera_motion=CameraMotion(found.times_s, np.zeros(FRAMES)),
            boxes=np.concatenate(corners, axis=-1),
            landmarks=found,
            columns={"music_beats": np.zeros(0, np.int32)},
        )


def pipeline(fault: str) -> tuple[Stage, ...]:
    names = [
        "repair",
        "complete",
        "steady",
        "smooth",
        "trim",
        "cut",
        "fit",
        "retime",
        "gate",
        "clean",
        "confidence",
        "reprojection",
        "sequence",
    ]
    stages = {stage.name: stage for stage in default_pipeline()}
    stages["fit"] = replace(stages["fit"], fitter=Skeleton(steps=(30, 15, 15)))
    return (Found(fault), *(stages[name] for name in names))


@dataclass
class Built:
    outcome: Outcome
    computed: list[str]
    rows: list[DanceSequence]

    @property
    def row(self) -> DanceSequence:
        (row,) = self.rows
        return row


def build(folder: Path, fault: str = "none", *repairs: Repair) -> Built:
    ran: dict[str, int] = {}
    times = StageTimes(lambda name, _, computed, __: ran.update({name: computed}), lambda *_: None)
    clip = Clip(Path("v.mp4"), SHA, key=SHA, job=Job(folder), repairs=repairs)
    outcome = process(clip, pipeline(fault), times)
    rows = [load_sequence(folder / "sequences" / f"{row['id']}.npz") for row in outcome.sequences]
    return Built(outcome, [name for name, computed in ran.items() if computed], rows)


def assert_same_motion(a: DanceSequence, b: DanceSequence) -> None:
    for name in ("joints", "smpl_pose", "smpl_transl", "rest_offsets", "confidence", "joint_confidence"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build without a fault, and without a repair."""
    return build(tmp_path_factory.mktemp("right"))


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Built]]:
    """A build of each fault without a repair."""
    folders = {fault: tmp_path_factory.mktemp(fault) for fault in ("sides", "dancers", "sliding")}
    return {fault: (folder, build(folder, fault)) for fault, folder in folders.items()}


EXCHANGES = {
    "sides": (Repair("exchange_sides", *SPAN, dancer=1), "exchange left and right of dancer 1, frames 120 to 238"),
    "dancers": (Repair("exchange_dancers", *SPAN, 1, 2), "exchange dancers 1 and 2, frames 120 to 238"),
}  # fmt: skip


@pytest.mark.parametrize("fault", EXCHANGES)
def test_an_exchange_gives_the_motion_that_it_would_have_been(
    fault: str, right: Built, wrong: dict[str, tuple[Path, Built]]
) -> None:
    repair, text = EXCHANGES[fault]
    folder, before = wrong[fault]
    assert np.abs(before.row.joints - right.row.joints).max() > 0.1
    after = build(folder, fault, repair)
    assert_same_motion(after.row, right.row)
    assert after.outcome.sequences[0]["metrics"] == right.outcome.sequences[0]["metrics"], "measured anew"
    assert (before.row.provenance.repairs, after.row.provenance.repairs) == ((), (text,))
    assert "found" not in after.computed, "what comes before a repair is not computed again"
    assert {"complete", "fit", "gate", "clean"} <= set(after.computed)
    again = build(folder, fault, repair)
    assert again.computed == ["repair", "cut", "sequence"], "only what is as cheap to make again"
    assert_same_motion(again.row, after.row)


def test_undone_it_is_what_it_was_and_a_rebuild_from_nothing_is_the_same(
    wrong: dict[str, tuple[Path, Built]], tmp_path: Path
) -> None:
    folder, before = wrong["sides"]
    repair, _ = EXCHANGES["sides"]
    after = build(folder, "sides", repair)
    undone = build(folder, "sides")
    assert undone.computed == ["repair", "cut", "sequence"]
    assert_same_motion(undone.row, before.row)
    assert undone.row.provenance == before.row.provenance
    assert_same_motion(build(tmp_path, "sides", repair).row, after.row)


def speed_mps(row: DanceSequence, dancer: int) -> np.ndarray:
    """(T - 1, 2) speeds of toe and ankle of the left foot."""
    joints = per_dancer(row.joints, row.num_dancers, 24, 3)[dancer]
    return np.linalg.norm(np.diff(joints[:, FOOT], axis=0), axis=-1) * 60


def test_a_pinned_foot_stands_still(wrong: dict[str, tuple[Path, Built]]) -> None:
    folder, before = wrong["sliding"]
    after = build(folder, "sliding", Repair("pin_foot", *SPAN, dancer=1, foot="left"))
    inside = slice(121, 238)
    assert speed_mps(before.row, 0)[inside].mean() > 0.2
    assert speed_mps(after.row, 0)[inside].mean() < 0.005
    assert speed_mps(after.row, 0)[inside].max() < 0.03
    toe_m = per_dancer(after.row.joints, 2, 24, 3)[0, inside, FOOT[0], 1]
    assert toe_m.min() > 0
    assert toe_m.max() < 0.05, "on the ground"
    assert after.row.provenance.repairs == ("pin the left foot of dancer 1, frames 120 to 238",)
    assert "repair" in after.computed
    assert "found" not in after.computed


def cut(start_s: float, end_s: float) -> Repair:
    """A cut from the picture at one time until before the one at another."""
    return Repair("cut", *span_of_frames(START_S, round(start_s * 30), round(end_s * 30) - 1))


@pytest.mark.parametrize(
    ("cuts", "start_s", "end_s", "dropped"),
    [
        ([cut(0.0, 1.0)], 1.0, 5.5, 1),
        ([cut(4.5, 5.5)], 0.0, 4.5, 1),
        ([cut(0.5, 1.0)], 1.0, 5.5, 1),
        ([cut(4.3, 4.6)], 0.0, 4.3, 1),
        ([cut(0.0, 0.5), cut(5.0, 5.5)], 0.5, 5.0, 2),
    ],
)
def test_a_cut_keeps_the_longer_side(
    cuts: list[Repair], start_s: float, end_s: float, dropped: int, right: Built, tmp_path: Path
) -> None:
    built = build(tmp_path, "none", *cuts)
    source = built.row.provenance
    assert (source.start_s, source.end_s) == pytest.approx((START_S + start_s, START_S + end_s), abs=0.051)
    assert [span.reason for span in built.outcome.dropped] == ["cut by annotators"] * dropped
    first = round(60 * (source.start_s - right.row.provenance.start_s))
    part = right.row.joints[first : first + built.row.num_frames].reshape(-1, 2, 24, 3)
    moved = built.row.joints.reshape(-1, 2, 24, 3)
    away = (moved - moved[:, :, :1]) - (part[: len(moved)] - part[: len(moved), :, :1])
    assert np.linalg.norm(away, axis=-1).mean() < 0.05, "the same dance"
    assert len(source.repairs) == len(cuts)
    assert source.repairs[0] == f"cut, {cuts[0].start_s:.2f} to {cuts[0].end_s:.2f} s of the source"


def test_a_cut_that_leaves_too_little_drops_the_sequence(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"cut by annotators \(3\.5 s are left, at least 4 s needed\)"):
        build(tmp_path, "none", cut(0.0, 2.0))


def test_a_cut_computes_only_what_follows_it(right: Built, tmp_path: Path) -> None:
    build(tmp_path)
    computed = build(tmp_path, "none", cut(0.0, 1.0)).computed
    assert not {"found", "complete", "steady", "smooth", "trim"} & set(computed)
    assert "fit" in computed


def test_a_repair_elsewhere_changes_nothing(right: Built, tmp_path: Path) -> None:
    build(tmp_path)
    elsewhere = Repair("exchange_sides", 1.0, 3.0, dancer=1)
    third = Repair("exchange_sides", *SPAN, dancer=3)
    built = build(tmp_path, "none", elsewhere, third)
    assert built.computed == ["repair", "cut", "sequence"]
    assert built.row.provenance.repairs == ()
    assert_same_motion(built.row, right.row)


def test_repairs_of_one_preview_refer_to_what_it_shows() -> None:
    """A pin, then the sides, then the dancers: the pinned foot goes with the body that the preview showed it on."""
    times_s = np.arange(10) / 10
    marks = np.random.default_rng(0).normal(size=(2, 10, 33, 3)).astype(np.float32)
    ones = np.ones((2, 10), np.float32)
    found = Landmarks(times_s, marks[..., :2], marks, marks[..., 0], ones)
    both = Dancers.of(found, marks[:, :, :4, 0], None)
    for name, values in (
        ("pin_foot", {"dancer": 1, "foot": "left"}),
        ("exchange_sides", {"dancer": 1}),
        ("exchange_dancers", {"dancer": 1, "other": 2}),
    ):
        apply = REPAIRS[name].apply
        assert apply is not None
        apply(both, Repair(name, 0.2, 0.6, **values), slice(2, 6))  # type: ignore[arg-type]
    assert both.feet[1, 2:6].tolist() == [[False, True]] * 4
    assert both.feet.sum() == 4
    left, right_ = LANDMARK_INDEX["left_wrist"], LANDMARK_INDEX["right_wrist"]
    np.testing.assert_array_equal(both.landmarks.image[1, 2:6, right_], marks[0, 2:6, left, :2])
    np.testing.assert_array_equal(both.landmarks.image[:, 6:], marks[:, 6:, :, :2])
    np.testing.assert_array_equal(found.image, marks[..., :2], err_msg="the clip itself is not changed")


def test_pins_are_those_of_the_nearest_frame() -> None:
    pins = Pins(np.array([0.0, 0.1, 0.2]), np.array([[[True, False], [False, False], [False, True]]]))
    assert pins.at(np.array([-1.0, 0.04, 0.06, 0.14, 0.16, 9.0]))[0].tolist() == [
        *[[True, False]] * 2, *[[False, False]] * 2, *[[False, True]] * 2
    ]  # fmt: skip


@pytest.mark.parametrize("start_s", [0.0, 7.3])
@pytest.mark.parametrize("fps", [10, 15, 24, 25, 29.97, 30, 50, 60])
def test_a_span_has_the_frames_of_the_source_that_its_preview_shows(fps: float, start_s: float) -> None:
    times_s = start_s + np.arange(round(2 * fps)) / fps
    num_pictures = round(times_s[-1] + 1 / fps - start_s) * PREVIEW_FPS
    instants = np.arange(num_pictures) / PREVIEW_FPS + start_s
    shown = list(_nearest(((time_s, index) for index, time_s in enumerate(times_s)), instants))  # type: ignore[misc,arg-type]
    for first in range(num_pictures):
        for last in range(first, num_pictures):
            repair = Repair("cut", *span_of_frames(start_s, first, last))
            assert frames_of(repair, times_s) == slice(shown[first], shown[last] + 1)  # type: ignore[operator]


def test_a_repair_at_an_end_does_not_reach_the_sequence_beside_it() -> None:
    before = Clip(Path("v.mp4"), SHA, start_s=3.0, end_s=START_S, landmarks=landmarks_of(TRUTH))
    after = replace(before, start_s=START_S, end_s=START_S + 4)
    first = Repair("exchange_sides", *span_of_frames(START_S, 0, 5), dancer=1)
    last = Repair("exchange_sides", *span_of_frames(3.0, 110, 119), dancer=1)
    for clip, own in ((before, last), (after, first)):
        assert repairs_at("repair", replace(clip, repairs=(first, last))) == (own,)
    times_s = START_S + np.arange(100) / 30
    assert frames_of(last, times_s) == slice(0, 0)
    assert frames_of(first, times_s - 4).start == 100


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kind": "polish"}, "unknown repair 'polish': expected one of pin_foot, exchange_sides, exchange_dancers, cut"),
    ({"kind": "cut"}, "'cut' does not take the field 'dancer'"),
    ({"dancer": None}, "'exchange_sides' needs the field 'dancer'"),
    ({"dancer": 3}, "dancer 3: the sequence has no dancer 3, only 1 to 2"),
    ({"dancer": 0}, "no dancer 0"),
    ({"start_s": 3.0, "end_s": 2.0}, "from 3.00 to 2.00 s: the last frame must not lie before the first"),
    ({"end_s": float("nan")}, "end_s is nan, expected seconds of the source"),
    ({"start_s": 0.5}, "from 0.50 to 4.00 s: outside of the sequence, which is from 1.00 to 9.00 s"),
    ({"end_s": 9.5}, "outside of the sequence"),
    ({"start_s": 10**400}, "start_s is 1000"),
    ({"end_s": -(10**400)}, "end_s is -1000"),
    ({"start_s": float("-inf")}, "start_s is -inf, expected seconds of the source"),
    ({"dancer": 10**400}, "the sequence has no dancer 1000"),
    ({"kind": "exchange_dancers", "other": 1}, "two different dancers"),
    ({"kind": "pin_foot", "foot": "middle"}, "unknown foot 'middle': expected left or right"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), BAD)
def test_what_does_not_fit_is_refused_by_name(changes: dict[str, Any], why: str) -> None:
    repair = Repair(**{"kind": "exchange_sides", "start_s": 2.0, "end_s": 4.0, "dancer": 1, **changes})
    with pytest.raises(RepairError) as caught:
        check_repair(repair, 1.0, 9.0, 2)
    assert why in str(caught.value)


def test_one_dancer_cannot_be_exchanged_and_bodies_have_no_sides_to_exchange() -> None:
    with pytest.raises(RepairError, match="exchange dancers 1 and 2: the sequence has only one dancer"):
        check_repair(Repair("exchange_dancers", 2.0, 4.0, 1, 2), 1.0, 9.0, 1)
    sides_of_one = check_repair(Repair("exchange_sides", 2.0, 4.0, 1), 1.0, 9.0, 1)
    with pytest.raises(RepairError, match="SMPL bodies of the stage 'lift'"):
        check_repair(sides_of_one, 1.0, 9.0, 1, has_bodies=True)


def test_frames_in_a_row_end_with_the_row() -> None:
    repair = Repair("exchange_sides", 1.0, 9.0, 2)
    assert describe_in_row(repair, 2.0, 240, 60) == "exchange left and right of dancer 2, frames 0 to 239"
