"""A dance for any song: audio or video file in, an MP4 with the song and an npz with the motion out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import PretrainedConfig

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.modeling.bailando import BailandoForDanceGeneration
from opendance_hf.modeling.bailando_pp import BailandoPPForDanceGeneration
from opendance_hf.motion.generated import posed, stand_on_ground
from opendance_hf.music import (
    SAMPLE_RATE_7P5FPS,
    SAMPLE_RATE_60FPS,
    MusicAnnotation,
    decode_audio,
    extract_audio,
)
from opendance_hf.render.film import film
from opendance_hf.schema import FPS

_SOUND_RATE: Final = 44_100
MIN_SONG_S: Final = 1.0


class GenerateError(OpenDanceError, RuntimeError):
    """A song or a model that cannot be used; the message says why and what to do."""


def load_song(song: Path) -> tuple[MusicAnnotation, int]:
    """The music features of a whole song, and how many motion frames last exactly as long.

    Raises:
        AudioError: if the file has no readable sound.
        GenerateError: if it is shorter than a second.
    """
    sound = decode_audio(song, SAMPLE_RATE_60FPS)
    num_frames = round(len(sound) / SAMPLE_RATE_60FPS * FPS)
    if num_frames < MIN_SONG_S * FPS:
        raise GenerateError(
            f"{song}: {len(sound) / SAMPLE_RATE_60FPS:.2f} s of sound; at least 1 s is needed"
        )
    return extract_audio(sound, decode_audio(song, SAMPLE_RATE_7P5FPS), num_frames), num_frames


def generate(
    song: Path,
    model: str | os.PathLike[str],
    out: Path,
    *,
    seed: int = 0,
    do_sample: bool = True,
    temperature: float = 1.0,
    top_k: int | None = 20,
    tell: Callable[[str], None] = print,
) -> list[Path]:
    """Let a trained Bailando, or the dancers of a Bailando++, dance to a song.

    Args:
        song: any audio or video file.
        model: folder or Hub id of a :class:`BailandoForDanceGeneration` or :class:`BailandoPPForDanceGeneration`.
        out: ``.mp4`` (an ``.npz`` of the same name is written beside it) or ``.npz`` alone.
        seed: of the first code and, when sampling, of every draw.
        do_sample: draw codes instead of taking the likeliest: greedy dances tend to freeze or repeat.
        temperature: of the draws.
        top_k: draw from this many likeliest codes only.
        tell: prints a line for people.

    Returns:
        The files written. The npz holds ``joints`` (T, 24, 3) in metres, ``smpl_pose`` (T, 24, 3), ``smpl_transl``
        (T, 3), ``rest_offsets`` (24, 3), ``music_beats``, ``fps``, ``id`` and ``seed``; of several dancers the first
        four begin with (D, ...).

    Raises:
        GenerateError: if the output is of another kind, or the model cannot be loaded.
    """
    if out.suffix not in (".mp4", ".npz"):
        raise GenerateError(f"{out}: write to a file that ends in .mp4 or .npz")
    bailando = load_model(model)
    tell(f"Listening to {song.name} ...")
    music, num_frames = load_song(song)
    heard = bailando.config.gpt_config.heard(music.music_features, music.music_features_7p5fps)
    tell(f"Dancing {num_frames / FPS:.2f} s at {music.bpm:.0f} bpm ...")
    dance = bailando.generate_dance(
        torch.from_numpy(heard)[None],
        num_frames,
        do_sample=do_sample,
        temperature=temperature,
        top_k=top_k,
        generator=torch.Generator().manual_seed(seed),
    )
    assert dance.joints is not None
    danced = dance.joints[0].numpy().astype(np.float64)
    dancers = np.stack([stand_on_ground(dancer) for dancer in (danced if danced.ndim == 4 else danced[None])])
    poses, transl, rest_offsets = posed(dancers)
    arrays = {"joints": dancers, "smpl_pose": poses, "smpl_transl": transl, "rest_offsets": rest_offsets}
    if danced.ndim == 3:
        arrays = {name: values[0] for name, values in arrays.items()}
    motion = out.with_suffix(".npz")
    with atomic_write(motion) as partial, partial.open("wb") as file:
        np.savez(
            file,
            **{name: values.astype(np.float32) for name, values in arrays.items()},  # type: ignore[arg-type]
            music_beats=music.music_beats,
            fps=np.int32(FPS),
            id=np.str_(out.stem),
            seed=np.int64(seed),
        )
    if out.suffix == ".npz":
        return [motion]
    tell("Filming ...")
    sound = decode_audio(song, _SOUND_RATE, 0.0, num_frames / FPS)
    film(out, poses, transl, rest_offsets, sound, _SOUND_RATE)
    return [out, motion]


def load_model(
    model: str | os.PathLike[str],
) -> BailandoForDanceGeneration | BailandoPPForDanceGeneration:
    """A whole Bailando or Bailando++ of a folder or Hub id.

    Raises:
        GenerateError: if it is something else.
    """
    try:
        kind = PretrainedConfig.get_config_dict(os.fspath(model))[0].get("model_type")
        if kind == "fact":
            raise ValueError("a FACT continues a seed motion: call its generate_dance in Python")
        family = BailandoPPForDanceGeneration if kind == "bailando_pp" else BailandoForDanceGeneration
        loaded: Any = family.from_pretrained(os.fspath(model), output_loading_info=True)
    except (OSError, ValueError) as error:
        raise GenerateError(
            f"{model}: not a Bailando ({error}); train one with `opendance train`, or name one on the Hub"
        ) from None
    if loaded[1]["missing_keys"]:
        raise GenerateError(
            f"{model}: not a whole Bailando; give what `opendance train gpt` or `bailando_pp` wrote"
        )
    whole: BailandoForDanceGeneration | BailandoPPForDanceGeneration = loaded[0].eval()
    return whole
