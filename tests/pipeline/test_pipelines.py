"""Which stages run and in which order, what they declare, and that the build drops what the gate rejects."""

from __future__ import annotations

import ast
import inspect
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.backends.cliff import CLIFF
from opendance_hf.pipeline.backends.smoothnet import SmoothNet
from opendance_hf.pipeline.backends.smplify import SMPLify
from opendance_hf.pipeline.backends.yolox import YOLOX
from opendance_hf.pipeline.clip import CameraMotion, Clip, Fit, Job
from opendance_hf.pipeline.config import change_pipeline, check_pipeline, pipeline_fingerprint
from opendance_hf.pipeline.outcome import Outcome
from opendance_hf.pipeline.pipelines import (
    PROFILES,
    STAGES,
    Pipeline,
    default_pipeline,
    fast_pipeline,
    paper_pipeline,
    results_pipeline,
)
from opendance_hf.pipeline.process import StageTimes, process
from opendance_hf.pipeline.stage import Dropped, Rejected, Stage
from opendance_hf.pipeline.stages.clean import Clean
from opendance_hf.pipeline.stages.genre import Genre
from opendance_hf.pipeline.stages.music import Music
from opendance_hf.pipeline.stages.retime import Retime
from opendance_hf.schema import GENRES, DanceSequence, mean_joint_speed, per_dancer, validate
from opendance_hf.storage import load_sequence
from tests.factories import make_sequence
from tests.pipeline.truth import VIDEO, camera_at, dance, landmarks_of, together

SHA256 = "a1" * 32
SCORES = {
    "track": {"bystanders"},
    "complete": {"legs_out"},
    "pose": {"exchanged"},
    "steady": {"camera_turn_deg", "camera_zoom", "camera_parallax_deg"},
    "gate": {
        "upside_down",
        "jitter_mps2",
        "mean_speed_mps",
        "repetition",
        "back_to_camera",
        "camera_motion",
        "missing_picture",
        "missing_sound",
    },
    "reprojection": {"reprojection_pck", "speed_correlation", "foot_slide_mps"},
}
#: What every clip has from the start, or is not a result.
GIVEN = {
    "path",
    "sha256",
    "start_s",
    "end_s",
    "columns",
    "scores",
    "backends",
    "repairs",
    "key",
    "number",
    "job",
}


def test_the_stages_of_both_pipelines_and_their_order() -> None:
    until_pose = ["probe", "detect", "shots", "track", "segment", "pose"]
    repaired = ["repair"]
    from_complete = [
        "complete", "steady", "smooth", "trim", "cut", "fit", "retime", "gate", "confidence", "reprojection", "music", "genre",
        "sequence", "fingerprint", "preview",
    ]  # fmt: skip
    more = ["complete", "steady", "depth", *from_complete[2:]]
    more.insert(more.index("gate") + 1, "clean")
    assert [stage.name for stage in default_pipeline()] == [*until_pose, *repaired, *more]
    assert [stage.name for stage in fast_pipeline()] == [
        *until_pose,
        *repaired,
        *(n for n in more if n != "depth"),
    ]
    assert [stage.name for stage in paper_pipeline()] == [*until_pose, "lift", *repaired, *from_complete]
    names = [name for name in more if name != "depth"]
    assert [stage.name for stage in results_pipeline()] == [
        "probe",
        "poses",
        "shots",
        "dancers",
        *repaired,
        *names,
    ]
    every = (*default_pipeline(), *paper_pipeline(), *results_pipeline())
    assert set(STAGES) == {stage.name for stage in every}


def test_the_fast_pipeline_differs_in_pose_and_fit_alone() -> None:
    """The smaller network, and the weights of the fit for landmarks whose depth is not corrected."""
    default = {stage.name: stage for stage in default_pipeline()}
    changed = {stage.name for stage in fast_pipeline() if stage != default[stage.name]}
    assert changed == {"pose", "fit"}


def test_both_pipelines_have_the_defaults_of_their_stages_but_for_the_papers_choices() -> None:
    for stage in default_pipeline():
        assert stage == STAGES[stage.name]()
    models = {
        "detect": {"detector": YOLOX()},
        "lift": {"lifter": CLIFF()},
        "smooth": {"smoother": SmoothNet()},
        "fit": {"fitter": SMPLify()},
        "gate": {"max_back_to_camera": 0.95},
    }
    for stage in paper_pipeline():
        assert stage == STAGES[stage.name](**models.get(stage.name, {}))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_fields_that_its_code_reads_and_writes(name: str) -> None:
    module = ast.parse(inspect.getsource(sys.modules[STAGES[name].__module__]))
    known = {field.name for field in fields(Clip)}
    read, written = set(), set()
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "clip":
            read.add(node.attr)
        if isinstance(node, ast.Call) and ast.unparse(node).startswith("replace(clip,"):
            written |= {keyword.arg for keyword in node.keywords}
    stage = STAGES[name]
    # These may be None: a stage that uses them where they are needs nobody to write them.
    assert (read & known) - GIVEN - set(stage.reads) <= {"bodies", "expected_errors", "pins", "steadied"}
    assert set(stage.reads) <= read
    assert written - {"start_s", "end_s"} == {*stage.writes, *stage.changes}
    assert not set(stage.writes) & set(stage.changes)


def test_a_stage_that_lacks_what_it_reads_is_refused() -> None:
    for pipeline in (default_pipeline(), paper_pipeline()):
        for stage in pipeline:
            for name in stage.writes:
                readers = [other for other in pipeline if name in other.reads and name not in GIVEN]
                if readers:
                    with pytest.raises(ValueError, match=name):
                        check_pipeline(tuple(other for other in pipeline if other is not stage))


def test_only_the_first_stages_run_while_libraries_are_imported() -> None:
    for pipeline in (default_pipeline(), paper_pipeline()):
        early = [stage.name for stage in pipeline if stage.runs_while_loading]
        assert early == ["probe", "detect", "shots"]


def test_previews_change_no_row_and_rows_are_made_again_rather_than_kept() -> None:
    assert [stage.name for stage in paper_pipeline() if not stage.changes_rows] == ["preview"]
    assert [stage.name for stage in paper_pipeline() if not stage.keeps_result] == [
        "repair",
        "cut",
        "sequence",
    ]
    assert {stage.name: stage.files for stage in paper_pipeline() if stage.files} == {
        "sequence": ("sequences/{id}.npz",),
        "fingerprint": ("fingerprints/{id}.npz",),
        "preview": ("previews/{id}.mp4", "clips/{id}.mp4"),
    }


@dataclass(frozen=True)
class Danced(Stage):
    """In place of all stages up to the motion: two spans of a known dance.

    Args:
        camera_speeds: how fast the camera moves in each, picture heights a second.
    """

    name = "danced"
    writes = ("video", "camera_motion", "landmarks", "fit", "motion")
    camera_speeds: tuple[float, ...] = (0.1, 0.1)

    def __call__(self, clip: Clip) -> list[Clip | Dropped]:
        truth = together([dance(0, 120)], camera_at())
        found: list[Clip | Dropped] = []
        for number, speed in enumerate(self.camera_speeds):
            times = 10.0 * number + truth.times_s
            fit = Fit(
                times, axis_angle_to_matrix(truth.poses).astype(np.float32), truth.transl.astype(np.float32),
                truth.rest_offsets.astype(np.float32), truth.camera,
            )  # fmt: skip
            camera = CameraMotion(times, np.full(len(times), speed / 30))
            landmarks = replace(landmarks_of(truth), times_s=times)
            span = replace(clip, video=VIDEO, camera_motion=camera, landmarks=landmarks, fit=fit)
            found.append(Retime()(span))
        return found

    def provenance(self) -> tuple[tuple[str, str, str], ...]:
        return (("pose", "truth", "1"),)


@dataclass(frozen=True)
class Sung(Stage):
    """In place of the stage music."""

    name = "sung"
    reads = ("motion",)
    writes = ("columns",)
    columns = Music.columns

    def __call__(self, clip: Clip) -> Clip:
        return replace(clip, columns={**clip.columns, **music(clip.motion.num_frames)})


def music(num_frames: int) -> dict[str, object]:
    full = make_sequence(0, 1, num_frames)
    names = ("music_features", "music_features_7p5fps", "music_features_fact", "music_beats", "bpm")
    return {name: getattr(full, name) for name in names}


@dataclass(frozen=True)
class Polka(Backend):
    """A classifier of genres that notes what it is asked."""

    name = "polka"
    version = "7"

    def load(self) -> Polka:
        return self

    def classify(self, path: Path, start_s: float, end_s: float) -> tuple[str, np.ndarray]:
        assert path == Path("v.mp4")
        assert end_s - start_s == pytest.approx(4.0)
        return "rock", np.eye(len(GENRES), dtype=np.float32)[GENRES.index("rock")]


def from_motion_on(profile: str, *camera_speeds: float) -> Pipeline:
    """A pipeline with known motion and music; without the files that need the video."""
    names = [stage.name for stage in PROFILES[profile]()]
    later = PROFILES[profile]()[names.index("retime") + 1 :]
    rest = [stage for stage in later if stage.name not in ("fingerprint", "preview")]
    return check_pipeline(
        (Danced(camera_speeds), *(Sung() if stage.name == "music" else stage for stage in rest))
    )


def run(build: Path, pipeline: Pipeline) -> Outcome:
    (build / "sequences").mkdir(parents=True, exist_ok=True)
    clip = Clip(Path("v.mp4"), SHA256, key=SHA256, job=Job(build, pipeline_fingerprint(pipeline)))
    return process(clip, pipeline, StageTimes(lambda *values: None, lambda *values: None))


def sequence_of(build: Path, number: int = 0) -> DanceSequence:
    return validate(load_sequence(build / "sequences" / f"{SHA256[:16]}_{number:02d}.npz"))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_sequence_beyond_a_limit_of_the_gate_is_dropped_from_the_build(
    tmp_path: Path, profile: str
) -> None:
    outcome = run(tmp_path, from_motion_on(profile, 0.5, 0.1))
    (row,) = outcome.sequences
    assert (row["id"], row["start_s"]) == (f"{SHA256[:16]}_00", 10.0)
    assert set(row["metrics"]) == SCORES["gate"] | SCORES["reprojection"]
    assert row["metrics"]["camera_motion"] == pytest.approx(0.1)
    (dropped,) = outcome.dropped
    assert (dropped.stage, dropped.start_s, dropped.end_s) == ("gate", 0.0, pytest.approx(4.0))
    assert dropped.reason.startswith("the camera moves too much")
    assert dropped.detail == "0.50, at most 0.4 allowed"
    assert sequence_of(tmp_path).provenance.start_s == 10.0


@pytest.mark.parametrize("profile", PROFILES)
def test_a_video_whose_every_sequence_is_dropped_is_rejected_with_the_number(
    tmp_path: Path, profile: str
) -> None:
    with pytest.raises(Rejected, match=r"the camera moves too much.*\(0\.50, at most 0\.4 allowed\)"):
        run(tmp_path, from_motion_on(profile, 0.5, 0.5))
    assert not list((tmp_path / "sequences").iterdir())


@pytest.mark.parametrize("profile", PROFILES)
def test_a_gate_that_rejects_nothing_keeps_the_sequences_with_their_scores(
    tmp_path: Path, profile: str
) -> None:
    pipeline = from_motion_on(profile, 0.5, 0.1)
    run(tmp_path, pipeline)
    outcome = run(tmp_path, change_pipeline(pipeline, ["gate.reject=false"]))
    assert [row["metrics"]["camera_motion"] for row in outcome.sequences] == pytest.approx([0.5, 0.1])
    assert all(set(row["metrics"]) == SCORES["gate"] | SCORES["reprojection"] for row in outcome.sequences)
    assert outcome.dropped == []
    wider = run(tmp_path, change_pipeline(pipeline, ["gate.max_camera_motion=0.6"]))
    assert wider.sequences == outcome.sequences


def test_a_row_holds_what_the_stages_found(tmp_path: Path) -> None:
    pipeline = from_motion_on("default", 0.1)
    found = Danced((0.1,))(Clip(Path("v.mp4"), SHA256))[0]
    assert isinstance(found, Clip)
    run(tmp_path, pipeline)
    row, motion = sequence_of(tmp_path), Clean()(found).motion
    assert (row.id, row.group) == (f"{SHA256[:16]}_00", SHA256[:16])
    assert (row.num_dancers, row.num_frames) == (1, 240)
    np.testing.assert_array_equal(per_dancer(row.joints, 1, 24, 3), motion.joints)
    np.testing.assert_array_equal(per_dancer(row.smpl_pose, 1, 24, 3), motion.poses)
    np.testing.assert_array_equal(per_dancer(row.smpl_transl, 1, 3), motion.transl)
    np.testing.assert_array_equal(row.rest_offsets, found.fit.rest_offsets.reshape(-1))
    np.testing.assert_array_equal(row.confidence[:, 0], motion.confidence[0])
    assert row.motion_velocity == pytest.approx(mean_joint_speed(motion.joints))
    for name, value in music(240).items():
        np.testing.assert_array_equal(getattr(row, name), value, err_msg=name)
    assert (row.genre, row.genre_scores, row.smpl_betas) == (None, None, None)
    source = row.provenance
    assert (source.source_sha256, source.source_fps) == (SHA256, VIDEO.fps)
    assert (source.start_s, source.end_s) == (motion.start_s, motion.end_s)
    assert source.pipeline == pipeline_fingerprint(pipeline)
    assert source.camera == found.fit.camera
    assert [(backend.stage, backend.name, backend.version) for backend in source.backends] == [
        ("pose", "truth", "1")
    ]
    assert source.licence == "unknown", "the build fills it in"


def test_bodies_of_an_estimator_and_the_genre_reach_the_row(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Shaped(Stage):
        name = "shaped"
        reads = ("fit",)
        changes = ("fit",)

        def __call__(self, clip: Clip) -> Clip:
            return replace(clip, fit=replace(clip.fit, betas=np.arange(10, dtype=np.float32)[None]))

    danced, *rest = from_motion_on("default", 0.5, 0.1)
    rest = [Genre(Polka()) if stage.name == "genre" else stage for stage in rest]
    run(tmp_path, (danced, Shaped(), *rest))
    row = sequence_of(tmp_path)
    np.testing.assert_array_equal(row.smpl_betas, np.arange(10))
    assert row.genre == "rock"
    assert row.genre_scores is not None
    assert GENRES[int(row.genre_scores.argmax())] == "rock"
    assert ("genre", "polka", "7") in [(b.stage, b.name, b.version) for b in row.provenance.backends]


def test_a_genre_is_added_to_the_columns_and_none_without_a_classifier() -> None:
    (clip,) = (span for span in Danced((0.1,))(Clip(Path("v.mp4"), SHA256, columns={"bpm": 1.0})))
    assert isinstance(clip, Clip)
    assert Genre()(clip).columns == {"bpm": 1.0}
    assert set(Genre(Polka())(clip).columns) == {"bpm", "genre", "genre_scores"}


def test_a_row_that_breaks_the_schema_is_not_written(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Silent(Sung):
        name = "silent"

        def __call__(self, clip: Clip) -> Clip:
            return replace(clip, columns={**music(clip.motion.num_frames), "bpm": -1.0})

    pipeline = from_motion_on("default", 0.1)
    with pytest.raises(ValueError, match="bpm"):
        run(tmp_path, tuple(Silent() if stage.name == "sung" else stage for stage in pipeline))
    assert not list((tmp_path / "sequences").iterdir())
