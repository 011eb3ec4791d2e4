"""Windows of codes and music: dances of a dataset, encoded once by a trained VQ-VAE."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from opendance_hf.data import NoWindowsError, NpzMotions, Reader, Windows, is_npz_folder, open_reader
from opendance_hf.data.windows import mirrored_joints
from opendance_hf.modeling.bailando import BailandoGPTConfig, BailandoVQVAE, split_root
from opendance_hf.modeling.bailando_pp import turn
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.music.inputs import read_input
from opendance_hf.schema import per_dancer
from opendance_hf.training.loop import move

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]

#: Kinds of models that have a VQ-VAE.
WITH_VQVAE = ("bailando_vqvae", "bailando", "bailando_pp")


class Piece(NamedTuple):
    """A dance of n codes to music.

    Attributes:
        id: of the sequence.
        upper: (D, n) codes of each dancer.
        lower: (D, n) likewise.
        joints: (D, 8 n, 24, 3) metres.
        music: the features of the whole sequence that the GPT reads, see ``BailandoGPTConfig.music_input``.
        music_beats: frames of the music's beats.
    """

    id: str
    upper: Tensor
    lower: Tensor
    joints: Tensor
    music: Tensor
    music_beats: Tensor


class Dances:
    """Joints and music of the sequences of a dataset, or of a folder of ``.npz`` motions.

    The music of such motions is silent, apart from the beats that a file may have.

    Args:
        dataset: see :func:`~opendance_hf.data.open_reader`, or the folder of motions.
        selection: see :class:`~opendance_hf.data.MotionWindows`.

    Raises:
        ValueError: if a sequence that is named does not exist.
    """

    def __init__(self, dataset: str | os.PathLike[str], **selection: Any) -> None:
        self.name = os.fspath(dataset)
        self._source: NpzMotions | Reader = (
            NpzMotions(dataset, selection.get("only"), selection.get("leave_out"))
            if is_npz_folder(dataset)
            else open_reader(dataset, **selection)
        )

    def fingerprint(self, *, music: bool = True) -> str:
        """Return the SHA-256 of motion and, if wanted, of music, as hex digits."""
        if isinstance(self._source, NpzMotions):
            return self._source.fingerprint(music=music)
        columns = ("music_features", "music_features_7p5fps", "music_beats") if music else ()
        return self._source.fingerprint(("joints", *columns))

    def joints(self) -> Iterator[tuple[str, Floats]]:
        """Yield id and joints (D, T, 24, 3) of every sequence."""
        if isinstance(self._source, NpzMotions):
            yield from zip(self._source.ids, self._source.joints, strict=True)
            return
        for index in range(len(self._source)):
            row = self._source.row(index)
            yield self._source.scalar(row, "id"), self._joints(self._source, row)

    def read(
        self, config: BailandoGPTConfig, frames_per_code: int
    ) -> Iterator[tuple[str, Floats, Floats, npt.ArrayLike]]:
        """Yield id, joints (D, T, 24, 3), the features that the GPT reads, and the music's beats of every sequence."""
        column, size = config.music_input
        if isinstance(self._source, NpzMotions):
            frames_per_row = frames_per_code if config.music_window is None else 1
            source = self._source
            for name, joints, beats in zip(source.ids, source.joints, source.beats, strict=True):
                frames = joints.shape[1]
                silence = np.zeros((frames, size), np.float32)[::frames_per_row]

                def stored(_: str, width: int, rows: Floats = silence) -> Floats:
                    return rows[:, :width]

                heard = read_input(column, size, stored, beats, frames)
                yield name, joints, heard, np.rint(beats)
            return
        reader = self._source
        for index in range(len(reader)):
            row = reader.row(index)
            joints = self._joints(reader, row)
            yield reader.scalar(row, "id"), joints, reader.heard(row, column, size), reader.beats(row)

    @staticmethod
    def _joints(reader: Reader, row: Any) -> Floats:
        return per_dancer(reader.matrix(row, "joints"), reader.scalar(row, "num_dancers"), NUM_JOINTS, 3)


def coded(
    dances: Dances, vqvae: BailandoVQVAE, config: BailandoGPTConfig, *, mirror: bool = False, turns: int = 1
) -> Iterator[Piece]:
    """Encode all dancers of all sequences, one sequence at a time.

    Args:
        dances: the sequences.
        vqvae: encodes the dances.
        config: of the GPT; says which features of the music it reads.
        mirror: every sequence also with left and right exchanged.
        turns: every sequence so many times, turned about the vertical by equal parts of a circle.
    """
    place, per_code = move(vqvae), vqvae.config.frames_per_code
    for name, dancers, features, beats in dances.read(config, per_code):
        whole = dancers[:, : dancers.shape[1] // per_code * per_code]
        if whole.shape[1] == 0:
            continue
        # Copies: rows of a dataset are views of its files, which must not be written to.
        music, music_beats = torch.from_numpy(features.copy()), torch.as_tensor(beats, dtype=torch.long)
        for seen in (whole.copy(), mirrored_joints(whole)) if mirror else (whole.copy(),):
            for number in range(turns):
                joints = torch.from_numpy(seen)
                if number:
                    joints = turn(joints, torch.tensor(2 * np.pi * number / turns, dtype=torch.float32))
                relative, _ = split_root(joints)
                upper, lower = (codes.cpu() for codes in vqvae.encode(relative.to(place)))
                yield Piece(name, upper, lower, joints, music, music_beats)


class CodeWindows(Dataset[dict[str, Tensor]]):
    """Windows of single dancers with their music, one per ``stride`` codes: the items that the motion GPT learns from.

    Args:
        dataset: see :class:`Dances`.
        vqvae: encodes the dances.
        config: of the GPT; says which features of the music it reads.
        num_codes: of a window, one more than the model reads; by default as many as the model can use.
        stride: codes between the starts of neighbouring windows.
        mirror: see :func:`coded`.
        selection: see :class:`Dances`.

    Raises:
        ValueError: if no sequence is long enough, or one that is named does not exist.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        vqvae: BailandoVQVAE,
        config: BailandoGPTConfig,
        *,
        num_codes: int | None = None,
        stride: int = 1,
        mirror: bool = False,
        **selection: Any,
    ) -> None:
        self.config = config
        # One code more than the model reads: the last is only a target.
        self.num_codes = num_codes or config.max_codes + 1
        self.dances = Dances(dataset, **selection)
        self.pieces: list[tuple[Tensor, Tensor, Tensor]] = []
        for piece in coded(self.dances, vqvae, config, mirror=mirror):
            features = followed_music(piece.music, piece.upper.shape[1], config)
            for upper, lower in zip(piece.upper, piece.lower, strict=True):
                self.pieces.append((upper, lower, features))
        self.windows = Windows([len(upper) for upper, _, _ in self.pieces], self.num_codes, stride)
        if not len(self.windows):
            frames = self.num_codes * vqvae.config.frames_per_code
            raise NoWindowsError(f"{dataset}: no sequence has {frames} frames")

    def __len__(self) -> int:
        return len(self.windows)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the motion and the music that the windows are made of, as hex digits."""
        return self.dances.fingerprint()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, start = self.windows[index]
        upper, lower, music = self.pieces[number]
        codes = slice(start, start + self.num_codes)
        return {
            "upper_codes": upper[codes][:-1],
            "lower_codes": lower[codes][:-1],
            "music": music_window(music, start, self.num_codes - 1, self.config),
            "upper_targets": upper[codes][1:],
            "lower_targets": lower[codes][1:],
        }


def followed_music(music: Tensor, num_codes: int, config: BailandoGPTConfig) -> Tensor:
    """Align the music of a piece with its codes: entry i is the music at the time when code i + 1 is to be chosen.

    Does the same as :meth:`~opendance_hf.modeling.bailando.BailandoGPT.pad_music`, for one piece and without a model.
    """
    if config.music_window is None:
        return music[1:num_codes]
    per_code, window = config.frames_per_code, config.music_window
    frames = per_code * num_codes + window
    padded = torch.nn.functional.pad(music[:frames], (0, 0, window, max(0, frames - len(music))))
    return padded[per_code:]


def music_window(music: Tensor, start: int, steps: int, config: BailandoGPTConfig) -> Tensor:
    """Cut ``steps`` entries from the result of :func:`followed_music`, with their margins if they have any."""
    if config.music_window is None:
        return music[start : start + steps]
    per_code = config.frames_per_code
    return music[per_code * start : per_code * (start + steps) + 2 * config.music_window]


def vqvae_of(model: PreTrainedModel, name: str) -> BailandoVQVAE:
    """Return a VQ-VAE, or the VQ-VAE that is part of a model, and log which is used.

    Args:
        model: of a kind in :data:`WITH_VQVAE`.
        name: folder or Hub id that it was loaded from.
    """
    if isinstance(model, BailandoVQVAE):
        return model
    logger.info("using the trained VQ-VAE in %s; its GPT is not used", name)
    vqvae: Any = model.vqvae
    return vqvae.eval()
