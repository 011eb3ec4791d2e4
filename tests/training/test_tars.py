"""Training from tars: each window once an epoch over processes and workers, and exact resuming."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opendance_hf.data import MotionWindows
from opendance_hf.model_card import describe_dataset
from opendance_hf.training import stages
from opendance_hf.training.recipe import RecipeError, RunArguments
from tests.training.seen import NotingStage, seen
from tests.training.support import SMALL, finish, launch, make_data, same

MODULE = "tests.training.seen"
#: 24 sequences of 300 frames in the split: batches of 4 do not divide the windows evenly.
CHANGES = [
    "model.hidden_size=16", "model.codebook_size=16", "data.num_frames=64", "data.stride=50",
    "trainer.per_device_train_batch_size=4", "trainer.max_steps=-1", "trainer.num_train_epochs=2",
    "trainer.disable_tqdm=true", "trainer.report_to=none", "trainer.logging_steps=2", "validation.songs=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("tars"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENDANCE_CACHE", str(tmp_path / "cache"))


def tars(data: Path) -> str:
    return f"{data}/opendance-3d/webdataset/individual/train-*.tar"


def cut(whole: Path, step: int, folder: Path) -> None:
    """Leave what a run that was killed after a checkpoint leaves."""
    shutil.copytree(whole / f"checkpoint-{step}", folder / f"checkpoint-{step}")
    shutil.copy(whole / "run.json", folder)


def run(data: Path, out: Path, notes: Path, changes: list[str]) -> dict[str, torch.Tensor]:
    NotingStage.notes = notes
    notes.mkdir()
    return dict(NotingStage(RunArguments(tars(data), str(out), overrides=changes)).run().state_dict())


def test_a_stopped_training_sees_what_an_undisturbed_one_sees(data: Path, tmp_path: Path) -> None:
    windows = len(MotionWindows(tars(data), 64, 50))
    steps = windows // 4
    stop = steps + steps // 2  # within the second epoch
    changes = [*CHANGES, f"trainer.save_steps={stop}", "trainer.ema_decay=0.9"]
    whole = run(data, tmp_path / "whole", tmp_path / "notes", changes)
    batches = seen(tmp_path / "notes")[: 2 * steps]
    for epoch in (0, 1):
        inside = [one for batch in batches[epoch * steps : (epoch + 1) * steps] for one in batch]
        assert len(inside) == len(set(inside)) == steps * 4
    assert batches[:steps] != batches[steps:]
    cut(tmp_path / "whole", stop, tmp_path / "cut")
    same(run(data, tmp_path / "cut", tmp_path / "again", changes), whole, atol=0)
    assert seen(tmp_path / "again")[: 2 * steps - stop] == batches[stop:]


@pytest.mark.parametrize(
    "stage", ["rotation", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gpt", "fact"))]
)
def test_other_stages_take_tars(stage: str, data: Path, tmp_path: Path) -> None:
    bases = {"gpt": "vqvae", "rotation": "bailando"}
    models = {"vqvae": str(data / bases[stage])} if stage in bases else {}
    # One batch, so that the order does not matter.
    one = ["trainer.per_device_train_batch_size=1000", "trainer.max_steps=1", "trainer.save_steps=1"]
    stride = "data.stride=20" if stage == "gpt" else "data.stride=300"
    changes = [*SMALL[stage], *one, stride]

    def run(dataset: str, more: list[str]) -> dict[str, torch.Tensor]:
        out = str(tmp_path / f"run{len(more)}")
        return dict(
            stages.run(
                stage, dataset=dataset, output_dir=out, overrides=[*changes, *more], **models
            ).state_dict()
        )

    same(run(tars(data), []), run(str(data / "opendance-3d"), ["data.configs=[individual]"]), atol=1e-5)
    assert str(data) not in (tmp_path / "run0" / "README.md").read_text()


def test_the_card_of_tars_is_that_of_their_dataset(data: Path) -> None:
    assert describe_dataset(tars(data)) == describe_dataset(data / "opendance-3d")
    assert describe_dataset("https://example.org/a/train-*.tar").name == "train-*.tar"


@pytest.mark.parametrize("stage", ["genre", "lifter"])
def test_stages_of_other_data_refuse_tars(stage: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"{stage} does not read tars"):
        stages.run(stage, dataset=tars(data), output_dir=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tars", "folder"])
def test_two_processes_see_each_window_once_and_resume(kind: str, data: Path, tmp_path: Path) -> None:
    dataset = tars(data) if kind == "tars" else str(data / "opendance-3d")
    steps = len(MotionWindows(dataset, 64, 50)) // 8
    stop = steps + steps // 2
    changes = [*CHANGES, f"trainer.save_steps={stop}", "trainer.dataloader_num_workers=2"]

    def train(name: str, notes: str, changes: list[str]) -> Counter[str]:
        finish(launch(MODULE, [dataset, str(tmp_path / name), str(tmp_path / notes), *changes], ranks=2))
        files = {file.name.rsplit("-", 1)[0] for file in (tmp_path / notes).iterdir()}
        assert {f"{rank}-{worker}" for rank in (0, 1) for worker in (0, 1)} <= files
        # Validation is in the main process.
        return Counter(
            one
            for file in (tmp_path / notes).iterdir()
            if "main" not in file.name
            for line in file.read_text().splitlines()
            for one in json.loads(line)
        )

    once = train("one", "first", [*changes, "trainer.num_train_epochs=1"])
    assert len(once) == once.total() == steps * 8
    twice = train("whole", "both", changes)
    assert twice.total() == 2 * once.total()
    assert max(twice.values()) == 2
    second = twice - once
    assert len(second) == second.total() == steps * 8
    cut(tmp_path / "whole", stop, tmp_path / "cut")
    rest = train("cut", "rest", changes)
    assert rest.total() == (2 * steps - stop) * 8
    assert not rest - second
    same(*(load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole")), atol=1e-6)
