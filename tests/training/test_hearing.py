"""Stages that train models to hear the beat, on a small dataset; and the recipes for imported datasets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.torch import load_file

from opendance_hf.apps.importing import ImportOptions, run_import
from opendance_hf.dance.dancer import dancing
from opendance_hf.formats import aistpp
from opendance_hf.modeling.loading import load_model
from opendance_hf.training import bailando_pp, gpt, vqvae
from opendance_hf.training.recipe import RunArguments
from tests.apps.test_importing import FIXTURES, write_song
from tests.formats.support import dance
from tests.training.support import QUICK, QUICK_ROUNDS, SMALL, SMALL_GPT, SMALL_VQVAE, make_data, run_stage


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("hearing"))


@pytest.mark.parametrize(("hears", "more"), [("beats", 0), pytest.param("both", 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("stage", "layer", "features"), [
    ("gpt", "gpt.music_embedding.weight", 438),
    ("bailando_pp", "gpt.music_embedding.weight", 438),
    ("fact", "audio_embedding.weight", 35),
])  # fmt: skip
def test_models_learn_and_dance_with_the_beat(
    stage: str, layer: str, features: int, hears: str, more: int, data: Path, tmp_path: Path
) -> None:
    # The dance to a held-out song at the end reads the same columns.
    options = [*SMALL[stage], f"model.hears={hears}", "validation.songs=1", "validation.seconds=4"]
    options += ["validation.samples=0", "trainer.max_steps=2"]
    if stage == "bailando_pp":  # from a Bailando it would take what that one hears
        arguments = {"dataset": str(data / "opendance-3d"), "output_dir": str(tmp_path)}
        coder = str(data / "vqvae")
        model = bailando_pp.run(
            bailando_pp.BailandoPPArguments(**arguments, vqvae=coder, overrides=[*options, *SMALL_GPT])
        )
        weights = model.state_dict()
    else:
        weights = run_stage(stage, data, tmp_path, options)
    (heard,) = (value for key, value in weights.items() if key.endswith(layer))
    assert heard.shape[1] == 5 + more * features
    model = load_model(str(tmp_path), expected=dancing())
    assert model.config.music_input[1] == 5 + more * features


def test_actor_critic_rewards_steps(data: Path, tmp_path: Path) -> None:
    options = [*QUICK_ROUNDS, "trainer.reward=steps", "trainer.rounds=1"]
    before = load_file(data / "bailando" / "model.safetensors")
    after = run_stage("actor_critic", data, tmp_path, options)
    assert any((after[name] != before[name]).any() for name in before)


def imported(name: str, folder: Path) -> Path:
    """Import dances of five seconds, in the layout of a published dataset, with their songs."""
    motions = folder / "in"
    if name == "aist":
        motions.mkdir()
        for number, song in enumerate(("mBR0", "mBR1", "mBR2")):
            aistpp.write(dance(1, 300), motions / f"gBR_sBM_cAll_d0{number + 1}_{song}_ch01.pkl")
            write_song(folder / "songs" / f"{song}.wav", 6)
    else:
        (motions / "motion").mkdir(parents=True)
        frames = np.load(FIXTURES / "finedance" / "motion" / "001.npy")
        for number in ("001", "002", "003"):
            np.save(motions / "motion" / f"{number}.npy", np.resize(frames, (160, frames.shape[1])))
            write_song(folder / "songs" / f"{number}.wav", 6)
    options = ImportOptions(audio=folder / "songs")
    kind = "aistpp" if name == "aist" else name
    result = run_import(kind, motions, folder / "opendance-3d", options, Console(file=io.StringIO()))
    assert all(outcome.status == "published" for outcome in result.outcomes)
    return folder / "opendance-3d"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aist", "finedance"])
def test_recipes_of_imported_datasets_train(name: str, tmp_path: Path) -> None:
    dataset = imported(name, tmp_path)
    common = {"dataset": str(dataset), "config": name}
    quick = [one for one in QUICK if "save_steps" not in one] + ["trainer.max_steps=2"]
    coder = tmp_path / "vqvae"
    small = [*quick, *SMALL_VQVAE, "trainer.save_strategy=no"]
    vqvae.run(RunArguments(**common, output_dir=str(coder), overrides=small))
    small = [*quick, *SMALL_GPT, "model.max_codes=16", "trainer.save_strategy=no"]
    whole = gpt.run(
        gpt.GPTArguments(**common, output_dir=str(tmp_path / "dancer"), vqvae=str(coder), overrides=small)
    )
    assert whole.config.music_input == ("music_features_7p5fps+beat_phase_7p5fps", 443)
