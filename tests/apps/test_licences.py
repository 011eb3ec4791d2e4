"""Every weight that ships, is fetched or is used has a licence that the command prints."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf import assets
from opendance_hf.apps.licences import (
    FETCHED,
    FROM_HUB,
    NO_WEIGHTS,
    USER,
    WHEEL,
    LicenceCardError,
    dependency_licences,
    licences,
)
from opendance_hf.assets import ASSETS, packaged_names
from opendance_hf.cli import app
from opendance_hf.pipeline.backends import BACKENDS, backend_class
from opendance_hf.pipeline.backends.base import FileBackend


def test_all_weights_have_a_licence_and_a_source() -> None:
    rows = {row.name: row for row in licences()}
    backends = {f"{role}: {name}" for role, names in BACKENDS.items() for name in names}
    assert set(rows) == {*ASSETS, *packaged_names(), "body", *backends}
    assert len(rows) == len(licences()), "names are unique"
    for row in rows.values():
        assert row.licence.strip(), row.name
        assert row.source.strip(), row.name
        assert row.licence != "other: ", f"{row.name}: the card quotes no terms"


def test_every_file_of_weights_in_the_package_is_listed() -> None:
    package = Path(str(resources.files("opendance_hf")))
    found = {
        path.parent.name for suffix in ("safetensors", "npz", "onnx") for path in package.rglob(f"*.{suffix}")
    }
    assert found
    assert found <= {row.name for row in licences() if row.where == WHEEL}


def test_licences_are_those_of_the_tables() -> None:
    rows = {row.name: row for row in licences()}
    for name, asset in ASSETS.items():
        assert (rows[name].where, rows[name].licence) == (FETCHED, asset.licence)
        assert asset.package in rows[name].source
    for role, names in BACKENDS.items():
        for name in names:
            backend, row = backend_class(role, name), rows[f"{role}: {name}"]
            if issubclass(backend, FileBackend):
                assert row.licence == backend.licence
                assert backend.how_to_get in row.source
    assert {rows[name].where for name in ("lifter: cliff", "smoother: smoothnet", "fitter: smplify")} == {
        USER
    }
    assert rows["detector: yolox"].where == FROM_HUB
    assert rows["depth: lifter"].where == WHEEL
    assert "NSF EIA-0196217" in rows["bailando-vqvae-cmu"].licence
    assert rows["body"].licence == "cc0-1.0"
    assert rows["pose: blazepose-heavy"].licence == ASSETS["blazepose"].licence
    assert rows["genre: transformers"].where == USER
    assert rows["smoother: filters"].where == NO_WEIGHTS


@pytest.mark.parametrize("card", ["# A model\n", "---\ntags: [dance]\n---\n"])
def test_weights_without_a_licence_are_an_error(
    card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    (tmp_path / "mine" / "README.md").write_text(card)
    monkeypatch.setattr(assets, "_PACKAGED", tmp_path)
    with pytest.raises(LicenceCardError, match=r"mine/README\.md: no license"):
        licences()


def test_the_command_prints_them() -> None:
    done = CliRunner().invoke(app, ["licences"])
    assert done.exit_code == 0
    for name in ("bailando-vqvae-cmu", "nanodet", "smplify", "cc0-1.0"):
        assert name in done.output


def test_dependencies_have_a_licence() -> None:
    rows = {row.name: row for row in dependency_licences()}
    assert {"numpy", "torch", "pyarrow", "MarkupSafe"} <= set(rows), "also what a dependency requires"
    assert "opendance-hf" not in rows
    assert "pytest" in rows, "extras too, where they are installed"
    assert [row.name for row in rows.values() if row.licence == "not stated"] == []
    assert rows["numpy"].version == np.__version__
    said = CliRunner().invoke(app, ["licences", "--dependencies"]).output
    assert "numpy" in said
    assert rows["typer"].licence.startswith("MIT")
