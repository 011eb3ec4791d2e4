"""Training learns, resumes exactly, and keeps one codebook over ranks."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from opendance_hf.apps.generate import generate
from opendance_hf.modeling.bailando import (
    BailandoForDanceGeneration,
    BailandoVQVAE,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import BailandoCodebook
from opendance_hf.modeling.loading import ModelError
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.schema import DanceSequence, flat_dancers, per_dancer
from opendance_hf.storage import pack
from opendance_hf.training import gpt, vqvae
from opendance_hf.training.recipe import RecipeError, RunArguments, checked, load_recipe
from tests.factories import make_sequence
from tests.training.media import write_song
from tests.training.support import launch, same

TINY = ["model.hidden_size=32", "model.codebook_size=32", "data.num_frames=64", "data.stride=8"]
STEPS = [
    *TINY,
    "trainer.report_to=none",
    "trainer.max_steps=12",
    "trainer.save_steps=3",
    "trainer.per_device_train_batch_size=4",
]


def steps_on_the_spot(seed: int, num_frames: int = 400) -> DanceSequence:
    """A dance that comes back to itself every 48 frames: six units to learn."""
    rng = np.random.default_rng(seed)
    turn = 2 * np.pi * np.arange(num_frames)[:, None, None] / 48
    poses = 0.6 * np.sin(turn + rng.uniform(0, 6, (1, 1, 24, 3))) * rng.uniform(-1, 1, (1, 1, 24, 3))
    transl = 0.2 * np.sin(turn[..., 0] + rng.uniform(0, 6, (1, 1, 3)))
    poses, transl = poses.astype(np.float32), transl.astype(np.float32)
    seq = make_sequence(seed, 1, num_frames)
    joints = forward_kinematics(poses, transl, per_dancer(seq.rest_offsets, 1, 24, 3)[:, None])
    return dataclasses.replace(
        seq, smpl_pose=flat_dancers(poses), smpl_transl=flat_dancers(transl), joints=flat_dancers(joints)
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "opendance-3d"
    pack([steps_on_the_spot(0)], folder)
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return BailandoVQVAE.from_pretrained(folder).state_dict()


VQVAE = "opendance_hf.training.vqvae"


@pytest.mark.slow
def test_overfits_one_sequence_then_dances_to_a_song(dataset: Path, tmp_path: Path) -> None:
    common = {"dataset": str(dataset), "config": "debug"}
    options = ["model.hidden_size=64", "model.codebook_size=64", "data.num_frames=64", "data.stride=8",
               "trainer.max_steps=260", "trainer.milestones=[220]",
               "trainer.per_device_train_batch_size=8", "trainer.learning_rate=1e-3", "trainer.save_strategy=no",
               "trainer.disable_tqdm=true"]  # fmt: skip
    coder = vqvae.run(RunArguments(**common, output_dir=str(tmp_path / "vqvae"), overrides=options))
    windows = vqvae.MotionWindows(dataset, 64, 32)
    batch = vqvae.collate([windows[i] for i in range(len(windows))])
    with torch.no_grad():
        output = coder.eval()(**batch)
    error_m = (output.joints - batch["joints"]).norm(dim=-1).mean()
    still_m = (batch["joints"].mean((0, 1)) - batch["joints"]).norm(dim=-1).mean()
    assert error_m < 0.03
    assert still_m > 0.08  # what a model that had learned nothing but the mean pose would be off by

    options = ["model.hidden_size=64", "model.num_attention_heads=2", "trainer.max_steps=120",
               "trainer.save_strategy=no", "trainer.disable_tqdm=true"]  # fmt: skip
    arguments = gpt.GPTArguments(
        **common, output_dir=str(tmp_path / "bailando"), overrides=options, vqvae=str(tmp_path / "vqvae")
    )
    whole = gpt.run(arguments)
    codes = gpt.CodeWindows(dataset, whole.vqvae, whole.config.gpt_config)
    batch = gpt.GPTStage.collate([codes[i] for i in range(len(codes))])
    with torch.no_grad():
        loss = whole.gpt(**batch).loss
    assert loss < 1.0  # two halves; guessing among 64 codes each would be 8.3

    again = BailandoForDanceGeneration.from_pretrained(tmp_path / "bailando")
    same(dict(whole.state_dict()), dict(again.state_dict()), atol=0)
    song = write_song(tmp_path / "song.wav", 3.35)
    files = generate(song, tmp_path / "bailando", tmp_path / "dance.npz")
    with np.load(files[0]) as dance:
        assert dance["joints"].shape == (round(3.35 * 60), 24, 3)
        assert np.isfinite(dance["joints"]).all()
        assert dance["joints"][:, [10, 11], 1].min() > -0.05


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_weights(dataset: Path, tmp_path: Path) -> None:
    arguments = ["--dataset", str(dataset), "--overrides", *STEPS]
    cut = launch(VQVAE, [*arguments, "--output_dir", str(tmp_path / "cut")])
    deadline = time.monotonic() + 240
    while not (tmp_path / "cut" / "checkpoint-6" / "trainer_state.json").is_file():
        assert time.monotonic() < deadline
        assert cut.poll() is None, cut.stdout.read()  # type: ignore[union-attr]
        time.sleep(0.02)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    vqvae.run(RunArguments(str(dataset), str(tmp_path / "whole"), overrides=STEPS))
    resumed = launch(VQVAE, [*arguments, "--output_dir", str(tmp_path / "cut")])
    assert resumed.wait(240) == 0, resumed.stdout.read()  # type: ignore[union-attr]
    same(weights(tmp_path / "cut"), weights(tmp_path / "whole"), atol=1e-6)


def test_the_gpt_resumes_exactly_dropout_included(dataset: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    coder = BailandoVQVAE(BailandoVQVAEConfig(hidden_size=16, codebook_size=16))
    coder.upper.codebook.codes.normal_(0, 0.05)
    coder.save_pretrained(tmp_path / "vqvae")
    options = ["model.hidden_size=16", "model.num_attention_heads=2", "trainer.max_steps=8", "trainer.save_steps=4",
               "trainer.per_device_train_batch_size=4", "trainer.disable_tqdm=true"]  # fmt: skip

    def run(name: str) -> dict[str, torch.Tensor]:
        arguments = gpt.GPTArguments(
            str(dataset), str(tmp_path / name), overrides=options, vqvae=str(tmp_path / "vqvae")
        )
        return gpt.run(arguments).state_dict()

    whole = run("whole")
    shutil.copytree(tmp_path / "whole" / "checkpoint-4", tmp_path / "cut" / "checkpoint-4")
    shutil.copy(tmp_path / "whole" / "run.json", tmp_path / "cut")
    (tmp_path / "cut" / "checkpoint-6").mkdir()  # a kill fell while it was written
    same(run("cut"), whole, atol=1e-7)
    assert not (tmp_path / "cut" / "training_args.bin").exists()

    coder.upper.codebook.codes.copy_(coder.upper.codebook.codes.flip(0))
    coder.save_pretrained(tmp_path / "vqvae")
    with pytest.raises(RecipeError, match="checkpoints of another run"):
        run("whole")


def test_a_codebook_is_not_blurred_by_half_precision() -> None:
    torch.manual_seed(0)
    book = BailandoCodebook(BailandoVQVAEConfig(hidden_size=32, codebook_size=64))
    book.codes.copy_(torch.randn(64, 32))
    hidden = torch.randn(4, 32, 50)
    _, exact, _ = book(hidden)
    with torch.autocast("cpu", torch.bfloat16):
        _, half, _ = book(hidden)
    assert torch.equal(exact, half)


def test_half_a_model_does_not_dance(tmp_path: Path) -> None:
    BailandoVQVAE(BailandoVQVAEConfig(hidden_size=16, codebook_size=16)).save_pretrained(tmp_path / "vqvae")
    song = write_song(tmp_path / "song.wav", 2.0)
    with pytest.raises(ModelError, match="a model of type 'bailando_vqvae', expected 'bailando' or"):
        generate(song, tmp_path / "vqvae", tmp_path / "dance.npz")


def test_recipes_say_what_is_wrong() -> None:
    assert load_recipe("vqvae", "paper")["trainer"]["num_train_epochs"] == 150
    assert load_recipe("gpt", "debug", ["model.hidden_size=7"])["model"]["hidden_size"] == 7
    with pytest.raises(RecipeError, match="no recipe 'huge' for gpt"):
        load_recipe("gpt", "huge")
    with pytest.raises(RecipeError, match="no option hiden_size"):
        checked(BailandoVQVAEConfig, {"hiden_size": 3})
    with pytest.raises(RecipeError, match=r"cannot apply 'trainer\.max_steps'"):
        load_recipe("gpt", "debug", ["trainer.max_steps"])
