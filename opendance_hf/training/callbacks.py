"""Report the progress of a training in readable lines, validate while it runs, and remove old checkpoints."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import (
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from opendance_hf.training.checkpoints import remove_old
from opendance_hf.training.ema import WeightAverage

logger = logging.getLogger(__name__)

#: Measures a model on held-out data: scalars by name.
Validate = Callable[[nn.Module], dict[str, float]]
#: The time of a step is measured over at least this many steps and seconds.
_MEASURED_STEPS: Final = 5
_MEASURED_S: Final = 2.0


class ProgressBar(ProgressCallback):
    """Show a progress bar; the lines between are those of :class:`LogLine`."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing: the base class would print a dictionary."""


class LogLine(TrainerCallback):
    """Log one line for every log of the Trainer, and an estimate of the time after the first steps.

    Args:
        bar: the progress bar, if any; without it a line would be written into the bar.
    """

    def __init__(self, bar: ProgressBar | None = None) -> None:
        self._bar = bar
        self._start: tuple[int, float] | None = None
        self._estimated = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Estimate the time of the steps that are left. The first step is not counted: it is slower than others."""
        if self._estimated or not state.is_world_process_zero:
            return
        now = time.monotonic()
        if self._start is None:
            self._start = (state.global_step, now)
            return
        steps, seconds = state.global_step - self._start[0], now - self._start[1]
        left = state.max_steps - state.global_step
        if left and steps >= _MEASURED_STEPS and seconds >= _MEASURED_S:
            self._estimated = True
            self._tell(f"{left:,} steps left: {duration(left * seconds / steps)}")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Log the loss, or what was found on held-out data."""
        if not (state.is_world_process_zero and logs):
            return
        step = f"step {state.global_step:,}/{state.max_steps:,}"
        if "loss" in logs:
            rate = f"{logs.get('learning_rate', 0.0):.1e}"
            self._tell(f"{step}: loss {logs['loss']:.4f}, learning rate {rate}")
        elif held_out := {k.removeprefix("eval_"): v for k, v in logs.items() if k.startswith("eval_")}:
            found = ", ".join(f"{name} {value:.4g}" for name, value in held_out.items())
            self._tell(f"{step}, held out: {found}")

    def _tell(self, line: str) -> None:
        bar = self._bar.training_bar if self._bar is not None else None
        with contextlib.nullcontext() if bar is None else bar.external_write_mode():
            logger.info(line)


def duration(seconds: float) -> str:
    """Describe an estimated duration: ``about 12 min``."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"about {minutes} min"
    return f"about {round(seconds / 3600)} h"


class KeepNewest(TrainerCallback):
    """Remove old checkpoints after a new one is complete.

    The Trainer's own rotation comes before the callbacks that write into a checkpoint, so a kill between the two could leave
    none that is complete; and it also removes folders such as ``checkpoint-best``, which are not of the run.

    Args:
        count: number of checkpoints to keep.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Remove all checkpoints but the newest."""
        if state.is_world_process_zero:
            remove_old(Path(str(args.output_dir)), self.count)


class ValidateEvery(TrainerCallback):
    """Validate every ``steps`` steps and at the end, with the averaged weights if there are any.

    Args:
        validate: measures a model that is in evaluation mode.
        steps: interval; 0 for the end alone.
        average: of the weights, or None.
    """

    def __init__(self, validate: Validate, steps: int, average: WeightAverage | None) -> None:
        self.validate, self.steps, self.average = validate, steps, average
        self.trainer: Trainer | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Validate if it is due."""
        if self.steps and state.global_step % self.steps == 0 and state.global_step < state.max_steps:
            should_log = control.should_log
            self.run()
            control.should_log = should_log  # this log is not the one that is due

    def run(self) -> dict[str, float]:
        """Validate and log in the main process; the others wait for it at their next step."""
        assert self.trainer is not None
        if not self.trainer.is_world_process_zero():
            return {}
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if self.average is not None:
            model = self.average.averaged
        with undisturbed(model):
            found = self.validate(model)
        if found:
            self.trainer.log({f"eval_{name}": value for name, value in found.items()})
        return found


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode without gradients, and restore mode and random state afterwards."""
    training, devices = model.training, []
    if torch.cuda.is_available():
        devices = [torch.cuda.current_device()]
    model.eval()
    with torch.random.fork_rng(devices), torch.no_grad():
        yield
    model.train(training)
