"""The variants of the ablation, and how two sets of clips are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.ablation import KEPT, METHODS, clips_of, compare, markdown, pipeline_of
from opendance_hf.pipeline.config import ConfigError, pipeline_fingerprint


def rows(**errors: float | None) -> list[dict[str, Any]]:
    """Scores of clips by name, all of them equal; None for a clip that was not published."""
    return [
        {"name": name, "published": value is not None, **dict.fromkeys(KEPT, value)}
        for name, value in errors.items()
    ]


def test_every_variant_is_a_pipeline_of_its_own() -> None:
    prints = {name: pipeline_fingerprint(pipeline_of(method)) for name, method in METHODS.items()}
    assert len(set(prints.values())) == len(METHODS) >= 6


def test_a_variant_changes_fields_and_leaves_out_stages() -> None:
    stages = {stage.name: stage for stage in pipeline_of(("default", "-clean", "gate.max_camera_motion=0.7"))}
    assert "clean" not in stages
    assert (stages["gate"].max_camera_motion, stages["gate"].reject) == (0.7, False)
    assert "clean" in {stage.name for stage in pipeline_of(("default",))}


@pytest.mark.parametrize(
    ("change", "named"), [("-pose", "boxes|landmarks"), ("-depths", "depths"), ("pose.rates=3", "rates")]
)
def test_a_variant_that_cannot_be_built_is_refused(change: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        pipeline_of(("default", change))


def test_means_are_over_the_clips_that_every_variant_built() -> None:
    result = compare({"rendered": {"a": rows(x=10, y=30), "b": rows(x=20, y=None)}})
    means = result["sets"]["rendered"]["means"]
    assert {name: (row["published"], row["pa_mpjpe_mm"]) for name, row in means.items()} == {
        "a": (2, 10),
        "b": (1, 20),
    }
    assert result["sets"]["rendered"]["clips"] == ["x"]
    assert result["agreement"] == {}, "one set has nothing to agree with"


@pytest.mark.parametrize(("real", "tau"), [((70, 80, 90), 1.0), ((90, 80, 70), -1.0), ((70, 90, 80), 0.333)])
def test_rankings_are_compared(real: tuple[float, ...], tau: float) -> None:
    names = ("a", "b", "c")
    result = compare(
        {
            "rendered": {name: rows(x=50 + n) for n, name in enumerate(names)},
            "real": {name: rows(cam01=value) for name, value in zip(names, real, strict=True)},
        }
    )
    assert result["agreement"]["pa_mpjpe_mm"]["tau"] == tau
    assert result["agreement"]["pa_mpjpe_mm"]["methods"] == 3
    table = markdown(result | {"note": "a note"})
    assert f"| a | 50.0 | 50.0 | {real[0]:.1f} | {real[0]:.1f} |" in table
    assert f"PA-MPJPE: {tau:.2f}" in table


def test_nothing_in_common_is_no_figure() -> None:
    result = compare(
        {"rendered": {"a": rows(x=None), "b": rows(x=1.0)}, "real": {"a": rows(y=1), "b": rows(y=2)}}
    )
    assert result["sets"]["rendered"]["means"]["b"]["pa_mpjpe_mm"] is None
    assert result["agreement"] == {}
    assert "| a | – | – | 1.0 | 1.0 |" in markdown(result | {"note": ""})


def test_clips_without_truth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no clips"):
        clips_of(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    with pytest.raises(SystemExit, match=r"no truth of a\.mp4"):
        clips_of(tmp_path)
