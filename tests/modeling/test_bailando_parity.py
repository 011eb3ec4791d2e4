"""Against the official modules' outputs, weights by rule. Names: fixture `vqvae`, `gpt` of the reference folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendance_hf.modeling.bailando import (
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
    BailandoVQVAEConfig,
    join_root,
)
from opendance_hf.modeling.bailando.convert_bailando import convert_gpt_state, convert_vqvae_state
from opendance_hf.modeling.bailando.modeling_bailando import BailandoCodebook
from tests.modeling.official import official_state

pytestmark = pytest.mark.shared


def load(shared: Path, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts = json.loads((shared / "reference" / f"{name}.json").read_text())
    with np.load(shared / "reference" / f"{name}.npz", allow_pickle=False) as data:
        return facts, dict(data)


def vqvae(facts: dict[str, Any], keys: str) -> BailandoVQVAE:
    state, report = convert_vqvae_state(official_state(facts[keys], facts["mode"]))
    assert not report["unmatched"]
    model = BailandoVQVAE(BailandoVQVAEConfig())
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.startswith("root_decoder") for key in missing)
    return model.eval()


@pytest.fixture(scope="module")
def fixture(shared: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    return load(shared, "vqvae")


def relative(pose: np.ndarray) -> torch.Tensor:
    pose = pose.copy()
    pose[..., :3] = 0
    return torch.from_numpy(pose).unflatten(-1, (24, 3))


def test_parity_vqvae(fixture: Any) -> None:
    facts, data = fixture
    model = vqvae(facts, "keys_SepVQVAE")
    case = facts["cases"]["SepVQVAE"]
    with torch.no_grad():
        output = model(relative(data["pose"]))
    np.testing.assert_array_equal(output.upper_codes, data["sep_codes_up"])
    np.testing.assert_array_equal(output.lower_codes, data["sep_codes_down"])
    np.testing.assert_allclose(output.joints.flatten(2), data["sep_recon"], atol=1e-4)
    assert output.pose_loss.item() == pytest.approx(case["loss"], rel=1e-4)
    for half, metrics in (("upper", case["metrics_up"]), ("lower", case["metrics_down"])):
        for ours, theirs in (
            ("reconstruction", "recons_loss"),
            ("commitment", "commit_loss"),
            ("velocity", "velocity_loss"),
            ("acceleration", "acceleration_loss"),
        ):
            assert output.metrics[f"{half}_{ours}"].item() == pytest.approx(metrics[theirs], rel=1e-4)
    codes = model.encode(relative(data["pose"]))
    np.testing.assert_array_equal(codes[0], data["sep_codes_up"])
    count = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("root_decoder"))
    assert count == case["n_params"]


def test_parity_vqvae_root(fixture: Any) -> None:
    facts, data = fixture
    model = vqvae(facts, "keys_SepVQVAER")
    velocity = torch.from_numpy(data["root_input"][..., :3].copy())
    model.freeze_pose()
    with torch.no_grad():
        output = model(relative(data["root_input"]), velocity)
        joints, decoded = model.decode(output.upper_codes, output.lower_codes)
    np.testing.assert_array_equal(output.upper_codes, data["root_codes_up"])
    np.testing.assert_array_equal(output.lower_codes, data["root_codes_down"])
    expected = data["root_recon"].reshape(2, 240, 24, 3)
    np.testing.assert_allclose(decoded, expected[:, :, 0], atol=1e-4)
    np.testing.assert_allclose(joints[:, :, 1:], expected[:, :, 1:], atol=1e-4)
    # The official total is the velocity's L1 plus that of its first difference, not halved.
    down = facts["cases"]["SepVQVAER"]["metrics_down"]
    assert output.root_loss.item() == pytest.approx(
        down["velocity_loss"] + down["acceleration_loss"], rel=1e-4
    )
    assert output.loss.item() == pytest.approx(facts["cases"]["SepVQVAER"]["loss"], rel=1e-4)
    root = join_root(torch.zeros_like(joints), decoded)[:, :, 0]
    np.testing.assert_allclose(root, data["root_decode_integrated_xyz"], atol=1e-3)


def test_parity_codebook_update(fixture: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = fixture
    config = BailandoVQVAEConfig(hidden_size=8, codebook_size=16)
    book = BailandoCodebook(config)
    book.codes.copy_(torch.from_numpy(data["ema_k0"]))
    book.code_sum.copy_(torch.from_numpy(data["ema_k_sum0"]))
    book.code_count.copy_(torch.from_numpy(data["ema_k_elem0"]))
    vectors = torch.from_numpy(data["ema_x"])
    indices = book.quantize(vectors)
    np.testing.assert_array_equal(indices, data["ema_codes"])
    monkeypatch.setattr(book, "_draw", lambda count: torch.from_numpy(data["ema_perm"]))
    book.update(vectors, indices)
    np.testing.assert_allclose(book.codes, data["ema_k1"], atol=1e-6)
    np.testing.assert_allclose(book.code_sum, data["ema_k_sum1"], atol=1e-6)
    np.testing.assert_allclose(book.code_count, data["ema_k_elem1"], atol=1e-6)


@pytest.fixture(scope="module")
def gpt(shared: Path) -> tuple[BailandoGPT, dict[str, Any], dict[str, np.ndarray]]:
    facts, data = load(shared, "gpt")
    state, report = convert_gpt_state(official_state(facts["keys_CrossCondGPT2"], facts["mode"]))
    assert not report["unmatched"]
    model = BailandoGPT(BailandoGPTConfig())
    model.load_state_dict(state)
    return model.eval(), facts["cases"]["CrossCondGPT2"], data


def test_parity_gpt_logits(gpt: Any) -> None:
    model, case, data = gpt
    up, down, music = (torch.from_numpy(data[k]) for k in ("codes_up", "codes_down", "cond"))
    output = model(up[:, :-1], down[:, :-1], music, up[:, 1:], down[:, 1:])
    np.testing.assert_allclose(output.upper_logits.detach(), data["logits_up"], atol=1e-4)
    np.testing.assert_allclose(output.lower_logits.detach(), data["logits_down"], atol=1e-4)
    assert output.loss.item() == pytest.approx(case["loss"], rel=1e-4)
    assert sum(p.numel() for p in model.parameters()) == case["n_params"]


def test_parity_gpt_greedy(gpt: Any) -> None:
    model, case, data = gpt
    music = torch.from_numpy(data["greedy_cond"])[None]
    start = [torch.tensor([[code]]) for code in case["greedy"]["start"]]
    steps = 45  # past the 28 of the context, where the window begins to slide
    up, down = model.generate_codes(music, *start, steps=steps)
    np.testing.assert_array_equal(up, data["greedy_up"][:, : steps + 1])
    np.testing.assert_array_equal(down, data["greedy_down"][:, : steps + 1])
