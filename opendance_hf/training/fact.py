"""Train FACT, the baseline that continues two seconds of motion to music.

opendance train fact --dataset opendance-3d --output-dir runs/fact --config debug
torchrun --nproc_per_node 2 -m opendance_hf.training.fact --dataset opendance-3d --output_dir runs/fact
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opendance_hf.data import NoWindowsError, SequenceReader
from opendance_hf.modeling.fact import FACTConfig, FACTForDanceGeneration, poses_to_motion
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import per_dancer
from opendance_hf.training.codes import collate
from opendance_hf.training.finish import finish
from opendance_hf.training.loop import move, train, undisturbed
from opendance_hf.training.recipe import RunArguments, checked, load_recipe, parse, told
from opendance_hf.training.validation import Song, Validation, held_out, mean_loss, score_dances, songs_of


class FACTWindows(Dataset[dict[str, Tensor]]):
    """Windows of single dancers with music, every ``stride`` frames: the motion read, the music, the motion to foretell.

    Dancers start over the origin: where on the floor somebody dances says nothing of the dance.

    Raises:
        ValueError: if no sequence is long enough.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        config: FACTConfig,
        stride: int = 8,
        configs: list[str] | None = None,
        split: str = "train",
    ) -> None:
        self.config, self.reader = config, SequenceReader(dataset, configs, split)
        self.motion_frames = config.motion_frames + config.target_frames
        length = max(self.motion_frames, config.audio_frames)
        self.windows = self.reader.windows(length, stride)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, dancer, start = self.windows[index]
        row, frames = self.reader.row(number), self.motion_frames
        count = self.reader.scalar(row, "num_dancers")
        poses, transl = (
            torch.from_numpy(
                per_dancer(self.reader.matrix(row, name, start, frames), count, *shape)[dancer].copy()
            )
            for name, shape in (("smpl_pose", (NUM_JOINTS, 3)), ("smpl_transl", (3,)))
        )
        audio = self.reader.matrix(row, "music_features_fact", start, self.config.audio_frames)
        motion = poses_to_motion(poses, transl - floor_point(transl))
        read = self.config.motion_frames
        return {"motion": motion[:read], "audio": torch.from_numpy(audio.copy()), "targets": motion[read:]}


def floor_point(transl: Tensor) -> Tensor:
    """(..., T, 3) to (..., 1, 3): where on the floor the first frame is."""
    return transl[..., :1, :] * transl.new_tensor([1.0, 0.0, 1.0])


def dances(
    model: FACTForDanceGeneration,
    dataset: str,
    configs: list[str] | None,
    split: str,
    options: Validation,
    folder: str,
) -> dict[str, float]:
    """Continue the first two seconds of held-out dances and score what comes of it."""
    place, seed = move(model), model.config.motion_frames

    def dance(song: Song) -> Tensor:
        transl = song.smpl_transl[:1, :seed]
        return model.generate_dance(
            song.music["music_features_fact"][None].to(place),
            song.num_frames,
            seed_poses=song.smpl_pose[:1, :seed].to(place),
            seed_transl=(transl - floor_point(transl)).to(place),
            keep=options.keep,
            rest_offsets=song.rest_offsets[:1],
        ).joints  # type: ignore[return-value]

    with undisturbed(model):
        found = songs_of(dataset, configs, split, options, dancers=1)
        return score_dances([s for s in found if s.num_frames > seed], dance, Path(folder), options)


def run(arguments: RunArguments) -> FACTForDanceGeneration:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    recipe = load_recipe("fact", arguments.config, arguments.overrides)
    options = Validation(**checked(Validation, recipe["validation"], "validation"))
    torch.manual_seed(recipe["trainer"].get("seed", 42))
    config = FACTConfig(**checked(FACTConfig, recipe["model"]))
    model = FACTForDanceGeneration(config)
    windows = checked(FACTWindows, recipe["data"], "data")
    others = None
    with told():
        data = FACTWindows(arguments.dataset, config, **windows)
        other, split = held_out(arguments.dataset, windows, options.split)
    if other is not None:
        try:
            others = FACTWindows(arguments.dataset, config, **other)
        except NoWindowsError:
            split = None  # all of its sequences are shorter than a window
    identity = {"stage": "fact", "windows": len(data), "model": recipe["model"], "data": recipe["data"]}
    validate = None if others is None else lambda: mean_loss(model, others, collate, windows=options.windows)
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
        if split and options.songs:
            metrics |= dances(
                model, arguments.dataset, windows.get("configs"), split, options, arguments.output_dir
            )
        finish(
            model.cpu(),
            "fact",
            recipe,
            arguments,
            trained_on=f"{len(data):,} windows of {config.audio_frames} frames of single dancers.",
            steps=trainer.state.global_step,
            metrics=metrics,
            split=split,
        )
    return model


def main(argv: list[str] | None = None) -> Any:
    """Entry point for launchers."""
    return run(parse(RunArguments, argv))


if __name__ == "__main__":
    main()
