"""Train the VQ-VAE of Bailando++ for the relation between dancers: where partners stand, and which hands are near.

    opendance train relation --dataset opendance-3d --output-dir runs/relation
    opendance train bailando_pp --dataset opendance-3d --bailando runs/bailando --relation runs/relation --output-dir runs/pp

Codes must last as long as those of the bodies (``model.num_downsamples``), and be as many (``model.codebook_size``).
"""

from __future__ import annotations

import os
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opendance_hf.data import NoWindowsError, Windows
from opendance_hf.data.windows import mirrored_joints
from opendance_hf.modeling.bailando_pp import BailandoRelationConfig, BailandoRelationVQVAE, relation_of
from opendance_hf.training.codes import Dances
from opendance_hf.training.recipe import RecipeError, RunArguments
from opendance_hf.training.stage import Stage


class RelationWindows(Dataset[dict[str, Tensor]]):
    """Windows of the relation of every dancer to every other of the same sequence.

    Args:
        dataset: see :class:`~opendance_hf.training.codes.Dances`.
        num_frames: of a window.
        stride: frames between the starts of neighbouring windows.
        mirror: every sequence also with left and right exchanged.
        selection: see :class:`~opendance_hf.training.codes.Dances`.

    Raises:
        ValueError: if no sequence of several dancers is long enough, or one that is named does not exist.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        *,
        num_frames: int = 64,
        stride: int = 1,
        mirror: bool = False,
        **selection: Any,
    ) -> None:
        self.num_frames = num_frames
        self.dances = Dances(dataset, **selection)
        self.relations: list[Tensor] = []
        for _, joints in self.dances.joints():
            for seen in (joints.copy(), mirrored_joints(joints)) if mirror else (joints.copy(),):
                for pair in permutations(range(len(seen)), 2):
                    relation = relation_of(torch.from_numpy(seen[list(pair)])[None])[0, 0]
                    self.relations.append(relation)
        self.windows = Windows([len(relation) for relation in self.relations], num_frames, stride)
        if not len(self.windows):
            raise NoWindowsError(f"{dataset}: no sequence of several dancers has {num_frames} frames")

    def __len__(self) -> int:
        return len(self.windows)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the motion that the windows are made of, as hex digits."""
        return self.dances.fingerprint(music=False)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, start = self.windows[index]
        return {"relation": self.relations[number][start : start + self.num_frames]}


class RelationStage(Stage):
    """Learn codes of 8 frames for the place of a partner and for the hands."""

    name = "relation"
    model_section = BailandoRelationConfig
    data_section = RelationWindows
    dancers = 0

    def build_model(self) -> BailandoRelationVQVAE:
        """Make a VQ-VAE with random weights."""
        return BailandoRelationVQVAE(BailandoRelationConfig(**self.recipe["model"]))

    def build_data(self, options: dict[str, Any]) -> RelationWindows:
        """Cut windows of relations.

        Raises:
            RecipeError: if a window is not a number of codes.
        """
        frames, windows = (
            self.model.config.frames_per_code,
            RelationWindows(self.arguments.dataset, **options),
        )
        if windows.num_frames % frames:
            raise RecipeError(
                f"recipe section 'data': num_frames={windows.num_frames}, expected a multiple of {frames}, the frames of a "
                "code (2 ** model.num_downsamples)"
            )
        return windows

    def held_out_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Cut windows one after another, without copies."""
        return {**super().held_out_options(options), "stride": self.data.num_frames, "mirror": False}

    def trained_on(self) -> str:
        """Describe the windows."""
        return f"{len(self.data):,} windows of {self.data.num_frames} frames of two dancers."


def run(arguments: RunArguments) -> BailandoRelationVQVAE:
    """Train as the recipe says, write the VQ-VAE to ``output_dir`` and return it."""
    return RelationStage(arguments).run()


if __name__ == "__main__":
    RelationStage.main()
