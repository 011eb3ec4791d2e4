"""Average the weights over the steps of a training (``trainer.ema_decay`` of a recipe)."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from opendance_hf.files import atomic_write

#: File in every checkpoint of a run with an average, so that it resumes exactly.
FILE: Final = "ema.safetensors"


class WeightAverage(TrainerCallback):
    """Update an exponential moving average of the trained weights after every step, and save it in every checkpoint.

    The decay of step ``t`` is at most ``(1 + t) / (10 + t)``, so that the initial weights are soon forgotten. Buffers, such
    as a codebook, are not averaged: they are running means already.

    Args:
        model: the model that learns.
        decay: share of the average that stays at a step.
        checkpoint: folder to continue from, if any.
    """

    def __init__(self, model: nn.Module, decay: float, checkpoint: str | None = None) -> None:
        self.model, self.decay, self.checkpoint = model, decay, checkpoint
        self._averaged: nn.Module | None = None

    @property
    def averaged(self) -> nn.Module:
        """Return a copy of the model with averaged weights, and with the buffers of the last step."""
        assert self._averaged is not None, "the training has not begun"
        return self._averaged

    def start(self) -> None:
        """Begin with the weights as they are, or with the average of the checkpoint."""
        self._averaged = copy.deepcopy(self.model)
        if self.checkpoint is not None:
            saved = load_file(os.path.join(self.checkpoint, FILE))
            with torch.no_grad():
                for name, value in self._trained(self.averaged).items():
                    value.copy_(saved[name])

    @torch.no_grad()
    def put(self) -> None:
        """Overwrite the weights of the model with their average."""
        average = self._trained(self.averaged)
        for name, value in self._trained(self.model).items():
            value.copy_(average[name])

    @staticmethod
    def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
        return {name: value for name, value in model.named_parameters() if value.requires_grad}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the average."""
        self.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Update the average, and copy the buffers."""
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        averages, weights = (list(self._trained(model).values()) for model in (self.averaged, self.model))
        # Not AveragedModel, which reads its number of updates on the host.
        get_ema_multi_avg_fn(decay)(averages, weights, torch.tensor(0))
        with torch.no_grad():
            for copied, buffer in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
                copied.copy_(buffer)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Save the average. A checkpoint without this file counts as cut off."""
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir), f"checkpoint-{state.global_step}")
            weights = {name: value.detach().cpu() for name, value in self._trained(self.averaged).items()}
            with atomic_write(folder / FILE) as partial:
                save_file(weights, partial)
