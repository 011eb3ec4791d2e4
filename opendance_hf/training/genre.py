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
from transformers import Wav2Vec2FeatureExtractor

from opendance_hf.modeling.music_genre import MusicGenreConfig, MusicGenreForAudioClassification
from opendance_hf.music import AudioError, decode_audio
from opendance_hf.schema import GENRES
from opendance_hf.training.finish import finish
from opendance_hf.training.loop import train
from opendance_hf.training.recipe import RunArguments, checked, load_recipe, parse, told
from opendance_hf.training.validation import Validation, mean_loss


class GenreClips(Dataset[dict[str, Tensor]]):
    """Clips of one length, one after another, of every song in a folder with a subfolder for each genre.

    A tenth of the songs, chosen by a hash of their names, is held out.

    Args:
        dataset: the folder; its subfolders are named as the genres, in any spelling (``hip-hop``).
        sampling_rate: of the clips, in Hz.
        seconds: length of a clip; what is left at the end of a song is not used.
        held_out: the songs that are held out instead of the others.

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

    @property
    def songs_sha256(self) -> str:
        """Of the clips' songs by genre and name, with their sizes: whether a run goes on with the songs it began with."""
        songs = [(GENRES[label], file.name, file.stat().st_size, i) for file, label, i in self.clips]
        return hashlib.sha256(repr(songs).encode()).hexdigest()

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


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A batch of clips."""
    return {name: torch.stack([item[name] for item in items]) for name in items[0]}


@torch.no_grad()
def accuracy(model: MusicGenreForAudioClassification, clips: GenreClips) -> float:
    """The share of clips whose genre a model gets right."""
    place = next(model.parameters()).device
    right = 0
    for i in range(len(clips)):
        item = clips[i]
        logits = model(item["input_values"][None].to(place)).logits
        right += int(logits.argmax() == item["labels"])
    return right / len(clips)


def run(arguments: RunArguments) -> MusicGenreForAudioClassification:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    recipe = load_recipe("genre", arguments.config, arguments.overrides)
    options = Validation(**checked(Validation, recipe["validation"], "validation"))
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    config = MusicGenreConfig(**checked(MusicGenreConfig, recipe["model"]))
    model = MusicGenreForAudioClassification(config)
    options_of_data = checked(GenreClips, recipe["data"], "data", ours=("sampling_rate", "held_out"))
    clips = {**options_of_data, "sampling_rate": config.sampling_rate}
    with told():
        data = GenreClips(arguments.dataset, **clips)
        others = GenreClips(arguments.dataset, **{**clips, "held_out": True})
    validate = None if not len(others) else lambda: mean_loss(model, others, collate, windows=options.windows)
    identity = {
        "stage": "genre",
        "clips": len(data),
        "songs_sha256": data.songs_sha256,
        "model": recipe["model"],
        "data": recipe["data"],
    }
    trainer = train(
        model,
        data,
        collate,
        recipe["trainer"],
        arguments,
        identity,
        validate=validate,
        eval_steps=options.eval_steps,
    )
    model.eval()
    if trainer.is_world_process_zero():
        metrics = trainer.held_out
        if len(others):
            metrics = {**metrics, "accuracy": accuracy(model, others)}
        extractor = Wav2Vec2FeatureExtractor(sampling_rate=config.sampling_rate, do_normalize=True)
        extractor.save_pretrained(arguments.output_dir)
        finish(
            model.cpu(),
            "genre",
            recipe,
            arguments,
            trained_on=f"{len(data):,} clips of {data.samples / data.sampling_rate:g} s.",
            steps=trainer.state.global_step,
            metrics=metrics,
            split="held out" if len(others) else None,
        )
    return model


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(RunArguments, argv))


if __name__ == "__main__":
    main()
