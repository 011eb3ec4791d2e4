"""Music features for the dance models out of sound, and dances out of their output."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from transformers import BatchFeature, PretrainedConfig
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.remote_code import FeatureExtractorWithCode
from opendance_hf.motion.generated import height_of_ground
from opendance_hf.motion.ik import joints_to_poses
from opendance_hf.music.beats import find_beats
from opendance_hf.music.features import MusicAnnotation, extract_audio
from opendance_hf.music.inputs import full_width, hears_beats, read_input
from opendance_hf.music.layout import SAMPLE_RATE_7P5FPS, SAMPLE_RATE_60FPS, Engine, Ints
from opendance_hf.music.song import SongFeatures, open_song

Audio = str | os.PathLike[str] | npt.NDArray[np.floating]
Floats = npt.NDArray[np.floating]

_FPS: Final = 60
_FRAMES_AT_A_TIME: Final = 2_000
#: Confidence from which found beats are heard: at 0.5 or more all of 122 songs of known beats were right (docs/music.md).
_SURE: Final = 0.5
#: Names of inputs in folders that were saved before columns were named: column and width.
_FORMER: Final = {"bailando": ("music_features_7p5fps", 438), "tpami": ("music_features", 55)}


class DanceFeatureExtractor(FeatureExtractorWithCode):
    """Feature extractor of Bailando, Bailando++ and FACT.

    Args:
        column: the features that the model reads, named like the column of a dataset: ``music_features_7p5fps`` (438 at
            7.5 FPS, one row for each code), ``music_features`` (438 at 60 FPS) or ``music_features_fact`` (35 at 60 FPS); a
            column of the beat; or several joined by ``+``, see :mod:`opendance_hf.music.inputs`.
        feature_size: number of features, the first ones of the column; all by default.
        engine: see :mod:`opendance_hf.music.features`. Official weights of Bailando need ``"librosa-0.8.1"``.
        music: former name of the input, in folders saved by earlier versions: ``bailando`` or ``tpami``.

    Raises:
        ValueError: for an unknown column, or one with fewer features.

    >>> extractor = DanceFeatureExtractor()
    >>> time = np.arange(2 * 30_720) / 30_720
    >>> batch = extractor(np.sin(880 * np.pi * time), sampling_rate=30_720)
    >>> batch["music_features"].shape, batch["num_frames"].tolist()
    (torch.Size([1, 15, 438]), [120])
    """

    model_input_names = ["music_features"]  # noqa: RUF012  transformers' own declaration
    auto_classes = ("AutoFeatureExtractor",)

    def __init__(
        self,
        column: str = "music_features_7p5fps",
        feature_size: int | None = None,
        engine: Engine = "fast",
        music: str | None = None,
        **kwargs: Any,
    ) -> None:
        if music is not None:
            if music not in _FORMER:
                raise ValueError(f"unknown music {music!r}: expected one of {', '.join(_FORMER)}")
            column, feature_size = _FORMER[music]
        widest = full_width(column)
        if not 0 < (feature_size or widest) <= widest:
            raise ValueError(f"feature_size must be 1 to {widest} for {column}, got {feature_size}")
        super().__init__(**kwargs)
        self.column = column
        self.feature_size = feature_size or widest
        self.engine = engine

    @classmethod
    def for_model(cls, config: PretrainedConfig, engine: Engine = "fast") -> DanceFeatureExtractor:
        """Return the extractor of a model that dances, from the ``music_input`` of its configuration."""
        column, size = config.music_input
        return cls(column, size, engine)

    def __call__(
        self,
        audio: Audio | list[Audio],
        sampling_rate: int | None = None,
        *,
        music_beats: list[npt.ArrayLike | None] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Extract the music features of one or several songs.

        Args:
            audio: audio or video files, or (samples,) mono at ``sampling_rate``.
            sampling_rate: of samples, Hz.
            music_beats: for each song frames (beats,) at 60 FPS, which may be fractions, where they are known better than
                the tracker's; None for the tracker's.
            return_tensors: ``"pt"`` or ``"np"``.

        Returns:
            ``music_features`` (B, rows, feature_size), shorter songs continued with zeros; ``num_frames`` (B,), the length of
            each song at 60 FPS; ``bpm`` (B,); and ``music_beats``, a list with the frames (beats,) of each song's beats.

        Raises:
            FileNotFoundError, AudioError: see :func:`opendance_hf.music.annotate_music`.
            ValueError: if samples come without a rate, or are not mono or not finite, or beats are not two or more
                increasing times.
        """
        songs = audio if isinstance(audio, list) else [audio]
        if not songs:
            raise ValueError("no song given")
        given = music_beats or [None] * len(songs)
        found = [self._read(song, sampling_rate, beats) for song, beats in zip(songs, given, strict=True)]
        batch = BatchFeature(
            {
                "music_features": _stacked([rows for rows, _, _, _ in found]),
                "num_frames": np.array([num_frames for _, num_frames, _, _ in found]),
                "bpm": np.array([bpm for _, _, bpm, _ in found], dtype=np.float32),
            },
            tensor_type=return_tensors,
        )
        # Lists of different lengths, which do not become one tensor.
        batch["music_beats"] = [beats for _, _, _, beats in found]
        return batch

    def select(self, columns: Mapping[str, Any]) -> Floats:
        """Return what the model hears, (rows, feature_size), of the columns of a song or a dataset row.

        Args:
            columns: features by name; ``music_beats`` and ``num_frames`` for a model that hears the beat.
        """
        return read_input(
            self.column,
            self.feature_size,
            lambda name, width: columns[name][:, :width],
            columns.get("music_beats", ()),
            columns.get("num_frames", 0),
        )

    def post_process_dance(
        self,
        output: ModelOutput,
        num_frames: npt.ArrayLike | None = None,
        *,
        on_ground: bool = True,
        overwrite: bool = False,
    ) -> list[dict[str, Any]]:
        """Turn a model's output into dances that stand on the ground and have poses.

        Args:
            output: of ``generate_dance``; its joints are (B, T, 24, 3), or (B, N, T, 24, 3) of several dancers.
            num_frames: (B,) lengths to cut to, as :meth:`__call__` returned them; None for all frames.
            on_ground: move each dancer up or down so that the lower foot finds the ground y = 0.
            overwrite: move the joints of the output themselves, which saves memory.

        Returns:
            A dictionary for each dance: ``joints`` (T, 24, 3) metres, ``smpl_pose`` (T, 24, 3) axis-angle,
            ``smpl_transl`` (T, 3), ``rest_offsets`` (24, 3), all float32, and ``fps``. Arrays of several dancers have the
            dancers as their first dimension.
        """
        joints = output["joints"].detach().cpu()
        joints = (joints if joints.dtype == torch.float64 else joints.float()).numpy()
        lengths = [joints.shape[-3]] * len(joints) if num_frames is None else np.asarray(num_frames).tolist()
        dances = []
        for dance, length in zip(joints, lengths, strict=True):
            dancers = dance[..., :length, :, :].reshape(-1, length, *dance.shape[-2:])
            arrays = [_posed(dancer, on_ground, overwrite) for dancer in dancers]
            named = {name: _joined([one[name] for one in arrays], dance.ndim > 3) for name in arrays[0]}
            dances.append({**named, "fps": _FPS})
        return dances

    def _read(
        self, song: Audio, sampling_rate: int | None, beats: npt.ArrayLike | None
    ) -> tuple[Floats, int, float, Ints]:
        """Return what the model hears, the number of frames, the tempo and the beats of a song."""
        if not isinstance(song, np.ndarray):
            with open_song(song, engine=self.engine) as opened:
                times, bpm = self._chosen_beats(beats, opened, opened.column)
                num_frames = opened.num_frames
                rows = read_input(self.column, self.feature_size, opened.column, times, num_frames)
                return rows, num_frames, bpm, _within(times, num_frames)
        if sampling_rate is None:
            raise ValueError("samples need their sampling_rate, in Hz")
        if song.ndim != 1:
            raise ValueError(f"audio must be mono (samples,), got shape {song.shape}; mix the channels first")
        num_frames = max(1, round(_FPS * len(song) / sampling_rate))
        fast, slow = (
            _resampled(song, sampling_rate, rate) for rate in (SAMPLE_RATE_60FPS, SAMPLE_RATE_7P5FPS)
        )
        found = extract_audio(fast, slow, num_frames, engine=self.engine)
        times, bpm = self._chosen_beats(beats, found, lambda name: vars(found)[name])
        rows = self.select({**vars(found), "music_beats": times, "num_frames": num_frames})
        return rows, num_frames, bpm, _within(times, num_frames)

    def _chosen_beats(
        self,
        beats: npt.ArrayLike | None,
        found: MusicAnnotation | SongFeatures,
        column: Callable[[str], Floats],
    ) -> tuple[Floats, float]:
        """Return the frames of the beats that are given, or found, with their tempo.

        A model that hears the beat hears the better beats of :func:`~opendance_hf.music.beats.find_beats` from the first
        downbeat on, where these are sure enough; all others are told those that the features were computed with.
        """
        if beats is None:
            if hears_beats(self.column):
                grid = find_beats(column("music_features_fact"))
                if grid.confidence >= _SURE and len(grid.beats) - grid.downbeat >= 2:
                    return grid.beats[grid.downbeat :], grid.bpm
            return found.music_beats.astype(np.float64), found.bpm
        times = np.asarray(beats, dtype=np.float64)
        if times.ndim != 1 or len(times) < 2 or not (np.diff(times) > 0).all():
            raise ValueError(f"beats must be two or more increasing times, got {times.shape}")
        return times, float(60 * _FPS / np.median(np.diff(times)))


def _within(beats: Floats, num_frames: int) -> Ints:
    """Return the frames of beats that a dance has."""
    frames = np.rint(beats).astype(np.int32)
    return frames[(frames >= 0) & (frames < num_frames)]


def _posed(joints: Floats, on_ground: bool, overwrite: bool) -> dict[str, Floats]:
    """Return the arrays of one dancer, float32, of joints (T, 24, 3)."""
    ground = height_of_ground(joints) if on_ground else np.zeros((len(joints), 3))
    poses, transl, offsets = joints_to_poses(joints, lower_by=ground, dtype=np.float32)
    moved = joints if overwrite and joints.dtype == np.float32 else joints.astype(np.float32)
    for first in range(0, len(joints), _FRAMES_AT_A_TIME):
        some = slice(first, first + _FRAMES_AT_A_TIME)
        moved[some] = joints[some].astype(np.float64) - ground[some, None]
    transl, offsets = transl.astype(np.float32), offsets.astype(np.float32)
    return {"joints": moved, "smpl_pose": poses, "smpl_transl": transl, "rest_offsets": offsets}


def _joined(arrays: list[Floats], several: bool) -> Floats:
    return np.stack(arrays) if several else arrays[0]


def _stacked(rows: list[Floats]) -> Floats:
    """Return (B, rows, features), shorter ones continued with zeros; one array is not copied."""
    if len(rows) == 1:
        return rows[0][None]
    longest = max(len(one) for one in rows)
    return np.stack([np.pad(one, ((0, longest - len(one)), (0, 0))) for one in rows])


def _resampled(samples: Floats, rate: int, to: int) -> npt.NDArray[np.float32]:
    import soxr

    return soxr.resample(np.asarray(samples, dtype=np.float32), rate, to)
