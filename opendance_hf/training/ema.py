"""A running average of the weights, which often dances better than the last ones (``trainer.ema_decay`` of a recipe)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opendance_hf.files import atomic_write

#: In every checkpoint of a run with an average, so that it resumes exactly.
FILE = "ema.safetensors"


class WeightAverage(TrainerCallback):
    """Keeps the average, saves it with every checkpoint and puts it in place of the weights when asked.

    Early on, step ``t`` counts with ``(1 + t) / (10 + t)`` instead of the decay, so that the start is soon forgotten.
    Buffers, such as a codebook, are running means already and are left alone.

    Args:
        model: whose trained parameters are averaged, in single precision.
        decay: share of the average that stays at a step.
        checkpoint: folder to go on from, if any.
    """

    def __init__(self, model: nn.Module, decay: float, checkpoint: str | None = None) -> None:
        self.model, self.decay, self.checkpoint = model, decay, checkpoint
        self.average: dict[str, Tensor] = {}

    def _parameters(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See ``TrainerCallback``."""
        self.start()

    def start(self) -> None:
        """Begin with the weights as they are, or with the average of the checkpoint."""
        self.average = {name: p.detach().float().clone() for name, p in self._parameters().items()}
        if self.checkpoint is not None:
            for name, value in load_file(os.path.join(self.checkpoint, FILE)).items():
                self.average[name].copy_(value)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See ``TrainerCallback``."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        for name, value in self._parameters().items():
            self.average[name].lerp_(value.detach().float(), 1 - decay)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See ``TrainerCallback``. A checkpoint without this file counts as cut off."""
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir), f"checkpoint-{state.global_step}")
            with atomic_write(folder / FILE) as partial:
                save_file({name: value.cpu() for name, value in self.average.items()}, partial)

    @torch.no_grad()
    def put(self) -> None:
        """Overwrite the weights with their average."""
        for name, value in self._parameters().items():
            value.copy_(self.average[name])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The average in place of the weights, for a while."""
        own = {name: value.detach().clone() for name, value in self._parameters().items()}
        self.put()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._parameters().items():
                    value.copy_(own[name])
