"""The Trainer does what the recipe says: optimiser, milestones, logs; and says it in readable lines."""

from __future__ import annotations

import fcntl
import inspect
import json
import logging
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from opendance_hf.training import ema
from opendance_hf.training.callbacks import duration
from opendance_hf.training.cpu import choose_threads
from opendance_hf.training.loop import train
from opendance_hf.training.recipe import RecipeError, RunArguments
from opendance_hf.training.stages import all_stages, stage_class
from tests.conftest import REPO
from tests.training.support import SMALL, make_data, run_stage


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("trainer"))


class Line(nn.Module):
    """y = weight x, with a scalar beside the loss; a part of it is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x: Tensor) -> dict[str, Any]:
        loss = ((self.weight * x - self.frozen) ** 2).mean()
        return {"loss": loss, "metrics": {"loss_again": loss.detach(), "twice": 2 * loss.detach()}}


class Numbers(Dataset[dict[str, Tensor]]):
    def __init__(self, count: int) -> None:
        self.x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index]}


def fit(folder: Path, options: dict[str, Any], count: int = 20) -> tuple[Line, list[dict[str, Any]]]:
    """Train on numbers; returns the model and the history of the last checkpoint."""
    model = Line()
    section = {"max_steps": 6, "save_steps": 6, "logging_steps": 1, "report_to": "none", "use_cpu": True, "disable_tqdm": True,
               "per_device_train_batch_size": 4, **options}  # fmt: skip
    run = RunArguments("numbers", str(folder))
    done = train(
        model, Numbers(count), lambda items: {"x": torch.stack([i["x"] for i in items])}, section, run, {}
    )
    state = json.loads((folder / f"checkpoint-{done.steps}" / "trainer_state.json").read_text())
    return model, [entry for entry in state["log_history"] if "loss" in entry]


def by_hand(optimizer: torch.optim.Optimizer, model: Line, batches: list[Tensor]) -> Tensor:
    for x in batches:
        model(x)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.weight.detach()


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({}, lambda p: torch.optim.Adam(p, lr=0.1)),
        ({"adam_beta1": 0.5, "adam_beta2": 0.9}, lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.9))),
        ({"adam_epsilon": 0.5}, lambda p: torch.optim.Adam(p, lr=0.1, eps=0.5)),
        ({"weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1)),
        ({"optim": "sgd"}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ({"optim": "sgd", "weight_decay": 0.1}, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1)),
    ],
)
def test_the_optimiser_is_that_of_the_recipe(options: dict[str, Any], make: Any, tmp_path: Path) -> None:
    # A single batch, so that the order does not matter.
    model, _ = fit(tmp_path, {"learning_rate": 0.1, **options}, count=4)
    other = Line()
    wanted = by_hand(make([other.weight]), other, [Numbers(4).x] * 6)
    torch.testing.assert_close(model.weight.detach(), wanted, atol=1e-6, rtol=0)
    assert torch.equal(model.frozen, torch.ones(3))


@pytest.mark.parametrize(
    ("count", "more", "per_epoch"),
    [
        (20, {}, 5),
        (22, {}, 5),  # the last, smaller batch is dropped
        (22, {"dataloader_drop_last": False}, 6),
        (20, {"gradient_accumulation_steps": 2}, 3),  # two of two batches and one of one
        (24, {"gradient_accumulation_steps": 4}, 2),
    ],
)
def test_milestones_are_at_the_ends_of_epochs(
    count: int, more: dict[str, Any], per_epoch: int, tmp_path: Path
) -> None:
    options = {
        "milestone_epochs": [1, 2],
        "max_steps": -1,
        "num_train_epochs": 3,
        "learning_rate": 1.0,
        **more,
    }
    options["save_strategy"] = "epoch"
    _, history = fit(tmp_path, options, count)
    rates = [round(math.log10(entry["learning_rate"]), 6) for entry in history]
    assert rates == [*[0] * per_epoch, *[-1] * per_epoch, *[-2] * per_epoch]


@pytest.mark.parametrize("more", [{}, {"gradient_accumulation_steps": 3}])
@pytest.mark.parametrize("every", [1, 4])
def test_logged_scalars_are_of_the_steps_of_the_logged_loss(
    every: int, more: dict[str, Any], tmp_path: Path
) -> None:
    _, history = fit(tmp_path, {"logging_steps": every, "max_steps": 8, "save_steps": 8, **more})
    assert len(history) == 8 // every
    for entry in history:
        assert entry["loss_again"] == pytest.approx(entry["loss"], rel=1e-3)
        assert entry["twice"] == pytest.approx(2 * entry["loss"], rel=1e-3)


def test_parts_of_the_loss_are_logged_with_it(data: Path, tmp_path: Path) -> None:
    run_stage("fact", data, tmp_path / "run", SMALL["fact"])
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    logged = [entry for entry in state["log_history"] if "loss" in entry]
    assert [entry["step"] for entry in logged] == [2, 4]
    for entry in logged:
        # 3 numbers of the translation, 216 of the rotations and 6 zeros
        parts = (3 * entry["translation"] + 216 * entry["rotation"]) / 225
        assert parts == pytest.approx(entry["loss"], rel=1e-3)


class Classifier(Line):
    """Takes any keyword, as models with a loss over tokens do: the Trainer must still divide accumulated losses."""

    def forward(self, x: Tensor, labels: Tensor, **_: Any) -> dict[str, Any]:  # type: ignore[override]
        return super().forward(x)


def test_accumulated_losses_of_a_classifier_are_divided(tmp_path: Path) -> None:
    found = []
    for parts in (1, 4):
        model = Classifier()
        section = {"max_steps": 1, "save_steps": 1, "logging_steps": 1, "report_to": "none", "use_cpu": True, "disable_tqdm": True,
                   "optim": "sgd", "learning_rate": 1.0, "per_device_train_batch_size": 8 // parts,
                   "gradient_accumulation_steps": parts}  # fmt: skip

        def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
            x = torch.stack([item["x"] for item in items])
            return {"x": x, "labels": torch.zeros(len(x), dtype=torch.long)}

        train(model, Numbers(8), collate, section, RunArguments("numbers", str(tmp_path / str(parts))), {})
        found.append(model.weight.detach())
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("max_step=2", r"no option max_step; did you mean max_steps\?"),
        ("learning_rat=2", r"no option learning_rat; did you mean learning_rate\?"),
        ("milestone=[2]", r"no option milestone; did you mean milestones\?"),
        ("qqqq=2", r"no option qqqq; docs/training.md"),
        ("output_dir=x", r"output_dir cannot be set here: it is --output-dir"),
        ("eval_strategy=steps", r"eval_strategy cannot be set here: the section 'validation'"),
        ("optim=none", "trainer"),
        ("report_to=nobody", "trainer"),
    ],
)
def test_trainer_options_that_cannot_be_used(option: str, message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        run_stage("fact", data, tmp_path, [*SMALL["fact"], f"trainer.{option}"])
    assert "__init__" not in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "option", "message"),
    [
        ("vqvae", "model.hidden_size=abc", "'model': .*str"),
        ("gpt", "model.num_base_layers=[1]", "'model': .*list"),
        ("vqvae", "data.num_frames=abc", "'data': .*str"),
        ("fact", "data.configs=5", "'data': .*int"),
        ("vqvae", "trainer.milestones=5", "'trainer': milestones=5, expected a list of numbers"),
        ("vqvae", "trainer.milestones=[a]", "'trainer': milestones=.*, expected a list of numbers"),
        ("vqvae", "trainer.max_steps=abc", "'trainer': max_steps='abc', expected a number"),
        ("vqvae", "trainer.logging_steps=abc", "'trainer': logging_steps='abc', expected a number"),
        ("vqvae", "trainer.save_total_limit=abc", "'trainer': save_total_limit='abc', expected a number"),
        ("vqvae", "trainer.ema_decay=abc", "'trainer': ema_decay='abc', expected a number"),
        ("vqvae", "trainer.per_device_train_batch_size=[4]", "'trainer': per_device_train_batch_size="),
        ("vqvae", "validation.windows=abc", "'validation': windows='abc', expected int"),
        ("vqvae", "validation.split=5", r"'validation': split=5, expected str \| None"),
        ("actor_critic", "trainer.rounds=abc", "'trainer': rounds='abc', expected int"),
        ("actor_critic", "trainer.discount=abc", "'trainer': discount='abc', expected float"),
    ],
)
def test_values_of_a_wrong_type(stage: str, option: str, message: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"recipe section {message}"):
        run_stage(stage, data, tmp_path, [*SMALL[stage], option])


def test_sharded_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match=r"FSDP shards the weights.*train with DDP"):
        fit(tmp_path, {})


def test_errors_of_a_model_in_training_are_not_taken_for_those_of_a_recipe(tmp_path: Path) -> None:
    def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        raise TypeError("a bug")

    section = {"max_steps": 1, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
    with pytest.raises(TypeError, match="a bug"):
        train(Line(), Numbers(8), collate, section, RunArguments("numbers", str(tmp_path)), {})


@pytest.mark.parametrize("stage", all_stages())
def test_misspelt_options_of_every_section_get_a_suggestion(stage: str, tmp_path: Path) -> None:
    kind = stage_class(stage)
    misspelt = {"validation": ("song", "songs"), "trainer": ("learning_rates", "learning_rate")}
    misspelt["data"] = {"genre": ("second", "seconds"), "lifter": ("strides", "stride")}.get(
        stage, ("splits", "split")
    )
    for section, (wrong, right) in misspelt.items():
        arguments = kind.arguments_class("none", str(tmp_path), overrides=[f"{section}.{wrong}=1"])
        with pytest.raises(RecipeError, match=rf"'{section}': no option {wrong}; did you mean {right}\?"):
            kind(arguments)
    arguments = kind.arguments_class("none", str(tmp_path), overrides=["model.hiden_size=1"])
    with pytest.raises(
        RecipeError, match=r"'model': no option hiden_size[;,] (did you mean|it must be empty|there are)"
    ):
        kind(arguments)


def test_what_a_stage_passes_itself_is_no_option(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no option config"):
        run_stage("gpt", data, tmp_path, [*SMALL["gpt"], "data.config=1"])


def test_a_run_tells_what_it_does(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "opendance_hf")
    monkeypatch.setattr("opendance_hf.training.callbacks._MEASURED_S", 0)
    monkeypatch.setattr("opendance_hf.training.callbacks._MEASURED_STEPS", 1)
    run_stage("gpt", data, tmp_path / "run", SMALL["gpt"])
    lines = [record.getMessage() for record in caplog.records]
    patterns = ["starting from .*vqvae, a model of type bailando_vqvae", "preparing windows of .*opendance-3d",
                r"\d+ windows of 30 codes from \d+ dances", "2 steps left: less than a minute",
                r"step 2/4: loss \d\.\d{4}, learning rate 1.0e-03", "step 4/4: loss", "step 4/4, held out: loss"]  # fmt: skip
    found = [next((i for i, line in enumerate(lines) if re.match(p, line)), None) for p in patterns]
    assert None not in found, lines
    assert found == sorted(found)  # type: ignore[type-var]
    assert not [line for line in lines if "{" in line]


def test_durations() -> None:
    assert [duration(s) for s in (3, 59, 61, 720, 3 * 3600)] == [
        "less than a minute", "less than a minute", "about 1 min", "about 12 min", "about 3 h",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_terminal_gets_readable_lines_too(data: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-c", "from opendance_hf.cli import main; main()", "train", "fact",
        "--dataset", str(data / "opendance-3d"), "--output-dir", str(tmp_path / "run"),
    ]  # fmt: skip
    for change in SMALL["fact"]:
        if "disable_tqdm" not in change:
            command += ["--set", change]
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        command, stdout=slave, stderr=slave, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        said += part
    text = said.decode()
    assert process.wait(60) == 0, text
    assert re.search(r"step 2/4: loss \d\.\d{4}", text), text
    assert "4/4 [" in text, "a progress bar"
    for noise in ("{'", "train_runtime", "Writing model shards", "Loading weights"):
        assert noise not in text


def test_small_models_and_busy_machines_get_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    small, large = nn.Linear(10, 10), nn.Linear(3000, 1000)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("os.getloadavg", lambda: (0.2, 0, 0))

    def chosen(model: nn.Module) -> int:
        torch.set_num_threads(4)
        assert choose_threads(model) == torch.get_num_threads()
        return torch.get_num_threads()

    assert [chosen(small), chosen(large)] == [1, 4]
    monkeypatch.setattr("os.getloadavg", lambda: (2.2, 0, 0))
    assert chosen(large) == 2
    monkeypatch.setattr("os.getloadavg", lambda: (9, 0, 0))
    assert chosen(large) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert chosen(small) == 4


def test_average_starts_from_the_initial_weights(tmp_path: Path) -> None:
    model, _ = fit(tmp_path, {"ema_decay": 0.9, "max_steps": 3, "save_steps": 1})
    average = torch.ones(3)
    for step in (1, 2, 3):
        weight = load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")["weight"]
        average = average.lerp(weight, 1 - (1 + step) / (10 + step))  # less than 0.9 for the first 80 steps
        saved = load_file(tmp_path / f"checkpoint-{step}" / "ema.safetensors")
        torch.testing.assert_close(saved, {"weight": average}, atol=1e-7, rtol=0)
    torch.testing.assert_close(model.weight.detach(), average, atol=1e-7, rtol=0)


def test_validation_looks_at_the_average(tmp_path: Path) -> None:
    seen: list[tuple[bool, float]] = []

    def validate(model: Line) -> dict[str, float]:
        seen.append((model.training, float(model.weight[0])))
        return {"weight": float(model.weight[0])}

    section = {"max_steps": 3, "save_steps": 1, "report_to": "none", "use_cpu": True, "disable_tqdm": True, "ema_decay": 0.9,
               "learning_rate": 0.1, "per_device_train_batch_size": 4}  # fmt: skip
    done = train(
        Line(), Numbers(20), lambda items: {"x": torch.stack([i["x"] for i in items])}, section,
        RunArguments("numbers", str(tmp_path)), {}, validate=validate, eval_steps=1,
    )  # fmt: skip
    averages = [
        float(load_file(tmp_path / f"checkpoint-{step}" / "ema.safetensors")["weight"][0])
        for step in (1, 2, 3)
    ]
    assert seen == [(False, pytest.approx(average)) for average in averages]
    assert done.metrics == {"weight": pytest.approx(averages[-1])}
    assert done.steps == 3


def test_only_checkpoints_of_the_trainer_are_removed(tmp_path: Path) -> None:
    for name in ("checkpoint-best", "checkpoint-1-copy"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    fit(tmp_path, {"save_steps": 2, "save_total_limit": 1})
    names = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert names == {"checkpoint-best", "checkpoint-1-copy", "checkpoint-6"}


def test_a_kill_while_the_average_is_written_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opendance_hf")
    options = {"save_steps": 2, "save_total_limit": 1, "ema_decay": 0.9}
    wanted, _ = fit(tmp_path / "whole", options)
    write = ema.WeightAverage.on_save

    def killed(self: ema.WeightAverage, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 4:
            raise KeyboardInterrupt
        write(self, args, state, control, **more)

    monkeypatch.setattr(ema.WeightAverage, "on_save", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", options)
    monkeypatch.undo()
    found, _ = fit(tmp_path / "cut", options)
    assert f"continuing from {tmp_path / 'cut' / 'checkpoint-2'}" in caplog.text
    torch.testing.assert_close(found.weight, wanted.weight, atol=1e-7, rtol=0)
    assert [path.name for path in (tmp_path / "cut").glob("checkpoint-*")] == ["checkpoint-6"]


HELD_OUT = {
    "vqvae": {"num_frames": 64, "stride": 64, "mirror": False, "turns": 1},
    "gpt": {"stride": 29, "mirror": False},
    "bailando_pp": {"stride": 29, "mirror": False, "turns": 1, "swap": False},
    "relation": {"num_frames": 64, "stride": 64, "mirror": False},
    "fact": {"stride": 240},
    "rotation": {"num_frames": 64, "stride": 64},
}


def test_every_stage_that_cuts_windows_is_checked() -> None:
    sections = {stage: stage_class(stage).data_section for stage in all_stages()}
    assert {stage for stage, kind in sections.items() if "stride" in inspect.signature(kind).parameters} == {
        *HELD_OUT,
        "lifter",
    }  # its pairs: test_lifter.py


@pytest.mark.parametrize("stage", HELD_OUT)
def test_held_out_windows_have_no_copies(stage: str, data: Path, tmp_path: Path) -> None:
    kind = stage_class(stage)
    models = {
        "gpt": {"vqvae": "vqvae"},
        "rotation": {"vqvae": "vqvae"},
        "bailando_pp": {"bailando": "bailando"},
    }
    starts = {option: str(data / name) for option, name in models.get(stage, {}).items()}
    made = kind(
        kind.arguments_class(str(data / "opendance-3d"), str(tmp_path), overrides=SMALL[stage], **starts)
    )
    made.load_base()
    made.model = made.build_model()
    made.data = made.build_data(made.recipe["data"])
    trained = {
        name: {"stride": 1, "mirror": True, "turns": 4, "swap": True}.get(name, value)
        for name, value in HELD_OUT[stage].items()
    }
    assert made.held_out_options({**trained, "subset": 3, "configs": ["individual"]}) == {
        **HELD_OUT[stage],
        "configs": ["individual"],
    }
    others, _ = made.build_held_out()
    assert len(others) > 0


def test_a_subset_is_of_training_alone(data: Path, tmp_path: Path) -> None:
    found = []
    for more in ([], ["data.subset=1"]):
        kind = stage_class("fact")
        arguments = kind.arguments_class(
            str(data / "opendance-3d"), str(tmp_path), overrides=[*SMALL["fact"], *more]
        )
        made = kind(arguments)
        made.model = made.build_model()
        made.data = made.build_data(made.recipe["data"])
        found.append((len(made.data), len(made.build_held_out()[0])))
    assert found[1][0] < found[0][0]
    assert found[1][1] == found[0][1]
