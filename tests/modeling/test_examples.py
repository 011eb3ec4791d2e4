"""The examples of the public docstrings run."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch

from opendance_hf.modeling.models import MODELS

#: Modules whose classes people use by name; each has an example.
MODULES = sorted(
    {entry.model.partition(":")[0] for entry in MODELS.values()}
    | {
        entry.extractor.partition(":")[0]
        for entry in MODELS.values()
        if entry.extractor.startswith("opendance_hf")
    }
    | {"opendance_hf.dance.dancer"}
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    torch.manual_seed(0)
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.attempted > 0, f"{name} has no example"
    assert result.failed == 0


def test_every_model_has_an_example() -> None:
    from opendance_hf.modeling.models import resolve

    for kind, entry in MODELS.items():
        assert ">>>" in (resolve(entry.model).__doc__ or ""), kind
