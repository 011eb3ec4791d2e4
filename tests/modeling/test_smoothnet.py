"""SmoothNet against the official modules' outputs, and what it does to a sequence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendance_hf.modeling.smoothnet import SmoothNetConfig, SmoothNetModel, smoothnet_loss
from tests.modeling.official import official_state

VARIANTS = ["default_w32", "yaml_w32", "default_w8", "mmhuman3d_w8", "mmhuman3d_w32"]


@pytest.fixture(scope="module")
def fixture(shared: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts = json.loads((shared / "reference" / "smoothnet.json").read_text())
    with np.load(shared / "reference" / "smoothnet.npz", allow_pickle=False) as data:
        return facts, dict(data)


@pytest.mark.shared
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity_smoothnet(fixture: Any, variant: str) -> None:
    facts, data = fixture
    case = facts["cases"][variant]
    model = SmoothNetModel(SmoothNetConfig(**case["config"])).eval()
    assert sum(p.numel() for p in model.parameters()) == case["n_params"]
    state = official_state(facts[f"keys_{variant}"], facts["mode"])
    model.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
    noisy = torch.from_numpy(data["noisy"])
    size = model.config.window_size
    with torch.no_grad():
        step1 = model(noisy).smoothed
        if variant.startswith("mmhuman3d"):
            np.testing.assert_allclose(step1, data[f"{variant}_sequence"], atol=1e-5)
            return
        np.testing.assert_allclose(model.windows(noisy[:size].T), data[f"{variant}_window0"], atol=1e-5)
        np.testing.assert_allclose(step1, data[f"{variant}_sequence_step1"], atol=1e-5)
        half = model(noisy, step=size // 2).smoothed
        np.testing.assert_allclose(half, data[f"{variant}_sequence_half_step"], atol=1e-5)


@pytest.mark.shared
def test_parity_smoothnet_loss(fixture: Any) -> None:
    facts, data = fixture
    ours = smoothnet_loss(torch.from_numpy(data["noisy"][:32]), torch.from_numpy(data["clean"][:32]))
    expected = facts["cases"]["loss_w_accel0.1_w_pos1_noisy_vs_clean_first32"]
    assert float(ours) == pytest.approx(expected, rel=1e-5)


def test_it_learns_to_take_jitter_out() -> None:
    torch.manual_seed(0)
    model = SmoothNetModel(SmoothNetConfig(8, hidden_size=64, res_hidden_size=32, num_blocks=1, dropout=0.0))
    time = torch.linspace(0, 6, 120)[:, None]
    clean = torch.sin(time * torch.tensor([1.0, 2.0, 3.0]))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(100):
        optimiser.zero_grad()
        smoothnet_loss(model(clean + 0.05 * torch.randn_like(clean)).smoothed, clean).backward()
        optimiser.step()
    noisy = clean + 0.05 * torch.randn_like(clean)
    with torch.no_grad():
        smoothed = model(noisy).smoothed
    jitter = lambda x: float(x.diff(n=2, dim=0).abs().mean())  # noqa: E731
    assert jitter(smoothed) < 0.4 * jitter(noisy)
    assert float((smoothed - clean).abs().mean()) < float((noisy - clean).abs().mean())


def test_short_sequences_saving_and_wrong_settings(tmp_path: Path) -> None:
    model = SmoothNetModel(SmoothNetConfig(8, hidden_size=16, res_hidden_size=8, num_blocks=1)).eval()
    short = torch.randn(2, 7, 3)
    assert torch.equal(model(short).smoothed, short)
    model.save_pretrained(tmp_path)
    again = SmoothNetModel.from_pretrained(tmp_path).eval()
    motion = torch.randn(2, 20, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(motion).smoothed, again(motion).smoothed)
        # The last window ends with the sequence, whatever the step.
        assert model(motion, step=7).smoothed.isfinite().all()
    with pytest.raises(ValueError, match="step"):
        model(motion, step=0)
    with pytest.raises(ValueError, match="window_size 8"):
        SmoothNetConfig(8, output_size=4)
