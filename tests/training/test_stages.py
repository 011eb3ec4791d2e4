"""Every stage trains, resumes exactly, gives the same on two processes, and says what it did."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import GenerationConfig

from opendance_hf.apps.sample_stages import write_sample_stages
from opendance_hf.data import MotionWindows, SequenceReader
from opendance_hf.modeling.bailando import (
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    split_root,
)
from opendance_hf.modeling.bailando_pp import (
    BailandoPPForDanceGeneration,
    BailandoPPGPTConfig,
    placement_of,
    relation_of,
)
from opendance_hf.modeling.feature_extraction_dance import DanceFeatureExtractor
from opendance_hf.modeling.loading import ModelError, load_model
from opendance_hf.motion.skeleton import mirror_index
from opendance_hf.music.inputs import phase_columns
from opendance_hf.schema import per_dancer
from opendance_hf.training import rotation
from opendance_hf.training import stages as stages_by_name
from opendance_hf.training.bailando_pp import BailandoPPArguments, DuetWindows
from opendance_hf.training.bailando_pp import run as run_pp
from opendance_hf.training.codes import CodeWindows, Dances, coded
from opendance_hf.training.recipe import RecipeError
from opendance_hf.training.tuning import Songs
from opendance_hf.training.validation import held_out
from tests.apps.test_view import data_of
from tests.factories import make_sequence
from tests.fakehub import FakeHub
from tests.training.ranks import CHANGES, stages
from tests.training.support import (
    QUICK,
    QUICK_ROUNDS,
    SMALL_FACT,
    SMALL_GPT,
    SMALL_VQVAE,
    finish,
    launch,
    make_data,
    run_stage,
    same,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("stages"))


RESUMED = {
    "vqvae": ([*QUICK, *SMALL_VQVAE], 2),
    "gpt": ([*QUICK, *SMALL_GPT, "trainer.ema_decay=0.9"], 2),
    "bailando_pp": (QUICK, 2),
    "relation": ([*QUICK, *SMALL_VQVAE], 2),
    "fact": ([*QUICK, *SMALL_FACT, "trainer.ema_decay=0.9", "trainer.gradient_accumulation_steps=2"], 2),
    "rotation": ([*QUICK, "data.num_frames=64"], 2),
    "actor_critic": (QUICK_ROUNDS, 12),
}


@pytest.mark.parametrize("stage", RESUMED)
def test_a_resumed_run_ends_in_the_same_weights(stage: str, data: Path, tmp_path: Path) -> None:
    options, step = RESUMED[stage]
    whole = run_stage(stage, data, tmp_path / "whole", options)
    same(run_stage(stage, data, tmp_path / "whole", options), whole, atol=0)  # there is nothing left to do
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole" / f"checkpoint-{step}", cut / f"checkpoint-{step}")
    shutil.copy(tmp_path / "whole" / "run.json", cut)
    (cut / f"checkpoint-{step + 1}").mkdir()  # a kill fell while it was written
    same(run_stage(stage, data, cut, options), whole, atol=1e-7)
    assert not (cut / f"checkpoint-{step + 1}").exists()
    note = json.loads((cut / "run.json").read_text())
    (cut / "run.json").write_text(json.dumps({**note, "data": {"stride": 99}}))
    with pytest.raises(RecipeError, match="checkpoints of another run"):
        run_stage(stage, data, cut, options)


@pytest.mark.parametrize(
    "names", [["vqvae"], pytest.param([name for name in CHANGES if name != "vqvae"], marks=pytest.mark.slow)]
)
def test_two_processes_train_like_one(names: list[str], data: Path, tmp_path: Path) -> None:
    process = launch("tests.training.ranks", [str(data), str(tmp_path / "two"), *names], ranks=2)
    stages(data, tmp_path / "one", names, batch=4)
    finish(process)
    compare(tmp_path, names, "one", "two")


@pytest.mark.slow
def test_a_killed_process_is_restarted_and_nothing_changes(data: Path, tmp_path: Path) -> None:
    names = ["vqvae", "gpt"]
    arguments = [str(data), str(tmp_path / "killed"), *names]
    # Without the option, a restarted process may look for the killed one, whose address the shared store still has.
    environment = {"KILLED": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    killed = launch("tests.training.ranks", arguments, ranks=2, restarts=2, **environment)
    stages(data, tmp_path / "one", names, batch=4)
    assert finish(killed).count("exitcode: -9") == 2
    compare(tmp_path, names, "one", "killed")


def compare(folder: Path, names: list[str], left: str, right: str) -> None:
    """Compare the models of two launches; of the VQ-VAE, the codebooks too."""
    for stage in names:
        same(*(load_file(folder / run / stage / "model.safetensors") for run in (left, right)), atol=1e-5)


def test_the_average_of_the_weights_is_what_is_kept(data: Path, tmp_path: Path) -> None:
    options = [*QUICK, *SMALL_FACT, "trainer.save_steps=1"]
    run_stage("fact", data, tmp_path / "plain", options)
    found = run_stage("fact", data, tmp_path / "average", [*options, "trainer.ema_decay=0.25"])
    torch.manual_seed(42)
    steps = [load_file(tmp_path / "average" / f"checkpoint-{i}" / "model.safetensors") for i in range(1, 5)]
    last = load_file(tmp_path / "plain" / "checkpoint-4" / "model.safetensors")
    same(steps[-1], last, atol=0)  # the average does not touch the training
    first = load_file(tmp_path / "average" / "checkpoint-1" / "ema.safetensors")
    expected = {name: value.clone() for name, value in first.items()}
    for i, step in enumerate(steps[1:], start=2):
        decay = min(0.25, (1 + i) / (10 + i))
        expected = {name: value.lerp(step[name], 1 - decay) for name, value in expected.items()}
    same(found, expected, atol=1e-6)


@pytest.mark.parametrize("stage", ["vqvae", "relation", "gpt", "bailando_pp", "fact", "actor_critic"])
def test_accumulated_batches_count_as_one(stage: str, data: Path, tmp_path: Path) -> None:
    one = run_stage(stage, data, tmp_path / "one", CHANGES[stage])
    parts = ["trainer.per_device_train_batch_size=2", "trainer.gradient_accumulation_steps=2"]
    two = run_stage(stage, data, tmp_path / "parts", [*CHANGES[stage], *parts])
    # The bias of attention's keys has no gradient but rounding, which Adam blows up. Of the VQ-VAE, the codebooks too.
    same(*({k: v for k, v in found.items() if "k_proj.bias" not in k} for found in (one, two)), atol=1e-5)


@pytest.mark.parametrize("stage", ["vqvae", "bailando_pp"])
def test_data_on_the_device_change_nothing(stage: str, data: Path, tmp_path: Path) -> None:
    read = run_stage(stage, data, tmp_path / "read", CHANGES[stage])
    kept = run_stage(stage, data, tmp_path / "kept", [*CHANGES[stage], "trainer.data_on_device=true"])
    same(read, kept, atol=0)
    more = [*CHANGES[stage], "trainer.data_on_device=true", "trainer.dataloader_num_workers=2"]
    with pytest.raises(RecipeError, match="dataloader_num_workers=2, expected 0"):
        run_stage(stage, data, tmp_path / "workers", more)


@pytest.mark.parametrize("stage", ["gpt", "fact", "actor_critic"])
def test_half_precision(stage: str, data: Path, tmp_path: Path) -> None:
    full = run_stage(stage, data, tmp_path / "full", CHANGES[stage])
    half = run_stage(stage, data, tmp_path / "half", [*CHANGES[stage], "trainer.bf16=true"])
    assert all(value.dtype == full[name].dtype for name, value in half.items())
    assert any(not torch.equal(value, full[name]) for name, value in half.items())
    same(half, full, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vqvae", "gpt", "bailando_pp"])
def test_a_compiled_model_trains_the_same(stage: str, data: Path, tmp_path: Path) -> None:
    plain = run_stage(stage, data, tmp_path / "plain", CHANGES[stage])
    fast = run_stage(stage, data, tmp_path / "fast", [*CHANGES[stage], "trainer.torch_compile=true"])
    same(fast, plain, atol=1e-3)


def test_validation_leaves_the_training_alone(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opendance_hf")
    options = [*QUICK, *SMALL_GPT]
    without = run_stage("gpt", data, tmp_path / "without", options)
    more = ["validation.eval_steps=1", "validation.songs=1", "validation.seconds=2"]
    same(run_stage("gpt", data, tmp_path / "with", [*options, *more]), without, atol=0)
    assert caplog.text.count("held out: loss") == 1 + 4
    card = (tmp_path / "with" / "README.md").read_text()
    assert "| loss |" in card
    assert "| music_motion |" in card


def test_samples_are_filmed_but_not_pushed(data: Path, tmp_path: Path) -> None:
    more = ["validation.songs=1", "validation.samples=1", "validation.seconds=1"]
    run_stage("bailando_pp", data, tmp_path / "pp", [*QUICK, *more])
    film, dance, real = sorted((tmp_path / "pp" / "samples").iterdir())
    assert (film.suffix, dance.name, real.name) == (".mp4", f"{film.stem}.npz", f"{film.stem}.real.npz")
    assert film.stat().st_size > 1_000
    (page,) = write_sample_stages(tmp_path / "pp" / "samples")
    data = data_of(page.read_text(encoding="utf-8"))
    assert [(one["name"], len(one["dancers"]), one["frames"]) for one in data["motions"]] == [
        ("model", 2, 60),
        ("real", 2, 60),
    ]
    assert data["song"]
    whole = BailandoPPForDanceGeneration.from_pretrained(tmp_path / "pp")
    assert whole.generate_dance(torch.zeros(1, 3, 438), 20).joints.shape == (1, 2, 20, 24, 3)


@pytest.mark.slow
def test_a_pushed_model_codes_as_the_folder_does(data: Path, tmp_path: Path) -> None:
    card = data / "opendance-3d" / "README.md"
    shutil.copytree(data / "opendance-3d", tmp_path / "opendance-3d")
    text = card.read_text().replace("license: other", "license: cc-by-4.0")
    (tmp_path / "opendance-3d" / "README.md").write_text(text)
    (tmp_path / "vqvae" / "samples").mkdir(parents=True)
    (tmp_path / "vqvae" / "samples" / "dance.mp4").write_bytes(b"film")
    train = [
        "-m", "opendance_hf.training.vqvae", "--dataset", str(tmp_path / "opendance-3d"),
        "--output_dir", str(tmp_path / "vqvae"), "--push_to_hub", "org/dancer", "--overrides", *QUICK, *SMALL_VQVAE,
    ]  # fmt: skip
    load = """
import sys, torch
from opendance_hf.modeling.bailando import BailandoVQVAE
torch.manual_seed(0)
joints = torch.randn(2, 64, 24, 3)
codes = [BailandoVQVAE.from_pretrained(name).eval().encode(joints) for name in ("org/dancer", sys.argv[1])]
assert all(torch.equal(a, b) for a, b in zip(*codes))
print("same", len(codes[0][0].unique()))
"""
    with FakeHub() as hub:
        for command in (train, ["-c", load, str(tmp_path / "vqvae")]):
            done = subprocess.run(
                [sys.executable, *command],
                env=hub.env(tmp_path / "home"),
                capture_output=True,
                text=True,
                timeout=200,
            )
            assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.startswith("same")
        repo = hub.repos["model", "org/dancer"]
        files = repo.commits[repo.refs["main"]]
    assert {"README.md", "config.json", "model.safetensors", "recipe.yaml"} <= set(files)
    assert not [name for name in files if name.endswith(".mp4") or "checkpoint" in name]
    readme = files["README.md"].decode()
    front = yaml.safe_load(readme.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["library_name"] == "opendance-hf"
    assert 'from_pretrained("org/dancer")' in readme
    assert "started from another model" not in readme
    assert "| reconstruction_mm |" in readme
    assert "| individual | train |" in readme
    assert str(tmp_path) not in readme


def test_a_couple_learns_the_codes_of_its_relation(data: Path, tmp_path: Path) -> None:
    run_stage("relation", data, tmp_path / "relation", [*QUICK, *SMALL_VQVAE])
    start = {"bailando": str(data / "bailando"), "dataset": str(data / "opendance-3d")}
    related = {**start, "relation": str(tmp_path / "relation"), "output_dir": str(tmp_path / "pp")}
    whole = stages_by_name.run("bailando_pp", **related, overrides=QUICK)
    loaded = BailandoPPForDanceGeneration.from_pretrained(tmp_path / "pp")
    assert loaded.config.gpt_config.relation
    weights = load_file(tmp_path / "relation" / "model.safetensors")
    for name, value in weights.items():
        assert torch.equal(loaded.state_dict()[f"relation.{name}"], value), name
    windows = DuetWindows(data / "opendance-3d", whole, stride=3, turns=2)
    item, other = windows[1], windows[1 + len(windows) // 2]
    assert item["place_codes"].shape == item["hands_targets"].shape == (1, 29)
    assert torch.equal(item["place_codes"][:, 1:], item["place_targets"][:, :-1])
    number, start_code = windows.windows[1]
    name = windows.pieces[number].id
    seq = next(s for s in (make_sequence(100 + i, 2, 300) for i in range(24)) if s.id == name)
    joints = torch.from_numpy(seq.joints).view(1, 300, 2, 24, 3).transpose(1, 2)[:, :, :296]
    for found, seen in ((item, joints), (other, joints.flip(1))):  # as each of the dancers sees the other
        place, hands = whole.relation.encode(relation_of(seen))
        assert torch.equal(found["place_codes"][0], place[0, 0, start_code : start_code + 29])
        assert torch.equal(found["hands_targets"][0], hands[0, 0, start_code + 1 : start_code + 30])
    assert whole(torch.zeros(1, 30, 438), joints[:, :, :232]).metrics.keys() == {
        "upper",
        "lower",
        "place",
        "hands",
    }
    # Another VQ-VAE of relations is another run.
    run_stage("relation", data, tmp_path / "other", [*QUICK, *SMALL_VQVAE, "trainer.seed=7"])
    with pytest.raises(RecipeError, match=r"another run \(other relation\)"):
        stages_by_name.run("bailando_pp", **{**related, "relation": str(tmp_path / "other")}, overrides=QUICK)
    run_stage("relation", data, tmp_path / "short", [*QUICK, *SMALL_VQVAE, "model.num_downsamples=2"])
    wrong = {**related, "relation": str(tmp_path / "short"), "output_dir": str(tmp_path / "wrong")}
    with pytest.raises(RecipeError, match=r"short: frames_per_code is 4, that of .*bailando is 8"):
        stages_by_name.run("bailando_pp", **wrong, overrides=QUICK)
    with pytest.raises(RecipeError, match="relation=True needs --relation"):
        stages_by_name.run(
            "bailando_pp", **{**wrong, "relation": ""}, overrides=[*QUICK, "model.relation=true"]
        )


def test_duets_come_in_both_orders(data: Path) -> None:
    vqvae = load_model(str(data / "bailando"), expected=("bailando",)).vqvae
    config = BailandoPPGPTConfig(codebook_size=16, max_codes=8)
    whole = BailandoPPForDanceGeneration.of_parts(vqvae, config)
    windows = DuetWindows(data / "opendance-3d", whole, stride=3)
    one, other = windows[1], windows[1 + len(windows) // 2]
    assert one["upper_codes"].shape == (2, 8)
    assert one["placement_targets"].shape == (1, 8, 4)
    assert torch.equal(one["upper_targets"], other["upper_targets"].flip(0))
    assert torch.equal(one["music"], other["music"])
    assert not torch.equal(one["placement_targets"], other["placement_targets"])
    number, start = windows.windows[1]
    seq = next(
        s for s in (make_sequence(100 + i, 2, 300) for i in range(24)) if s.id == windows.pieces[number].id
    )
    joints = torch.from_numpy(seq.joints).view(1, 300, 2, 24, 3).transpose(1, 2)
    wanted = placement_of(joints)[0, :, start : start + 8]
    torch.testing.assert_close(one["placement_targets"], wanted)
    torch.testing.assert_close(
        one["music"], torch.from_numpy(seq.music_features_7p5fps[start + 1 : start + 9])
    )


@pytest.mark.parametrize("options", [{}, {"music_dim": 55}, {"music_window": 40, "music_dim": 55}])
def test_windows_hear_what_generation_hears(options: dict[str, int], data: Path) -> None:
    vqvae = load_model(str(data / "vqvae"), expected=("bailando_vqvae",))
    config = BailandoGPTConfig(codebook_size=16, hidden_size=16, num_attention_heads=2, **options)
    windows = CodeWindows(data / "opendance-3d", vqvae, config, num_codes=30, configs=["individual"])
    seq = next(s for s in (make_sequence(i, 1, 300) for i in range(24)) if s.id.startswith("seq-"))
    window = "music_window" in options
    music = seq.music_features if window else seq.music_features_7p5fps
    music = music[:, : config.music_dim]
    heard = BailandoGPT(config).pad_music(torch.from_numpy(music)[None], 37)[0]
    piece = next(i for i, (_, _, found) in enumerate(windows.pieces) if torch.equal(found, heard))
    item = windows[windows.windows.index((piece, 5))]
    assert item["music"].shape == ((8 * 29 + 80, 55) if window else (29, config.music_dim))
    at = slice(40, 8 * 34 + 80) if window else slice(5, 34)
    assert torch.equal(item["music"], heard[at])


def test_rewards_are_those_of_the_dance(data: Path) -> None:
    whole = BailandoForDanceGeneration.from_pretrained(data / "bailando").eval()
    songs = Songs(str(data / "opendance-3d"), whole, configs=["individual"])
    danced = songs.dance(whole.gpt, [0, 1], 2)
    alone = songs.dance(whole.gpt, [1], 1)
    assert torch.equal(danced[1], alone[1])
    piece = songs.pieces[0]
    codes = whole.gpt.generate_codes(piece.music[None], piece.upper[:1, :1], piece.lower[:1, :1], 36)
    assert torch.equal(danced[0], torch.cat(codes))
    batch = songs.batch([0, 3], danced, whole.vqvae, "paper")
    assert batch["upper_codes"].shape == (2, 29)
    assert batch["rewards"].shape == batch["mask"].shape == (2, 28)
    assert batch["mask"].sum(1).tolist() == [28, 1]
    heard = torch.zeros(300)
    heard[piece.music_beats] = 1
    cells = heard[8 * 4 : 8 * 32].view(28, 8).any(1)  # window 3: codes 4 to 31
    assert set(batch["rewards"].unique().tolist()) <= {-5.0, 5.0}
    assert (batch["rewards"][1][~cells] == 5).all()


def test_a_rotation_head_leaves_the_rest_alone(data: Path, tmp_path: Path) -> None:
    run_stage("rotation", data, tmp_path / "rot", [*QUICK, "data.num_frames=64"])
    before = BailandoForDanceGeneration.from_pretrained(data / "bailando")
    after = BailandoForDanceGeneration.from_pretrained(tmp_path / "rot")
    old, new = before.state_dict(), after.state_dict()
    assert all(torch.equal(value, new[name]) for name, value in old.items())
    learned = set(new) - set(old)
    assert learned
    assert all("rotation_decoder" in name for name in learned)
    fresh = rotation.with_head(before.vqvae).state_dict()
    assert any(not torch.equal(new[name], fresh[name.removeprefix("vqvae.")]) for name in learned)
    assert after.generate_dance(torch.zeros(1, 4, 438), 32).rotations.shape == (1, 32, 24, 3, 3)


@pytest.mark.parametrize("stage", ["rotation", "actor_critic"])
def test_a_stage_that_goes_on_with_a_bailando_keeps_its_defaults(
    stage: str, data: Path, tmp_path: Path
) -> None:
    options = {"rotation": RESUMED["rotation"][0], "actor_critic": [*QUICK_ROUNDS, "trainer.rounds=1"]}[stage]
    base = BailandoForDanceGeneration.from_pretrained(data / "bailando")
    base.generation_config = GenerationConfig(do_sample=True, temperature=0.7, top_k=5)
    base.save_pretrained(tmp_path / "bailando")  # the folder of the fixture has no extractor
    DanceFeatureExtractor.for_model(base.config, "librosa-0.8.1").save_pretrained(tmp_path / "bailando")
    (tmp_path / "opendance-3d").symlink_to(data / "opendance-3d")
    run_stage(stage, tmp_path, tmp_path / "run", options)
    after = BailandoForDanceGeneration.from_pretrained(tmp_path / "run")
    assert after.generation_config.to_diff_dict() == base.generation_config.to_diff_dict()
    saved = [
        json.loads((tmp_path / name / "preprocessor_config.json").read_text()) for name in ("bailando", "run")
    ]
    assert saved[0] == saved[1]
    assert saved[1]["engine"] == "librosa-0.8.1"


@pytest.mark.parametrize("spelling", ["~/private/bailando", "./private/bailando", "private/bailando/"])
def test_a_card_does_not_tell_where_a_folder_is(
    spelling: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data / "bailando", tmp_path / "private" / "bailando")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    stages_by_name.run(
        "gpt",
        dataset=str(data / "opendance-3d"),
        output_dir=str(tmp_path / "run"),
        overrides=[*QUICK, *SMALL_GPT, "trainer.max_steps=1", "trainer.save_strategy=no"],
        vqvae=spelling,
    )
    card = (tmp_path / "run" / "README.md").read_text()
    assert "bailando" in card
    assert "private" not in card


@pytest.fixture(scope="module")
def mocap(data: Path) -> Path:
    """A folder of motion capture: two duets and a solo, joints alone."""
    folder = data / "mocap"
    folder.mkdir()
    for name, dancers in (("salsa_1", 2), ("salsa_2", 2), ("solo", 1)):
        seq = make_sequence(len(name), dancers, 296)
        np.savez(folder / f"{name}.npz", joints=per_dancer(seq.joints, dancers, 24, 3))
    return folder


def test_motion_capture_is_danced_to_silence(data: Path, mocap: Path, tmp_path: Path) -> None:
    vqvae = load_model(str(data / "vqvae"), expected=("bailando_vqvae",))
    pieces = list(coded(Dances(mocap, leave_out=["salsa_2"]), vqvae, BailandoGPTConfig(), mirror=True))
    assert [piece.id for piece in pieces] == ["salsa_1", "salsa_1", "solo", "solo"]
    plain, mirrored = pieces[:2]
    assert plain.music.shape == (37, 438)
    assert not plain.music.any()
    swapped = plain.joints[:, :, mirror_index()] * torch.tensor([-1.0, 1, 1])
    assert torch.equal(mirrored.joints, swapped)
    upper, lower = vqvae.encode(split_root(swapped)[0])
    assert torch.equal(mirrored.upper, upper)
    assert torch.equal(mirrored.lower, lower)


@pytest.mark.parametrize("hears", ["features", "beats", "both"])
def test_motion_capture_may_have_beats_to_hear(hears: str, data: Path, mocap: Path, tmp_path: Path) -> None:
    with np.load(mocap / "solo.npz") as arrays:
        joints = arrays["joints"]
    beats = np.arange(-20.5, 330, 31)
    np.savez(tmp_path / "solo.npz", joints=joints, music_beats=beats)
    vqvae = load_model(str(data / "vqvae"), expected=("bailando_vqvae",))
    (piece,) = coded(Dances(tmp_path), vqvae, BailandoGPTConfig(hears=hears))
    assert piece.music.shape == (37, {"features": 438, "beats": 5, "both": 443}[hears])
    assert not piece.music[:, :-5].any()
    wanted = np.zeros((37, 5)) if hears == "features" else phase_columns(beats, 296, 8)
    np.testing.assert_array_equal(piece.music[:, -5:], wanted)
    assert piece.music_beats.tolist() == np.rint(beats).tolist()

    silent = ["data.mirror=true", "data.leave_out=[salsa_2]"]
    for stage, options in (("gpt", SMALL_GPT), ("bailando_pp", [])):
        arguments = {"vqvae": str(data / "vqvae")} if stage == "gpt" else {"bailando": str(data / "bailando")}
        stages_by_name.run(
            stage,
            dataset=str(mocap),
            output_dir=str(tmp_path / stage),
            overrides=[*QUICK, *options, *silent],
            **arguments,
        )
        assert (
            "On the sequences that the recipe leaves out, which"
            in (tmp_path / stage / "README.md").read_text()
        )
    with pytest.raises(RecipeError, match="no sequence salsa_9"):
        stages_by_name.run(
            "gpt",
            dataset=str(mocap),
            output_dir=str(tmp_path / "none"),
            overrides=["data.leave_out=[salsa_9]"],
            vqvae=str(data / "vqvae"),
        )


def test_what_is_left_out_of_training_is_no_matter_of_other_splits(data: Path, tmp_path: Path) -> None:
    dataset = str(data / "opendance-3d")
    one = SequenceReader(dataset, ["individual"], "train").row(0)["id"][0].as_py()
    for left_out in ([], [one]):
        section = {"num_frames": 64, "stride": 8, "leave_out": left_out}
        found, split = held_out(dataset, section, None)
        assert "leave_out" not in found
        found = MotionWindows(dataset, **found)
        assert split in ("validation", "test")
        assert len(found) > 0


def test_a_folder_of_motions_has_no_splits(mocap: Path) -> None:
    with pytest.raises(ValueError, match=r"a folder of motions has no split 'test': use data.leave_out"):
        held_out(mocap, {"leave_out": ["solo"]}, "test")


def test_a_dance_beside_a_dataset_does_not_hide_it(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "opendance-3d", tmp_path / "opendance-3d")
    np.savez(tmp_path / "opendance-3d" / "dance.npz", joints=np.zeros((64, 24, 3)))
    assert len(SequenceReader(tmp_path / "opendance-3d")) > 0


def test_stages_that_need_music_refuse_motion_capture(data: Path, mocap: Path, tmp_path: Path) -> None:
    arguments = {"dataset": str(mocap), "output_dir": str(tmp_path / "out")}
    with pytest.raises(RecipeError, match=r"mocap: a folder of motions, not a dataset"):
        stages_by_name.run("fact", **arguments)
    with pytest.raises(RecipeError, match=r"mocap: motions without music"):
        stages_by_name.run("actor_critic", **arguments, bailando=str(data / "bailando"))


def test_the_schedule_of_a_recipe(data: Path, tmp_path: Path) -> None:
    cosine = [*QUICK, *SMALL_VQVAE, "trainer.lr_scheduler_type=cosine"]
    run_stage("vqvae", data, tmp_path / "run", [*cosine, "trainer.milestones=null"])
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    rates = [entry["learning_rate"] for entry in state["log_history"] if "learning_rate" in entry]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.3 * rates[0]
    with pytest.raises(RecipeError, match="milestones and lr_scheduler_type cosine: choose one"):
        run_stage("vqvae", data, tmp_path / "both", cosine)  # the debug recipe has milestones


def write_other_model(folder: Path) -> Path:
    (folder / "other").mkdir()
    (folder / "other" / "config.json").write_text('{"model_type": "bert"}')
    return folder / "other"


def test_stages_say_what_they_need(data: Path, tmp_path: Path) -> None:
    arguments = {"dataset": str(data / "opendance-3d"), "output_dir": str(tmp_path / "out")}
    with pytest.raises(RecipeError, match=r"no stage 'gtp': give gpt, actor_critic.*; did you mean gpt\?"):
        stages_by_name.run("gtp", **arguments)
    with pytest.raises(RecipeError, match=r"fact takes no --bailando"):
        stages_by_name.run("fact", **arguments, vqvae="", bailando="x")
    with pytest.raises(RecipeError, match=r"gpt needs --vqvae"):
        stages_by_name.run("gpt", **arguments, bailando="")
    with pytest.raises(ModelError, match="of type 'bert', expected 'bailando_vqvae' or 'bailando'"):
        stages_by_name.run("rotation", **arguments, vqvae=str(write_other_model(tmp_path)))
    with pytest.raises(RecipeError, match="needs --bailando"):
        run_pp(BailandoPPArguments(**arguments))
    with pytest.raises(ModelError, match="of type 'bailando_vqvae', expected 'bailando'"):
        run_pp(BailandoPPArguments(**arguments, bailando=str(data / "vqvae")))
    with pytest.raises(RecipeError, match=r"no option sngs; did you mean songs\?"):
        run_stage("fact", data, tmp_path / "out", ["validation.sngs=1"])
    with pytest.raises(RecipeError, match=r"no option stirde; did you mean stride\?"):
        run_stage("fact", data, tmp_path / "out", ["data.stirde=1"])
    with pytest.raises(RecipeError, match=r"'trainer': no option max_stepz; did you mean max_steps\?"):
        run_stage("fact", data, tmp_path / "out", [*SMALL_FACT, "trainer.max_stepz=1"])


def test_the_trained_vqvae_inside_a_whole_model_is_used(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "opendance_hf")
    trained = load_file(data / "vqvae" / "model.safetensors")
    for name, kind in (("whole", "bailando"), ("duet", "bailando_pp")):
        source = data / "bailando"
        if kind == "bailando_pp":
            stages_by_name.run(
                "bailando_pp",
                dataset=str(data / "opendance-3d"),
                output_dir=str(tmp_path / "pp"),
                overrides=QUICK,
                bailando=str(data / "bailando"),
            )
            source = tmp_path / "pp"
        caplog.clear()
        stages_by_name.run(
            "gpt",
            dataset=str(data / "opendance-3d"),
            output_dir=str(tmp_path / name),
            overrides=[*QUICK, *SMALL_GPT],
            vqvae=str(source),
        )
        whole = load_file(tmp_path / name / "model.safetensors")
        for key, value in trained.items():
            assert torch.equal(whole[f"vqvae.{key}"], value), key
        assert f"starting from {source}, a model of type {kind}" in caplog.text
        assert f"using the trained VQ-VAE in {source}; its GPT is not used" in caplog.text
    alone = run_stage("gpt", data, tmp_path / "alone", [*QUICK, *SMALL_GPT])
    assert all(torch.equal(alone[key], value) for key, value in whole.items())


def test_datasets_and_models_are_not_mixed_up(data: Path, tmp_path: Path) -> None:
    dataset, vqvae, out = str(data / "opendance-3d"), str(data / "vqvae"), str(tmp_path / "out")
    with pytest.raises(ModelError, match="opendance-3d: a dataset, expected the folder of a model"):
        stages_by_name.run("gpt", dataset=dataset, vqvae=dataset, output_dir=out)
    for stage, more in (
        ("vqvae", {}),
        ("gpt", {"vqvae": vqvae}),
        ("fact", {}),
        ("rotation", {"vqvae": vqvae}),
    ):
        with pytest.raises(RecipeError, match="vqvae: a model, expected a dataset"):
            stages_by_name.run(stage, dataset=vqvae, output_dir=out, **more)
        with pytest.raises(RecipeError, match="none: no such folder here, and no such dataset on the Hub"):
            stages_by_name.run(stage, dataset=str(tmp_path / "none"), output_dir=out, **more)
    assert not Path(out).exists()


def test_the_tuned_gpt_is_what_is_kept(data: Path, tmp_path: Path) -> None:
    found = run_stage("actor_critic", data, tmp_path / "run", QUICK_ROUNDS)
    before = load_file(data / "bailando" / "model.safetensors")
    tuned = load_file(tmp_path / "run" / "checkpoint-24" / "model.safetensors")
    for name, value in found.items():
        if name.startswith("gpt."):
            assert torch.equal(value, tuned[name]), name
        else:
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(found[name], before[name]) for name in found)


@pytest.mark.parametrize("stage", ["rotation", "actor_critic"])
def test_a_damaged_extractor_of_the_base_is_not_replaced(stage: str, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "bailando" / "preprocessor_config.json").write_text('{"engine": "libr')
    with pytest.raises(ModelError, match="its feature extractor cannot be loaded"):
        run_stage(stage, tmp_path / "data", tmp_path / "out", RESUMED[stage][0])
