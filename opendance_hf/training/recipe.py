"""Read what a training run is made of: its arguments, and a YAML recipe with changes from the command line."""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from transformers import HfArgumentParser, TrainingArguments

from opendance_hf.data import SequenceReader
from opendance_hf.disk import disk_fault
from opendance_hf.errors import OpenDanceError, one_line, shown
from opendance_hf.plain_yaml import PlainYAMLError, load_yaml
from opendance_hf.training.options import OptionError, checked_option, is_built_in, parameters_of

SECTIONS: Final = ("model", "data", "trainer", "validation")
Arguments = TypeVar("Arguments", bound="RunArguments")
Recipe = dict[str, dict[str, Any]]

#: Fields of ``TrainingArguments`` that a recipe may not set, and what to set instead.
_NOT_IN_RECIPES: Final = {
    "output_dir": "it is --output-dir",
    "resume_from_checkpoint": "it is --resume",
    "push_to_hub": "it is --push-to-hub",
    "hub_model_id": "it is --push-to-hub",
    "eval_strategy": "the section 'validation' says what is validated and when (eval_steps)",
    "eval_steps": "the section 'validation' says what is validated and when (eval_steps)",
    "do_eval": "the section 'validation' says what is validated and when (eval_steps)",
    "load_best_model_at_end": "the last weights are kept, or their average (ema_decay)",
    "remove_unused_columns": "the columns of the data are not those of the model",
}


#: Options of the section ``trainer`` that are lists of numbers.
_LISTS: Final = ("milestones", "milestone_epochs")


class RecipeError(OpenDanceError, ValueError):
    """A recipe that cannot be used; the message says what to change."""


@dataclass
class RunArguments:
    """Arguments that every training script takes on its command line."""

    dataset: str = field(metadata={"help": "Dataset folder or Hub id."})
    output_dir: str = field(metadata={"help": "Folder of the model and its checkpoints."})
    config: str = field(default="debug", metadata={"help": "Recipe: debug, paper, mocap, or a YAML file."})
    resume: bool = field(default=True, metadata={"help": "Continue from the last checkpoint in output_dir."})
    overrides: list[str] = field(
        default_factory=list,
        metadata={"help": "Changes to the recipe, as section.key=value: trainer.max_steps=100."},
    )
    push_to_hub: str = field(
        default="", metadata={"help": "Publish the finished model as this Hub repository: user/name."}
    )
    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    licence: str = field(default="", metadata={"help": "Licence of the model. Default: the dataset's."})


def load_recipe(
    stage: str, config: str, overrides: list[str] | None = None, *, package: str = "opendance_hf.training"
) -> Recipe:
    """Read the recipe of a stage, and apply changes to it.

    Args:
        stage: name of the stage.
        config: name of a recipe in the folder ``recipes`` of the package, or path of a YAML file.
        overrides: changes, each ``section.key=value``.
        package: of the stage's module.

    Raises:
        RecipeError: if there is no such recipe, it has other sections than :data:`SECTIONS`, or a change cannot be read.
    """
    folder = resources.files(package).joinpath("recipes")
    packaged = folder.joinpath(f"{stage}_{config}.yaml")
    if packaged.is_file():
        text = packaged.read_text()
    elif Path(config).is_file():
        try:
            text = Path(config).read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise RecipeError(f"{config}: not a readable YAML file ({error})") from None
    else:
        known = sorted(
            f.name[len(stage) + 1 : -5] for f in folder.iterdir() if f.name.startswith(f"{stage}_")
        )
        raise RecipeError(
            f"no recipe {config!r} for {stage}: give {', '.join(known)}, or the path of a YAML file"
        )
    try:
        read = load_yaml(text) or {}
    except PlainYAMLError as error:
        raise RecipeError(f"{config}: not a YAML file ({error})") from None
    if not isinstance(read, dict) or set(read) - set(SECTIONS):
        raise RecipeError(f"{config}: a recipe has the sections {', '.join(SECTIONS)} and nothing else")
    for name, section in read.items():
        if not isinstance(section, dict | None):
            raise RecipeError(f"{config}: section {name!r} is {shown(section)}, expected options with values")
    recipe: Recipe = {name: dict(read.get(name) or {}) for name in SECTIONS}
    for change in overrides or []:
        name, equals, value = change.partition("=")
        section, _, key = name.partition(".")
        if not equals or section not in recipe or not key:
            raise RecipeError(
                f"cannot apply {shown(change)}: write SECTION.KEY=VALUE with a section of {', '.join(SECTIONS)}"
            )
        try:
            recipe[section][key] = _value(value)
        except PlainYAMLError:
            raise RecipeError(
                f"cannot apply {shown(change)}: {shown(value)} is not a value of YAML"
            ) from None
    return recipe


def _value(text: str) -> Any:
    value = load_yaml(text)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML reads 1e-3 as a string
            return float(value)
    return value


def checked(
    config: Any, options: dict[str, Any], section: str = "model", ours: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Check that a section of a recipe has only keyword arguments of a class, of their types, and return the section.

    Whole numbers are converted to int where int is expected, in the section itself.

    Args:
        config: the class; if it takes ``**selection``, the arguments of ``SequenceReader`` count as its own.
        options: the section.
        section: its name.
        ours: arguments that the stage passes itself.

    Raises:
        RecipeError: if an option does not exist, and the message suggests the one that was meant; or if it has another
            type or, of a built-in class, is out of range.
    """
    own = parameters = parameters_of(config)
    if "selection" in own:
        parameters = {**parameters_of(SequenceReader), **own}
    check_names(options, set(parameters) - {"kwargs", "selection", "dataset", *ours}, section)
    for name, value in options.items():
        about = parameters[name]
        kind = Any if about.annotation is inspect.Parameter.empty else about.annotation
        ranges = is_built_in(config) or name not in own
        with _naming_section(section):
            options[name] = checked_option(name, value, kind, about.default, ranges=ranges)
    return options


@contextlib.contextmanager
def _naming_section(section: str) -> Iterator[None]:
    try:
        yield
    except OptionError as error:
        raise RecipeError(f"recipe section {section!r}: {one_line(error, 1000)}") from None


def check_names(options: dict[str, Any], known: Collection[str], section: str) -> None:
    """Check the names of the options of a recipe's section.

    Raises:
        RecipeError: if one is not known; the message suggests the one that was meant, or lists all if there are few.
    """
    for name in options:
        if name in known:
            continue
        close = difflib.get_close_matches(str(name), known, n=1)
        if close:
            remedy = f"; did you mean {close[0]}?"
        elif len(known) <= 30:
            remedy = f"; there are {', '.join(sorted(known))}" if known else ", it must be empty"
        else:
            remedy = "; docs/training.md names the most useful ones"
        raise RecipeError(f"recipe section {section!r}: no option {one_line(name, 80)}{remedy}")


def checked_trainer(options: dict[str, Any], more: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Check names and numbers in the section ``trainer`` against the fields of ``TrainingArguments``, and return the section.

    Strategies are returned as words: YAML reads a bare ``no`` as false. It also reads ``1e-4`` as a word, which is returned as
    a number.

    Args:
        options: the section.
        more: type and default of options that are not fields of ``TrainingArguments``.

    Raises:
        RecipeError: if an option does not exist, is not for recipes, or is not a number but should be.
    """
    for name in options:
        if name in _NOT_IN_RECIPES:
            raise RecipeError(f"recipe section 'trainer': {name} cannot be set here: {_NOT_IN_RECIPES[name]}")
    known = {
        name: (about.annotation, about.default)
        for name, about in parameters_of(TrainingArguments).items()
        if name not in _NOT_IN_RECIPES
    }
    known |= more
    check_names(options, known, "trainer")
    return {name: _trainer_value(name, value, *known[name]) for name, value in options.items()}


def _trainer_value(name: str, value: Any, kind: Any, default: Any) -> Any:
    if value is None and name in _LISTS:
        return None
    if value is False and name.endswith("_strategy"):
        return "no"
    if name in _LISTS:
        if not isinstance(value, list) or not all(type(one) in (int, float) and one >= 0 for one in value):
            raise RecipeError(
                f"recipe section 'trainer': {name}={shown(value)}, expected a list of numbers, 0 or more"
            )
        return value
    if isinstance(value, str) and kind in (float, float | None):
        with contextlib.suppress(ValueError):
            value = float(value)
    with _naming_section("trainer"):
        return checked_option(name, value, kind, default, number="a number")


@contextlib.contextmanager
def using_section(section: str) -> Iterator[None]:
    """Turn errors from values that cannot be used into one that names the section of the recipe.

    Raises:
        RecipeError: instead of ``TypeError``, ``KeyError`` and others, which is its cause.
    """
    try:
        yield
    except (
        TypeError,
        KeyError,
        RuntimeError,
        IndexError,
        ArithmeticError,
        MemoryError,
        AttributeError,
    ) as error:
        if isinstance(error, OpenDanceError) or disk_fault(error) is not None:
            raise
        why = f"{type(error).__name__}: {error}"
        raise RecipeError(f"recipe section {section!r}: a value cannot be used ({why})") from error


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Turn errors from opening data and models into one that the command prints without a traceback.

    Raises:
        RecipeError: instead of ``OSError`` and ``ValueError``.
    """
    try:
        yield
    except OpenDanceError:
        raise
    except (OSError, ValueError) as error:
        raise RecipeError(str(error)) from error


def parse(kind: type[Arguments], argv: list[str] | None) -> Arguments:
    """Parse the command line of a training script."""
    (arguments,) = HfArgumentParser(kind).parse_args_into_dataclasses(argv)  # type: ignore[arg-type]
    return arguments
