"""Train a model with ``transformers.Trainer`` by the ``trainer`` section of a recipe."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    ProgressCallback,
    SchedulerType,
    Trainer,
    TrainerState,
    TrainingArguments,
)

from opendance_hf.training import ema
from opendance_hf.training.callbacks import KeepNewest, LogLine, ProgressBar, Validate, ValidateEvery
from opendance_hf.training.checkpoints import open_run
from opendance_hf.training.order import EpochOrder
from opendance_hf.training.recipe import RecipeError, RunArguments, checked_trainer
from opendance_hf.training.resident import ResidentWindows

logger = logging.getLogger(__name__)

#: Options of the section ``trainer`` that are not fields of ``TrainingArguments``: their types and defaults.
MORE_OPTIONS: Final[dict[str, tuple[Any, Any]]] = {
    "milestones": (list[int], None),
    "milestone_epochs": (list[float], None),
    "ema_decay": (float | None, None),
    "data_on_device": (bool, False),
}
#: Options that a checkpoint restores: a run cannot be resumed with other values, which would be ignored.
_RESTORED: Final = (
    "seed",
    "data_seed",
    "optim",
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
)


@dataclass(frozen=True)
class Learned:
    """The end of a training.

    Attributes:
        steps: number of optimiser steps.
        metrics: scalars measured on held-out data, by name.
        writes: True in the one process that writes the model.
    """

    steps: int
    metrics: dict[str, float]
    writes: bool


class RecipeTrainer(Trainer):
    """A Trainer with milestones of the learning rate, which also logs the named scalars that a model returns.

    Codebooks learn once in a step, from all of its accumulated batches.

    Args:
        milestones: steps at which the learning rate is divided by ten.
        milestone_epochs: likewise in epochs, instead of steps.
        arguments: of ``Trainer``.
    """

    def __init__(
        self,
        *,
        milestones: list[int] | None = None,
        milestone_epochs: list[float] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        # All losses are means over a batch: the Trainer has to divide them by the number of accumulated batches.
        self.model_accepts_loss_kwargs = False
        self.steps_per_epoch = 1
        self._milestones, self._epochs = milestones or [], milestone_epochs or []
        self._sums: dict[str, Tensor] = {}
        self._summed_steps = 0.0
        self._batches = 1
        self._vectors: list[dict[str, Tensor]] = []

    def set_initial_training_values(self, *arguments: Any, **more: Any) -> Any:
        """Note the number of optimiser steps in an epoch, see ``Trainer.set_initial_training_values``."""
        values = super().set_initial_training_values(*arguments, **more)
        self.steps_per_epoch = values[1]
        return values

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> Any:
        """Make the schedule with milestones, or that of ``lr_scheduler_type`` if it is not constant."""
        if self.lr_scheduler is None and self.args.lr_scheduler_type == SchedulerType.CONSTANT:
            warmup = max(1, self.args.get_warmup_steps(num_training_steps))
            steps = self._milestones or [round(epoch * self.steps_per_epoch) for epoch in self._epochs]

            def rate(step: int) -> float:
                return min(1.0, (step + 1) / warmup) * 0.1 ** sum(step >= milestone for milestone in steps)

            scheduled = self.optimizer if optimizer is None else optimizer
            assert scheduled is not None, "the optimizer is made before its schedule"
            self.lr_scheduler = LambdaLR(scheduled, rate)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Order the windows of an epoch by seed and epoch alone, with few numbers in memory at a time."""
        data = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(data)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        # The epoch of the next step: a resumed run begins within one.
        return EpochOrder(data, seed, lambda: self.state.global_step // self.steps_per_epoch)

    def get_batch_samples(self, *arguments: Any, **more: Any) -> Any:
        """Prepare codebooks for the batches of a step, see ``Trainer.get_batch_samples``."""
        batches, items = super().get_batch_samples(*arguments, **more)
        model = self.accelerator.unwrap_model(self.model)
        if hasattr(model, "update_codebooks"):  # as BailandoVQVAE
            self._batches = len(batches)
            model.update_in_forward = len(batches) == 1
            if self.state.global_step == 0 and len(batches) > 1:
                with self.accelerator.autocast():
                    model.initialise_codebooks(batches)
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Sum up the scalars beside the loss, on the device, see ``Trainer.compute_loss``."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        parts = self.current_gradient_accumulation_steps
        for name, value in (outputs.get("metrics") or {}).items():
            part = torch.as_tensor(value, dtype=torch.float32, device=loss.device).detach() / parts
            self._sums[name] = self._sums[name] + part if name in self._sums else part
        self._summed_steps += 1 / parts
        if (vectors := outputs.get("vectors")) is not None:
            self._vectors.append(vectors)
            if len(self._vectors) == self._batches:
                self.accelerator.unwrap_model(model).update_codebooks(self._vectors)
                self._vectors = []
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of the scalars over the same steps and processes as those of the loss, see ``Trainer.log``."""
        if "loss" in logs and self._sums:
            means = torch.stack(list(self._sums.values())) / self._summed_steps
            means = self.accelerator.reduce(means, "mean")
            logs = {**logs, **dict(zip(self._sums, means.tolist(), strict=True))}
            self._sums, self._summed_steps = {}, 0.0
        super().log(logs, *args, **kwargs)


def train(
    model: nn.Module,
    data: Dataset,
    collate: Any,
    options: dict[str, Any],
    run: RunArguments,
    identity: dict[str, Any],
    *,
    validate: Validate | None = None,
    eval_steps: int = 0,
) -> Learned:
    """Train a model by the ``trainer`` section of a recipe.

    Besides fields of ``TrainingArguments``, the section may have ``milestones`` (steps) or ``milestone_epochs`` at which the
    learning rate is divided by ten, as in the official schedules (after ``warmup_steps``; ``lr_scheduler_type`` chooses
    another schedule), ``ema_decay``: then the model ends with the moving average of its weights, and ``data_on_device``: see
    :class:`~opendance_hf.training.resident.ResidentWindows`.

    Args:
        model: the model that learns; only parameters that require gradients are trained.
        data: training items.
        collate: makes the inputs of the model from a list of items.
        options: the section.
        run: the command line.
        identity: distinguishes this run from others; only a run with the same identity is resumed.
        validate: measures a model that is in evaluation mode.
        eval_steps: interval of validation, which also takes place at the end.

    Raises:
        RecipeError: if an option does not exist, milestones come with a schedule of another type, or the folder has the
            checkpoints of another run, or the windows vary and are to be kept on the device.
    """
    options = dict(checked_trainer(options, MORE_OPTIONS))
    more = {name: options.pop(name, None) for name in MORE_OPTIONS}
    decay, on_device = more.pop("ema_decay"), more.pop("data_on_device")
    arguments = _arguments(options, run, len(data))  # type: ignore[arg-type]
    if on_device:
        data, collate = _resident(data, collate, arguments)
    keep, arguments.save_total_limit = arguments.save_total_limit, None  # see KeepNewest
    if any(more.values()) and arguments.lr_scheduler_type != SchedulerType.CONSTANT:
        kind = SchedulerType(arguments.lr_scheduler_type).value
        raise RecipeError(f"recipe section 'trainer': milestones and lr_scheduler_type {kind}: choose one")
    try:
        trainer = RecipeTrainer(
            model=model, args=arguments, train_dataset=data, data_collator=collate, **more
        )
    except (ImportError, TypeError, ValueError, KeyError) as error:
        raise RecipeError(f"recipe section 'trainer': {error}") from error
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    bar = None if arguments.disable_tqdm else ProgressBar()
    for callback in filter(None, (bar, LogLine(bar))):
        trainer.add_callback(callback)
    restored = {name: getattr(arguments, name) for name in _RESTORED}
    last = open_run(
        Path(run.output_dir),
        {**identity, "trainer": {**restored, "ema_decay": decay}},
        resume=run.resume,
        needs=() if decay is None else (ema.FILE,),
        writes=trainer.is_world_process_zero(),
    )
    average = None if decay is None else ema.WeightAverage(model, decay, last)
    if average is not None:
        trainer.add_callback(average)
    if keep is not None and keep > 0:
        trainer.add_callback(KeepNewest(keep))  # after the average, which completes a checkpoint
    every = None if validate is None else ValidateEvery(validate, eval_steps, average)
    if every is not None:
        every.trainer = trainer
        trainer.add_callback(every)
    _take_steps(trainer, model, average, last)
    # The arguments again, pickled; a folder that models are loaded from must not have a pickle.
    Path(run.output_dir, "training_args.bin").unlink(missing_ok=True)
    metrics: dict[str, float] = {}
    if every is not None:
        every.average = None  # the model itself has the average now
        metrics = every.run()
    return Learned(trainer.state.global_step, metrics, trainer.is_world_process_zero())


def _resident(data: Any, collate: Any, arguments: TrainingArguments) -> tuple[ResidentWindows, Any]:
    """Keep the windows on the device, and return them with the function that makes batches of them."""
    if hasattr(data, "__getitems__"):
        raise RecipeError(
            "recipe section 'trainer': data_on_device=true, but the windows of this stage are drawn anew in every batch"
        )
    if arguments.dataloader_num_workers:
        raise RecipeError(
            f"recipe section 'trainer': data_on_device=true with dataloader_num_workers={arguments.dataloader_num_workers}, "
            "expected 0: there is nothing left to read"
        )
    arguments.dataloader_pin_memory = False  # only the host's memory can be pinned
    windows = ResidentWindows(data, collate, arguments.device)
    return windows, windows.collate


def _take_steps(
    trainer: Trainer, model: nn.Module, average: ema.WeightAverage | None, last: str | None
) -> None:
    """Train from a checkpoint or from the start, and put the average of the weights into the model."""
    if last is not None:
        logger.info("continuing from %s", last)
    if last is not None and _finished(last, trainer.args):
        # transformers would take one more step before it saw that none is left.
        model.load_state_dict(load_file(Path(last, "model.safetensors")))
        trainer.state = TrainerState.load_from_json(os.path.join(last, "trainer_state.json"))
        if average is not None:
            average.start()
    else:
        trainer.train(resume_from_checkpoint=last)
    if average is not None:
        average.put()


def _finished(checkpoint: str, arguments: TrainingArguments) -> bool:
    """Return True if the run that wrote a checkpoint has taken all steps that are wanted."""
    state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
    if arguments.max_steps > 0:
        return state.global_step >= arguments.max_steps
    return (state.epoch or 0.0) >= arguments.num_train_epochs


def _arguments(options: dict[str, Any], run: RunArguments, items: int) -> TrainingArguments:
    try:
        batch = int(options.get("per_device_train_batch_size", 8)) * int(os.environ.get("WORLD_SIZE", 1))
        arguments = TrainingArguments(
            output_dir=run.output_dir,
            remove_unused_columns=False,
            **{
                "use_cpu": not torch.cuda.is_available(),
                "ddp_find_unused_parameters": False,
                "dataloader_drop_last": items >= batch,
                "lr_scheduler_type": "constant",
                # With the default weight decay, 0, this is Adam. The unfused one takes 3 to 6 times as long on a CPU.
                "optim": "adamw_torch_fused",
                # The filter reads the loss on the host at every step; without it a log shows that the loss is not a number.
                "logging_nan_inf_filter": False,
                "disable_tqdm": not sys.stderr.isatty(),
                "report_to": default_reports(),
                "save_strategy": "steps",
                "max_grad_norm": 0.0,
                **options,
            },
        )
    except (TypeError, ValueError, ImportError, KeyError) as error:
        raise RecipeError(f"recipe section 'trainer': {error}") from None
    if options.get("fsdp") or os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true"):
        raise RecipeError(
            "FSDP shards the weights, and a stage needs whole ones at its end: train with DDP (accelerate launch --multi_gpu, "
            "or torchrun), where the largest model and its Adam take 1.4 GB of each GPU"
        )
    if arguments.n_gpu > 1:
        raise RecipeError(
            "several GPUs in one process would each keep a codebook of their own: use accelerate launch "
            "(see docs/training.md), or choose one with CUDA_VISIBLE_DEVICES"
        )
    return arguments


def default_reports() -> str:
    """Return the default tracker: TensorBoard where it is installed; its files are in ``runs/`` of the output folder."""
    return "tensorboard" if importlib.util.find_spec("tensorboard") else "none"


def move(model: nn.Module) -> torch.device:
    """Move a model to the device that this process uses outside the Trainer, and return the device."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    model.to(device)
    return device
