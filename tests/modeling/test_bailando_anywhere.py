"""Parity with the official modules from a committed excerpt of their outputs: no reference folder needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendance_hf.modeling.bailando import BailandoGPT, BailandoGPTConfig, BailandoVQVAE, BailandoVQVAEConfig
from opendance_hf.modeling.bailando.convert_bailando import convert_gpt_state, convert_vqvae_state
from tests.modeling.official import official_state


@pytest.fixture(scope="module")
def excerpt(repo: Path) -> dict[str, Any]:
    with np.load(repo / "tests" / "fixtures" / "bailando_small.npz", allow_pickle=False) as data:
        return {**{name: data[name] for name in data.files}, **json.loads(str(data["facts"]))}


def test_parity_excerpt_vqvae(excerpt: dict[str, Any]) -> None:
    state, report = convert_vqvae_state(official_state(excerpt["vqvae_keys"], "fan"))
    assert not report["unmatched"]
    model = BailandoVQVAE(BailandoVQVAEConfig()).eval()
    assert not model.load_state_dict(state, strict=False).unexpected_keys
    pose = excerpt["pose"].copy()
    pose[..., :3] = 0
    with torch.no_grad():
        output = model(torch.from_numpy(pose).unflatten(-1, (24, 3)))
    np.testing.assert_array_equal(output.upper_codes, excerpt["upper_codes"])
    np.testing.assert_array_equal(output.lower_codes, excerpt["lower_codes"])
    np.testing.assert_allclose(output.joints.flatten(2)[:, ::24], excerpt["joints"], atol=1e-4)


def test_parity_excerpt_gpt(excerpt: dict[str, Any]) -> None:
    state, report = convert_gpt_state(official_state(excerpt["gpt_keys"], "0.02"))
    assert not report["unmatched"]
    model = BailandoGPT(BailandoGPTConfig()).eval()
    model.load_state_dict(state)
    up, down, music = (torch.from_numpy(excerpt[name]) for name in ("codes_up", "codes_down", "music"))
    with torch.no_grad():
        output = model(up[:, :-1], down[:, :-1], music)
    np.testing.assert_allclose(output.upper_logits[:, ::7], excerpt["upper_logits"], atol=1e-4)
    np.testing.assert_allclose(output.lower_logits[:, ::7], excerpt["lower_logits"], atol=1e-4)
