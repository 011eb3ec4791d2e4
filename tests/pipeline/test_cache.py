"""Results are kept as they are, found again only when nothing they depend on has changed, and never half written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendance_hf.pipeline import process as processing
from opendance_hf.pipeline.cache import Cache, latest_results
from opendance_hf.pipeline.clip import (
    Bodies,
    CameraMotion,
    Clip,
    Detections,
    Fit,
    Job,
    Landmarks,
    Motion,
    Tracks,
    VideoInfo,
)
from opendance_hf.pipeline.outcome import Outcome, main_reason
from opendance_hf.pipeline.process import StageTimes, process
from opendance_hf.pipeline.stage import Dropped, Rejected, Result, Stage
from opendance_hf.schema import Camera
from tests.factories import make_sequence

CAMERA = Camera(64, 48, 80.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 4.0))
CALLS: list[str] = []


def everything(seed: int = 0) -> dict[str, Any]:
    """A value for every field that stages write."""
    rng = np.random.default_rng(seed)

    def floats(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    times = np.arange(5) / 30
    return {
        "video": VideoInfo(64, 48, 29.97, 5.0, True),
        "camera_motion": CameraMotion(times, rng.normal(size=5)),
        "detections": Detections(times, np.array([0, 2, 1, 0, 0]), floats(3, 5), floats(3, 40)),
        "tracks": Tracks(times, floats(2, 5, 4)),
        "boxes": floats(2, 5, 4),
        "landmarks": Landmarks(
            times, floats(2, 5, 33, 2), floats(2, 5, 33, 3), floats(2, 5, 33), floats(2, 5)
        ),
        "bodies": Bodies(times, floats(2, 5, 24, 3, 3), floats(2, 5, 10), floats(2, 5, 3)),
        "fit": Fit(times, floats(2, 5, 24, 3, 3), floats(2, 5, 3), floats(2, 24, 3), CAMERA),
        "motion": Motion(0.5, 1.5, floats(2, 9, 24, 3), floats(2, 9, 3), floats(2, 9, 24, 3), floats(2, 9)),
        "columns": {"bpm": 120.5, "music_beats": np.arange(3, dtype=np.int32), "genre": None},
        "scores": {
            "pck": float("nan"),
            "jitter": np.float64(1e-300),
            "level": np.float32(0.25),
            "count": np.int64(3),
        },
    }


@dataclass(frozen=True)
class Find(Stage):
    name = "find"
    writes = tuple(everything())
    seed: int = 0

    def __call__(self, clip: Clip) -> Clip:
        CALLS.append(self.name)
        return replace(clip, start_s=1 / 3, end_s=float("inf"), **everything(self.seed))


@dataclass(frozen=True)
class Split(Stage):
    name = "split"
    reads = ("boxes",)
    parts: int = 3

    def __call__(self, clip: Clip) -> Result:
        CALLS.append(self.name)
        return [
            Dropped(0.0, 0.5, "dark", "0.1, at least 0.2 needed"),
            *(replace(clip, start_s=float(n), end_s=n + 1.0) for n in range(self.parts)),
        ]


@dataclass(frozen=True)
class Keep(Stage):
    name = "keep"
    max_start_s: float = 9.0

    def __call__(self, clip: Clip) -> Result:
        CALLS.append(self.name)
        if clip.start_s > self.max_start_s:
            return Dropped(
                clip.start_s, clip.end_s, "late", f"{clip.start_s:g}, at most {self.max_start_s:g}"
            )
        return clip


@dataclass(frozen=True)
class Write(Stage):
    name = "write"
    writes = ("sequence",)
    files = ("rows/{id}.txt",)
    keeps_result = False

    def __call__(self, clip: Clip) -> Clip:
        CALLS.append(self.name)
        target = clip.job.build / self.files[0].format(id=clip.id)
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"{clip.start_s:g}")
        return replace(clip, sequence=make_sequence(int(clip.start_s), id=clip.id))


@dataclass(frozen=True)
class Look(Stage):
    name = "look"
    reads = ("sequence",)
    files = ("looks/{id}.txt",)
    changes_rows = False
    size_px: int = 10

    def __call__(self, clip: Clip) -> Clip:
        CALLS.append(self.name)
        target = clip.job.build / self.files[0].format(id=clip.id)
        target.parent.mkdir(exist_ok=True)
        target.write_text(f"{clip.start_s:g} {self.size_px}")
        return clip


PIPELINE: tuple[Stage, ...] = (Find(), Split(), Keep(), Write(), Look())


def run(build: Path, pipeline: tuple[Stage, ...], sha256: str = "a" * 64) -> tuple[Outcome, list[str]]:
    """What comes out, and which stages ran."""
    CALLS.clear()
    times = StageTimes(lambda *values: None, lambda *values: None)
    outcome = process(Clip(Path("v.mp4"), sha256, key=sha256, job=Job(build)), pipeline, times)
    return outcome, list(CALLS)


def change(pipeline: tuple[Stage, ...], name: str, **values: Any) -> tuple[Stage, ...]:
    return tuple(replace(stage, **values) if stage.name == name else stage for stage in pipeline)


def test_what_is_kept_is_what_was_found(tmp_path: Path) -> None:
    wanted = everything()
    for _ in range(2):  # computed, then read
        (found,), _ = Cache(tmp_path, "a" * 64).run(
            Find(), Clip(Path("v.mp4"), "a" * 64, key="k", job=Job(tmp_path))
        )
        assert isinstance(found, Clip)
        assert (found.start_s, found.end_s) == (1 / 3, float("inf"))
        for name, value in wanted.items():
            assert_same(getattr(found, name), value, name)
    assert CALLS.count("find") >= 1


def assert_same(found: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype, name
        np.testing.assert_array_equal(found, wanted, err_msg=name)
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_same(found[key], wanted[key], f"{name}.{key}")
    elif hasattr(wanted, "__dataclass_fields__"):
        assert type(found) is type(wanted)
        for field in fields(wanted):
            assert_same(getattr(found, field.name), getattr(wanted, field.name), f"{name}.{field.name}")
    else:
        assert found == wanted or (found != found and wanted != wanted), name


def test_a_stage_runs_once_for_each_clip_and_not_again(tmp_path: Path) -> None:
    outcome, ran = run(tmp_path, PIPELINE)
    assert ran == ["find", "split", *["keep", "write", "look"] * 3]
    assert [row["id"] for row in outcome.sequences] == [f"{'a' * 16}_0{n}" for n in range(3)]
    assert outcome.dropped == [Dropped(0.0, 0.5, "dark", "0.1, at least 0.2 needed", "split")]
    again, ran = run(tmp_path, PIPELINE)
    assert again == outcome
    assert ran == ["write"] * 3, "only what is as cheap to make again"


def test_a_threshold_runs_its_stage_and_what_follows(tmp_path: Path) -> None:
    run(tmp_path, PIPELINE)
    late = change(PIPELINE, "keep", max_start_s=0.5)
    outcome, ran = run(tmp_path, late)
    assert ran == ["keep", "write", "look", "keep", "keep"]
    assert [str(drop) for drop in outcome.dropped] == [
        "dark (0.1, at least 0.2 needed)",
        "late (1, at most 0.5)",
        "late (2, at most 0.5)",
    ]
    # The results of before are still there; files that were written since are written again.
    assert run(tmp_path, PIPELINE)[1] == ["write", "look", "write", "write"]


def test_a_file_that_is_gone_or_of_another_clip_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, PIPELINE)
    first = tmp_path / "looks" / f"{'a' * 16}_00.txt"
    first.unlink()
    assert run(tmp_path, PIPELINE)[1] == ["write", "look", "write", "write"]
    # Without the first part, the second takes its number, and its file.
    (tmp_path / "rows" / f"{'a' * 16}_00.txt").read_text()
    shifted = (*PIPELINE[:2], replace(Keep(), max_start_s=0.5), *PIPELINE[3:])
    run(tmp_path, shifted)
    assert first.read_text() == "0 10"


def test_what_rows_do_not_depend_on_invalidates_nothing_else(tmp_path: Path) -> None:
    run(tmp_path, PIPELINE)
    assert run(tmp_path, change(PIPELINE, "look", size_px=20))[1] == ["write", "look"] * 3


def test_a_file_that_is_not_wanted_goes_with_its_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing, "STAGES", {"look": Look})
    run(tmp_path, PIPELINE)
    look = tmp_path / "looks" / f"{'a' * 16}_00.txt"
    assert look.is_file()
    run(tmp_path, change(PIPELINE[:-1], "find", seed=3))
    assert not look.exists(), "it would show another motion"


def test_another_version_or_another_video_computes_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, PIPELINE)
    assert run(tmp_path, PIPELINE, "b" * 64)[1][0] == "find"
    monkeypatch.setattr(Split, "version", 2)
    assert run(tmp_path, PIPELINE)[1] == ["split", *["keep", "write", "look"] * 3]


def test_a_stage_may_write_only_what_it_declares(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Sneaky(Stage):
        name = "sneaky"
        writes = ("tracks",)

        def __call__(self, clip: Clip) -> Clip:
            return replace(clip, boxes=np.zeros((1, 1, 4), np.float32))

    with pytest.raises(TypeError, match="'sneaky' wrote boxes"):
        run(tmp_path, (Sneaky(), *PIPELINE))


def test_a_rejection_inside_a_stage_is_a_drop_with_its_reason(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Fails(Stage):
        name = "fails"

        def __call__(self, clip: Clip) -> Clip:
            CALLS.append(self.name)
            raise Rejected("the picture changes its size at 3.0 s")

    for expected in (["fails"], []):  # and it is kept as such
        with pytest.raises(Rejected, match="changes its size"):
            run(tmp_path, (Fails(), *PIPELINE))
        assert expected == CALLS


def test_the_main_reason_is_what_took_most_of_the_video() -> None:
    drops = [Dropped(0, 1, "dark"), Dropped(1, 3, "late", "2"), Dropped(3, 4.5, "dark")]
    assert main_reason(drops) == "dark"
    assert main_reason([]) == "no frame could be decoded"


def test_the_latest_results_are_those_of_the_last_run(tmp_path: Path) -> None:
    assert latest_results(tmp_path, "a" * 64, "find") == []
    for seed in (0, 1):
        run(tmp_path, change(PIPELINE, "find", seed=seed))
        (found,) = latest_results(tmp_path, "a" * 64, "find")
        assert_same(found.landmarks, everything(seed)["landmarks"], "landmarks")
    assert [clip.start_s for clip in latest_results(tmp_path, "a" * 64, "split")] == [0.0, 1.0, 2.0]


@dataclass(frozen=True)
class Mark(Stage):
    """After a stage that writes files only."""

    name = "mark"
    writes = ("scores",)

    def __call__(self, clip: Clip) -> Clip:
        CALLS.append(self.name)
        return replace(clip, scores={**clip.scores, "mark": np.float64(clip.start_s)})

    def provenance(self) -> tuple[tuple[str, str, str], ...]:
        return ((self.name, "ink", "3"),)


def first_clip(build: Path, pipeline: tuple[Stage, ...]) -> Clip:
    """The first clip that comes out of the stages, each run through the cache."""
    cache = Cache(build, "a" * 64)
    clip = Clip(Path("v.mp4"), "a" * 64, key="a" * 64, job=Job(build))
    for stage in pipeline:
        clip = next(found for found in cache.run(stage, clip)[0] if isinstance(found, Clip))
    return clip


def test_a_stage_after_one_that_changes_no_row_is_not_run_again(tmp_path: Path) -> None:
    run(tmp_path, (*PIPELINE, Mark()))
    assert run(tmp_path, change((*PIPELINE, Mark()), "look", size_px=20))[1] == ["write", "look"] * 3


def test_a_resumed_run_goes_on_from_the_very_same_values(tmp_path: Path) -> None:
    computed = first_clip(tmp_path, (Find(), Split(), Mark()))
    found = first_clip(tmp_path, (Find(), Split(), Mark()))
    for scores in (computed.scores, found.scores):
        assert {type(value) for value in scores.values()} == {float, int}
        assert set(scores) == {*everything()["scores"], "mark"}, "those of earlier stages are still there"
    assert computed.landmarks.image.flags == found.landmarks.image.flags


def test_what_computed_a_clip_is_told_whether_it_was_computed_now_or_found(tmp_path: Path) -> None:
    for _ in range(2):
        assert first_clip(tmp_path, (Find(), Mark(), Split())).backends == (("mark", "ink", "3"),)


def test_an_earlier_stage_that_changes_its_answer_runs_the_later_ones(tmp_path: Path) -> None:
    run(tmp_path, PIPELINE)
    changed = change(PIPELINE, "find", seed=1)
    assert run(tmp_path, changed)[1] == ["find", "split", *["keep", "write", "look"] * 3]


def test_a_file_of_a_run_that_died_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Dies(Look):
        dies: bool = True

        def __call__(self, clip: Clip) -> Clip:
            super().__call__(clip)
            if self.dies:
                raise KeyboardInterrupt
            return clip

        def fingerprinted(self) -> dict[str, Any]:
            return {"size_px": self.size_px}

    def with_look(**values: Any) -> tuple[Stage, ...]:
        return (*PIPELINE[:4], Dies(**values))

    run(tmp_path, with_look(dies=False))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, with_look(size_px=20))
    run(tmp_path, with_look(dies=False))
    file = tmp_path / "looks" / f"{'a' * 16}_00.txt"
    assert file.read_text() == "0 10", "written by the run that died, though it was there before"


def test_a_file_whose_stamp_is_gone_or_damaged_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, PIPELINE)
    stamp = tmp_path / "work" / "written" / "looks" / f"{'a' * 16}_01.txt"
    for damage in (stamp.unlink, lambda: stamp.write_text("other")):
        damage()
        assert run(tmp_path, PIPELINE)[1] == ["write", "write", "look", "write"]


def test_a_rejection_names_the_seconds_of_the_clip(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Fails(Stage):
        name = "fails"

        def __call__(self, clip: Clip) -> Clip:
            raise Rejected("odd")

    def dropped(clip: Clip) -> Dropped:
        (found,), _ = Cache(tmp_path, "a" * 64).run(Fails(), clip)
        assert isinstance(found, Dropped)
        return found

    video = Clip(Path("v.mp4"), "a" * 64, key="1", video=everything()["video"])
    assert dropped(video) == Dropped(0.0, 5.0, "odd", stage="fails")
    span = replace(video, key="2", start_s=1.0, end_s=2.5)
    assert dropped(span) == Dropped(1.0, 2.5, "odd", stage="fails")


def test_a_result_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Odd(Stage):
        name = "odd"
        writes = ("columns",)

        def __call__(self, clip: Clip) -> Clip:
            return replace(clip, columns={"odd": {1, 2}})

    with pytest.raises(TypeError, match="a result of type set"):
        run(tmp_path, (Odd(), *PIPELINE))


def test_results_are_plain_arrays_and_json(tmp_path: Path) -> None:
    run(tmp_path, PIPELINE)
    kept = sorted((tmp_path / "work" / ("a" * 16)).glob("*.npz"))
    assert {file.name.partition("-")[0] for file in kept} == {"find", "split", "keep", "look"}
    for file in kept:
        with np.load(file, allow_pickle=False) as arrays:
            assert isinstance(json.loads(arrays["structure"].item()), list)


class Waits:
    """Notes when the import of large libraries is waited for."""

    def __call__(self) -> None:
        CALLS.append("wait")


def test_large_libraries_are_waited_for_where_a_stage_may_use_them(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Early(Find):
        name = "early"
        runs_while_loading = True

    CALLS.clear()
    times = StageTimes(lambda *values: None, lambda *values: None)
    process(
        Clip(Path("v.mp4"), "a" * 64, key="a", job=Job(tmp_path)), (Early(), *PIPELINE[1:]), times, Waits()
    )
    assert CALLS[:4] == ["early", "wait", "split", "wait"]


def test_times_and_progress_are_reported_for_each_stage(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Reports(Find):
        name = "reports"

        def __call__(self, clip: Clip) -> Clip:
            clip.job.report(0.5)
            clip.job.report(1.7)
            return super().__call__(clip)

    ended: list[tuple[str, int, int]] = []
    steps: list[tuple[str, float]] = []
    pipeline = (Reports(), *PIPELINE[1:])
    for _ in range(2):
        ended.clear()
        times = StageTimes(
            lambda stage, seconds, computed, reused: ended.append((stage, computed, reused)),
            lambda stage, share: steps.append((stage, share)),
        )
        process(Clip(Path("v.mp4"), "a" * 64, key="a", job=Job(tmp_path)), pipeline, times)
    assert steps[:3] == [("reports", 0.0), ("reports", 0.5), ("reports", 1.0)]
    assert dict((stage, runs) for stage, *runs in ended) == {
        "reports": [0, 1], "split": [0, 1], "keep": [0, 3], "write": [3, 0], "look": [0, 3],
    }  # fmt: skip
    assert times.totals["keep"][0] > 0


def test_another_stage_with_the_same_fields_runs_what_follows_anew(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Mirror(Stage):
        name = "mirror"
        changes = ("boxes",)

        def __call__(self, clip: Clip) -> Clip:
            return replace(clip, boxes=-clip.boxes)

    @dataclass(frozen=True)
    class Halve(Mirror):
        name = "halve"

        def __call__(self, clip: Clip) -> Clip:
            return replace(clip, boxes=clip.boxes / 2)

    run(tmp_path, (Find(), Mirror(), *PIPELINE[1:]))
    assert run(tmp_path, (Find(), Halve(), *PIPELINE[1:]))[1] == ["split", *["keep", "write", "look"] * 3]


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 50]
)
def test_a_damaged_result_is_computed_again(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    outcome, _ = run(tmp_path, PIPELINE)
    (file,) = (tmp_path / "work" / ("a" * 16)).glob("split-*.npz")
    file.write_bytes(damage(file.read_bytes()))
    again, ran = run(tmp_path, PIPELINE)
    assert again == outcome
    assert ran == ["split", *["write"] * 3]
