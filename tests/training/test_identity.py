"""A folder with the checkpoints of one run is refused to every other run."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from opendance_hf.data import MotionWindows, SequenceReader
from opendance_hf.disk import DiskError
from opendance_hf.files import OutputError
from opendance_hf.schema import GENRES
from opendance_hf.storage import pack
from opendance_hf.training import fact, genre
from opendance_hf.training.recipe import RecipeError, RunArguments
from tests.factories import make_sequence
from tests.training.support import QUICK, SMALL, make_data, run_stage


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def moved(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same sequences by name and length, danced half a metre to the right."""
    folder = tmp_path_factory.mktemp("moved")
    sequences = [make_sequence(i, 1, 300) for i in range(24)]
    sequences += [make_sequence(100 + i, 2, 300) for i in range(24)]
    right = np.array([0.5, 0, 0], np.float32)
    shifted = [
        dataclasses.replace(
            seq,
            joints=(seq.joints.reshape(300, -1, 3) + right).reshape(300, -1),
            smpl_transl=(seq.smpl_transl.reshape(300, -1, 3) + right).reshape(300, -1),
        )
        for seq in sequences
    ]
    pack(shifted, folder / "opendance-3d")
    for name in ("vqvae", "bailando"):
        shutil.copytree(data / name, folder / name)
    return folder


@pytest.mark.parametrize("stage", SMALL)
def test_other_data_of_the_same_size(stage: str, data: Path, moved: Path, tmp_path: Path) -> None:
    first = run_stage(stage, data, tmp_path / "run", SMALL[stage])
    with pytest.raises(RecipeError, match=r"checkpoints of another run \(other data\).*--no-resume"):
        run_stage(stage, moved, tmp_path / "run", SMALL[stage])
    # Moved to another folder, the data are still the same.
    shutil.copytree(data, tmp_path / "elsewhere")
    again = run_stage(stage, tmp_path / "elsewhere", tmp_path / "run", SMALL[stage])
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@pytest.mark.parametrize("stage", ["gpt", "bailando_pp", "rotation", "actor_critic"])
def test_another_model_to_start_from(stage: str, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    run_stage(stage, tmp_path / "data", tmp_path / "run", SMALL[stage])
    for name in ("vqvae", "bailando"):
        file = tmp_path / "data" / name / "model.safetensors"
        weights = load_file(file)
        (of_decoder,) = (key for key in weights if key.endswith("root_decoder.out.bias"))
        weights[of_decoder] += 0.1  # the codes stay the same
        save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(RecipeError, match=r"another run \(other base\)"):
        run_stage(stage, tmp_path / "data", tmp_path / "run", SMALL[stage])


@pytest.mark.parametrize(
    ("stage", "change", "differs"),
    [
        ("fact", "trainer.learning_rate=0.5", "trainer"),
        ("fact", "trainer.seed=7", "trainer"),
        ("fact", "trainer.ema_decay=0.9", "trainer"),
        ("fact", "model.hidden_size=32", "model"),
        ("fact", "data.stride=4", "data"),
        ("actor_critic", "trainer.reward=committed", "trainer"),
        ("actor_critic", "trainer.seed=7", "trainer"),
    ],
)
def test_another_recipe(stage: str, change: str, differs: str, data: Path, tmp_path: Path) -> None:
    run_stage(stage, data, tmp_path / "run", SMALL[stage])
    with pytest.raises(RecipeError, match=rf"another run \(other {differs}\)"):
        run_stage(stage, data, tmp_path / "run", [*SMALL[stage], change])


def test_a_run_may_be_made_longer(data: Path, tmp_path: Path) -> None:
    longer = [*SMALL["fact"], "trainer.max_steps=6"]
    run_stage("fact", data, tmp_path / "run", SMALL["fact"])
    found = run_stage("fact", data, tmp_path / "run", longer)
    wanted = run_stage("fact", data, tmp_path / "whole", longer)
    assert all(torch.allclose(value, wanted[name], atol=1e-7) for name, value in found.items())


def test_other_songs_of_the_same_names_and_sizes(tmp_path: Path) -> None:
    def write(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for name in GENRES:
            (tmp_path / "songs" / name).mkdir(parents=True, exist_ok=True)
            for number in range(3):
                sound = rng.normal(0, 0.1, 17_000).astype(np.float32)
                soundfile.write(tmp_path / "songs" / name / f"{number}.wav", sound, 8000)

    def run() -> None:
        options = [*QUICK, "model.sampling_rate=8000", "data.seconds=2"]
        genre.run(RunArguments(str(tmp_path / "songs"), str(tmp_path / "run"), overrides=options))

    write(0)
    run()
    run()
    write(1)
    with pytest.raises(RecipeError, match=r"another run \(other data\)"):
        run()


def test_a_folder_of_motions(data: Path, tmp_path: Path) -> None:
    joints = np.random.default_rng(0).normal(size=(1, 64, 24, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", joints=joints)
    first = MotionWindows(tmp_path, 32, 16).fingerprint()
    np.savez(tmp_path / "a.npz", joints=joints, fps=60)
    assert MotionWindows(tmp_path, 32, 16).fingerprint() == first
    joints[0, 40, 3, 1] += 1e-3
    np.savez(tmp_path / "a.npz", joints=joints)
    assert MotionWindows(tmp_path, 32, 16).fingerprint() != first


def test_a_fingerprint_is_of_the_rows_that_are_read(data: Path, moved: Path) -> None:
    columns = ("joints", "music_features", "music_beats")
    first = SequenceReader(data / "opendance-3d", ["individual"]).fingerprint(columns)
    assert SequenceReader(data / "opendance-3d", ["individual"]).fingerprint(columns) == first
    row = SequenceReader(data / "opendance-3d", ["individual"]).row(0)
    others = [
        SequenceReader(moved / "opendance-3d", ["individual"]).fingerprint(columns),
        SequenceReader(data / "opendance-3d", ["collaborative"]).fingerprint(columns),
        SequenceReader(data / "opendance-3d", ["individual"], leave_out=[row["id"][0].as_py()]).fingerprint(
            columns
        ),
        SequenceReader(data / "opendance-3d", ["individual"]).fingerprint(columns[:2]),
    ]
    assert len({first, *others}) == 5


def test_a_new_start_leaves_nothing_of_the_old_run(data: Path, tmp_path: Path) -> None:
    run_stage("fact", data, tmp_path / "run", [*SMALL["fact"], "trainer.max_steps=8"])
    options = [*SMALL["fact"], "trainer.seed=7"]
    fact.run(RunArguments(str(data / "opendance-3d"), str(tmp_path / "run"), overrides=options, resume=False))
    # Checkpoints 6 and 8 of the old run would be the newest otherwise.
    names = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert names == ["checkpoint-2", "checkpoint-4"]


@pytest.mark.parametrize("stage", ["fact", "actor_critic"])
def test_folders_that_are_not_of_a_run_are_left_alone(stage: str, data: Path, tmp_path: Path) -> None:
    best = tmp_path / "run" / "checkpoint-best" / "trainer_state.json"
    best.parent.mkdir(parents=True)
    best.write_text("{}")
    run_stage(stage, data, tmp_path / "run", SMALL[stage])  # run.json is missing, but no checkpoint needs it
    run_stage(stage, data, tmp_path / "run", SMALL[stage])
    assert best.is_file()


def test_checkpoints_without_a_note_are_refused(data: Path, tmp_path: Path) -> None:
    run_stage("fact", data, tmp_path / "run", SMALL["fact"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stage"] == "fact"
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(RecipeError, match=r"run\.json is missing"):
        run_stage("fact", data, tmp_path / "run", SMALL["fact"])


def test_a_folder_of_something_else_is_not_written_into(data: Path, tmp_path: Path) -> None:
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("mine")
        with pytest.raises(OutputError, match=rf"has {name}, which no training wrote"):
            run_stage("vqvae", data, tmp_path / name, SMALL["vqvae"])
        assert (tmp_path / name / name).read_text() == "mine"
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "train.log").write_text("a log may be there before")
    (tmp_path / "log" / "README.md").write_text("as a new repository has one")
    run_stage("vqvae", data, tmp_path / "log", SMALL["vqvae"])
    with pytest.raises(OutputError, match="this input would be overwritten"):
        run_stage("vqvae", data, data / "opendance-3d", SMALL["vqvae"])


def test_the_model_of_another_run_is_not_replaced_unasked(data: Path, tmp_path: Path) -> None:
    options = [*SMALL["vqvae"], "trainer.save_strategy=no"]
    first = run_stage("vqvae", data, tmp_path / "run", options)
    with pytest.raises(RecipeError, match=r"has the model of another run \(other trainer\).*--no-resume"):
        run_stage("vqvae", data, tmp_path / "run", [*options, "trainer.seed=7"])
    found = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(value, found[name]) for name, value in first.items() if name in found)


def test_a_full_disk_while_a_model_is_saved_leaves_the_one_before(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SMALL["vqvae"], "trainer.save_strategy=no"]
    run_stage("vqvae", data, tmp_path / "run", options)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}

    def full(folder: Path, facts: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("opendance_hf.training.stage.write_model_card", full)
    for name in ("run", "new"):
        with pytest.raises(DiskError, match=rf"{name}: no space left on this disk; free some space"):
            run_stage("vqvae", data, tmp_path / name, options)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before
    assert not (tmp_path / "new").exists()
