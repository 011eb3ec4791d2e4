"""Values of recipes: types and ranges, by the signature that takes them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from opendance_hf.data import MotionWindows
from opendance_hf.modeling.bailando import BailandoVQVAEConfig
from opendance_hf.storage import pack
from opendance_hf.training import vqvae
from opendance_hf.training.loop import MORE_OPTIONS
from opendance_hf.training.recipe import (
    RecipeError,
    RunArguments,
    checked,
    checked_trainer,
    load_recipe,
)
from tests.factories import make_sequence


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stride": 0}, "stride=0, expected int, positive"),
        ({"num_frames": -8}, "num_frames=-8, expected int, positive"),
        ({"num_frames": True}, "num_frames=True, expected int, got bool"),
        ({"num_frames": 2.5}, "num_frames=2.5, expected int"),
        ({"num_frames": None}, "num_frames=None, expected int"),
        ({"mirror": 1}, "mirror=1, expected bool"),
        ({"mirror": "yes"}, "mirror='yes', expected bool"),
        ({"subset": 0}, r"subset=0, expected int \| None, positive"),
        ({"only": "a"}, "only='a', expected .*str"),
        ({"only": [1]}, r"only=\[1\], expected .*str"),
    ],
)
def test_values_of_data(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=f"recipe section 'data': {told}"):
        checked(MotionWindows, options, "data")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"hidden_size": 0}, "hidden_size=0, expected int, positive"),
        ({"codebook_seed": 2**40}, "codebook_seed=1099511627776, expected int, 0 or more, below"),
        ({"commitment_weight": float("nan")}, "commitment_weight=nan, expected float"),
        ({"commitment_weight": -1}, "commitment_weight=-1, expected float, 0 or more"),
        ({"lower_joints": 3}, "lower_joints=3, expected"),
    ],
)
def test_values_of_a_model(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=f"recipe section 'model': {told}"):
        checked(BailandoVQVAEConfig, options, "model")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_steps": "ten"}, "max_steps='ten', expected a number"),
        ({"max_steps": -5}, "max_steps=-5, expected a number .*, -1 or more"),
        ({"max_steps": None}, "max_steps=None, expected a number"),
        ({"max_steps": True}, "max_steps=True, expected a number"),
        ({"logging_steps": 0}, "logging_steps=0, expected a number, positive"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0, expected .*positive"),
        ({"learning_rate": float("inf")}, "learning_rate=inf, expected a number"),
        ({"adam_beta1": 1.5}, "adam_beta1=1.5, expected a number, from 0 to less than 1"),
        ({"ema_decay": 1}, "ema_decay=1, expected .*from 0 to less than 1"),
        ({"disable_tqdm": "maybe"}, "disable_tqdm='maybe', expected bool"),
        ({"save_strategy": "sometimes"}, "save_strategy='sometimes', expected one of no, steps, epoch"),
        ({"milestones": [True]}, "milestones=.*, expected a list of numbers"),
        ({"max_step": 2}, "no option max_step; did you mean max_steps"),
        ({"learning_rate": 10**400}, "learning_rate=10+, expected "),
    ],
)
def test_values_of_the_trainer(options: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=f"recipe section 'trainer': {told}"):
        checked_trainer(options, MORE_OPTIONS)


def test_values_that_are_right_stay() -> None:
    options = {"stride": 8.0, "num_frames": 64, "configs": "individual", "only": None, "turns": 1}
    assert checked(MotionWindows, options, "data") == {**options, "stride": 8}
    assert type(options["stride"]) is int
    trainer = {
        "max_steps": 1e3,
        "learning_rate": "1e-4",
        "save_strategy": False,
        "warmup_steps": 0,
        "max_grad_norm": 0,
    }
    found = checked_trainer(trainer, {})
    assert found == {
        "max_steps": 1000,
        "learning_rate": 1e-4,
        "save_strategy": "no",
        "warmup_steps": 0,
        "max_grad_norm": 0,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trainer: 5", "section 'trainer' is 5, expected options with values"),
        ("- 1", "has the sections"),
        ("trainer: [", "not a YAML file"),
    ],
)
def test_recipe_files_of_a_wrong_shape(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=told):
        load_recipe("vqvae", str(tmp_path / "r.yaml"))


def test_a_change_that_is_not_yaml() -> None:
    with pytest.raises(RecipeError, match=r"cannot apply 'data.stride=\['"):
        load_recipe("vqvae", "debug", ["data.stride=["])


def test_values_that_contradict_each_other(tmp_path: Path) -> None:
    pack([make_sequence(number, 1, 90) for number in range(3)], tmp_path / "data")
    for changes, told in (
        (["data.num_frames=20"], "num_frames=20, expected a multiple of 8"),
        (["model.num_downsamples=9"], "num_frames=.*, expected a multiple of 512"),
        (["model.lower_joints=[99]"], r"lower_joints must be some of the joints 0 to 23.*\[99\]"),
        (["trainer.log_level=loud"], "recipe section 'trainer': .*loud"),
    ):
        arguments = RunArguments(
            str(tmp_path / "data"), str(tmp_path / "run"), overrides=["data.num_frames=32", *changes]
        )
        with pytest.raises(RecipeError, match=told):
            vqvae.run(arguments)


USER_MODEL = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from elsewhere import Thing

class Config:
    def __init__(self, weight: float | None = None, gain: float = 1.0, k: int | None = None, width: int = 3{more}): ...
"""


def user_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> Any:
    (tmp_path / "my_model.py").write_text(USER_MODEL.format(more=more))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    return importlib.import_module("my_model").Config


def test_numbers_of_another_model_have_no_ranges_but_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = user_model(tmp_path, monkeypatch)
    options = {"weight": -1.0, "gain": -1.0, "k": 0, "width": -2}
    assert checked(config, dict(options)) == options
    with pytest.raises(RecipeError, match="width='wide', expected int, got str"):
        checked(config, {"width": "wide"})


def test_an_annotation_that_cannot_be_evaluated_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = user_model(tmp_path, monkeypatch, ", thing: Thing | None = None")
    assert checked(config, {"thing": "any", "gain": 2.0}) == {"thing": "any", "gain": 2.0}
    with pytest.raises(RecipeError, match=r"no option wdith; did you mean width\?"):
        checked(config, {"wdith": 1})
