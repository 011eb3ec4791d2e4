"""Find the stages of training by name."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from opendance_hf.modeling.models import MODELS, resolve
from opendance_hf.training.recipe import RecipeError


def all_stages() -> dict[str, str]:
    """Return the class (``module:Class``) of each stage, from the table of models; recipes are in ``recipes/`` beside it."""
    return {name: place for entry in MODELS.values() for name, place in entry.stages.items()}


def stage_class(name: str) -> Any:
    """Import the class of a stage.

    Raises:
        RecipeError: if there is no such stage.
    """
    stages = all_stages()
    if name not in stages:
        close = difflib.get_close_matches(name, stages, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise RecipeError(f"no stage {name!r}: give {', '.join(stages)}{hint}")
    return resolve(stages[name])


def run(name: str, *, set_threads: bool = False, **options: Any) -> Any:
    """Run a stage and return its model.

    Args:
        name: of the stage.
        set_threads: choose the number of CPU threads by the size of the model.
        options: fields of the stage's arguments; empty ones may be those of another stage.

    Raises:
        RecipeError: if there is no such stage, or it does not take one of the options.
    """
    stage = stage_class(name)
    known = {field.name for field in dataclasses.fields(stage.arguments_class)}
    if wrong := sorted(option for option, value in options.items() if option not in known and value):
        raise RecipeError(f"{name} takes no --{', --'.join(option.replace('_', '-') for option in wrong)}")
    arguments = stage.arguments_class(**{key: value for key, value in options.items() if key in known})
    return stage(arguments).run(set_threads=set_threads)
