"""The checkpoint that ships: it loads, is small, says where it comes from, and codes dances it has not seen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from opendance_hf.assets import packaged_weights
from opendance_hf.data import MotionWindows
from opendance_hf.modeling.bailando import BailandoVQVAE, split_root
from tests.wheel_check import RUN_WEIGHTS


@pytest.fixture(scope="module")
def folder() -> Path:
    return packaged_weights("bailando-vqvae-cmu")


def test_it_is_small_and_credits_its_source(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20e6
    card = (folder / "README.md").read_text()
    assert "mocap.cs.cmu.edu" in card
    assert "EIA-0196217" in card


def test_the_example_of_its_card_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    (block,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL)
    names = {"joints": torch.zeros(1, 64, 24, 3)}
    exec(block, names)
    assert names["upper"].shape == names["lower"].shape == (1, 8)


def test_it_codes_the_motion_of_the_wheel_check(capsys: pytest.CaptureFixture[str]) -> None:
    exec(RUN_WEIGHTS, {})
    assert "bailando-vqvae-cmu: 96 frames decoded" in capsys.readouterr().out


def test_it_codes_dances_it_has_not_seen(folder: Path, shared: Path) -> None:
    model = BailandoVQVAE.from_pretrained(folder).eval()
    left_out = yaml.safe_load((folder / "recipe.yaml").read_text())["data"]["leave_out"]
    windows = MotionWindows(shared / "data" / "mocap", 240, 240, only=left_out)
    relative, _ = split_root(torch.stack([windows[i]["joints"] for i in range(len(windows))]))
    with torch.no_grad():
        output = model(relative)
    error_mm = 1000 * (output.joints - relative).norm(dim=-1).mean()
    mean_pose_mm = 1000 * (relative.mean((0, 1)) - relative).norm(dim=-1).mean()
    assert error_mm < 53
    assert mean_pose_mm > 150
    for codes in (output.upper_codes, output.lower_codes):
        assert len(codes.unique()) > model.config.codebook_size / 2
