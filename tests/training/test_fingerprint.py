"""A model has one hash, wherever it comes from; another configuration or other weights have another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoVQVAE,
    BailandoVQVAEConfig,
)
from opendance_hf.training.fingerprint import hash_of_model

SMALL_VQVAE = {"hidden_size": 8, "codebook_size": 8}
SMALL_GPT = {**SMALL_VQVAE, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1}


def make(kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    if kind == "vqvae":
        return BailandoVQVAE(BailandoVQVAEConfig(**SMALL_VQVAE, **more))
    return BailandoForDanceGeneration(BailandoConfig(SMALL_VQVAE, {**SMALL_GPT, **more}))


@pytest.mark.parametrize("kind", ["vqvae", "bailando"])
def test_a_hash_does_not_depend_on_where_a_model_comes_from(kind: str, tmp_path: Path) -> None:
    model = make(kind)
    found = {"fresh": hash_of_model(model)}
    model.save_pretrained(tmp_path)
    found["after saving"] = hash_of_model(model)
    found["loaded"] = hash_of_model(type(model).from_pretrained(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for name in ("auto_map", "dtype", "torch_dtype", "architectures", "transformers_version"):
            part.pop(name, None)
    (tmp_path / "config.json").write_text(json.dumps(config))
    found["loaded from an older folder"] = hash_of_model(type(model).from_pretrained(tmp_path))
    assert len(set(found.values())) == 1, found


def test_a_hash_depends_on_configuration_and_weights() -> None:
    changed = make("vqvae")
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1e-6
    models = [make("vqvae"), make("vqvae", commitment_weight=0.5), changed]
    models += [make("bailando"), make("bailando", dropout=0.5)]  # an option of a nested configuration
    assert len({hash_of_model(model) for model in models}) == len(models)
