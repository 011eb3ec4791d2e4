"""Official checkpoint files: read without running what they hold, and converted to the same dances."""

from __future__ import annotations

import os
import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.modeling.bailando import (
    BailandoActorCritic,
    BailandoActorCriticConfig,
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando.convert_bailando import (
    ConversionError,
    convert_bailando,
    load_official,
    weights_of,
)
from opendance_hf.modeling.feature_extraction_dance import DanceFeatureExtractor

VQVAE: dict[str, Any] = {"hidden_size": 16, "codebook_size": 32, "num_residual_layers": 2}
GPT: dict[str, Any] = {
    "codebook_size": 32,
    "music_dim": 6,
    "hidden_size": 128,
    "num_base_layers": 1,
    "num_head_layers": 2,
    "num_attention_heads": 2,
    "max_codes": 5,
    "initializer_range": 0.2,
}


def official_vqvae(model: BailandoVQVAE) -> dict[str, torch.Tensor]:
    """Our weights under official names: the layout of the reference, written independently of the converter."""
    out = {}
    levels, conv = model.config.num_downsamples, {"conv1": "1", "conv2": "3"}
    layouts: dict[str, Any] = {
        "encoder.downsamples": lambda i: f"{i[0]}.0.{i[1]}",
        "encoder.residuals": lambda i: f"{i[0]}.1.model.{i[1]}.model.{conv[i[2]]}.{i[3]}",
        "encoder.out": lambda i: f"{levels}.{i[0]}",
        "decoder.inp": lambda i: f"0.{i[0]}",
        "decoder.residuals": lambda i: f"{int(i[0]) + 1}.0.model.{i[1]}.model.{conv[i[2]]}.{i[3]}",
        "decoder.upsamples": lambda i: f"{int(i[0]) + 1}.1.{i[1]}",
    }
    for name, value in model.state_dict().items():
        half, part, *rest = name.split(".")
        if half in ("upper", "lower"):
            start = "vqvae_up." if half == "upper" else "vqvae_down."
            if part == "codebook":
                if rest == ["codes"]:
                    out[start + "bottleneck.level_blocks.0.k"] = value
                continue
            folder = {"encoder": "encoders", "decoder": "decoders"}[part]
        else:
            start = "vqvae_up." if half == "upper_rotation_decoder" else "vqvae_down."
            folder = "decoders_root" if half == "root_decoder" else "decoders_rot"
            part, rest = "decoder", [part, *rest]
        kind, *inner = rest
        layout = layouts.get(f"{part}.{kind}")
        inside = f"level_blocks.0.model.{layout(inner)}" if layout else f"out.{inner[0]}"
        out[f"{start}{folder}.0.{inside}"] = value
    return {f"module.{key}": value for key, value in out.items()}


def official_gpt(model: BailandoActorCritic) -> dict[str, torch.Tensor]:
    names = {
        "gpt.position_embedding": "gpt_base.pos_emb",
        "gpt.music_transformer.blocks.": "music_trans.blocks.",
        "gpt.music_transformer.embedding.": "music_trans.cond_emb.",
        "gpt.music_transformer.fold.": "music_trans.downsample.",
        "gpt.music_embedding.": "gpt_base.cond_emb.",
        "gpt.upper_embedding.": "gpt_base.tok_emb_up.",
        "gpt.lower_embedding.": "gpt_base.tok_emb_down.",
        "gpt.base.": "gpt_base.blocks.",
        "gpt.head.": "gpt_head.blocks.",
        "gpt.ln_f.": "gpt_head.ln_f.",
        "gpt.upper_head.": "gpt_head.head_up.",
        "gpt.lower_head.": "gpt_head.head_down.",
        "critic.upper_head.": "critic_net.head_up.",
        "critic.lower_head.": "critic_net.head_down.",
        "critic.": "critic_net.",
    }
    inside = {
        ".attention.q_proj.": ".attn.query.",
        ".attention.k_proj.": ".attn.key.",
        ".attention.v_proj.": ".attn.value.",
        ".attention.o_proj.": ".attn.proj.",
        ".fc1.": ".mlp.0.",
        ".fc2.": ".mlp.2.",
    }
    out = {"module.gpt_base.blocks.0.attn.mask": torch.ones(1, 1, 5, 5)}
    for name, value in model.state_dict().items():
        ours = next(prefix for prefix in names if name.startswith(prefix))
        key = names[ours] + name[len(ours) :]
        for a, b in inside.items():
            key = key.replace(a, b)
        out["module." + key] = value.reshape(1, -1, value.shape[-1]) if key.endswith("pos_emb") else value
    if model.config.gpt_config.music_window:
        out["module.music_trans.pos_emb"] = torch.zeros(1, 312, 128)
    return out


def save_official(path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """As the official programs do: with the settings, an ``easydict.EasyDict`` that holds its entries twice."""

    class EasyDict(dict):  # type: ignore[type-arg]
        def __init__(self, entries: dict[str, Any]) -> None:
            super().__init__()
            for name, value in entries.items():
                setattr(self, name, value)

        def __setattr__(self, name: str, value: Any) -> None:
            value = EasyDict(value) if isinstance(value, dict) else value
            super().__setattr__(name, value)
            super().__setitem__(name, value)

    EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"
    module = types.ModuleType("easydict")
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "easydict", module)
        config = EasyDict(
            {"structure": {"name": "SepVQVAER", "downs": [3]}, "rate": 3e-5, "cuda": True, "none": None}
        )
        torch.save({"model": state, "config": config, "epoch": 400}, path)
    assert b"easydict" in pickle_of(path)
    return path


def pickle_of(path: Path) -> bytes:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def models(
    options: dict[str, Any], *, rotation_head: bool
) -> tuple[BailandoForDanceGeneration, BailandoActorCritic]:
    torch.manual_seed(0)
    config = BailandoConfig(
        BailandoVQVAEConfig(**VQVAE, rotation_head=rotation_head), BailandoGPTConfig(**GPT, **options)
    )
    whole = BailandoForDanceGeneration(config).eval()
    for half in (whole.vqvae.upper, whole.vqvae.lower):
        torch.nn.init.normal_(half.codebook.codes)
    trained = BailandoActorCritic(BailandoActorCriticConfig(config.gpt_config, num_critic_layers=1)).eval()
    torch.nn.init.normal_(trained.gpt.position_embedding)
    whole.gpt.load_state_dict(trained.gpt.state_dict())
    return whole, trained


@pytest.mark.parametrize("kind", ["gpt", "actor-critic", "journal"])
def test_converted_official_layout_dances_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = kind == "journal"
    whole, trained = models({"music_window": 40} if journal else {}, rotation_head=journal)
    state = official_gpt(trained)
    if kind == "gpt":
        state = {key: value for key, value in state.items() if "critic" not in key}
    paths = [
        save_official(tmp_path / "gpt.pt", state, monkeypatch),
        save_official(tmp_path / "vqvae.pt", official_vqvae(whole.vqvae), monkeypatch),
    ]
    model, report = convert_bailando(*paths, out=tmp_path / "out")
    assert report["unmatched"] == []
    assert report["missing"] == []
    assert "module.gpt_base.blocks.0.attn.mask" in report["dropped"]
    assert model.config.gpt_config.num_attention_heads == 2
    again, info = BailandoForDanceGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    music = torch.randn(1, 120 if journal else 15, 6)
    dances = [
        m.eval().generate_dance(music, 120, generator=torch.Generator().manual_seed(0))
        for m in (whole, model, again)
    ]
    for dance in dances[1:]:
        torch.testing.assert_close(dict(dance), dict(dances[0]), rtol=0, atol=0)
    assert ("rotations" in dances[0]) == journal
    if kind == "gpt":
        assert not (tmp_path / "out" / "actor_critic").exists()
    else:
        critic = BailandoActorCritic.from_pretrained(tmp_path / "out" / "actor_critic")
        torch.testing.assert_close(critic.state_dict(), trained.state_dict(), rtol=0, atol=0)


def test_later_stages_count_and_gaps_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, trained = models({}, rotation_head=False)
    state = official_vqvae(whole.vqvae)
    pose = {key: torch.zeros_like(value) for key, value in state.items() if "root" not in key}
    gpt = save_official(
        tmp_path / "gpt.pt", {**official_gpt(trained), "module.odd.weight": torch.ones(1)}, monkeypatch
    )
    stage1 = save_official(tmp_path / "1.pt", pose, monkeypatch)
    stage2 = save_official(tmp_path / "2.pt", state, monkeypatch)
    model, report = convert_bailando(stage1, stage2, gpt, out=tmp_path / "out")
    torch.testing.assert_close(model.vqvae.upper.encoder.out.weight, whole.vqvae.upper.encoder.out.weight)
    assert report["unmatched"] == ["module.odd.weight"]
    command = ["convert", "bailando", str(stage1), str(gpt), "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    done = CliRunner().invoke(app, [*command, "--overwrite"])
    assert done.exit_code == 0, done.output
    assert "missing: vqvae.root_decoder." in done.output
    assert "unmatched: module.odd.weight" in done.output
    assert isinstance(AutoProcessor.from_pretrained(tmp_path / "out"), DanceFeatureExtractor)
    alone = CliRunner().invoke(app, [*command[:2], str(gpt), "--out", str(tmp_path / "none")])
    assert alone.exit_code == 2
    assert "error: no VQ-VAE among" in alone.output
    with pytest.raises(ConversionError, match="no VQ-VAE among"):
        convert_bailando(gpt, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_settings_come_out_as_plain_dictionaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_official(tmp_path / "vqvae.pt", {"module.a": torch.ones(2)}, monkeypatch)
    content = load_official(path)
    assert type(content["config"]) is dict
    assert type(content["config"]["structure"]) is dict
    assert content["config"] == {
        "structure": {"name": "SepVQVAER", "downs": [3]},
        "rate": 3e-5,
        "cuda": True,
        "none": None,
    }
    assert content["epoch"] == 400
    assert list(weights_of(content)) == ["module.a"]
    assert list(weights_of({"bare": torch.ones(1)})) == ["bare"]
    with pytest.raises(ConversionError, match="no weights; there are config, epoch"):
        weights_of({"config": {}, "epoch": 1})


class Malicious:
    """Unpickled by a careless program, it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = os.fspath(target)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_checkpoint_runs_nothing(zipped: bool, tmp_path: Path) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.pt"
    content = {"model": {"module.vqvae_up.x": torch.ones(1)}, "config": Malicious(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConversionError, match=re.escape(f"{path}: not an official checkpoint")) as caught:
        convert_bailando(path, out=tmp_path / "out")
    assert "mkdir" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not proof.exists()
    assert not (tmp_path / "out").exists()
    # It would have worked.
    torch.load(path, weights_only=False)
    assert proof.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    for content in (b"", b"hello", pickle.dumps([1, 2]), b"PK\x03\x04broken"):
        path.write_bytes(content)
        with pytest.raises(ConversionError, match="not an official checkpoint"):
            load_official(path)
    torch.save([1, 2], path)
    with pytest.raises(ConversionError, match="not an official checkpoint"):
        load_official(path)
    torch.save({"module.else.weight": torch.ones(1)}, path)
    with pytest.raises(ConversionError, match="no Bailando"):
        convert_bailando(path, out=tmp_path / "out")
    with pytest.raises(ConversionError, match=r"missing\.pt"):
        load_official(tmp_path / "missing.pt")


def test_half_a_gpt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, trained = models({}, rotation_head=False)
    vqvae = save_official(tmp_path / "vqvae.pt", official_vqvae(whole.vqvae), monkeypatch)
    state = {key: value for key, value in official_gpt(trained).items() if "tok_emb" not in key}
    gpt = save_official(tmp_path / "gpt.pt", state, monkeypatch)
    with pytest.raises(ConversionError, match="upper_embedding"):
        convert_bailando(vqvae, gpt, out=tmp_path / "out")


def test_gpt_alone_drops_the_critic() -> None:
    from opendance_hf.modeling.bailando.convert_bailando import convert_gpt_state

    _, trained = models({}, rotation_head=False)
    state, report = convert_gpt_state(official_gpt(trained))
    assert any("critic_net" in key for key in report["dropped"])
    BailandoGPT(trained.config.gpt_config).load_state_dict(state)
