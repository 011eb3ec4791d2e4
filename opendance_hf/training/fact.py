"""Train FACT, the baseline that continues two seconds of motion to music.

opendance train fact --dataset opendance-3d --output-dir runs/fact --config debug
torchrun --nproc_per_node 2 -m opendance_hf.training.fact --dataset opendance-3d --output_dir runs/fact
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opendance_hf.data import open_reader
from opendance_hf.modeling.fact import FACTConfig, FACTForDanceGeneration, poses_to_motion
from opendance_hf.modeling.fact.modeling_fact import floor_point
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import per_dancer
from opendance_hf.training.recipe import RunArguments
from opendance_hf.training.stage import Stage


class FACTWindows(Dataset[dict[str, Tensor]]):
    """Windows of single dancers, every ``stride`` frames: the motion that is read, the music, the motion to predict.

    Dancers start over the origin: the place on the floor says nothing about the dance.

    Args:
        dataset: see :func:`~opendance_hf.data.open_reader`.
        config: of the model.
        stride: frames between the starts of neighbouring windows.
        selection: ``configs``, ``split``, ``subset``, ``only`` and ``leave_out`` of ``SequenceReader``.

    Raises:
        ValueError: if no sequence is long enough.
    """

    def __init__(
        self, dataset: str | os.PathLike[str], config: FACTConfig, *, stride: int = 8, **selection: Any
    ) -> None:
        self.config, self.reader = config, open_reader(dataset, **selection)
        self.motion_frames = config.motion_frames + config.target_frames
        self.num_frames = max(self.motion_frames, config.audio_frames)
        self.windows = self.reader.windows(self.num_frames, stride)
        self.reader.check_heard(*config.music_input)  # before the first step

    def fingerprint(self) -> str:
        """Return the SHA-256 of the motion and the music that the windows are cut from, as hex digits."""
        beats = () if self.config.hears == "features" else ("music_beats",)
        return self.reader.fingerprint(("smpl_pose", "smpl_transl", "music_features_fact", *beats))

    def __len__(self) -> int:
        return len(self.windows)

    def order(self, seed: int, epoch: int) -> Iterator[list[int]]:
        """Yield the numbers of all windows in the order of an epoch, some at a time."""
        return self.reader.order(self.windows, 1, seed, epoch)

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
        heard = self.reader.heard(row, *self.config.music_input)
        audio = heard[start : start + self.config.audio_frames]
        motion = poses_to_motion(poses, transl - floor_point(transl))
        read = self.config.motion_frames
        return {"motion": motion[:read], "audio": torch.from_numpy(audio.copy()), "targets": motion[read:]}


class FACTStage(Stage):
    """Learn the frames that follow two seconds of motion and music."""

    name = "fact"
    model_section = FACTConfig
    data_section = FACTWindows
    given = ("config",)

    def build_model(self) -> FACTForDanceGeneration:
        """Make a FACT with random weights."""
        return FACTForDanceGeneration(FACTConfig(**self.recipe["model"]))

    def build_data(self, options: dict[str, Any]) -> FACTWindows:
        """Cut windows of motion and music."""
        return FACTWindows(self.arguments.dataset, self.model.config, **options)

    def held_out_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Cut windows one after another."""
        return {**super().held_out_options(options), "stride": self.data.num_frames}

    def trained_on(self) -> str:
        """Describe the windows."""
        return f"{len(self.data):,} windows of {self.model.config.audio_frames} frames of single dancers."


def run(arguments: RunArguments) -> FACTForDanceGeneration:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    return FACTStage(arguments).run()


if __name__ == "__main__":
    FACTStage.main()
