"""Names of the official Bailando checkpoints in ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_HALF = {"vqvae_up": "upper", "vqvae_down": "lower"}
_NEVER_OURS = re.compile(r"\.attn\.mask$")


class ConversionReport(dict[str, list[str]]):
    """Official keys that found no place (``unmatched``), and those that are not weights (``dropped``)."""


def convert_vqvae_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Official ``SepVQVAE`` / ``SepVQVAER`` weights under our names.

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
    if match := re.fullmatch(r"(decoders|decoders_root)\.0\.(.+)", rest):
        decoder = f"{half}.decoder" if match[1] == "decoders" else "root_decoder"
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


def convert_gpt_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Official ``CrossCondGPT2`` weights under our names."""
    out: dict[str, Tensor] = {}
    report = ConversionReport(unmatched=[], dropped=[])
    for key, value in state.items():
        bare = key.removeprefix("module.")
        if _NEVER_OURS.search(bare):
            report["dropped"].append(key)
        elif bare == "gpt_base.pos_emb":
            out["position_embedding"] = value.reshape(3, -1, value.shape[-1])
        elif (name := _gpt_name(bare)) is not None:
            out[name] = value
        else:
            report["unmatched"].append(key)
    return out, report


def _gpt_name(key: str) -> str | None:
    if match := re.fullmatch(r"gpt_(base|head)\.blocks\.(\d+)\.(.+)\.(weight|bias)", key):
        part, layer, inner, kind = match.groups()
        return f"{part}.{layer}.{_BLOCK_NAMES[inner]}.{kind}" if inner in _BLOCK_NAMES else None
    if match := re.fullmatch(r"gpt_(?:base|head)\.(\w+)\.(weight|bias)", key):
        return f"{_GPT_NAMES[match[1]]}.{match[2]}" if match[1] in _GPT_NAMES else None
    return None
