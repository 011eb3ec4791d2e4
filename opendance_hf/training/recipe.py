"""What a training run is made of: arguments, and a YAML recipe with changes from the command line."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from transformers import HfArgumentParser

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write

SECTIONS = ("model", "data", "trainer", "validation")
Arguments = TypeVar("Arguments", bound="RunArguments")
Recipe = dict[str, dict[str, Any]]


class RecipeError(OpenDanceError, ValueError):
    """A recipe that cannot be used; the message says what to change."""


@dataclass
class RunArguments:
    """What every training script takes on its command line."""

    dataset: str = field(metadata={"help": "Dataset folder or Hub id."})
    output_dir: str = field(metadata={"help": "Where the model and its checkpoints go."})
    config: str = field(default="debug", metadata={"help": "Recipe: debug, paper, mocap, or a YAML file."})
    resume: bool = field(default=True, metadata={"help": "Go on from the last checkpoint in output_dir."})
    overrides: list[str] = field(
        default_factory=list,
        metadata={"help": "Changes to the recipe, as section.key=value: trainer.max_steps=100."},
    )
    push_to_hub: str = field(
        default="", metadata={"help": "Publish the finished model under this name: user/name."}
    )
    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    licence: str = field(default="", metadata={"help": "Of the model; by default that of the dataset."})


def load_recipe(stage: str, config: str, overrides: list[str] | None = None) -> Recipe:
    """The recipe of a stage: one of the package's by name, or a YAML file by path, with changes applied.

    Raises:
        RecipeError: if there is no such recipe, it has other sections than :data:`SECTIONS`, or a change does not read
            ``section.key=value``.
    """
    folder = resources.files(__package__).joinpath("recipes")
    packaged = folder.joinpath(f"{stage}_{config}.yaml")
    if packaged.is_file():
        text = packaged.read_text()
    elif Path(config).is_file():
        text = Path(config).read_text()
    else:
        there = sorted(
            f.name[len(stage) + 1 : -5] for f in folder.iterdir() if f.name.startswith(f"{stage}_")
        )
        raise RecipeError(
            f"no recipe {config!r} for {stage}: give {', '.join(there)}, or the path of a YAML file"
        )
    read = yaml.safe_load(text) or {}
    if not isinstance(read, dict) or set(read) - set(SECTIONS):
        raise RecipeError(f"{config}: a recipe has the sections {', '.join(SECTIONS)} and nothing else")
    recipe: Recipe = {name: dict(read.get(name) or {}) for name in SECTIONS}
    for change in overrides or []:
        name, equals, value = change.partition("=")
        section, _, key = name.partition(".")
        if not equals or section not in recipe or not key:
            raise RecipeError(
                f"cannot apply {change!r}: write SECTION.KEY=VALUE, a section being {', '.join(SECTIONS)}"
            )
        recipe[section][key] = _value(value)
    return recipe


def _value(text: str) -> Any:
    value = yaml.safe_load(text)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML takes 1e-3 for a word
            return float(value)
    return value


def checked(
    config: Any, options: dict[str, Any], section: str = "model", ours: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Keyword arguments of a configuration class, or of anything else that a section of a recipe describes.

    Args:
        config: the class.
        options: the section.
        section: its name.
        ours: arguments that the stage gives itself, and a recipe may not.

    Raises:
        RecipeError: if one of them does not exist (``transformers`` would store a typo without a word).
    """
    known = set(inspect.signature(config).parameters) - {"kwargs", "dataset", *ours}
    if unknown := sorted(set(options) - known):
        raise RecipeError(
            f"recipe section {section!r}: no option {', '.join(unknown)}; there are {sorted(known)}"
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


def parse(kind: type[Arguments], argv: list[str] | None) -> Arguments:
    """The command line of a training script."""
    (arguments,) = HfArgumentParser(kind).parse_args_into_dataclasses(argv)  # type: ignore[arg-type]
    return arguments


def word_for_false(options: dict[str, Any]) -> dict[str, Any]:
    """A copy of trainer options in which strategies are words: YAML reads a bare ``no`` as false."""
    return {k: "no" if v is False and k.endswith("_strategy") else v for k, v in copy.copy(options).items()}


def last_checkpoint(folder: Path, needs: tuple[str, ...] = ("trainer_state.json",)) -> str | None:
    """The newest checkpoint that was written to its end; those cut off by a kill are removed.

    ``needs`` are the files that are written last.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=_number, reverse=True):
        with contextlib.suppress(OSError, ValueError):
            json.loads((path / "trainer_state.json").read_text())
            if all((path / name).is_file() for name in needs):
                return os.fspath(path)
        shutil.rmtree(path, ignore_errors=True)
    return None


def _number(path: Path) -> int:
    digits = path.name.removeprefix("checkpoint-")
    return int(digits) if digits.isdecimal() else -1


def same_run(folder: Path, identity: dict[str, Any], *, resuming: bool, writes: bool = True) -> None:
    """Refuse to go on with a run that learned something else, and note what this one learns.

    Args:
        folder: of the run.
        identity: what tells this run from others.
        resuming: whether there is a checkpoint to go on from.
        writes: whether this process writes the note; one of several does.

    Raises:
        RecipeError: if the checkpoints in the folder were made with another model, data or VQ-VAE.
    """
    note, text = folder / "run.json", json.dumps(identity, indent=2) + "\n"
    if resuming and note.is_file() and json.loads(note.read_text()) != json.loads(text):
        raise RecipeError(
            f"{folder} holds checkpoints of another run (other data, model or VQ-VAE): choose another folder, or "
            "start anew with --no-resume"
        )
    if writes:
        with atomic_write(note) as partial:  # other processes may be reading it
            partial.write_text(text)
