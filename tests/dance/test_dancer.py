"""One dancer behind every front door: the same song, model and seed give the same joints, bit for bit."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console
from transformers import pipeline
from typer.testing import CliRunner

import opendance_hf.apps.demo as demo
from opendance_hf.apps.generate import GenerateError, GenerateOptions, generate
from opendance_hf.apps.report import BuildReport
from opendance_hf.cli import app
from opendance_hf.dance import DanceError, Dancer
from opendance_hf.dance.dancer import dancing, torch_device
from opendance_hf.files import OutputError
from opendance_hf.formats import opendance
from opendance_hf.modeling.bailando import BailandoConfig, BailandoForDanceGeneration
from opendance_hf.modeling.bailando_pp import BailandoPPConfig, BailandoPPForDanceGeneration
from opendance_hf.modeling.fact import FACTConfig, FACTForDanceGeneration
from opendance_hf.modeling.layers import first_codes
from opendance_hf.modeling.loading import ModelError
from opendance_hf.modeling.models import MODELS
from opendance_hf.motion.generated import stand_on_ground
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.music import AudioError, annotate_music
from opendance_hf.schema import DanceSequence
from opendance_hf.storage import pack, save_sequence
from opendance_hf.training.validation import Validation, dance_to, songs_of
from tests.factories import make_sequence
from tests.fakehub import FakeHub
from tests.fixtures.make_music_synth import synth_music

RATE = 30_720
_CODES = {"codebook_size": 32, "hidden_size": 16}
_GPT = {
    **_CODES, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1,
    "initializer_range": 0.3,  # with the usual 0.02, an untrained model hardly hears the music
}  # fmt: skip
_FACT = {
    "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_motion_layers": 1, "num_audio_layers": 1,
    "num_cross_layers": 1, "motion_frames": 30, "audio_frames": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models of all kinds that dance, whose dances differ from seed to seed."""
    home = tmp_path_factory.mktemp("models")
    models = {
        "solo": lambda: BailandoForDanceGeneration(BailandoConfig(_CODES, _GPT)),
        "window": lambda: BailandoForDanceGeneration(
            BailandoConfig(_CODES, {**_GPT, "music_window": 40, "music_dim": 55})
        ),
        "duet": lambda: BailandoPPForDanceGeneration(BailandoPPConfig(_CODES, _GPT)),
        "fact": lambda: FACTForDanceGeneration(FACTConfig(**_FACT)),
    }
    for name, make in models.items():
        torch.manual_seed(0)
        model: Any = make().eval()
        for key, buffer in model.named_buffers():
            if key.endswith("codebook.codes"):
                buffer.normal_()
        Dancer.of(model).save_pretrained(home / name)
    return home


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("songs") / "song.wav", 4.2)


def write(path: Path, seconds: float) -> Path:
    sound = np.resize(synth_music(RATE), round(seconds * RATE))
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    return path


def row_of(song: Path, dancers: int = 1) -> DanceSequence:
    """A dataset row with the music of a song."""
    music = annotate_music(song)
    sequence = make_sequence(0, dancers, len(music.music_features))
    columns = ("music_features", "music_features_7p5fps", "music_features_fact", "music_beats")
    return dataclasses.replace(
        sequence,
        **{name: np.asarray(getattr(music, name), getattr(sequence, name).dtype) for name in columns},
    )


def command(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", ["solo", "window", "duet", "fact"])
def test_every_door_gives_the_same_dance(name: str, folder: Path, song: Path, tmp_path: Path) -> None:
    dancers = 2 if name == "duet" else 1
    row = row_of(song, dancers)
    pack([row], tmp_path / "opendance-3d")
    save_sequence(tmp_path / "row.npz", row)
    start = opendance.read(tmp_path / "row.npz")

    dancer = Dancer.from_pretrained(folder / name)
    (motion,) = dancer([song], seed_motions=[start])
    assert motion.joints.shape == (dancers, 252, 24, 3)

    command(
        "generate", song, "--model", folder / name, "--out", tmp_path / "dance.npz", "--seed-motion",
        tmp_path / "row.npz",
    )  # fmt: skip
    with np.load(tmp_path / "dance.npz") as file:
        by_command = {key: file[key] for key in file.files}
    solo = 0 if dancers == 1 else slice(None)
    for key, field in (("joints", "joints"), ("smpl_pose", "poses"), ("smpl_transl", "transl")):
        np.testing.assert_array_equal(by_command[key], getattr(motion, field)[solo], key)
    np.testing.assert_array_equal(by_command["music_beats"], motion.meta["music_beats"])

    by_pipeline = pipeline("music-to-dance", model=str(folder / name))(str(song), seed_motion=start)
    np.testing.assert_array_equal(by_pipeline["joints"], motion.joints[solo])
    assert by_pipeline["bpm"] == motion.meta["bpm"]

    split = next((tmp_path / "opendance-3d" / "data").glob("*/*.parquet")).name.partition("-")[0]
    options = Validation(songs=1)
    (held_out,) = songs_of(tmp_path / "opendance-3d", None, split, options, dancers=dancers)
    np.testing.assert_array_equal(dance_to(dancer, held_out, options), motion.joints)
    if name == "fact":
        (faster,) = dancer([song], seed_motions=[start], keep=4)
        validated = dance_to(dancer, held_out, dataclasses.replace(options, keep=4))
        np.testing.assert_array_equal(validated, faster.joints)
        assert not np.array_equal(faster.joints, motion.joints)


def test_the_demo_dances_as_the_command_does(
    folder: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (motion,) = Dancer.from_pretrained(folder / "solo")(song)
    pack([row_of(song)], tmp_path / "opendance-3d")
    monkeypatch.setattr(demo, "train_small", lambda *_: folder / "solo")
    result: Any = SimpleNamespace(items=[SimpleNamespace(path=str(song), status="published")])
    report = BuildReport(title="demo", inputs=[], sequences=[])
    demo.dance(result, report, demo.DemoOptions(tmp_path, [], 1), Console(file=io.StringIO()))
    with np.load(tmp_path / "dance" / "dance.npz") as file:
        np.testing.assert_array_equal(file["joints"], motion.joints[0])
    by_pipeline = pipeline("music-to-dance", model=str(folder / "solo"))(str(song))
    np.testing.assert_array_equal(by_pipeline["joints"], motion.joints[0])


def test_the_saved_extractor_is_used(folder: Path, song: Path, tmp_path: Path) -> None:
    """Converted official weights need librosa-0.8.1: its features give another dance, from every door."""
    shutil.copytree(folder / "solo", tmp_path / "official")
    config = tmp_path / "official" / "preprocessor_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "engine": "librosa-0.8.1"}))
    (usual,) = Dancer.from_pretrained(folder / "solo")(song)
    (official,) = Dancer.from_pretrained(tmp_path / "official")(song)
    (asked,) = Dancer.from_pretrained(folder / "solo", engine="librosa-0.8.1")(song)
    assert not np.array_equal(usual.joints, official.joints)
    np.testing.assert_array_equal(asked.joints, official.joints)
    (file,) = generate(song, tmp_path / "official", tmp_path / "dance.npz")
    with np.load(file) as dance:
        np.testing.assert_array_equal(dance["joints"], official.joints[0])
    by_pipeline = pipeline("music-to-dance", model=str(tmp_path / "official"))(str(song))
    np.testing.assert_array_equal(by_pipeline["joints"], official.joints[0])
    generate(song, folder / "solo", tmp_path / "other.npz", GenerateOptions(engine="librosa-0.8.1"))
    with np.load(tmp_path / "other.npz") as dance:
        np.testing.assert_array_equal(dance["joints"], official.joints[0])


def test_generation_defaults_are_those_of_the_model(folder: Path, song: Path) -> None:
    dancer = Dancer.from_pretrained(folder / "solo")
    (usual,) = dancer(song, seed=3)
    (same,) = dancer(song, seed=3, do_sample=True, top_k=20)
    np.testing.assert_array_equal(same.joints, usual.joints)
    for change in ({"top_k": 1}, {"do_sample": False}, {"temperature": 30.0, "top_k": None}):
        (other,) = dancer(song, seed=3, **change)
        assert not np.array_equal(other.joints, usual.joints), change
    by_pipeline = pipeline("music-to-dance", model=str(folder / "solo"))(str(song), seed=3)
    np.testing.assert_array_equal(by_pipeline["joints"], usual.joints[0])
    (other,) = dancer(song, seed=4)
    assert not np.array_equal(other.joints, usual.joints)


@pytest.mark.parametrize("name", ["solo", "window", "duet", "fact"])
def test_a_dance_does_not_depend_on_its_batch(name: str, folder: Path, song: Path, tmp_path: Path) -> None:
    songs: list[Any] = [song, write(tmp_path / "short.wav", 2.0), write(tmp_path / "middle.wav", 3.1)]
    save_sequence(tmp_path / "row.npz", make_sequence(0, 2 if name == "duet" else 1, 240))
    seeds = [opendance.read(tmp_path / "row.npz")]
    dancer = Dancer.from_pretrained(folder / name)
    together = dancer(songs, seed=1, batch_size=3, seed_motions=seeds)
    assert [dance.num_frames for dance in together] == [252, 120, 186]
    assert [dance.meta["id"] for dance in together] == ["song", "short", "middle"]
    for one, dance in zip(songs, together, strict=True):
        (alone,) = dancer(one, seed=1, seed_motions=seeds)
        np.testing.assert_allclose(dance.joints, alone.joints, atol=1e-4)


def test_a_dance_that_stands_still_is_danced_again(
    folder: Path, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dancer = Dancer.from_pretrained(folder / "solo", device="cpu")
    part = dancer.feature_extractor(song)
    pieces = [part["music_features"][0], part["music_features"][0][:30]]
    frames, takes = [252, 240], [7 + take * 1_000_000_007 for take in range(4)]
    danced = [dancer.dance(pieces, frames, seed=seed) for seed in takes]
    assert len({take[1]["joints"].tobytes() for take in danced}) == 4, "other draws"
    # Untrained models never stand still, so the shares are made up.
    measured = {}
    for number in range(2):
        for take, dance in enumerate(danced):
            measured[dance[number]["joints"].tobytes()] = [[0.9, 0.8, 0.6, 0.7], [0.9, 0.4, 0.0, 0.0]][
                number
            ][take]
    asked = []

    def still(joints: np.ndarray, fps: float) -> float:
        asked.append(len(joints))
        return measured[joints.tobytes()]

    monkeypatch.setattr("opendance_hf.dance.dancer.still_ratio", still)
    assert dancer.dance(pieces, frames, seed=7)[0]["joints"].tobytes() == danced[0][0]["joints"].tobytes()
    assert not asked
    dancer.model.generation_config.max_still = 0.5
    first, second = dancer.dance(pieces, frames, seed=7)
    assert (first["joints"] == danced[2][0]["joints"]).all(), "the liveliest of four takes"
    assert (second["joints"] == danced[1][1]["joints"]).all(), "the first that is not still"
    (again,) = dancer.dance(pieces[:1], frames[:1], seed=7, max_still=0.95)
    assert (again["joints"] == danced[0][0]["joints"]).all()
    asked.clear()
    motion = dancer(song, seed=1, max_still=None)[0]
    dancer.dance(pieces, frames, seed=7, seed_motions=[motion], do_sample=False)
    assert not asked, "without draws another take is the same"
    with pytest.raises(DanceError, match="max_still must be a share from 0 to 1, got 2"):
        dancer.dance(pieces, frames, max_still=2)


def test_each_piece_has_its_own_first_code() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    both = first_codes(1000, (2, 3), generators)
    for piece, seed in enumerate((1, 2)):
        alone = first_codes(1000, (1, 3), torch.Generator().manual_seed(seed))
        assert torch.equal(both[:, piece], alone[:, 0])


def test_where_the_seed_motion_is_does_not_matter_to_fact(folder: Path, song: Path, tmp_path: Path) -> None:
    save_sequence(tmp_path / "row.npz", make_sequence(0, 1, 240))
    start = opendance.read(tmp_path / "row.npz")
    assert start.transl is not None
    moved = dataclasses.replace(start, transl=start.transl + np.array([3.0, 0.0, -2.0], np.float32))
    dancer = Dancer.from_pretrained(folder / "fact")
    (here,), (there,) = dancer(song, seed_motions=[start]), dancer(song, seed_motions=[moved])
    np.testing.assert_allclose(there.joints, here.joints, atol=1e-4)
    assert np.abs(here.joints[0, 0, 0, [0, 2]]).max() < 0.5


def test_several_songs_in_one_command(folder: Path, song: Path, tmp_path: Path) -> None:
    short = write(tmp_path / "short.wav", 1.5)
    told = command(
        "generate", song, short, "--model", folder / "duet", "--out", tmp_path / "dances", "--batch-size", 2,
        "--device", "cpu", "--dancers", 1, "--seed", 5,
    )  # fmt: skip
    files = sorted(path.name for path in (tmp_path / "dances").iterdir())
    assert files == ["short.mp4", "short.npz", "song.mp4", "song.npz"]
    assert all(name in told for name in files)
    with np.load(tmp_path / "dances" / "short.npz") as dance:
        assert dance["joints"].shape[-3:] == (90, 24, 3)
        assert (dance["seed"], str(dance["id"])) == (5, "short")


def test_dances_stand_on_the_ground(folder: Path, song: Path) -> None:
    for name in ("solo", "duet"):
        dancer: Any = Dancer.from_pretrained(folder / name)
        batch = dancer.feature_extractor(str(song))
        output = dancer.model.generate_dance(
            batch["music_features"], 252, generator=torch.Generator().manual_seed(0)
        )
        (dance,) = dancer(song)
        (raw,) = dancer.feature_extractor.post_process_dance(output, on_ground=False)
        for moved, given in zip(dance.joints, raw["joints"].reshape(dance.joints.shape), strict=True):
            np.testing.assert_allclose(moved, stand_on_ground(given.astype(np.float64)), atol=1e-5)
            lifted = given.astype(np.float64) + np.array([0.0, 5.0, 0.0])
            np.testing.assert_allclose(moved, stand_on_ground(lifted), atol=1e-5)
    walk = np.zeros((120, 24, 3))
    walk[:, :, 1] = 1.0
    walk[:, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]], 1] = 0.3
    np.testing.assert_allclose(stand_on_ground(walk)[:, JOINT_INDEX["left_foot"], 1], 0.025)


def test_a_folder_of_an_earlier_version_loads(folder: Path, song: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "solo", tmp_path / "old")
    former = {"feature_extractor_type": "BailandoProcessor", "music": "bailando", "engine": "fast"}
    (tmp_path / "old" / "preprocessor_config.json").write_text(json.dumps(former))
    (tmp_path / "old" / "generation_config.json").unlink()
    (old,) = Dancer.from_pretrained(tmp_path / "old")(song)
    (new,) = Dancer.from_pretrained(folder / "solo")(song)
    np.testing.assert_array_equal(old.joints, new.joints)
    (tmp_path / "old" / "preprocessor_config.json").unlink()
    (old,) = Dancer.from_pretrained(tmp_path / "old")(song)
    np.testing.assert_array_equal(old.joints, new.joints)


def test_what_cannot_dance_is_told(folder: Path, song: Path, tmp_path: Path) -> None:
    dancer = Dancer.from_pretrained(folder / "solo")
    with pytest.raises(DanceError, match="unknown generation option 'beams': expected one of do_sample"):
        dancer(song, beams=2)
    with pytest.raises(DanceError, match="2 seed motions for 1 songs"):
        dancer(song, seed_motions=[None, None])  # type: ignore[list-item]
    save_sequence(tmp_path / "row.npz", make_sequence(0, 1, 240))
    short = opendance.read(tmp_path / "row.npz")
    short = dataclasses.replace(short, fps=30.0)
    with pytest.raises(
        DanceError, match="the seed motion has 240 frames at 30 FPS: expected at least 8 at 60"
    ):
        dancer(song, seed_motions=[short])
    with pytest.raises(DanceError, match="FACT continues a motion"):
        Dancer.from_pretrained(folder / "fact")(song)
    with pytest.raises(DanceError, match="unknown engine 'essentia': expected one of fast"):
        Dancer.from_pretrained(folder / "solo", engine="essentia")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no such folder here"):
        Dancer.from_pretrained(tmp_path / "none")
    with pytest.raises(AudioError, match="too short"):
        dancer(write(tmp_path / "short.wav", 0.5))
    with pytest.raises(
        GenerateError, match="a model of type 'bailando' takes no num_dancers: expected do_sample"
    ):
        generate(
            song, folder / "solo", tmp_path / "dance.npz", GenerateOptions(generation={"num_dancers": 2})
        )
    with pytest.raises(GenerateError, match="unknown engine 'essentia': expected one of fast"):
        generate(song, tmp_path / "none", tmp_path / "dance.npz", GenerateOptions(engine="essentia"))
    with pytest.raises(GenerateError, match="one file for 2 songs"):
        generate([song, song], folder / "solo", tmp_path / "dance.mp4")
    with pytest.raises(GenerateError, match="two songs would be written to this file"):
        generate([song, song], folder / "solo", tmp_path / "dances")
    with pytest.raises(GenerateError, match=r"ends in \.mp4 or \.npz"):
        generate(song, folder / "solo", tmp_path / "dance.wav")
    vqvae = BailandoForDanceGeneration.from_pretrained(folder / "solo").vqvae
    with pytest.raises(DanceError, match="'bailando_vqvae' does not dance; those that do: bailando"):
        Dancer.of(vqvae)


def test_a_small_model_takes_one_thread(folder: Path, song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dancer: Any = Dancer.from_pretrained(folder / "solo")
    seen, generate_dance = [], dancer.model.generate_dance

    def watched(*given: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return generate_dance(*given, **options)

    monkeypatch.setattr(dancer.model, "generate_dance", watched)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        dancer(song)
        monkeypatch.delenv("OMP_NUM_THREADS")
        dancer(song)
        assert seen == [2, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_inputs_are_never_overwritten(folder: Path, song: Path, tmp_path: Path) -> None:
    clip = shutil.copy(song, tmp_path / "clip.mp4")
    save_sequence(tmp_path / "dance.npz", make_sequence(0, 1, 240))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    seeded = GenerateOptions(seed_motion=tmp_path / "dance.npz")
    for out, options in (
        (tmp_path, None),
        (clip, None),
        (tmp_path / "dance.mp4", seeded),
        (tmp_path / "dance.npz", seeded),
    ):
        with pytest.raises(OutputError, match="this input would be overwritten; choose another --out"):
            generate(clip, folder / "solo", out, options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_that_was_training_dances_without_dropout(folder: Path, song: Path) -> None:
    dancer = Dancer.from_pretrained(folder / "solo")
    (expected,) = dancer(song)
    dancer.model.train()
    (dance,) = dancer(song)
    np.testing.assert_array_equal(dance.joints, expected.joints)
    assert dancer.model.training
    by_pipeline = pipeline("music-to-dance", model=dancer.model, feature_extractor=dancer.feature_extractor)
    np.testing.assert_array_equal(by_pipeline(str(song))["joints"], expected.joints[0])


def test_half_precision_keeps_the_codebook(folder: Path, song: Path) -> None:
    dancer: Any = Dancer.from_pretrained(folder / "solo", dtype=torch.bfloat16)
    assert dancer.model.gpt.ln_f.weight.dtype == torch.bfloat16
    assert dancer.model.vqvae.upper.codebook.codes.dtype == torch.float32
    (dance,) = dancer(song)
    assert np.isfinite(dance.joints).all()


class Decoded:
    """Stand in for what ``datasets`` returns for a column of sound: it is not a dictionary, and is read like one."""

    def __init__(self, sound: Any, rate: int) -> None:
        self._values = {"array": sound, "sampling_rate": rate}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]


def test_sound_and_iterables_of_songs(folder: Path, song: Path) -> None:
    dancer = Dancer.from_pretrained(folder / "solo")
    sound = np.resize(synth_music(RATE), 2 * RATE)
    (expected,) = dancer({"array": sound, "sampling_rate": RATE})
    (decoded,) = dancer(Decoded(sound, RATE))
    np.testing.assert_array_equal(decoded.joints, expected.joints)
    by_pipeline = pipeline("music-to-dance", model=str(folder / "solo"))(Decoded(sound, RATE))
    np.testing.assert_array_equal(by_pipeline["joints"], expected.joints[0])
    one, two = dancer(one for one in (str(song), {"array": sound, "sampling_rate": RATE}))
    assert (one.num_frames, two.num_frames) == (252, 120)
    with pytest.raises(DanceError, match="audio must be mono"):
        dancer({"array": np.zeros((2, RATE)), "sampling_rate": RATE})


@pytest.mark.slow
def test_a_damaged_or_unreachable_extractor_is_not_replaced(folder: Path, song: Path, tmp_path: Path) -> None:
    """Converted official weights would dance to features that they have not learned, without a word."""
    shutil.copytree(folder / "solo", tmp_path / "official")
    config = tmp_path / "official" / "preprocessor_config.json"
    saved = {**json.loads(config.read_text()), "engine": "librosa-0.8.1"}
    config.write_text(json.dumps(saved)[:40])
    with pytest.raises(ModelError, match="its feature extractor cannot be loaded"):
        Dancer.from_pretrained(tmp_path / "official")
    config.write_text(json.dumps(saved))
    push_it = """
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("org/official")
api.upload_folder(repo_id="org/official", folder_path="official")
"""
    cache_weights = """
from huggingface_hub import hf_hub_download
for name in ("config.json", "model.safetensors", "generation_config.json"):
    hf_hub_download("org/official", name)
"""
    load = """
from opendance_hf.dance import Dancer
from opendance_hf.errors import OpenDanceError
try:
    print(Dancer.from_pretrained("org/official").feature_extractor.engine)
except OpenDanceError as error:
    print("ERROR", error)
"""

    def client(program: str, **changes: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], env=hub.env(tmp_path / "home") | changes, cwd=tmp_path, text=True,
            capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    with FakeHub() as hub:
        client(push_it)
        client(cache_weights)
        told = client(load, HF_HUB_OFFLINE="1")
        assert "ERROR org/official: its feature extractor cannot be loaded" in told
        assert client(load).strip() == "librosa-0.8.1"
        assert client(load, HF_HUB_OFFLINE="1").strip() == "librosa-0.8.1"


def test_devices() -> None:
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch_device("cpu") == torch.device("cpu")
    for wrong in ("gpu", "cuda:99", "tpu"):
        with pytest.raises(DanceError, match=f"device '{wrong}' cannot be used"):
            torch_device(wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_used_and_gives_the_same_codes(folder: Path, song: Path) -> None:
    on_gpu = Dancer.from_pretrained(folder / "solo")
    assert on_gpu.model.device.type == "cuda"
    (dance,) = on_gpu(song)
    (expected,) = Dancer.from_pretrained(folder / "solo", device="cpu")(song)
    np.testing.assert_allclose(dance.joints, expected.joints, atol=1e-2)


def test_the_table_says_who_dances() -> None:
    assert dancing() == ("bailando", "bailando_pp", "fact")
    assert all(MODELS[kind].extractor for kind in dancing())
