"""All stages by name, for the command line."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Final

from opendance_hf.training.recipe import RecipeError

#: Stage, which is also its module's name, to the class of its arguments.
STAGES: Final = {
    "vqvae": "RunArguments",
    "gpt": "GPTArguments",
    "actor_critic": "ActorCriticArguments",
    "bailando_pp": "BailandoPPArguments",
    "rotation": "RotationArguments",
    "fact": "RunArguments",
    "genre": "RunArguments",
}


def run(stage: str, **options: Any) -> Any:
    """Run a stage; options are the fields of its arguments, and those that are empty may be any stage's.

    Raises:
        RecipeError: if there is no such stage, or it does not take one of the options.
    """
    if stage not in STAGES:
        raise RecipeError(f"no stage {stage!r}: give {', '.join(STAGES)}")
    module = importlib.import_module(f"{__package__}.{stage}")
    kind = getattr(module, STAGES[stage])
    known = {field.name for field in dataclasses.fields(kind)}
    if wrong := sorted(name for name, value in options.items() if name not in known and value):
        raise RecipeError(f"{stage} takes no --{', --'.join(name.replace('_', '-') for name in wrong)}")
    return module.run(kind(**{name: value for name, value in options.items() if name in known}))
