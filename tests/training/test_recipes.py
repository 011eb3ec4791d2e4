"""Every recipe of the package can be used, and says what the paper says."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import Any

import pytest
from transformers import TrainingArguments

from opendance_hf.data import MotionWindows
from opendance_hf.modeling.bailando import BailandoGPTConfig, BailandoVQVAEConfig
from opendance_hf.modeling.bailando_pp import BailandoPPGPTConfig
from opendance_hf.modeling.fact import FACTConfig
from opendance_hf.modeling.music_genre import MusicGenreConfig
from opendance_hf.training.bailando_pp import DuetWindows
from opendance_hf.training.codes import CodeWindows
from opendance_hf.training.fact import FACTWindows
from opendance_hf.training.genre import GenreClips
from opendance_hf.training.recipe import RecipeError, checked, load_recipe
from opendance_hf.training.rotation import PoseWindows
from opendance_hf.training.tuning import Settings, Songs
from opendance_hf.training.validation import Validation

#: Stage to what its sections model and data are arguments of.
STAGES: dict[str, tuple[Any, Any]] = {
    "vqvae": (BailandoVQVAEConfig, MotionWindows),
    "rotation": (None, PoseWindows),
    "gpt": (BailandoGPTConfig, CodeWindows),
    "actor_critic": (None, Songs),
    "bailando_pp": (BailandoPPGPTConfig, DuetWindows),
    "fact": (FACTConfig, FACTWindows),
    "genre": (MusicGenreConfig, GenreClips),
}
TRAINER = {field.name for field in dataclasses.fields(TrainingArguments)} | {
    "milestones", "milestone_epochs", "ema_decay",
}  # fmt: skip

RECIPES = sorted(
    (stage, file.name.removeprefix(f"{stage}_").removesuffix(".yaml"))
    for stage in STAGES
    for file in resources.files("opendance_hf.training").joinpath("recipes").iterdir()
    if file.name.startswith(f"{stage}_")
)


def test_every_stage_has_both() -> None:
    assert {(stage, name) for stage in STAGES for name in ("debug", "paper")} <= set(RECIPES)


@pytest.mark.parametrize(("stage", "name"), RECIPES)
def test_every_option_of_a_recipe_exists(stage: str, name: str) -> None:
    recipe = load_recipe(stage, name)
    model, data = STAGES[stage]
    assert (checked(model, recipe["model"]) if model else not recipe["model"]) is not None
    checked(data, recipe["data"], "data")
    checked(Validation, recipe["validation"], "validation")
    if stage == "actor_critic":
        checked(Settings, recipe["trainer"], "trainer")
    else:
        assert set(recipe["trainer"]) <= TRAINER


def test_epochs_are_those_of_the_paper() -> None:
    epochs = {name: load_recipe("gpt", name)["trainer"]["num_train_epochs"] for _, name in RECIPES if "paper" in name
              for stage in ["gpt"] if (stage, name) in RECIPES}  # fmt: skip
    assert epochs == {"paper": 600, "paper_1k": 100, "paper_5k": 200, "paper_15k": 400}
    assert load_recipe("vqvae", "paper")["trainer"]["num_train_epochs"] == 150


def test_a_recipe_has_four_sections(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "mine.yaml"
    path.write_text("trainer: {max_steps: 3}\nvalidation:\n")
    assert load_recipe("fact", str(path)) == {
        "model": {}, "data": {}, "trainer": {"max_steps": 3}, "validation": {},
    }  # fmt: skip
    path.write_text("optimizer: {lr: 1}\n")
    with pytest.raises(RecipeError, match="sections model, data, trainer, validation"):
        load_recipe("fact", str(path))
    with pytest.raises(
        RecipeError, match="give debug, mocap, paper, paper_15k, paper_1k, paper_5k, or the path"
    ):
        load_recipe("gpt", "huge")
