"""``opendance convert cliff`` and ``smoothnet``: official layouts in, folders that load out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from opendance_hf.apps.convert import convert
from opendance_hf.cli import app
from opendance_hf.modeling.bailando.convert_bailando import ConversionError
from opendance_hf.modeling.cliff import CLIFFConfig, CLIFFModel
from opendance_hf.modeling.smoothnet import SmoothNetConfig, SmoothNetModel


def test_cliff_by_the_command(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CLIFFModel(CLIFFConfig("res50", width=4, hidden_size=16)).eval()
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"model": state | {"module.spare": torch.ones(1)}}, tmp_path / "res50.pt")
    done = CliRunner().invoke(
        app, ["convert", "cliff", str(tmp_path / "res50.pt"), "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "unmatched: spare" in done.output
    again = CLIFFModel.from_pretrained(tmp_path / "out").eval()
    assert (again.config.backbone, again.config.width) == ("res50", 4)
    inputs = torch.randn(1, 3, 64, 64), torch.zeros(1, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(*inputs).betas, again(*inputs).betas)


@pytest.mark.parametrize("prefix", ["", "module.", "smoothnet."])
def test_smoothnet_of_any_size_beside_numpy_numbers(tmp_path: Path, prefix: str) -> None:
    model = SmoothNetModel(SmoothNetConfig(16, hidden_size=12, res_hidden_size=6, num_blocks=2)).eval()
    state = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "performance": np.float64(0.5)}, tmp_path / "smooth.pth.tar")
    report = convert("smoothnet", [tmp_path / "smooth.pth.tar"], tmp_path / "out")
    assert report == {"unmatched": [], "dropped": [], "missing": []}
    again = SmoothNetModel.from_pretrained(tmp_path / "out").eval()
    assert again.config.num_blocks == 2
    motion = torch.randn(2, 40, 3)
    with torch.no_grad():
        torch.testing.assert_close(model(motion).smoothed, again(motion).smoothed)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = CLIFFModel(CLIFFConfig(width=4, hidden_size=16))
    state = dict(model.state_dict())
    del state["decpose.bias"]
    cases = {
        "hole.pt": ("cliff", {"model": state}, "misses 1 weights, decpose.bias"),
        "other.pt": ("cliff", {"x": torch.ones(2)}, "no CLIFF: there is no weight 'fc1.weight'"),
        "number.pt": ("cliff", {"fc1.weight": torch.tensor(1.0)}, "no CLIFF: a weight has a shape"),
        "numbers.pt": (
            "smoothnet",
            {
                f"{name}.weight": torch.tensor(1.0)
                for name in ("encoder.0", "decoder", "res_blocks.0.linear1")
            },
            "no SmoothNet",
        ),
        "codes.pt": (
            "smoothnet",
            {"encoder.0.weight": torch.ones(2, 8), "decoder.weight": torch.tensor(1.0)},
            "no SmoothNet",
        ),
        "flat.pt": ("smoothnet", {"x": torch.ones(2)}, "no SmoothNet"),
        "evil.pt": ("smoothnet", {"x": Evil()}, "nothing was run"),
    }
    for name, (kind, content, message) in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ConversionError, match=message) as error:
            convert(kind, [tmp_path / name], tmp_path / "out")
        assert name in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(ConversionError, match=r"cliff.*one file.*2"):
        convert("cliff", [tmp_path / "hole.pt", tmp_path / "other.pt"], tmp_path / "out")
    with pytest.raises(ConversionError, match="'spin'"):
        convert("spin", [], tmp_path / "out")


@pytest.mark.parametrize("kind", ["cliff", "smoothnet", "bailando"])
def test_a_file_is_no_place_for_a_model(tmp_path: Path, kind: str) -> None:
    model = {
        "cliff": lambda: CLIFFModel(CLIFFConfig("res50", width=4, hidden_size=16)),
        "smoothnet": lambda: SmoothNetModel(
            SmoothNetConfig(16, hidden_size=12, res_hidden_size=6, num_blocks=2)
        ),
        "bailando": lambda: torch.nn.Linear(1, 1),
    }[kind]()
    torch.save({"model": model.state_dict()}, tmp_path / "w.pt")
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "model"):
        done = CliRunner().invoke(app, ["convert", kind, str(tmp_path / "w.pt"), "--out", str(out)])
        assert done.exit_code == 2, done.output
        assert "isafile;give--outafolder" in "".join(done.output.split()).replace("│", "")
    assert (tmp_path / "out").read_text() == "mine"
