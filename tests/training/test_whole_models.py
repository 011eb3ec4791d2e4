"""The forward pass of a whole model on a dataset row is that of its GPT on the windows of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from opendance_hf.data import SequenceReader
from opendance_hf.modeling.bailando import BailandoConfig, BailandoForDanceGeneration
from opendance_hf.modeling.bailando_pp import BailandoPPConfig, BailandoPPForDanceGeneration
from opendance_hf.schema import per_dancer
from opendance_hf.storage import pack
from opendance_hf.training.bailando_pp import DuetWindows
from opendance_hf.training.codes import CodeWindows
from opendance_hf.training.stage import stack
from tests.factories import make_sequence

_CODES = {"codebook_size": 16, "hidden_size": 16}
_GPT: dict[str, Any] = {
    **_CODES, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1, "max_codes": 29, "dropout": 0.0,
    "initializer_range": 0.2,
}  # fmt: skip
#: One window of training: the VQ-VAE sees what is around a frame, so that codes depend on where a piece is cut.
FRAMES = 8 * 30


def fill(model: Any) -> Any:
    for name, buffer in model.named_buffers():
        if name.endswith("codebook.codes"):
            buffer.normal_(0, 0.1)
    return model.eval()


def first_row(dataset: Path, column: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints (N, T, 24, 3) and music features of the first sequence."""
    reader = SequenceReader(dataset)
    row = reader.row(0)
    joints = per_dancer(reader.matrix(row, "joints"), reader.scalar(row, "num_dancers"), 24, 3)
    return torch.from_numpy(joints.copy()), torch.from_numpy(reader.matrix(row, column).copy())


@pytest.mark.parametrize("window", [None, 40])
def test_a_solo(window: int | None, tmp_path: Path) -> None:
    pack([make_sequence(0, 1, FRAMES)], tmp_path / "opendance-3d")
    torch.manual_seed(0)
    options = _GPT if window is None else {**_GPT, "music_window": window, "music_dim": 55}
    whole = fill(BailandoForDanceGeneration(BailandoConfig(_CODES, options)))
    batch = stack([CodeWindows(tmp_path / "opendance-3d", whole.vqvae, whole.gpt.config)[0]])
    joints, music = first_row(tmp_path / "opendance-3d", whole.config.music_input[0])
    columns = whole.config.music_input[1]
    with torch.no_grad():
        expected = whole.gpt(**batch)
        found = whole(music[None, :, :columns], joints[:, :FRAMES])
        shifted = whole(music.roll(8, 0)[None, :, :columns], joints[:, :FRAMES])
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.upper_logits, expected.upper_logits, rtol=1e-3, atol=1e-4)
    assert (shifted.loss - expected.loss).abs() > 1e-3


def test_a_duet(tmp_path: Path) -> None:
    pack([make_sequence(0, 2, FRAMES)], tmp_path / "opendance-3d")
    torch.manual_seed(0)
    whole = fill(BailandoPPForDanceGeneration(BailandoPPConfig(_CODES, _GPT)))
    windows = DuetWindows(tmp_path / "opendance-3d", whole, swap=False)
    joints, music = first_row(tmp_path / "opendance-3d", "music_features_7p5fps")
    with torch.no_grad():
        expected = whole.gpt(**stack([windows[0]]))
        found = whole(music[None], joints[None, :, :FRAMES])
    assert found.metrics.keys() == {"upper", "lower", "placement"}
    for name, value in found.metrics.items():
        torch.testing.assert_close(value, expected.metrics[name], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-4, atol=1e-5)
