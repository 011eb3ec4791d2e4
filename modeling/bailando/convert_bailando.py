"""Official Bailando checkpoints in ours: their names, and whole folders that ``from_pretrained`` loads.

    python -m opendance_hf.modeling.bailando.convert_bailando vqvae.pt gpt.pt --out bailando

Reads what the conference paper's program writes (pose and root VQ-VAE, GPT, actor-critic) and what the journal version's
does (rotation decoders, music windows; Siyao et al., TPAMI 2023).
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from opendance_hf.archives import check_zip
from opendance_hf.errors import OpenDanceError, one_line
from opendance_hf.modeling.bailando.actor_critic import BailandoActorCritic
from opendance_hf.modeling.bailando.configuration_bailando import (
    BailandoActorCriticConfig,
    BailandoConfig,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando.modeling_bailando import BailandoForDanceGeneration
from opendance_hf.modeling.feature_extraction_dance import DanceFeatureExtractor

_HALF = {"vqvae_up": "upper", "vqvae_down": "lower"}
#: Masks are computed, and the music transformer's positions are never used.
_NEVER_OURS = re.compile(r"\.attn\.mask$|^music_trans\.pos_emb$")
#: All official transformers have heads of this width; weights do not tell.
_HEAD_WIDTH = 64
_LOOK_AHEAD_FRAMES = 40


class ConversionError(OpenDanceError, ValueError):
    """A file that is not an official checkpoint, or not a whole model; the message says why."""


class ConversionReport(dict[str, list[str]]):
    """What did not take part in a conversion.

    ``unmatched``: official keys that found no place; ``dropped``: those that are not weights of the model asked for;
    ``missing``: our weights that no official key filled.
    """


class _Settings:
    """Stands in for ``easydict.EasyDict`` in a checkpoint, by name: what becomes of one is a plain dictionary."""

    def __new__(cls) -> Any:
        """Return an ordered dictionary: the restricted unpickler fills no class of ours."""
        return OrderedDict()


_Settings.__module__, _Settings.__name__, _Settings.__qualname__ = "easydict", "EasyDict", "EasyDict"


class _DType:
    """Stands in for ``numpy.dtype``: some files note a score as a numpy number, which no weight is."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


_DType.__module__, _DType.__name__, _DType.__qualname__ = "numpy", "dtype", "dtype"


def _scalar(module: str) -> Any:
    def number(*_: Any) -> None:
        return None

    number.__module__, number.__name__, number.__qualname__ = module, "scalar", "scalar"
    return number


_SCALARS = [_scalar(f"numpy.{core}.multiarray") for core in ("core", "_core")]


def load_official(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an official ``.pt`` file without letting it run anything.

    Such files are pickles, which can hold programs, and carry an ``easydict.EasyDict`` of settings beside the weights.
    Only tensors, dictionaries, lists, numbers and text come out.

    Raises:
        ConversionError: if the file holds anything else, or cannot be read.
    """
    try:
        if zipfile.is_zipfile(path):
            check_zip(Path(path))
        with torch.serialization.safe_globals([_Settings, _DType, *_SCALARS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        return _plain_mapping(content)
    except (
        Exception
    ) as error:  # what torch raises for a damaged file is not documented to be anything narrower
        reason = str(error).strip().splitlines()
        if isinstance(error, pickle.UnpicklingError):
            found = re.search(r"GLOBAL (\S+)", str(error))
            reason = [
                f"it asks for {found[1]}, which is not part of a checkpoint; nothing was run"
                if found
                else "no pickle"
            ]
        raise ConversionError(
            f"{path}: not an official checkpoint ({one_line(reason[0] if reason else repr(error))})"
        ) from None


def _plain_mapping(content: Any) -> dict[str, Any]:
    plain = _plain(content)
    if not isinstance(plain, dict):
        raise pickle.UnpicklingError(f"GLOBAL {type(content).__name__}")
    return plain


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if content is None or isinstance(content, Tensor | bool | int | float | str):
        return content
    raise pickle.UnpicklingError(f"GLOBAL {type(content).__name__}")


def check_folder(out: str | os.PathLike[str]) -> None:
    """Raise ConversionError if a file is in the way of the folder to save to: transformers would only log that."""
    for place in (Path(out), *Path(out).parents):
        if place.exists():
            if not place.is_dir():
                raise ConversionError(f"{place} is a file; give --out a folder, new or empty")
            return


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict in what :func:`load_official` returns: the content itself, or its entry full of tensors.

    Raises:
        ConversionError: if there is none.
    """
    for content in (checkpoint, *checkpoint.values()):
        if isinstance(content, Mapping):
            state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
            if state and len(state) == len(content):
                return state
    raise ConversionError(f"no weights; there are {', '.join(sorted(checkpoint)) or 'no entries'}")


def convert_vqvae_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Official VQ-VAE weights (``SepVQVAE``, with a root ``SepVQVAER``, with rotations ``SepVQVAERmix``) under our names.

    The running sums of the codebook are not part of official checkpoints; they start anew, as they did there.
    """
    out: dict[str, Tensor] = {}
    report = ConversionReport(unmatched=[], dropped=[])
    for key, value in state.items():
        name = _vqvae_name(key.removeprefix("module."))
        if name is None:
            report["unmatched"].append(key)
            continue
        out[name] = value
        if name.endswith("codebook.codes"):
            out[name.replace("codes", "code_sum")] = value.clone()
            out[name.replace("codes", "code_count")] = value.new_ones(len(value))
            out[name.replace("codes", "step")] = value.new_ones((), dtype=int)  # type: ignore[call-overload]
    return out, report


def _vqvae_name(key: str) -> str | None:
    part, _, rest = key.partition(".")
    if part not in _HALF:
        return None
    half = _HALF[part]
    if rest == "bottleneck.level_blocks.0.k":
        return f"{half}.codebook.codes"
    if match := re.fullmatch(r"encoders\.0\.level_blocks\.0\.model\.(\d+)\.(.+)", rest):
        level, inner = match.groups()
        if inner in ("weight", "bias"):
            return f"{half}.encoder.out.{inner}"
        if found := re.fullmatch(r"0\.(weight|bias)", inner):
            return f"{half}.encoder.downsamples.{level}.{found[1]}"
        if found := re.fullmatch(r"1\.model\.(\d+)\.model\.([13])\.(weight|bias)", inner):
            return f"{half}.encoder.residuals.{level}.{found[1]}.conv{_CONV[found[2]]}.{found[3]}"
    if match := re.fullmatch(r"(decoders|decoders_root|decoders_rot)\.0\.(.+)", rest):
        decoder = {
            "decoders": f"{half}.decoder",
            "decoders_root": "root_decoder",
            "decoders_rot": f"{half}_rotation_decoder",
        }[match[1]]
        inner = match[2]
        if inner.startswith("out."):
            return f"{decoder}.{inner}"
        if found := re.fullmatch(r"level_blocks\.0\.model\.0\.(weight|bias)", inner):
            return f"{decoder}.inp.{found[1]}"
        if found := re.fullmatch(r"level_blocks\.0\.model\.(\d+)\.1\.(weight|bias)", inner):
            return f"{decoder}.upsamples.{int(found[1]) - 1}.{found[2]}"
        block = r"level_blocks\.0\.model\.(\d+)\.0\.model\.(\d+)\.model\.([13])\.(weight|bias)"
        if found := re.fullmatch(block, inner):
            return f"{decoder}.residuals.{int(found[1]) - 1}.{found[2]}.conv{_CONV[found[3]]}.{found[4]}"
    return None


_CONV = {"1": "1", "3": "2"}
_GPT_NAMES = {
    "cond_emb": "music_embedding",
    "tok_emb_up": "upper_embedding",
    "tok_emb_down": "lower_embedding",
    "ln_f": "ln_f",
    "head_up": "upper_head",
    "head_down": "lower_head",
}
_MUSIC_NAMES = {"cond_emb": "embedding", "downsample": "fold"}
_BLOCK_NAMES = {
    "attn.query": "attention.q_proj",
    "attn.key": "attention.k_proj",
    "attn.value": "attention.v_proj",
    "attn.proj": "attention.o_proj",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "ln1": "ln1",
    "ln2": "ln2",
}
_PARTS = {
    "gpt_base": ("gpt.", "gpt.base.", _GPT_NAMES),
    "gpt_head": ("gpt.", "gpt.head.", _GPT_NAMES),
    "critic_net": ("critic.", "critic.blocks.", _GPT_NAMES),
    "music_trans": ("gpt.music_transformer.", "gpt.music_transformer.blocks.", _MUSIC_NAMES),
}


def convert_actor_critic_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Official ``CrossCondGPT2AC`` weights, with or without a music window, under the names of ``BailandoActorCritic``."""
    out: dict[str, Tensor] = {}
    report = ConversionReport(unmatched=[], dropped=[])
    for key, value in state.items():
        bare = key.removeprefix("module.")
        if _NEVER_OURS.search(bare):
            report["dropped"].append(key)
        elif bare == "gpt_base.pos_emb":
            out["gpt.position_embedding"] = value.reshape(3, -1, value.shape[-1])
        elif (name := _gpt_name(bare)) is not None:
            out[name] = value
        else:
            report["unmatched"].append(key)
    return out, report


def convert_gpt_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Official GPT weights, with or without a music window or critic, under the names of ``BailandoGPT``.

    A critic is dropped: it is for training only.
    """
    critic = [key for key in state if key.removeprefix("module.").startswith("critic_net.")]
    out, report = convert_actor_critic_state({key: state[key] for key in state if key not in critic})
    report["dropped"] += critic
    return {name.removeprefix("gpt."): value for name, value in out.items()}, report


def _gpt_name(key: str) -> str | None:
    part, _, rest = key.partition(".")
    if part not in _PARTS:
        return None
    own, blocks, names = _PARTS[part]
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)\.(weight|bias)", rest):
        layer, inner, kind = match.groups()
        return f"{blocks}{layer}.{_BLOCK_NAMES[inner]}.{kind}" if inner in _BLOCK_NAMES else None
    if match := re.fullmatch(r"(\w+)\.(weight|bias)", rest):
        return f"{own}{names[match[1]]}.{match[2]}" if match[1] in names else None
    return None


def vqvae_config_of(state: Mapping[str, Tensor]) -> BailandoVQVAEConfig:
    """Infer the configuration of converted VQ-VAE weights; what weights do not tell is as published."""
    size, width = state["upper.codebook.codes"].shape
    return BailandoVQVAEConfig(
        hidden_size=width,
        codebook_size=size,
        num_downsamples=_count(state, r"upper\.encoder\.downsamples\.(\d+)\."),
        num_residual_layers=_count(state, r"upper\.encoder\.residuals\.0\.(\d+)\."),
        rotation_head="upper_rotation_decoder.out.weight" in state,
    )


def gpt_config_of(state: Mapping[str, Tensor]) -> BailandoGPTConfig:
    """Infer the configuration of converted GPT weights; what weights do not tell is as published."""
    size, width = state["upper_embedding.weight"].shape
    windowed = "music_transformer.fold.weight" in state
    music = state["music_transformer.embedding.weight" if windowed else "music_embedding.weight"]
    return BailandoGPTConfig(
        codebook_size=size,
        music_dim=music.shape[1],
        hidden_size=width,
        num_base_layers=_count(state, r"base\.(\d+)\."),
        num_head_layers=_count(state, r"head\.(\d+)\."),
        num_attention_heads=max(1, width // _HEAD_WIDTH),
        max_codes=state["position_embedding"].shape[1],
        music_window=_LOOK_AHEAD_FRAMES if windowed else None,
        num_music_layers=_count(state, r"music_transformer\.blocks\.(\d+)\.") or 3,
        frames_per_code=state["music_transformer.fold.weight"].shape[1] // width if windowed else 8,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in state if (match := re.match(pattern, name))})


def convert_bailando(
    *checkpoints: str | os.PathLike[str], out: str | os.PathLike[str]
) -> tuple[BailandoForDanceGeneration, ConversionReport]:
    """Official checkpoint files to one saved :class:`BailandoForDanceGeneration`.

    Args:
        checkpoints: a VQ-VAE's and a GPT's or actor-critic's, in any order. Of several with the same weights (pose and
            root stages of the VQ-VAE, say) the later ones count.
        out: folder to save to. With an actor-critic among the checkpoints, its subfolder ``actor_critic`` gets the
            critic too, for going on with training.

    Returns:
        The model, and the report of keys over all files.

    Raises:
        ConversionError: if a file cannot be read, is not a Bailando, if the VQ-VAE or the GPT is missing, or ``out`` is a
            file.
    """
    check_folder(out)
    vqvae: dict[str, Tensor] = {}
    gpt: dict[str, Tensor] = {}
    total = ConversionReport(unmatched=[], dropped=[], missing=[])
    for path in checkpoints:
        try:
            state = weights_of(load_official(path))
        except ConversionError as error:
            raise ConversionError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
        is_vqvae = any(key.removeprefix("module.").partition(".")[0] in _HALF for key in state)
        found, report = (convert_vqvae_state if is_vqvae else convert_actor_critic_state)(state)
        if not found:
            raise ConversionError(f"{path}: no Bailando: none of its {len(state)} weights has a known name")
        (vqvae if is_vqvae else gpt).update(found)
        for kind, keys in report.items():
            total[kind] += keys
    if not vqvae or not gpt:
        raise ConversionError(
            f"no {'GPT' if vqvae else 'VQ-VAE'} among the checkpoints: a whole Bailando needs both"
        )
    actor = {name.removeprefix("gpt."): value for name, value in gpt.items() if name.startswith("gpt.")}
    try:
        config = BailandoConfig(vqvae_config_of(vqvae), gpt_config_of(actor))
    except KeyError as error:
        raise ConversionError(f"not a whole Bailando: no weights for {error}") from None
    except (TypeError, ValueError, IndexError) as error:
        raise ConversionError(f"no Bailando: a weight has a shape that none has ({error})") from None
    model = BailandoForDanceGeneration(config)
    total["missing"] += [f"vqvae.{name}" for name in _fill(model.vqvae, vqvae)]
    total["missing"] += [f"gpt.{name}" for name in _fill(model.gpt, actor)]
    model.eval().save_pretrained(out)
    # The published features, and so the official weights, are librosa 0.8.1's.
    DanceFeatureExtractor.for_model(model.config, "librosa-0.8.1").save_pretrained(out)
    if layers := _count(gpt, r"critic\.blocks\.(\d+)\."):
        trained = BailandoActorCritic(BailandoActorCriticConfig(config.gpt_config, num_critic_layers=layers))
        total["missing"] += [name for name in _fill(trained, gpt) if name.startswith("critic.")]
        trained.save_pretrained(Path(out, "actor_critic"))
    return model, total


def _fill(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load what fits by name; returns the names left as they were.

    Raises:
        ConversionError: if a weight has another shape than its name's.
    """
    try:
        return list(model.load_state_dict(dict(state), strict=False).missing_keys)
    except RuntimeError as error:
        raise ConversionError(str(error).splitlines()[-1].strip()) from None
