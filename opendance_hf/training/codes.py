"""Windows of codes and music: dances of a dataset, coded once by a trained VQ-VAE."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PretrainedConfig

from opendance_hf.data import NoWindowsError, NpzMotions, SequenceReader, is_npz_folder
from opendance_hf.data.windows import chosen, mirrored_joints
from opendance_hf.modeling.bailando import (
    BailandoForDanceGeneration,
    BailandoGPTConfig,
    BailandoVQVAE,
    split_root,
)
from opendance_hf.modeling.bailando_pp import BailandoPPForDanceGeneration
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import per_dancer
from opendance_hf.training.loop import move

Floats = npt.NDArray[np.float32]


class Piece(NamedTuple):
    """A dance of n codes to music.

    Attributes:
        id: of the sequence.
        upper: (D, n) codes of each dancer.
        lower: (D, n) likewise.
        joints: (D, 8 n, 24, 3) metres.
        music: what the GPT hears of the whole sequence, see ``BailandoGPTConfig.heard``.
        music_beats: frames of the music's beats.
    """

    id: str
    upper: Tensor
    lower: Tensor
    joints: Tensor
    music: Tensor
    music_beats: Tensor


def coded(
    dataset: str | os.PathLike[str],
    vqvae: BailandoVQVAE,
    config: BailandoGPTConfig,
    configs: list[str] | None = None,
    split: str = "train",
    only: list[str] | None = None,
    leave_out: list[str] | None = None,
    mirror: bool = False,
    subset: int | None = None,
) -> Iterator[Piece]:
    """Code all dancers of all sequences, one sequence at a time.

    Args:
        dataset: see :class:`~opendance_hf.data.SequenceReader`; or a folder of ``.npz`` motions, which have no music:
            they are danced to silence, all its features zero.
        vqvae: codes the dances.
        config: of the GPT; says what music it hears.
        configs: see above.
        split: see above.
        only: ids to read; all if None.
        leave_out: ids not to read.
        mirror: every sequence also with left and right exchanged.
        subset: see :class:`~opendance_hf.data.SequenceReader`.

    Raises:
        ValueError: if there is no such sequence.
    """
    place, per_code = move(vqvae), vqvae.config.frames_per_code
    for name, dancers, heard, beats in _dances(
        dataset, config, per_code, configs, split, only, leave_out, subset
    ):
        whole = dancers[:, : dancers.shape[1] // per_code * per_code]
        if whole.shape[1] == 0:
            continue
        # Copies: rows of a dataset are views of its files, which nobody may write to.
        music, music_beats = torch.from_numpy(heard.copy()), torch.tensor(beats, dtype=torch.long)
        for seen in (whole.copy(), mirrored_joints(whole)) if mirror else (whole.copy(),):
            joints = torch.from_numpy(seen)
            relative, _ = split_root(joints)
            upper, lower = (codes.cpu() for codes in vqvae.encode(relative.to(place)))
            yield Piece(name, upper, lower, joints, music, music_beats)


def _dances(
    dataset: str | os.PathLike[str],
    config: BailandoGPTConfig,
    per_code: int,
    configs: list[str] | None,
    split: str,
    only: list[str] | None,
    leave_out: list[str] | None,
    subset: int | None,
) -> Iterator[tuple[str, Floats, Floats, list[int]]]:
    """Id, joints (D, T, 24, 3), what is heard and the music's beats of every sequence that is wanted."""
    if is_npz_folder(dataset):
        motions = NpzMotions(dataset)
        wanted = chosen(dataset, motions.ids, only, leave_out)
        for name, joints in zip(motions.ids, motions.joints, strict=True):
            if name in wanted:
                silence = np.zeros((joints.shape[1], config.music_dim), np.float32)
                yield name, joints, config.heard(silence, silence[::per_code]), []
        return
    reader = SequenceReader(dataset, configs, split, subset)
    ids = [reader.scalar(reader.row(index), "id") for index in range(len(reader))]
    wanted = chosen(dataset, ids, only, leave_out)
    for index, name in enumerate(ids):
        if name in wanted:
            row = reader.row(index)
            joints = per_dancer(
                reader.matrix(row, "joints"), reader.scalar(row, "num_dancers"), NUM_JOINTS, 3
            )
            music = (reader.matrix(row, column) for column in ("music_features", "music_features_7p5fps"))
            yield name, joints, config.heard(*music), reader.scalar(row, "music_beats")


class CodeWindows(Dataset[dict[str, Tensor]]):
    """Windows of single dancers with their music, one per ``stride`` codes; what the motion GPT learns from.

    Args:
        dataset: see :class:`~opendance_hf.data.SequenceReader`; likewise ``configs`` and ``split``.
        vqvae: codes the dances.
        num_codes: of a window, one more than the model reads.
        stride: codes between the starts of neighbouring windows.
        configs: see above.
        split: see above.
        config: of the GPT; says what music it hears. By default a row a code.
        only: see :func:`coded`.
        leave_out: see :func:`coded`.
        mirror: see :func:`coded`.
        subset: see :func:`coded`.

    Raises:
        ValueError: if no sequence is long enough, or one that is named does not exist.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        vqvae: BailandoVQVAE,
        num_codes: int,
        stride: int = 1,
        configs: list[str] | None = None,
        split: str = "train",
        config: BailandoGPTConfig | None = None,
        only: list[str] | None = None,
        leave_out: list[str] | None = None,
        mirror: bool = False,
        subset: int | None = None,
    ) -> None:
        self.config = config or BailandoGPTConfig()
        self.num_codes = num_codes
        self.pieces: list[tuple[Tensor, Tensor, Tensor]] = []
        self.windows: list[tuple[int, int]] = []
        for piece in coded(dataset, vqvae, self.config, configs, split, only, leave_out, mirror, subset):
            heard = followed_music(piece.music, piece.upper.shape[1], self.config)
            for upper, lower in zip(piece.upper, piece.lower, strict=True):
                starts = range(0, len(upper) - num_codes + 1, stride)
                self.windows += [(len(self.pieces), start) for start in starts]
                self.pieces.append((upper, lower, heard))
        if not self.windows:
            raise NoWindowsError(
                f"{dataset}: no sequence has {num_codes * vqvae.config.frames_per_code} frames"
            )

    def __len__(self) -> int:
        return len(self.windows)

    def fingerprint(self) -> str:
        """Changes with the VQ-VAE and with the dataset: a hash of all codes."""
        return hash_of([codes for upper, lower, _ in self.pieces for codes in (upper, lower)])

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
    """Music of a piece, made to follow its codes: entry i is what is heard when code i + 1 is to be chosen.

    The same as :meth:`~opendance_hf.modeling.bailando.BailandoGPT.pad_music`, of one piece, without a model.
    """
    if config.music_window is None:
        return music[1:num_codes]
    per_code, window = config.frames_per_code, config.music_window
    frames = per_code * num_codes + window
    padded = torch.nn.functional.pad(music[:frames], (0, 0, window, max(0, frames - len(music))))
    return padded[per_code:]


def music_window(music: Tensor, start: int, steps: int, config: BailandoGPTConfig) -> Tensor:
    """The entries from ``start`` on of what :func:`followed_music` returned, with their margins if they have any."""
    if config.music_window is None:
        return music[start : start + steps]
    per_code = config.frames_per_code
    return music[per_code * start : per_code * (start + steps) + 2 * config.music_window]


def hash_of(tensors: list[Tensor]) -> str:
    """Of all their bytes, in order."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack windows."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def load_vqvae(path: str) -> BailandoVQVAE:
    """The VQ-VAE of a folder or Hub id, be it alone or part of a whole model.

    Raises:
        ValueError: if there is none.
    """
    if not path:
        raise ValueError("--vqvae is needed: what `opendance train vqvae` wrote")
    kind = PretrainedConfig.get_config_dict(path)[0].get("model_type")
    if kind == "bailando":
        return BailandoForDanceGeneration.from_pretrained(path).vqvae.eval()
    if kind == "bailando_pp":
        return BailandoPPForDanceGeneration.from_pretrained(path).vqvae.eval()
    if kind != "bailando_vqvae":
        raise ValueError(f"{path}: no VQ-VAE; give what `opendance train vqvae` wrote")
    return BailandoVQVAE.from_pretrained(path).eval()
