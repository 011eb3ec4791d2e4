"""Sound in, dance out: what stands before and after a Bailando."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from transformers import BatchFeature, FeatureExtractionMixin
from transformers.utils.generic import ModelOutput

from opendance_hf.music import (
    SAMPLE_RATE_7P5FPS,
    SAMPLE_RATE_60FPS,
    Engine,
    annotate_music,
    extract_audio,
    tpami_features,
)

Audio = str | os.PathLike[str] | npt.NDArray[np.floating]

_FPS = 60


class BailandoProcessor(FeatureExtractionMixin):
    """Music features for a Bailando out of sound files or samples, and dances out of its output.

    Args:
        music: ``"bailando"``: 438 features at 7.5 FPS, one row a code. ``"tpami"``: 55 at 60 FPS, for a GPT with a
            music window.
        engine: see :mod:`opendance_hf.music`. Official weights want ``"librosa-0.8.1"``.
    """

    model_input_names = ["music_features"]  # noqa: RUF012  transformers' own declaration

    def __init__(
        self, music: Literal["bailando", "tpami"] = "bailando", engine: Engine = "fast", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if music not in ("bailando", "tpami"):
            raise ValueError(f"music must be 'bailando' or 'tpami', got {music!r}")
        self.music = music
        self.engine = engine

    def __call__(
        self,
        audio: Audio | list[Audio],
        sampling_rate: int | None = None,
        *,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Music features of one or several songs.

        Args:
            audio: audio or video files, or (samples,) mono at ``sampling_rate``.
            sampling_rate: of samples, Hz.
            return_tensors: ``"pt"`` or ``"np"``.

        Returns:
            ``music_features`` (B, rows, 438 or 55), shorter songs continued with zeros, and ``num_frames`` (B,): how
            many frames at 60 FPS each song lasts.

        Raises:
            FileNotFoundError, AudioError: see :func:`opendance_hf.music.annotate_music`.
            ValueError: if samples come without a rate, or are not mono or not finite.
        """
        songs = audio if isinstance(audio, list) else [audio]
        if not songs:
            raise ValueError("no song given")
        rows, frames = zip(*(self._features(song, sampling_rate) for song in songs), strict=True)
        longest = max(len(one) for one in rows)
        padded = np.stack([np.pad(one, ((0, longest - len(one)), (0, 0))) for one in rows])
        return BatchFeature(
            {"music_features": padded, "num_frames": np.array(frames)}, tensor_type=return_tensors
        )

    def post_process_dance(
        self, output: ModelOutput, num_frames: npt.ArrayLike | None = None
    ) -> list[dict[str, Any]]:
        """The dances of a model's output, each ``{"joints": (T, 24, 3) metres, "fps": 60}`` and cut to its song.

        Args:
            output: of ``generate_dance``; its joints are (B, T, 24, 3), or (B, D, T, 24, 3) of several dancers.
            num_frames: (B,) as :meth:`__call__` returned it; None leaves all at full length.
        """
        joints = output["joints"].detach().float().cpu().numpy()
        lengths = [joints.shape[-3]] * len(joints) if num_frames is None else np.asarray(num_frames).tolist()
        return [
            {"joints": dance[..., :length, :, :], "fps": _FPS}
            for dance, length in zip(joints, lengths, strict=True)
        ]

    def _features(self, song: Audio, sampling_rate: int | None) -> tuple[npt.NDArray[np.float32], int]:
        if isinstance(song, np.ndarray):
            if sampling_rate is None:
                raise ValueError("samples need their sampling_rate, in Hz")
            if song.ndim != 1:
                raise ValueError(
                    f"audio must be mono (samples,), got shape {song.shape}; mix the channels first"
                )
            num_frames = max(1, round(_FPS * len(song) / sampling_rate))
            fast, slow = (
                _resampled(song, sampling_rate, rate) for rate in (SAMPLE_RATE_60FPS, SAMPLE_RATE_7P5FPS)
            )
            found = extract_audio(fast, slow, num_frames, engine=self.engine)
        else:
            found = annotate_music(song, engine=self.engine)
        rows = (
            found.music_features_7p5fps if self.music == "bailando" else tpami_features(found.music_features)
        )
        return rows, len(found.music_features)


def _resampled(samples: npt.NDArray[np.floating], rate: int, to: int) -> npt.NDArray[np.float32]:
    import soxr

    return soxr.resample(np.asarray(samples, dtype=np.float32), rate, to)
