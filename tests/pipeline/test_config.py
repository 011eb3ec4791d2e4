"""The pipeline as YAML, changed field by field; and what results depend on."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from opendance_hf.apps.build import Shortcuts, make_pipeline
from opendance_hf.cli import app
from opendance_hf.pipeline.backends import make_backend
from opendance_hf.pipeline.backends.base import Backend, BackendError
from opendance_hf.pipeline.config import (
    ConfigError,
    change_pipeline,
    check_pipeline,
    dump_config,
    parse_config,
    pipeline_fingerprint,
    read_config,
    work_fingerprint,
)
from opendance_hf.pipeline.pipelines import PROFILES, STAGES, default_pipeline
from opendance_hf.pipeline.stage import Stage
from opendance_hf.schema import COLUMNS


def stage_of(pipeline: tuple[Stage, ...], name: str) -> Stage:
    return next(stage for stage in pipeline if stage.name == name)


def numbers() -> list[tuple[str, float]]:
    """Every number of the default pipeline, with its place."""
    found: list[tuple[str, float]] = []

    def collect(place: str, thing: object) -> None:
        for field in fields(thing):  # type: ignore[arg-type]
            value = getattr(thing, field.name)
            if isinstance(value, Backend) or hasattr(value, "__dataclass_fields__"):
                collect(f"{place}.{field.name}", value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                found.append((f"{place}.{field.name}", value))

    for stage in default_pipeline():
        collect(stage.name, stage)
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_a_configuration_is_written_and_read_back(profile: str, tmp_path: Path) -> None:
    pipeline = PROFILES[profile]()
    (tmp_path / "pipeline.yaml").write_text(dump_config(pipeline))
    assert read_config(tmp_path / "pipeline.yaml") == pipeline
    done = CliRunner().invoke(app, ["build", "--profile", profile, "--print-config"])
    assert (done.exit_code, done.output) == (0, dump_config(pipeline))


def test_every_number_can_be_set_and_changes_what_rows_depend_on() -> None:
    before = pipeline_fingerprint(default_pipeline())
    places = numbers()
    assert len(places) > 100
    for place, value in places:
        changed = change_pipeline(default_pipeline(), [f"{place}={value + 1}"])
        if place.startswith("preview."):
            assert pipeline_fingerprint(changed) == before
            assert work_fingerprint(changed) != work_fingerprint(default_pipeline())
        else:
            assert pipeline_fingerprint(changed) != before, place


@given(st.floats(0, allow_nan=False, allow_infinity=False))
def test_numbers_keep_every_digit(value: float) -> None:
    pipeline = change_pipeline(default_pipeline(), [f"gate.max_camera_motion={value!r}"])
    again = parse_config(yaml.safe_load(dump_config(pipeline)))
    assert stage_of(again, "gate").max_camera_motion == value  # type: ignore[attr-defined]


def test_a_short_configuration_has_the_defaults() -> None:
    short = [
        {"detect": {"detector": "nanodet"}},
        {"pose": {"estimator": {"blazepose-heavy": {"region_margin": 1.5}}}},
    ]
    names = [stage.name for stage in default_pipeline()]
    content = [next((entry for entry in short if name in entry), name) for name in names]
    pose = stage_of(parse_config(content), "pose")
    assert pose.estimator.name == "blazepose-heavy"  # type: ignore[attr-defined]
    assert pose.estimator.region_margin == 1.5  # type: ignore[attr-defined]
    assert replace(pose, estimator=stage_of(default_pipeline(), "pose").estimator) == stage_of(  # type: ignore[attr-defined, call-arg]
        default_pipeline(), "pose"
    )


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ("gate", ("'gate'", "STAGE.FIELD=VALUE")),
        ("gate.max_camera_motion", ("STAGE.FIELD=VALUE",)),
        ("gat.max_camera_motion=1", ("'gat'", "gate", "probe")),
        ("gate.max_camera=1", ("gate", "'max_camera'", "max_camera_motion")),
        ("gate.max_camera_motion=fast", ("gate.max_camera_motion", "float", "'fast'")),
        ("gate.max_camera_motion=true", ("gate.max_camera_motion", "float", "True")),
        ("gate.max_camera_motion=null", ("gate.max_camera_motion", "float", "None")),
        ("gate.compare_hz=2.5", ("gate.compare_hz", "int", "2.5")),
        ("gate.compare_hz=true", ("gate.compare_hz", "int", "True")),
        ("detect.detector=null", ("detect.detector", "detector by name", "None")),
        ("gate.reject=1", ("gate.reject", "bool", "1")),
        ("gate.max_jitter_mps2=.nan", ("gate.max_jitter_mps2", "0 or greater", "nan")),
        ("segment.max_duration_s=-1", ("segment.max_duration_s", "0 or greater", "-1")),
        ("detect.rate_hz=0", ("detect.rate_hz", "greater than 0")),
        ("genre.classifier=4", ("genre.classifier", "genre", "4")),
        ("fit.fitter.steps=[1, 2]", ("fit.fitter.steps", "3 values")),
        ("fit.fitter.contacts.rest=1", ("fit.fitter.contacts", "'rest'", "rest_mps")),
        ("pose.estimator.margin=1", ("pose.estimator", "margin")),
        ("probe={}", ("STAGE.FIELD=VALUE",)),
    ],
)
def test_a_wrong_change_names_what_is_known(change: str, facts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        change_pipeline(default_pipeline(), [change])
    for fact in facts:
        assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ("expected a list of stages",)),
        ("probe: {}", ("expected a list of stages",)),
        ("- probe: {}\n- pose2: {}", ("entry 2", "'pose2'", "pose")),
        ("- [probe]", ("entry 1",)),
        ("- probe: 4", ("probe", "4")),
        ("- probe: {}\n- pose: {}", ("'pose'", "'boxes'", "segment")),
        ("- probe: {}", ("no stage writes", "'sequence'")),
        ("- probe: [", ("not a readable YAML file",)),
        ("- !!python/object/apply:os.system [ls]", ("not a readable YAML file",)),
    ],
)
def test_a_wrong_file_is_named_with_the_place(tmp_path: Path, text: str, facts: tuple[str, ...]) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "odd.yaml")
    for fact in ("odd.yaml", *facts):
        assert fact in str(caught.value)
    done = CliRunner().invoke(app, ["build", "--config", str(tmp_path / "odd.yaml"), "--print-config"])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_an_unknown_backend_is_answered_with_the_list() -> None:
    with pytest.raises(BackendError, match=r"'yolo'.*nanodet or yolox"):
        change_pipeline(default_pipeline(), ["detect.detector=yolo"])


def test_every_stage_reads_what_an_earlier_one_writes() -> None:
    for make in PROFILES.values():
        check_pipeline(make())
    without = tuple(stage for stage in default_pipeline() if stage.name != "smooth")
    with pytest.raises(ConfigError, match=r"'trim' reads 'smoothed'.*put smooth"):
        check_pipeline(without)


def test_every_stage_and_field_is_documented() -> None:
    for name, stage in STAGES.items():
        assert stage.__doc__, name
        for field in fields(stage):
            assert f"{field.name}:" in stage.__doc__, f"{name}.{field.name}"


def test_numbers_as_yaml_writes_them_are_read() -> None:
    changes = ["gate.max_camera_motion=1e-3", "gate.max_jitter_mps2=70", "genre.classifier=null"]
    pipeline = change_pipeline(default_pipeline(), changes)
    gate = stage_of(pipeline, "gate")
    values = (gate.max_camera_motion, gate.max_jitter_mps2)  # type: ignore[attr-defined]
    assert values == (0.001, 70.0)
    assert [type(value) for value in values] == [float, float]
    assert stage_of(pipeline, "genre") == stage_of(default_pipeline(), "genre")


def test_a_stage_without_fields_has_the_defaults() -> None:
    content = [{stage.name: None} for stage in default_pipeline()]
    assert parse_config(content) == default_pipeline()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        read_config(tmp_path / "absent.yaml")


def test_a_change_is_made_to_its_stage_alone_and_the_last_one_counts() -> None:
    pipeline = change_pipeline(
        default_pipeline(), ["gate.reject=false", "gate.min_repeats=4", "gate.reject=true"]
    )
    assert [stage.name for stage, old in zip(pipeline, default_pipeline(), strict=True) if stage != old] == [
        "gate"
    ]
    assert stage_of(pipeline, "gate") == replace(stage_of(default_pipeline(), "gate"), min_repeats=4)  # type: ignore[call-arg]


def test_the_shortcuts_of_the_command_are_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make_pipeline("default", None, Shortcuts(quality_gate=False, previews=False), ())
    assert not stage_of(pipeline, "gate").reject  # type: ignore[attr-defined]
    assert [stage.name for stage in pipeline] == [s.name for s in default_pipeline() if s.name != "preview"]
    assert make_pipeline("default", None, Shortcuts(), ()) == default_pipeline()

    @dataclass(frozen=True)
    class Export(Stage):
        name = "export"
        changes_rows = False

    monkeypatch.setitem(PROFILES, "default", lambda: (*default_pipeline(), Export()))
    pipeline = make_pipeline("default", None, Shortcuts(previews=False), ())
    assert [stage.name for stage in pipeline][-2:] == ["fingerprint", "export"], "only previews are left out"
    pipeline = make_pipeline(
        "default", None, Shortcuts(pose="blazepose-heavy", quality_gate=False), ["gate.reject=true"]
    )
    assert stage_of(pipeline, "pose").estimator.name == "blazepose-heavy"  # type: ignore[attr-defined]
    assert stage_of(pipeline, "gate") == stage_of(default_pipeline(), "gate"), "changes come last"


@pytest.mark.parametrize("profile", PROFILES)
def test_one_option_sets_the_number_of_dancers_everywhere(profile: str) -> None:
    for most in (1, 3, 6):
        pipeline = make_pipeline(profile, None, Shortcuts(max_dancers=most), ())
        limits = {s.name: s.max_dancers for s in pipeline if hasattr(s, "max_dancers")}
        assert limits == {"track": most, "segment": most}


def test_a_list_without_a_required_column_is_refused() -> None:
    without = tuple(stage for stage in default_pipeline() if stage.name != "music")
    with pytest.raises(ConfigError, match=r"'music_beats'.*add music"):
        check_pipeline(without)


def test_the_stage_sequence_declares_the_columns_of_its_row() -> None:
    declared = {name for stage in default_pipeline() for name in stage.columns}
    assert {name for name, column in COLUMNS.items() if column.required} <= declared <= set(COLUMNS)


def test_changes_of_one_backend_add_up_and_an_optional_one_can_be_removed() -> None:
    changes = [
        "detect.detector=yolox:mine.onnx",
        "detect.detector.yolox.min_score=0.1",
        "detect.detector.max_iou=0.5",
    ]
    detector = stage_of(change_pipeline(default_pipeline(), changes), "detect").detector  # type: ignore[attr-defined]
    assert (detector.file, detector.min_score, detector.max_iou) == ("mine.onnx", 0.1, 0.5)
    with_genre = change_pipeline(default_pipeline(), ["genre.classifier=transformers:some/model"])
    assert stage_of(with_genre, "genre").classifier is not None  # type: ignore[attr-defined]
    assert change_pipeline(with_genre, ["genre.classifier=null"]) == default_pipeline()


def test_another_version_of_a_library_is_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {stage.name: stage.fingerprinted() for stage in default_pipeline()}
    monkeypatch.setattr("opendance_hf.pipeline.stage.version", lambda name: "0.0")
    changed = {stage.name for stage in default_pipeline() if stage.fingerprinted() != before[stage.name]}
    assert changed == {"shots", "music"}


def test_a_long_name_of_a_backend_is_shown_in_part() -> None:
    with pytest.raises(BackendError, match=r"unknown pose 'a+\.\.\.a+': expected") as caught:
        make_backend("pose", "a" * 3000)
    assert len(str(caught.value)) < 300
