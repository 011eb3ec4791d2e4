"""Measure models on held-out songs: losses, dances, their scores, and films of a few."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from opendance_hf.dance import Dancer
from opendance_hf.data import is_npz_folder, open_reader
from opendance_hf.formats import opendance
from opendance_hf.formats.motion import Motion
from opendance_hf.metrics import EvaluationResult, evaluate
from opendance_hf.metrics.protocol import Clip
from opendance_hf.motion.generated import posed
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.render.film import film
from opendance_hf.schema import FPS, per_dancer

Joints = npt.NDArray[np.floating]

_CLICK_RATE = 22_050


@dataclass
class Validation:
    """The ``validation`` section of a recipe.

    Attributes:
        split: held-out split; by default ``validation``, or ``test`` where the dataset has no validation split.
        eval_steps: interval of validation in steps; 0 to validate at the end only.
        windows: maximum number of windows for losses.
        songs: number of held-out songs to dance to at the end; 0 for none.
        samples: number of these dances to film and to save, into ``samples/`` of the output folder.
        seconds: maximum length of a dance.
        keep: FACT only: frames kept of each forward pass; 1 is as published, more is faster.
    """

    split: str | None = None
    eval_steps: int = 0
    windows: int = 512
    songs: int = 8
    samples: int = 1
    seconds: float = 20.0
    keep: int = 1


@dataclass(frozen=True, eq=False)
class Song:
    """A held-out sequence, cut to the length of a dance.

    Attributes:
        id: of the sequence.
        group: of the sequence.
        joints: (D, T, 24, 3) of the real dance, metres.
        smpl_pose: (D, T, 24, 3).
        smpl_transl: (D, T, 3).
        rest_offsets: (D, 24, 3).
        music_beats: frames.
        music: feature columns by name, and ``music_beats``, of the whole song.
    """

    id: str
    group: str
    joints: Tensor
    smpl_pose: Tensor
    smpl_transl: Tensor
    rest_offsets: Tensor
    music_beats: npt.NDArray[np.int64]
    music: dict[str, Tensor]

    @property
    def num_frames(self) -> int:
        """Return T, the number of frames."""
        return self.joints.shape[1]


def held_out(
    dataset: str | os.PathLike[str], data: dict[str, Any], wanted: str | None
) -> tuple[dict[str, Any] | None, str | None]:
    """Change the ``data`` section of a recipe so that it reads held-out data, and return it with the name of their split.

    For a dataset that is another split; for a folder of ``.npz`` files, which has no splits, the files that the section
    leaves out. The result is (None, None) where there is neither.

    Raises:
        ValueError: if the wanted split does not exist.
    """
    if is_npz_folder(dataset):
        if wanted is not None:
            raise ValueError(f"{dataset}: a folder of motions has no split {wanted!r}: use data.leave_out")
        names = data.get("leave_out")
        return ({**data, "only": names, "leave_out": None}, "left out") if names else (None, None)
    configs, trained = data.get("configs"), data.get("split", "train")
    # Ids that are chosen or left out belong to the split of training.
    data = {name: value for name, value in data.items() if name not in ("only", "leave_out")}
    if wanted is not None:
        open_reader(dataset, configs=configs, split=wanted)
        return {**data, "split": wanted}, wanted
    for split in ("validation", "test"):
        try:
            open_reader(dataset, configs=configs, split=split)
        except ValueError:
            continue
        if split != trained:
            return {**data, "split": split}, split
    return None, None


@torch.no_grad()
def mean_loss(
    model: nn.Module, data: Dataset, collate: Any, *, windows: int, batch_size: int = 16
) -> dict[str, float]:
    """Compute the means of a model's loss and of the scalars beside it over evenly spaced windows."""
    count = len(data)  # type: ignore[arg-type]
    picked = sorted({i * count // min(windows, count) for i in range(min(windows, count))})
    loader = DataLoader(torch.utils.data.Subset(data, picked), batch_size, collate_fn=collate)
    place = next(model.parameters()).device
    totals: dict[str, float] = {}
    for batch in loader:
        output = model(**{name: value.to(place) for name, value in batch.items()})
        size = len(next(iter(batch.values())))
        for name, value in {"loss": output.loss, **(output.get("metrics") or {})}.items():
            totals[name] = totals.get(name, 0.0) + float(value) * size
    return {name: value / len(picked) for name, value in totals.items()}


def songs_of(
    dataset: str | os.PathLike[str],
    configs: list[str] | None,
    split: str,
    options: Validation,
    *,
    dancers: int | None = None,
) -> list[Song]:
    """Read the first sequences of a split; with ``dancers``, that many dancers of sequences that have as many.

    Sequences without a song are left out.
    """
    reader, found = open_reader(dataset, configs=configs, split=split), []
    for index in range(len(reader)):
        row = reader.row(index)
        count = reader.scalar(row, "num_dancers")
        length = min(reader.scalar(row, "num_frames"), round(options.seconds * FPS))
        wanted = count if dancers is None else dancers
        if count < wanted or length < FPS or reader.scalar(row, "bpm") is None:
            continue
        columns = {
            name: torch.from_numpy(
                per_dancer(reader.matrix(row, name, 0, length), count, *shape)[:wanted].copy()
            )
            for name, shape in (
                ("joints", (NUM_JOINTS, 3)),
                ("smpl_pose", (NUM_JOINTS, 3)),
                ("smpl_transl", (3,)),
            )
        }
        beats = np.asarray(reader.scalar(row, "music_beats"), dtype=np.int64)
        names = ("music_features", "music_features_7p5fps", "music_features_fact")
        found.append(
            Song(
                reader.scalar(row, "id"),
                reader.scalar(row, "group"),
                rest_offsets=torch.tensor(reader.scalar(row, "rest_offsets")).view(count, NUM_JOINTS, 3)[
                    :wanted
                ],
                music_beats=beats[beats < length],
                music={
                    **{name: torch.from_numpy(reader.matrix(row, name).copy()) for name in names},
                    "music_beats": torch.from_numpy(beats),
                },
                **columns,
            )
        )
        if len(found) == options.songs:
            break
    return found


def dance_to(dancer: Dancer, song: Song, options: Validation) -> Joints:
    """Dance to a held-out song, beginning like the real dance; the joints (D, T, 24, 3), metres.

    The dance is that of :class:`~opendance_hf.dance.Dancer` for the same song, seed 0 and seed motion.
    """
    start = Motion(
        song.joints.numpy(),
        float(FPS),
        poses=song.smpl_pose.numpy(),
        transl=song.smpl_transl.numpy(),
        rest_offsets=song.rest_offsets.numpy(),
    )
    model: Any = dancer.model
    changes = {"keep": options.keep} if "keep" in model.generation_names else {}
    music = {name: one.numpy() for name, one in song.music.items()}
    features = dancer.feature_extractor.select({**music, "num_frames": len(music["music_features"])})
    (dance,) = dancer.dance([features], [song.num_frames], seed_motions=[start], **changes)
    joints: Joints = dance["joints"]
    return joints if joints.ndim == 4 else joints[None]


def score_dances(
    songs: list[Song], dance: Callable[[Song], Joints], folder: Path, options: Validation
) -> dict[str, float]:
    """Dance to songs and compare with the real dances, by the protocol of the paper.

    Args:
        songs: of the held-out split.
        dance: from a song to (D, T, 24, 3) joints that stand on the ground, see :func:`dance_to`.
        folder: films, and the dances with the real ones, are written to its ``samples/``.
        options: number of films.

    Returns:
        Scores that are defined for so few dances by name; scores of the real dances as ``real_NAME``.
    """
    predicted, real = [], []
    for number, song in enumerate(songs):
        joints = dance(song)
        predicted.append(Clip(song.id, joints, song.music_beats, group=song.group, ground=0.0))
        real.append(Clip(song.id, song.joints.numpy(), song.music_beats, group=song.group, ground=0.0))
        if number < options.samples:
            film_clicks(folder / "samples" / f"{song.id}.mp4", joints, song.music_beats)
            for name, motion in ((song.id, joints), (f"{song.id}.real", song.joints.numpy())):
                save_sample(folder / "samples" / f"{name}.npz", motion, song)
    return _scalars(evaluate(predicted, real, draws=10)) if songs else {}


def _scalars(result: EvaluationResult) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in ("fid_k", "fid_g"):
        score = getattr(result, name)
        if score.value is not None and not score.rank_deficient:
            found[name] = score.value
    for prefix, row in (("", result.predictions), ("real_", result.reference)):
        for name in ("div_k", "div_g"):
            if (value := getattr(row, name).value) is not None:
                found[prefix + name] = value
        found |= {prefix + k: v.mean for k, v in row.means.items() if v.mean is not None}
    return found


def save_sample(path: Path, joints: Joints, song: Song) -> None:
    """Write a (D, T, 24, 3) dance to a song as ``.npz``, which ``opendance view`` and ``opendance export`` read."""
    meta = {"id": song.id, "group": song.group, "ground": 0.0, "music_beats": song.music_beats}
    opendance.write(Motion(joints, float(FPS), *posed(joints), meta=meta), path)


def film_clicks(path: Path, joints: Joints, music_beats: npt.NDArray[np.int64]) -> None:
    """Film (D, T, 24, 3) joints with a click at every beat of the music: datasets have no sound."""
    sound = np.zeros(round(joints.shape[1] / FPS * _CLICK_RATE), dtype=np.float32)
    time_s = np.arange(_CLICK_RATE // 20) / _CLICK_RATE
    click = (0.5 * np.exp(-80 * time_s) * np.sin(2 * np.pi * 1_000 * time_s)).astype(np.float32)
    for beat in music_beats:
        room = sound[round(beat / FPS * _CLICK_RATE) :][: len(click)]
        room += click[: len(room)]
    film(path, *posed(joints), sound, _CLICK_RATE)
