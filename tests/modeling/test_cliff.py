"""CLIFF against the official module's outputs, and as a model that saves and loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendance_hf.modeling.cliff import CLIFFConfig, CLIFFModel, six_to_rotations
from tests.modeling.official import official_state


@pytest.fixture(scope="module")
def fixture(shared: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    facts = json.loads((shared / "reference" / "cliff.json").read_text())
    with np.load(shared / "reference" / "cliff.npz", allow_pickle=False) as data:
        return facts, dict(data)


@pytest.mark.shared
@pytest.mark.parametrize("backbone", ["res50", "hr48"])
def test_parity_cliff(fixture: Any, backbone: str) -> None:
    facts, data = fixture
    case = facts["cases"][backbone]
    model = CLIFFModel(CLIFFConfig(backbone)).eval()
    assert sum(p.numel() for p in model.parameters()) == case["n_params"]
    keys = facts[f"keys_{backbone}"]
    names = {entry[1] if isinstance(entry, list) else entry["key"] for entry in keys}
    assert set(model.state_dict()) == names
    assert len(names) == case["n_keys"]
    state = {k.removeprefix("module."): v for k, v in official_state(keys, facts["mode"]).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    images = torch.from_numpy(np.random.RandomState(99).standard_normal((2, 3, 256, 192)).astype(np.float32))
    with torch.no_grad():
        out = model(images, torch.tensor([[0.1, -0.2, 0.3], [-0.4, 0.25, 1.1]]))
    expected = data[f"{backbone}_feat"]
    np.testing.assert_allclose(out.features[:, ::4], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(out.rotations, data[f"{backbone}_rotmat"], atol=1e-4)
    for ours, name in ((out.betas, "betas"), (out.camera, "cam")):
        theirs = data[f"{backbone}_{name}"]
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1.0, np.abs(theirs).max()))


@pytest.mark.shared
def test_parity_cliff_rotations(fixture: Any) -> None:
    _, data = fixture
    ours = six_to_rotations(torch.from_numpy(data["rot6d_in"]).unflatten(1, (24, 6)))
    np.testing.assert_allclose(ours, data["rot6d_out"], atol=1e-6)


def small(backbone: str = "res50") -> CLIFFModel:
    torch.manual_seed(0)
    return CLIFFModel(CLIFFConfig(backbone, width=4, hidden_size=16)).eval()


@pytest.mark.parametrize("backbone", ["res50", "hr48"])
def test_it_saves_and_loads(tmp_path: Path, backbone: str) -> None:
    model = small(backbone)
    model.init_shape.normal_()
    model.save_pretrained(tmp_path)
    again = CLIFFModel.from_pretrained(tmp_path).eval()
    images, info = torch.randn(2, 3, 64, 64), torch.zeros(2, 3)
    with torch.no_grad():
        ours, theirs = model(images, info), again(images, info)
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key])
    rotations = ours.rotations
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), atol=1e-5, rtol=0)


def test_an_untrained_model_stands_as_the_mean_body() -> None:
    model = small()
    with torch.no_grad():
        out = model(torch.randn(1, 3, 64, 48), torch.zeros(1, 3))
    angles = ((out.rotations.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1).acos()
    assert float(angles.max()) < 0.3


def test_the_place_in_the_picture_matters() -> None:
    model = small()
    model.decpose.weight.data.normal_()
    images = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        left, right = (model(images, torch.tensor([[x, 0.0, 0.0]])).rotations for x in (-0.5, 0.5))
    assert not torch.allclose(left, right, atol=1e-3)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"bbox_info \(2, 3\)"):
        small()(torch.zeros(1, 3, 64, 48), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="res50, hr48"):
        CLIFFConfig("vgg")
