"""Every recipe of the package can be used, and says what the paper says."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from opendance_hf import cli
from opendance_hf.data import MotionWindows
from opendance_hf.modeling.models import MODELS
from opendance_hf.storage import pack
from opendance_hf.training import stages
from opendance_hf.training.recipe import SECTIONS, RecipeError, load_recipe
from opendance_hf.training.stages import all_stages, stage_class
from tests.conftest import REPO
from tests.factories import make_sequence
from tests.training.support import QUICK, SMALL_FACT

RECIPES = sorted(
    (stage, file.name.removeprefix(f"{stage}_").removesuffix(".yaml"))
    for stage in all_stages()
    for file in resources.files("opendance_hf.training").joinpath("recipes").iterdir()
    if file.name.startswith(f"{stage}_")
)


#: Stages of models that are not in the paper, with the recipe of the packaged weights.
OURS = {"lifter": "cmu"}


def test_every_stage_has_both() -> None:
    wanted = {(stage, name) for stage in all_stages() for name in ("debug", OURS.get(stage, "paper"))}
    assert wanted <= set(RECIPES)


@pytest.mark.parametrize(("stage", "name"), RECIPES)
def test_every_option_of_a_recipe_exists(stage: str, name: str) -> None:
    kind = stage_class(stage)
    made = kind(kind.arguments_class("dataset", "out", config=name))
    assert made.recipe == load_recipe(stage, name)
    if kind.model_section is not None:  # its configuration takes the values, too
        config = kind.model_section(**made.recipe["model"])
        assert {key: getattr(config, key) for key in made.recipe["model"]} == made.recipe["model"]


@pytest.mark.parametrize("stage", all_stages())
def test_an_unknown_option_of_any_section_is_noticed(stage: str, tmp_path: Path) -> None:
    kind = stage_class(stage)
    for section in SECTIONS:
        recipe = load_recipe(stage, "debug")
        recipe[section]["of_tomorrow"] = 1
        path = tmp_path / f"{section}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        with pytest.raises(RecipeError, match=f"'{section}': no option of_tomorrow"):
            kind(kind.arguments_class("dataset", "out", config=str(path)))


def test_the_paper_trains_with_adam() -> None:
    for stage in set(all_stages()) - set(OURS):
        trainer = load_recipe(stage, "paper")["trainer"]
        assert "optim" not in trainer  # AdamW with a weight decay of 0, which is Adam
        assert trainer.get("weight_decay", 0) == (1e-3 if stage == "genre" else 0)


def test_the_command_names_all_stages() -> None:
    done = CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "200"})
    assert set(all_stages()) <= set(re.findall(r"\w+", done.output))


PLANTED = """
from opendance_hf.modeling.fact import FACTConfig, FACTForDanceGeneration
from opendance_hf.training.fact import FACTWindows
from opendance_hf.training.stage import Stage

class PlantedStage(Stage):
    name = "planted"
    model_section = FACTConfig
    data_section = FACTWindows
    given = ("config",)
    dancers = 0

    def build_model(self):
        return FACTForDanceGeneration(FACTConfig(**self.recipe["model"]))

    def build_data(self, options):
        return FACTWindows(self.arguments.dataset, self.model.config, **options)

if __name__ == "__main__":
    PlantedStage.main()
"""


def test_a_stage_in_a_folder_of_its_own_has_its_recipes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tomorrow"
    (folder / "recipes").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "planted.py").write_text(PLANTED)
    text = (resources.files("opendance_hf.training") / "recipes" / "fact_debug.yaml").read_text()
    (folder / "recipes" / "planted_debug.yaml").write_text(text)
    pack([make_sequence(i, 1, 300) for i in range(2)], tmp_path / "opendance-3d")
    monkeypatch.syspath_prepend(str(tmp_path))
    planted = dataclasses.replace(MODELS["fact"], stages={"planted": "tomorrow.planted:PlantedStage"})
    monkeypatch.setitem(MODELS, "planted", planted)
    options = [*QUICK, *SMALL_FACT, "trainer.save_strategy=no"]
    data, one, two = (str(tmp_path / name) for name in ("opendance-3d", "one", "two"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    stages.run("planted", dataset=data, output_dir=one, overrides=options)
    torch.set_num_threads(threads)
    assert "stage `planted`" in (tmp_path / "one" / "README.md").read_text()
    # With a launcher the stage's module is __main__.
    done = subprocess.run(
        [sys.executable, "-m", "tomorrow.planted", "--dataset", data, "--output_dir", two, "--overrides", *options],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{REPO}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "step 4/4: loss" in done.stdout
    weights = [load_file(Path(out, "model.safetensors")) for out in (one, two)]
    assert all(torch.allclose(value, weights[1][name], atol=1e-6) for name, value in weights[0].items())


def test_epochs_are_those_of_the_paper() -> None:
    epochs = {name: load_recipe("gpt", name)["trainer"]["num_train_epochs"] for _, name in RECIPES if "paper" in name
              for stage in ["gpt"] if (stage, name) in RECIPES}  # fmt: skip
    assert epochs == {"paper": 600, "paper_1k": 100, "paper_5k": 200, "paper_15k": 400}
    assert load_recipe("vqvae", "paper")["trainer"]["num_train_epochs"] == 150


def test_what_a_recipe_leaves_out_has_its_default(tmp_path: Path) -> None:
    pack([make_sequence(i, 1, 300) for i in range(8)], tmp_path / "opendance-3d")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"trainer": {"max_steps": 2, "save_strategy": "no"}}))
    common = {"config": str(tmp_path / "mine.yaml"), "dataset": str(tmp_path / "opendance-3d")}
    small = ["model.hidden_size=16", "validation.songs=0", "trainer.report_to=none"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    stages.run("vqvae", **common, output_dir=str(tmp_path / "run"), overrides=small)
    torch.set_num_threads(threads)
    assert "windows of 120 frames" in (tmp_path / "run" / "README.md").read_text()
    data = load_recipe("vqvae", "debug")["data"]
    parameters = inspect.signature(MotionWindows).parameters
    assert {name: parameters[name].default for name in data} == data


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
        RecipeError,
        match="give aist, cmu, debug, finedance, mocap, paper, paper_15k, paper_1k, paper_5k, or the path",
    ):
        load_recipe("gpt", "huge")
