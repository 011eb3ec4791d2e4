"""A model, data and the ``trainer`` section of a recipe, turned into a ``transformers.Trainer``."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    SchedulerType,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from opendance_hf.training import ema
from opendance_hf.training.recipe import (
    RecipeError,
    RunArguments,
    last_checkpoint,
    same_run,
    word_for_false,
)

#: Measures a model on held-out data: scalars by name.
Validate = Callable[[], dict[str, float]]


class LogLine(TrainerCallback):
    """One short line a log, where there is no terminal for a progress bar."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """See ``TrainerCallback.on_log``."""
        if not (state.is_world_process_zero and logs):
            return
        if "loss" in logs:
            rate = logs.get("learning_rate", 0.0)
            print(f"  step {state.global_step}/{state.max_steps}: loss {logs['loss']:.4f}, rate {rate:.1e}")
        elif held_out := {k.removeprefix("eval_"): v for k, v in logs.items() if k.startswith("eval_")}:
            found = ", ".join(f"{name} {value:.4g}" for name, value in held_out.items())
            print(f"  step {state.global_step}/{state.max_steps}, held out: {found}")


class ValidateEvery(TrainerCallback):
    """Validates every ``steps`` steps and at the end, with the averaged weights if there are any."""

    def __init__(self, validate: Validate, steps: int, average: ema.WeightAverage | None) -> None:
        self.validate, self.steps, self.average = validate, steps, average
        self.trainer: Trainer | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """See ``TrainerCallback.on_step_end``."""
        if self.steps and state.global_step % self.steps == 0 and state.global_step < state.max_steps:
            should_log = control.should_log
            self.run()
            control.should_log = should_log  # a log of ours is not the one that is due

    def run(self) -> dict[str, float]:
        """Validate and log; the main process alone, which the others wait for at their next step."""
        assert self.trainer is not None
        if not self.trainer.is_world_process_zero():
            return {}
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        with undisturbed(model), self.average.in_place() if self.average else contextlib.nullcontext():
            found = self.validate()
        if found:
            self.trainer.log({f"eval_{name}": value for name, value in found.items()})
        return found


class MetricsTrainer(Trainer):
    """A Trainer that logs the named scalars a model returns beside its loss."""

    #: What was found on held-out data at the end.
    held_out: dict[str, float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metrics: dict[str, float] = {}
        self.held_out = {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """See ``Trainer.compute_loss``."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.state.global_step % max(1, int(self.args.logging_steps)) == 0:
            self._metrics = {name: float(value) for name, value in (outputs.get("metrics") or {}).items()}
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """See ``Trainer.log``."""
        if "loss" in logs:
            logs = {**logs, **self._metrics}
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
) -> MetricsTrainer:
    """Train a model as a recipe's ``trainer`` section says; returns the trainer when it is done.

    Besides ``TrainingArguments``, the section may hold ``milestones`` (steps) or ``milestone_epochs`` at which the
    learning rate is divided by ten, as the official schedules do (``warmup_steps`` lead up to it; another schedule is
    chosen by ``lr_scheduler_type``), and ``ema_decay``: then the model ends with the running average of its weights.

    Args:
        model: what learns; only parameters that want gradients do.
        data: items of training.
        collate: a list of items to the model's inputs.
        options: the section.
        run: the command line.
        identity: tells this run from others: a run is only resumed under the same one.
        validate: called without arguments while the model is in evaluation mode.
        eval_steps: how often; at the end it is called anyway.

    Raises:
        RecipeError: if an option does not exist, milestones come with a schedule of another type, or the folder holds another run's checkpoints.
    """
    options = word_for_false(options)
    milestones, epochs = options.pop("milestones", None), options.pop("milestone_epochs", None)
    decay = options.pop("ema_decay", None)
    arguments = _arguments(options, run, len(data))  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )
    batches = len(data) / (arguments.train_batch_size * arguments.world_size)  # type: ignore[arg-type]
    batches = math.floor(batches) if arguments.dataloader_drop_last else math.ceil(batches)
    per_epoch = max(1, batches // arguments.gradient_accumulation_steps)
    steps = milestones or [epoch * per_epoch for epoch in epochs or []]
    warmup = max(1, int(arguments.warmup_steps))

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / warmup) * 0.1 ** sum(step >= milestone for milestone in steps)

    ours = arguments.lr_scheduler_type == "constant"
    if steps and not ours:
        kind = SchedulerType(arguments.lr_scheduler_type).value
        raise RecipeError(f"milestones and lr_scheduler_type {kind}: choose one")
    trainer = MetricsTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=collate,
        # Without a schedule of ours, transformers makes that of the arguments.
        optimizers=(optimizer, LambdaLR(optimizer, rate) if ours else None),
    )
    if arguments.disable_tqdm:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(LogLine)
    folder = Path(run.output_dir)
    needs = ("trainer_state.json",) if decay is None else ("trainer_state.json", ema.FILE)
    last = last_checkpoint(folder, needs) if run.resume else None
    same_run(
        folder,
        identity if decay is None else {**identity, "ema_decay": decay},
        resuming=last is not None,
        writes=trainer.is_world_process_zero(),
    )
    average = None if decay is None else ema.WeightAverage(model, decay, last)
    if average is not None:
        trainer.add_callback(average)
    every = ValidateEvery(validate, eval_steps, average) if validate is not None else None
    if every is not None:
        every.trainer = trainer
        trainer.add_callback(every)
    if last is not None and _finished(last, arguments):
        # transformers would take one more step before it saw that none is left.
        model.load_state_dict(load_file(Path(last, "model.safetensors")))
        trainer.state = TrainerState.load_from_json(os.path.join(last, "trainer_state.json"))
        if average is not None:
            average.start()
    else:
        trainer.train(resume_from_checkpoint=last)
    if average is not None:
        average.put()
    if every is not None:
        every.average = None
        trainer.held_out = every.run()
    # The arguments again, pickled; a folder that people load models from holds no pickle.
    Path(run.output_dir, "training_args.bin").unlink(missing_ok=True)
    return trainer


def _finished(checkpoint: str, arguments: TrainingArguments) -> bool:
    """Whether the run that wrote a checkpoint has taken all steps that are wanted."""
    state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
    if arguments.max_steps > 0:
        return state.global_step >= arguments.max_steps
    return (state.epoch or 0.0) >= arguments.num_train_epochs


def _arguments(options: dict[str, Any], run: RunArguments, items: int) -> TrainingArguments:
    batch = options.get("per_device_train_batch_size", 8) * int(os.environ.get("WORLD_SIZE", 1))
    try:
        arguments = TrainingArguments(
            output_dir=run.output_dir,
            use_cpu=not torch.cuda.is_available(),
            remove_unused_columns=False,
            ddp_find_unused_parameters=False,
            **{
                "dataloader_drop_last": items >= batch,
                "lr_scheduler_type": "constant",
                "disable_tqdm": not sys.stderr.isatty(),
                "report_to": default_reports(),
                "save_strategy": "steps",
                "max_grad_norm": 0.0,
                **options,
            },
        )
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe section 'trainer': {error}") from None
    if arguments.n_gpu > 1:
        raise RecipeError(
            "several GPUs in one process would each keep a codebook of their own: use accelerate launch "
            "(see docs/training.md), or choose one with CUDA_VISIBLE_DEVICES"
        )
    return arguments


def default_reports() -> str:
    """TensorBoard where it is installed; its files lie in ``runs/`` of the output folder."""
    return "tensorboard" if importlib.util.find_spec("tensorboard") else "none"


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, after which training goes on as if nothing had been drawn."""
    training, devices = model.training, []
    if torch.cuda.is_available():
        devices = [torch.cuda.current_device()]
    model.eval()
    with torch.random.fork_rng(devices), torch.no_grad():
        yield
    model.train(training)


def move(model: nn.Module) -> torch.device:
    """Take a model to where this process computes what comes before and after training."""
    place = torch.device("cpu")
    if torch.cuda.is_available():
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    model.to(place)
    return place
