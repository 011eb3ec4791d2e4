"""Train a classifier of music genres on a folder of songs: a subfolder for each of the ten GTZAN classes.

opendance train genre --dataset gtzan --output-dir runs/genre --config paper
torchrun --nproc_per_node 2 -m opendance_hf.training.genre --dataset gtzan --output_dir runs/genre
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opendance_hf.modeling.music_genre import MusicGenreConfig, MusicGenreForAudioClassification
from opendance_hf.music import AudioError, decode_audio
from opendance_hf.schema import GENRES
from opendance_hf.training.recipe import RunArguments
from opendance_hf.training.stage import Stage


class GenreClips(Dataset[dict[str, Tensor]]):
    """Clips of one length, one after another, of every song in a folder with a subfolder for each genre.

    A tenth of the songs, chosen by a hash of their names, is held out.

    Args:
        dataset: the folder; its subfolders are named as the genres, in any spelling (``hip-hop``).
        sampling_rate: of the clips, in Hz.
        seconds: length of a clip; the rest at the end of a song is not used.
        held_out: True for the songs that are held out, False for the others.

    Raises:
        ValueError: if a genre has no songs, or a song cannot be decoded.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        sampling_rate: int = 22_050,
        seconds: float = 10.0,
        held_out: bool = False,
    ) -> None:
        self.sampling_rate, self.samples = sampling_rate, round(seconds * sampling_rate)
        folders = {
            re.sub(r"[^a-z0-9]", "", f.name.lower()): f for f in Path(dataset).glob("[!.]*") if f.is_dir()
        }
        if missing := [genre for genre in GENRES if genre not in folders]:
            raise ValueError(
                f"{dataset}: no folder of {', '.join(missing)}; make one for each of {', '.join(GENRES)}"
            )
        self.clips: list[tuple[Path, int, int]] = []
        for label, genre in enumerate(GENRES):
            before = len(self.clips)
            for file in sorted(folders[genre].glob("[!.]*")):
                if file.is_file() and _held_out(f"{genre}/{file.name}") == held_out:
                    try:
                        length = len(decode_audio(file, sampling_rate))
                    except AudioError as error:
                        raise ValueError(f"{error}; or take it out of the folder") from error
                    self.clips += [(file, label, i) for i in range(length // self.samples)]
            if len(self.clips) == before and not held_out:
                raise ValueError(f"{folders[genre]}: no song of at least {seconds:g} s")

    def fingerprint(self) -> str:
        """Return the SHA-256 of the songs' genres, names and content, as hex digits."""
        total = hashlib.sha256()
        for label, file in dict.fromkeys((label, file) for file, label, _ in self.clips):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            total.update(f"{GENRES[label]}/{file.name} {digest}".encode())
        return total.hexdigest()

    def __len__(self) -> int:
        return len(self.clips)

    # Every clip decodes its song from the start, since seeking is inexact in some formats (see decode_audio).
    def __getitem__(self, index: int) -> dict[str, Tensor]:
        file, label, number = self.clips[index]
        seconds = self.samples / self.sampling_rate
        sound = decode_audio(file, self.sampling_rate, number * seconds, (number + 1) * seconds)
        return {"input_values": torch.from_numpy(sound[: self.samples].copy()), "labels": torch.tensor(label)}


def _held_out(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] % 10 == 0


@torch.no_grad()
def accuracy(model: MusicGenreForAudioClassification, clips: GenreClips) -> float:
    """Return the share of clips whose genre a model predicts correctly."""
    place = next(model.parameters()).device
    right = 0
    for i in range(len(clips)):
        item = clips[i]
        logits = model(item["input_values"][None].to(place)).logits
        right += int(logits.argmax() == item["labels"])
    return right / len(clips)


class GenreStage(Stage):
    """Learn the genre of the music from its sound."""

    name = "genre"
    takes_tars = False
    model_section = MusicGenreConfig
    data_section = GenreClips
    given = ("sampling_rate", "held_out")
    dancers = 0

    def build_model(self) -> MusicGenreForAudioClassification:
        """Make a classifier with random weights."""
        return MusicGenreForAudioClassification(MusicGenreConfig(**self.recipe["model"]))

    def build_data(self, options: dict[str, Any]) -> GenreClips:
        """Cut clips of the songs."""
        rate = self.model.config.sampling_rate
        return GenreClips(self.arguments.dataset, **{**options, "sampling_rate": rate})

    def build_held_out(self) -> tuple[GenreClips | None, str | None]:
        """Cut clips of the songs that are held out."""
        others = self.build_data({**self.recipe["data"], "held_out": True})
        return (others, "held out") if len(others) else (None, None)

    def trained_on(self) -> str:
        """Describe the clips."""
        return f"{len(self.data):,} clips of {self.data.samples / self.data.sampling_rate:g} s."

    def evaluate(self, whole: MusicGenreForAudioClassification) -> dict[str, float]:
        """Measure the accuracy on the songs that are held out."""
        return {} if self.others is None else {"accuracy": accuracy(whole, self.others)}


def run(arguments: RunArguments) -> MusicGenreForAudioClassification:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    return GenreStage(arguments).run()


if __name__ == "__main__":
    GenreStage.main()
