"""``opendance build --profile paper``: what is asked for where something is missing, and a whole build."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from opendance_hf.assets import cache_dir
from opendance_hf.cli import app
from opendance_hf.modeling.cliff import CLIFFConfig, CLIFFModel
from opendance_hf.modeling.smoothnet import SmoothNetConfig, SmoothNetModel
from opendance_hf.motion.smpl import load_smpl
from opendance_hf.pipeline import paper
from opendance_hf.pipeline.build import BuildError
from opendance_hf.pipeline.paper import resolve
from opendance_hf.pipeline.settings import Settings
from opendance_hf.schema import per_dancer, validate
from opendance_hf.storage import load_sequence
from tests.bodies import smpl_arrays
from tests.fakehub import FakeHub
from tests.pipeline.media import trim, write_clip
from tests.pipeline.test_paper_backends import yolox_file


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Hub; and, but for a whole build, no files of this machine."""
    monkeypatch.setattr(paper, "_from_hub", lambda part, value: None)
    monkeypatch.delenv("OPENDANCE_ASSETS", raising=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with all that the paper's profile needs, small and untrained."""
    folder = tmp_path / "brought"
    folder.mkdir()
    yolox_file(folder / paper.YOLOX_FILE, [(4.0, 2.0, 60.0, 62.0, 0.9, 0)])
    torch.manual_seed(0)
    CLIFFModel(CLIFFConfig(width=8, hidden_size=64)).save_pretrained(folder / "cliff")
    SmoothNetModel(SmoothNetConfig(8, hidden_size=16, res_hidden_size=8, num_blocks=1)).save_pretrained(
        folder / "smoothnet"
    )
    np.savez(folder / "SMPL_NEUTRAL.npz", **smpl_arrays())  # type: ignore[arg-type]
    return folder


def test_all_that_is_missing_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENDANCE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENDANCE_ASSETS", str(tmp_path / "mine"))
    write_clip(tmp_path / "a.mp4")
    done = CliRunner().invoke(
        app, ["build", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "out"), "--profile", "paper"]
    )
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    for file, option, download in (
        (paper.YOLOX_FILE, "--detector", "opencv/object_detection_yolox"),
        ("cliff", "--pose", "hr48-PA43.0_MJE69.0_MVE81.2_3dpw.pt"),
        ("smoothnet", "--smoother", "smoothnet_windowsize32.pth.tar"),
        ("SMPL_NEUTRAL.npz", "--smpl", "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"),
    ):
        places = f"{tmp_path / 'mine' / file} or {tmp_path / 'cache' / file}"
        assert f"Put it at {places}, or name it with {option}." in said
        assert download in said
    assert said.count("opendance convert") == 3
    assert not (tmp_path / "out.build").exists()


def test_the_default_needs_nothing_and_keeps_its_fingerprint() -> None:
    assert resolve() == Settings().choice
    assert "choice" not in json.dumps(Settings().choice.digests)
    assert Settings().fingerprint == Settings(choice=resolve("default", "nanodet", "blazepose")).fingerprint


def test_every_stage_has_its_own_choice(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENDANCE_ASSETS", str(files))
    whole = resolve("paper")
    assert [stage for stage, _ in whole.digests] == ["detector", "pose", "smoother", "smpl"]
    assert whole.pose == str(files / "cliff")
    alone = resolve(smoother=str(files / "smoothnet"))
    assert (alone.detector, alone.pose, alone.smpl) == ("", "", "")
    assert alone.smoother == whole.smoother
    # CLIFF's answers are a body's: it is looked for, also without the profile.
    assert resolve(pose="cliff").smpl == str(files / "SMPL_NEUTRAL.npz")
    assert resolve("paper", pose="blazepose").smpl == ""
    # Results depend on the content of the files, not on where they lie.
    moved = files.with_name("elsewhere")
    files.rename(moved)
    monkeypatch.setenv("OPENDANCE_ASSETS", str(moved))
    assert Settings(choice=resolve("paper")).fingerprint == Settings(choice=whole).fingerprint
    yolox_file(moved / paper.YOLOX_FILE, [])
    assert Settings(choice=resolve("paper")).fingerprint != Settings(choice=whole).fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pose": "{}/hr48.pt"}, "hr48.pt: not a converted checkpoint, which is a folder"),
        ({"pose": "{}/smoothnet"}, "a model of type 'smoothnet', not 'cliff'"),
        ({"smpl": "{}/neutral.pkl", "pose": "{}/cliff"}, "still a pickle"),
        ({"detector": "{}/cliff"}, "not an ONNX file"),
        ({"detector": "{}/bad.onnx"}, "bad.onnx: not an ONNX file that can be run"),
        ({"smoother": "{}/listed"}, "listed: a model of type None, not 'smoothnet'"),
        ({"smoother": "some/where"}, "--smoother some/where: no such file or folder"),
        ({"smpl": "{}/SMPL_NEUTRAL.npz"}, "give --pose cliff with it"),
        ({"profile": "papers"}, "default or paper, got 'papers'"),
    ],
)
def test_wrong_files_are_named(files: Path, options: dict[str, str], message: str) -> None:
    (files / "hr48.pt").write_bytes(b"x")
    (files / "neutral.pkl").write_bytes(b"x")
    (files / "bad.onnx").write_bytes(b"no graph at all")
    (files / "listed").mkdir()
    (files / "listed" / "config.json").write_text("[]")
    with pytest.raises(BuildError, match=message.replace("(", r"\(")):
        resolve(**{key: value.format(files) for key, value in options.items()})


@pytest.mark.slow
@pytest.mark.shared
def test_a_whole_build(shared: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained weights: the numbers mean nothing, but every part of the way is gone, and the schema holds."""
    monkeypatch.setenv("OPENDANCE_ASSETS", str(files))
    # The pinned weights are asked of the cache, not of this folder.
    videos = tmp_path / "videos"
    videos.mkdir()
    trim(shared / "data" / "videos" / "solo.mp4", videos / "solo.mp4", 7.0)
    command = ["build", str(videos), "--out", str(tmp_path / "out"), "--profile", "paper"]
    done = CliRunner().invoke(app, [*command, "--no-quality-gate", "--no-previews", "--workers", "1"])
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "out.build" / "sequences").glob("*.npz")
    seq = validate(load_sequence(path))
    assert seq.smpl_betas is not None
    body = load_smpl(files / "SMPL_NEUTRAL.npz")
    offsets = per_dancer(seq.rest_offsets, 1, 24, 3)
    np.testing.assert_allclose(offsets, body.rest_offsets(seq.smpl_betas[None]), atol=1e-5)
    assert np.abs(offsets[:, 0]).max() > 0.1
    backends = {backend.stage: backend.name for backend in seq.provenance.backends}
    assert backends["detect"] == "yolox"
    assert backends["pose"] == "cliff-res50"
    assert backends["keypoints"].startswith("blazepose")
    assert backends["smooth"] == "smoothnet-w8"
    assert backends["fit"] == "smplify-adam"
    assert str(tmp_path) not in json.dumps([vars(b) for b in seq.provenance.backends])
    assert (tmp_path / "out" / "README.md").is_file()


def test_models_by_their_hub_id(files: Path, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from huggingface_hub import HfApi
from opendance_hf.pipeline.paper import YOLOX_FILE, YOLOX_REPO, resolve
from opendance_hf.pipeline.process import Models
brought, api = Path({str(files)!r}), HfApi()
for repo in (YOLOX_REPO, "me/cliff", "me/smoothnet"):
    api.create_repo(repo)
api.upload_file(path_or_fileobj=brought / YOLOX_FILE, path_in_repo=YOLOX_FILE, repo_id=YOLOX_REPO)
for name in ("cliff", "smoothnet"):
    api.upload_folder(folder_path=brought / name, repo_id=f"me/{{name}}")
body = str(brought / "SMPL_NEUTRAL.npz")
choice = resolve("paper", pose="me/cliff", smoother="me/smoothnet", smpl=body)
local = resolve("paper", str(brought / YOLOX_FILE), str(brought / "cliff"), str(brought / "smoothnet"), body)
assert choice.digests == local.digests
assert resolve(detector=f"{{YOLOX_REPO}}/{{YOLOX_FILE}}").digests == choice.digests[:1]
models = Models.load(choice)
print(models.detectors[0].name, models.cliff.name, models.smoothnet.config.window_size, models.body is not None)
"""
    with FakeHub() as hub:
        done = subprocess.run(
            [sys.executable, "-c", program],
            # Weights that are pinned come from this machine's own cache.
            env=hub.env(tmp_path / "home") | {"OPENDANCE_CACHE": str(cache_dir())},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["yolox", "cliff-res50", "8", "True"]
