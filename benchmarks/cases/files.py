"""Cases of output paths, disks, file formats and settings."""

from __future__ import annotations

import errno
import math
import os
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final
from unittest import mock

import joblib
import numpy as np
import soundfile
import torch
from typer.testing import CliRunner

from benchmarks.cases import Case
from benchmarks.cases.disks import CAUSES, namespace, run_on_disks
from opendance_hf.cli import app
from opendance_hf.formats import FormatError, format_named
from opendance_hf.formats.body import REST_PELVIS
from opendance_hf.formats.detect import format_of
from opendance_hf.metrics.quality import physical_foot_contact
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.pipeline.build import BuildError, folder_lock
from opendance_hf.storage import pack, save_sequence
from opendance_hf.synthetic.music import SAMPLE_RATE, make_music
from tests.factories import make_sequence
from tests.pipeline.builds import make_build

#: Options of a training that would take seconds.
QUICK: Final = (
    "--set",
    "trainer.max_steps=1",
    "--set",
    "data.num_frames=32",
    "--set",
    "trainer.report_to=none",
)


def _run(*arguments: Any) -> tuple[int, str]:
    """Run a command; return its exit code and its output on one line, with the class of an error that is a traceback."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    crash = "" if isinstance(done.exception, SystemExit | None) else f" CRASH {done.exception!r}"
    return done.exit_code, " ".join(re.sub(r"[│╭╰─╮╯]", " ", done.output).split()) + crash


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _song(path: Path, seconds: float = 2.0) -> Path:
    time_s = np.arange(round(seconds * 22_050)) / 22_050
    clicks = np.exp(-((2 * time_s) % 1) * 40) * np.sin(2 * np.pi * 1000 * time_s)
    soundfile.write(path, 0.5 * clicks + 0.1 * np.sin(2 * np.pi * 220 * time_s), 22_050, format="WAV")
    return path


def _model(folder: Path) -> Path:
    torch.manual_seed(0)
    vqvae = BailandoVQVAEConfig(hidden_size=16, codebook_size=16, num_residual_layers=1)
    gpt = BailandoGPTConfig(
        codebook_size=16, hidden_size=16, num_attention_heads=2, num_base_layers=1, num_head_layers=1
    )
    model = BailandoForDanceGeneration(BailandoConfig(vqvae, gpt))
    for half in (model.vqvae.upper, model.vqvae.lower):
        half.codebook.codes.normal_(0, 1)
    model.save_pretrained(folder)
    return folder


def _inputs(folder: Path) -> Path:
    """Write one small input of every kind into a folder."""
    _song(folder / "song.wav")
    pack([make_sequence(number, 1, 90) for number in range(4)], folder / "data")
    save_sequence(folder / "duo.npz", make_sequence(1, 2, 400))
    _model(folder / "model")
    rows = "".join(f"{number}.mp4,500,5,0.9\n" for number in range(3000))
    (folder / "posts.csv").write_text("video,followers,posts_90d,dance_weight\n" + rows)
    make_build(folder / "build", (1,))
    (folder / "videos").mkdir()
    (folder / "videos" / "a.mp4").write_bytes(b"no video")
    (folder / "selected.csv").write_text("video,status,reason\na.mp4,rejected,not now\n")
    return folder


def outputs_over_inputs(folder: Path) -> tuple[str, bool]:
    """Name inputs and earlier results as outputs, in several spellings, with and without ``--overwrite``."""
    inputs = _inputs(folder)
    clip = inputs / "dance.mp4"
    clip.write_bytes((inputs / "song.wav").read_bytes())
    (inputs / "link.mp4").symlink_to("dance.mp4")
    (inputs / "hard.mp4").hardlink_to(clip)
    (inputs / "song.npz").write_bytes(b"mine")
    before, cwd = _contents(inputs), Path.cwd()
    generate = ("generate", "dance.mp4", "--model", "model", "--out")
    data = ("--predictions", "data", "--reference", "data")
    refused: list[tuple[Any, ...]] = [
        *(
            (*generate, out)
            for out in (
                "dance.mp4",
                "./dance.mp4",
                "../" + folder.name + "/dance.mp4",
                "link.mp4",
                "hard.mp4",
                ".",
            )
        ),
        ("music", "song.wav", "--out", "song.wav"),
        ("evaluate", *data, "--json", "data/README.md"),
        ("stats", "data", "--json", "data/statistics.json"),
        ("convert", "humandata", "duo.npz", "--out", "duo.npz"),
        ("clean", "duo.npz", "--out", "duo.npz"),
        ("collect", "posts.csv", "--out", "posts.csv"),
        ("inspect", "build", "--export", "build/ledger.sqlite"),
        ("train", "vqvae", "--dataset", "data", "--output-dir", "data", *QUICK),
        ("train", "vqvae", "--dataset", "data", "--output-dir", "model", *QUICK),
    ]
    existing = [("music", "song.wav"), ("collect", "posts.csv", "--out", "selected.csv")]
    wrong = []
    os.chdir(inputs)
    try:
        for command in refused:
            overwrite = () if command[0] == "train" else ("--overwrite",)
            wrong += [command for more in ((), overwrite) if _run(*command, *more)[0] != 2]
        wrong += [command for command in existing if _run(*command)[0] != 2]
        changed = _contents(inputs) != before
        # Default names are those of the songs: a second song does not replace the dance to the first.
        _song(inputs / "second.wav")
        codes = [
            _run("generate", song, "--model", "model")[0] for song in ("dance.mp4", "second.wav", "dance.mp4")
        ]
        dances = sorted(path.name for path in inputs.glob("*-dance.*"))
    finally:
        os.chdir(cwd)
    right = not wrong and not changed and codes == [0, 0, 2] and len(dances) == 4
    found = f"{2 * len(refused) + len(existing)} commands, {len(wrong)} not refused {wrong[:1]}; {'changed' if changed else 'all intact'}"
    return f"{found}; two songs without --out: {', '.join(dances)}", right


def disks(folder: Path) -> tuple[str, bool]:
    """Run every command on a full, a read-only and a filling disk."""
    if namespace() is None:
        return "not measured: this machine allows no mounts (unshare)", True
    results = run_on_disks(_inputs(folder))
    wrong = []
    for result in results:
        told = " ".join(result["told"].split())
        # The working folder of a build is kept: it continues from there.
        left = [name for name in result["left"] if not name.startswith("data.build") or ".partial" in name]
        said = result["exit"] == 2 and any(cause in told for cause in CAUSES) and "/disk" in told
        fits = result["disk"] == "filling" and result["exit"] == 0
        if not (fits or (said and not left)):
            wrong.append(
                f"{result['command']} on {result['disk']}: exit {result['exit']}, left {left[:3]}, {told[-160:]}"
            )
    return f"{len(results)} runs, {len(wrong)} wrong {' | '.join(wrong[:3])}", not wrong


def _dance(frames: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Return poses (T, 24, 3) and translation (T, 3) of an upright dance with y up, 30 FPS."""
    rng = np.random.default_rng(5)
    time_s = np.arange(frames)[:, None, None] / 30
    poses = 0.35 * np.sin(2 * np.pi * (0.8 * time_s + rng.uniform(size=(1, 24, 3))))
    poses[:, 0] *= [0.2, 2.0, 0.2]
    poses[:, 22:] = 0
    across = 0.4 * np.sin(time_s[:, 0])
    transl = np.column_stack([across, 0.9 + 0.05 * np.sin(6 * time_s[:, 0, 0]), 0 * across])
    return poses, transl


def _z_up(poses: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turn = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    poses = poses.copy()
    poses[:, 0] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(poses[:, 0]))
    return poses, transl @ turn.T


def edge_pickle(folder: Path) -> tuple[str, bool]:
    """Compute PFC of a dance in EDGE's file, and of the same dance in memory."""
    poses, transl = _dance()
    joints = forward_kinematics(poses, transl, MEAN_OFFSETS)
    z_poses, z_transl = _z_up(poses, transl)
    path = folder / "dance.pkl"
    content = {
        "smpl_poses": z_poses.reshape(-1, 72),
        "smpl_trans": z_transl,
        "full_pose": forward_kinematics(z_poses, z_transl, MEAN_OFFSETS),
    }
    path.write_bytes(pickle.dumps(content))
    name = format_of(path)
    motion = format_named(name).read(path)
    found, true = (
        physical_foot_contact(j, fps=fps) for j, fps in ((motion.joints[0], motion.fps), (joints, 30.0))
    )
    silent, _ = _run("convert", "aistpp", path, "--out", folder / "d.npz")
    right = (
        name == "edge"
        and motion.fps == 30
        and math.isclose(found or 0, true or 1, rel_tol=1e-6)
        and silent == 2
    )
    return (
        f"{name}, {motion.fps:g} FPS, PFC {found:.3f} of {true:.3f}; as aistpp: {'refused' if silent == 2 else 'read'}",
        right,
    )


def neighbours(folder: Path) -> tuple[str, bool]:
    """Read results of AMASS, LODGE, GVHMR and WHAM, and measure the distance of the joints from the truth."""
    poses, transl = _dance()
    joints = forward_kinematics(poses, transl, MEAN_OFFSETS)
    # SMPL puts the pelvis at the translation plus that of the rest body; all but EDGE save SMPL's translation.
    smpl, smplh, smplx = (np.array(REST_PELVIS[name]) for name in ("smpl", "smplh", "smplx"))
    z_poses, z_transl = _z_up(poses, transl)
    count, body = len(poses), poses[:, :22].reshape(len(poses), 66)
    np.savez(
        folder / "amass.npz",
        poses=np.hstack([z_poses[:, :22].reshape(count, 66), np.zeros((count, 90))]),
        trans=z_transl - smplh,
        mocap_framerate=30.0,
    )
    np.save(
        folder / "lodge.npy",
        np.hstack(
            [
                np.zeros((count, 4)),
                transl - smplx,
                axis_angle_to_matrix(poses[:, :22])[..., :2, :].reshape(count, -1),
            ]
        ),
    )
    section = {
        "global_orient": poses[:, 0],
        "body_pose": body[:, 3:],
        "transl": transl - smplx,
        "betas": np.zeros((count, 10)),
    }
    torch.save(
        {"smpl_params_global": {key: torch.from_numpy(value) for key, value in section.items()}},
        folder / "gvhmr.pt",
    )
    person = {
        "pose_world": poses.reshape(count, 72),
        "trans_world": transl - smpl,
        "pose": poses.reshape(count, 72),
        "trans": transl - smpl,
        "frame_ids": np.arange(count),
    }
    joblib.dump({0: person}, folder / "wham.pkl")
    off, told, asked = {}, [], 0
    for path in sorted(folder.iterdir()):
        name = format_of(path)
        try:
            motion = format_named(name).read(path)
        except FormatError as error:
            told.append(str(error))
            asked += "--fps" in str(error)
            motion = format_named(name).read(path, fps=30.0)
        off[name] = 1000 * float(np.abs(motion.joints[0] - joints).max()) if motion.fps == 30 else math.inf
    unsafe = any(word in text for text in told for word in ("allow_pickle", "weights_only"))
    right = (
        sorted(off) == ["amass", "gvhmr", "lodge", "wham"]
        and max(off.values()) < 0.1
        and asked == 2
        and not unsafe
    )
    return ", ".join(
        f"{name} off by {value:.3f} mm" for name, value in off.items()
    ) + f"; {asked} asked for --fps", right


def no_flock(folder: Path) -> tuple[str, bool]:
    """Lock a working folder on a file system that has no locks, and one that another build holds."""
    told = []
    for number in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EWOULDBLOCK):
        with mock.patch("fcntl.flock", side_effect=OSError(number, os.strerror(number))):
            try:
                with folder_lock(folder):
                    told.append("locked")
            except BuildError as error:
                told.append("not supported" if "not supported" in str(error) else "in use")
    return ", ".join(told), told == ["not supported"] * 3 + ["in use"]


#: Settings of a training and of a build with a word that the message must have besides key and value.
_TRAINING: Final = {
    "trainer.max_steps=ten": "int",
    "trainer.max_step=2": "max_steps",
    "trainer.max_steps=true": "int",
    "trainer.max_steps=2.5": "int",
    "trainer.logging_steps=0": "positive",
    "trainer.per_device_train_batch_size=0": "positive",
    "trainer.learning_rate=fast": "number",
    "trainer.learning_rate=.nan": "number",
    "trainer.disable_tqdm=maybe": "bool",
    "trainer.save_strategy=sometimes": "steps",
    "data.stride=0": "positive",
    "data.num_frames=-8": "positive",
    "data.num_frames=[1]": "int",
    "data.mirror=7": "bool",
    "data.subset=many": "int",
    "data.configs=3": "str",
    "model.hidden_size=0": "positive",
    "model.hidden_size=wide": "int",
    "model.codebook_size=null": "int",
    "validation.songs=-1": "0 or more",
    "validation.seconds=0": "positive",
}
_BUILD: Final = {
    "probe.min_duration_s=long": "float",
    "gate.max_camera_motion=[1]": "float",
    "gate.reject=3": "bool",
    "gate.max_camera_motion=.nan": "0 or greater",
    "gate.max_camera_moton=1": "unknown field",
    "gate=1": "expected",
    "preview.height_px=0": "greater than 0",
    "track.max_dancers=0": "greater than 0",
}


def settings(folder: Path) -> tuple[str, bool]:
    """Give training and build settings of the wrong kind."""
    pack([make_sequence(number, 1, 90) for number in range(4)], folder / "data")
    wrong = []
    for setting, word in _TRAINING.items():
        code, told = _run(
            "train",
            "vqvae",
            "--dataset",
            folder / "data",
            "--output-dir",
            folder / "run",
            *QUICK,
            "--set",
            setting,
        )
        key = setting.partition("=")[0]
        if (
            code != 2
            or key.partition(".")[2] not in told
            or word not in told
            or "CRASH" in told
            or "__init__" in told
        ):
            wrong.append(f"{setting}: exit {code}, {told[-120:]}")
    for setting, word in _BUILD.items():
        code, told = _run("build", "--print-config", "--set", setting)
        if code != 2 or word not in told or "CRASH" in told:
            wrong.append(f"{setting}: exit {code}, {told[-120:]}")
    return (
        f"{len(_TRAINING) + len(_BUILD)} settings, {len(wrong)} not told {' | '.join(wrong[:3])}",
        not wrong,
    )


def empty_datasets(folder: Path) -> tuple[str, bool]:
    """Train on datasets without rows, with too short rows, and without a split for validation."""
    import pyarrow.parquet as pq

    pack([make_sequence(number, 1, 20) for number in range(4)], folder / "short")
    pack([make_sequence(number, 1, 90) for number in range(4)], folder / "empty")
    for shard in (folder / "empty" / "data").rglob("*.parquet"):
        pq.write_table(pq.read_table(shard).slice(0, 0), shard)
    pack([make_sequence(number, 1, 90) for number in range(4)], folder / "unsplit", splits={"train": 1.0})
    told = {}
    for name in ("short", "empty", "unsplit"):
        told[name] = _run(
            "train", "vqvae", "--dataset", folder / name, "--output-dir", folder / "run" / name, *QUICK
        )
    right = (
        told["short"][0] == 2
        and "32 frames" in told["short"][1]
        and told["empty"][0] == 2
        and "no rows" in told["empty"][1]
        and told["unsplit"][0] == 0
        and not any("CRASH" in text for _, text in told.values())
    )
    return "; ".join(f"{name}: exit {code} {text[-70:]}" for name, (code, text) in told.items()), right


def tempo(folder: Path) -> tuple[str, bool]:
    """Measure the ``bpm`` of eight pieces of 30 s whose tempo is known."""
    off = []
    for seed in range(8):
        piece = make_music(seed, 30.0)
        soundfile.write(folder / f"{seed}.wav", piece.samples, SAMPLE_RATE)
        _run("music", folder / f"{seed}.wav", "--out", folder / f"{seed}.npz")
        with np.load(folder / f"{seed}.npz") as found:
            off.append(abs(float(found["bpm"]) / piece.bpm - 1))
    return f"off by {100 * np.median(off):.2f}% (median), {100 * max(off):.2f}% at most", max(off) < 0.01


_MEASURES: Final[Iterable[tuple[str, str, Callable[[Path], tuple[str, bool]]]]] = (
    (
        "outputs",
        "no command writes over its input or an earlier result; --overwrite for the rest",
        outputs_over_inputs,
    ),
    ("disks", "full and read-only disks: one error with path and remedy, exit 2, nothing left behind", disks),
    ("edge", "recognised by its keys: 30 FPS, z up, metres; the same PFC", edge_pickle),
    (
        "neighbours",
        "AMASS, GVHMR, LODGE, WHAM are read; an unknown rate is asked for; no unsafe advice",
        neighbours,
    ),
    ("flock", "says that locks are not supported there", no_flock),
    ("settings", "one line with key, value and expected type", settings),
    (
        "no-rows",
        "one clear error without rows or windows; without a split for validation it trains",
        empty_datasets,
    ),
    ("tempo", "the tempo of the beats, within 1%", tempo),
)
_SLOW: Final = {"disks", "tempo"}
CASES: Final[tuple[Case, ...]] = tuple(
    Case(name, right, measure, slow=name in _SLOW) for name, right, measure in _MEASURES
)
