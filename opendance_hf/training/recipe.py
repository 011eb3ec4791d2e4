"""What a training run is made of: a YAML recipe, changed on the command line, turned into a ``transformers.Trainer``."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import Dataset
from transformers import (
    HfArgumentParser,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)


class RecipeError(ValueError):
    """A recipe that cannot be used; the message says what to change."""


@dataclass
class RunArguments:
    """What every training script takes on its command line."""

    dataset: str = field(metadata={"help": "Dataset folder or Hub id."})
    output_dir: str = field(metadata={"help": "Where the model and its checkpoints go."})
    config: str = field(default="debug", metadata={"help": "Recipe: debug, paper, or a YAML file."})
    resume: bool = field(default=True, metadata={"help": "Go on from the last checkpoint in output_dir."})
    overrides: list[str] = field(
        default_factory=list,
        metadata={"help": "Changes to the recipe, as section.key=value: trainer.max_steps=100."},
    )


def load_recipe(stage: str, config: str, overrides: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """The recipe of a stage: one of the package's by name, or a YAML file by path, with changes applied.

    Raises:
        RecipeError: if there is no such recipe, or a change does not read ``section.key=value``.
    """
    packaged = resources.files(__package__).joinpath("recipes", f"{stage}_{config}.yaml")
    if packaged.is_file():
        text = packaged.read_text()
    elif Path(config).is_file():
        text = Path(config).read_text()
    else:
        raise RecipeError(f"no recipe {config!r} for {stage}: give debug, paper, or the path of a YAML file")
    recipe: dict[str, dict[str, Any]] = {"model": {}, "data": {}, "trainer": {}, **yaml.safe_load(text)}
    for change in overrides or []:
        name, equals, value = change.partition("=")
        section, _, key = name.partition(".")
        if not equals or section not in recipe or not key:
            raise RecipeError(
                f"cannot apply {change!r}: write model.KEY=VALUE, data.KEY=... or trainer.KEY=..."
            )
        recipe[section][key] = _value(value)
    return recipe


def _value(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML takes 1e-3 for a word
            return float(value)
    return value


def checked(config: type, options: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a configuration class.

    Raises:
        RecipeError: if one of them does not exist (``transformers`` would store a typo without a word).
    """
    known = set(inspect.signature(config).parameters) - {"kwargs"}
    if unknown := sorted(set(options) - known):
        raise RecipeError(
            f"recipe section 'model': no option {', '.join(unknown)}; there are {sorted(known)}"
        )
    return options


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what goes wrong while data and models are opened into an error that says so.

    Raises:
        RecipeError: instead of ``OSError`` and ``ValueError``.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise RecipeError(str(error)) from error


def parse(argv: list[str] | None) -> RunArguments:
    """The command line of a training script."""
    (arguments,) = HfArgumentParser(RunArguments).parse_args_into_dataclasses(argv)  # type: ignore[arg-type]
    return arguments


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
        if state.is_world_process_zero and logs and "loss" in logs:
            rate = logs.get("learning_rate", 0.0)
            print(f"  step {state.global_step}/{state.max_steps}: loss {logs['loss']:.4f}, rate {rate:.1e}")


class MetricsTrainer(Trainer):
    """A Trainer that logs the named scalars a model returns beside its loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._metrics: dict[str, float] = {}

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
) -> Trainer:
    """Train a model as a recipe's ``trainer`` section says; returns the trainer when it is done.

    Besides ``TrainingArguments``, the section may hold ``milestones`` (steps) or ``milestone_epochs`` at which the
    learning rate is divided by ten, as the official schedules do.

    ``identity`` tells this run from others: a run is only resumed under the same one.

    Raises:
        RecipeError: if an option does not exist, or the folder holds another run's checkpoints.
    """
    # YAML reads a bare `no` as false; for a strategy it is a word.
    options = {k: "no" if v is False and k.endswith("_strategy") else v for k, v in options.items()}
    milestones, epochs = options.pop("milestones", None), options.pop("milestone_epochs", None)
    try:
        arguments = TrainingArguments(
            output_dir=run.output_dir,
            use_cpu=not torch.cuda.is_available(),
            remove_unused_columns=False,
            lr_scheduler_type="constant",
            ddp_find_unused_parameters=False,
            dataloader_drop_last=len(data) >= options.get("per_device_train_batch_size", 8),  # type: ignore[arg-type]
            **{
                "disable_tqdm": not sys.stderr.isatty(),
                "report_to": "none",
                "save_strategy": "steps",
                "max_grad_norm": 0.0,
                **options,
            },
        )
    except TypeError as error:
        raise RecipeError(f"recipe section 'trainer': {error}") from None
    optimizer = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=arguments.learning_rate,
        betas=(arguments.adam_beta1, arguments.adam_beta2),
    )
    if arguments.n_gpu > 1:
        raise RecipeError(
            "several GPUs in one process would each keep a codebook of their own: use accelerate launch "
            "(see docs/training.md), or choose one with CUDA_VISIBLE_DEVICES"
        )
    batches = len(data) / (arguments.train_batch_size * arguments.world_size)  # type: ignore[arg-type]
    batches = math.floor(batches) if arguments.dataloader_drop_last else math.ceil(batches)
    per_epoch = max(1, batches // arguments.gradient_accumulation_steps)
    steps = milestones or [epoch * per_epoch for epoch in epochs or []]
    trainer = MetricsTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=collate,
        optimizers=(optimizer, MultiStepLR(optimizer, steps)),
    )
    if arguments.disable_tqdm:
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(LogLine)
    last = last_checkpoint(Path(run.output_dir)) if run.resume else None
    _same_run(Path(run.output_dir), identity, resuming=last is not None)
    trainer.train(resume_from_checkpoint=last)
    # The arguments again, pickled; a folder that people load models from holds no pickle.
    Path(run.output_dir, "training_args.bin").unlink(missing_ok=True)
    return trainer


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; those cut off by a kill are removed."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text())  # written last
            return os.fspath(path)
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
    return None


def _same_run(folder: Path, identity: dict[str, Any], *, resuming: bool) -> None:
    """Refuse to go on with a run that learned something else.

    Raises:
        RecipeError: if the checkpoints in the folder were made with another model, data or VQ-VAE.
    """
    note = folder / "run.json"
    if resuming and note.is_file() and json.loads(note.read_text()) != identity:
        raise RecipeError(
            f"{folder} holds checkpoints of another run (other data, model or VQ-VAE): choose another folder, or "
            "start anew with --no-resume"
        )
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(identity, indent=2) + "\n")
