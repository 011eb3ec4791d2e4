"""``opendance build --profile paper``: what is asked for where something is missing, and a whole build."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.modeling.cliff import CLIFFConfig, CLIFFModel
from opendance_hf.modeling.smoothnet import SmoothNetConfig, SmoothNetModel
from opendance_hf.motion.smpl import load_smpl
from opendance_hf.pipeline.backends import make_backend
from opendance_hf.pipeline.backends.base import BackendError, FileBackend
from opendance_hf.pipeline.backends.yolox import YOLOX
from opendance_hf.pipeline.config import (
    ConfigError,
    change_pipeline,
    pipeline_fingerprint,
    prepare_pipeline,
)
from opendance_hf.pipeline.pipelines import default_pipeline, paper_pipeline
from opendance_hf.schema import per_dancer, validate
from opendance_hf.storage import load_sequence
from tests.bodies import smpl_arrays
from tests.fakehub import FakeHub
from tests.pipeline.media import trim, write_clip
from tests.pipeline.test_paper_backends import yolox_file


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Hub; and, but for a whole build, no files of this machine."""
    monkeypatch.setattr(FileBackend, "_from_hub", lambda self, name: None)
    monkeypatch.delenv("OPENDANCE_ASSETS", raising=False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with all that the paper's profile needs, small and untrained."""
    folder = tmp_path / "brought"
    folder.mkdir()
    yolox_file(folder / YOLOX.default_file, [(4.0, 2.0, 60.0, 62.0, 0.9, 0)])
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
    for file, place, name, download in (
        (YOLOX.default_file, "detect.detector", "yolox", "opencv/object_detection_yolox"),
        ("cliff", "lift.lifter", "cliff", "hr48-PA43.0_MJE69.0_MVE81.2_3dpw.pt"),
        ("smoothnet", "smooth.smoother", "smoothnet", "smoothnet_windowsize32.pth.tar"),
        ("SMPL_NEUTRAL.npz", "fit.fitter", "smplify", "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"),
    ):
        places = f"{tmp_path / 'mine' / file} or {tmp_path / 'cache' / file}"
        assert f"Put it at {places}, or name it: {name}:FILE" in said
        assert f"- {place}: " in said
        assert download in said
    assert said.count("opendance convert") == 3
    assert not (tmp_path / "out.build").exists()


def test_results_depend_on_content_not_on_places(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENDANCE_ASSETS", str(files))
    first = prepare_pipeline(paper_pipeline())
    lift = next(stage for stage in first if stage.name == "lift")
    assert lift.lifter.path == files / "cliff"  # type: ignore[attr-defined]
    moved = files.with_name("elsewhere")
    files.rename(moved)
    monkeypatch.setenv("OPENDANCE_ASSETS", str(moved))
    assert pipeline_fingerprint(prepare_pipeline(paper_pipeline())) == pipeline_fingerprint(first)
    yolox_file(moved / YOLOX.default_file, [])
    assert pipeline_fingerprint(prepare_pipeline(paper_pipeline())) != pipeline_fingerprint(first)


def test_one_backend_changes_alone(files: Path) -> None:
    pipeline = change_pipeline(default_pipeline(), [f"smooth.smoother=smoothnet:{files / 'smoothnet'}"])
    changed = [new.name for old, new in zip(default_pipeline(), pipeline, strict=True) if old != new]
    assert changed == ["smooth"]
    assert len(prepare_pipeline(pipeline)) == len(pipeline)


@pytest.mark.parametrize(
    ("role", "text", "facts"),
    [
        ("lifter", "cliff:{}/hr48.pt", ("hr48.pt", "not a converted checkpoint")),
        ("lifter", "cliff:{}/smoothnet", ("smoothnet", "'cliff'")),
        ("fitter", "smplify:{}/neutral.pkl", ("neutral.pkl", "still a pickle")),
        ("detector", "yolox:{}/cliff", ("cliff", "not an ONNX file")),
        ("detector", "yolox:{}/bad.onnx", ("bad.onnx", "onnxruntime cannot load")),
        ("smoother", "smoothnet:{}/listed", ("listed", "None")),
        ("smoother", "smoothnet:some/where", ("some/where", "no such file")),
        ("smoother", "median", ("'median'", "filters or smoothnet")),
        ("detector", "{}/bad.onnx", ("NAME:FILE",)),
        ("tracker", "bytetrack:x", ("bytetrack", "takes no file")),
    ],
)
def test_wrong_files_are_named(files: Path, role: str, text: str, facts: tuple[str, ...]) -> None:
    (files / "hr48.pt").write_bytes(b"x")
    (files / "neutral.pkl").write_bytes(b"x")
    (files / "bad.onnx").write_bytes(b"not a graph")
    (files / "listed").mkdir()
    (files / "listed" / "config.json").write_text("[]")
    with pytest.raises(BackendError) as caught:
        make_backend(role, text.format(files)).prepare()
    for fact in facts:
        assert fact in str(caught.value)


def test_a_refinement_of_bodies_needs_bodies(files: Path) -> None:
    with pytest.raises(ConfigError, match=r"'fit' reads 'bodies'.*put lift"):
        change_pipeline(default_pipeline(), [f"fit.fitter=smplify:{files / 'SMPL_NEUTRAL.npz'}"])


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
    assert backends["pose"] == "blazepose-full"
    assert backends["lift"] == "cliff-res50"
    assert backends["smooth"] == "smoothnet-w8"
    assert backends["fit"] == "smplify-adam"
    assert str(tmp_path) not in json.dumps([vars(b) for b in seq.provenance.backends])
    assert (tmp_path / "out" / "README.md").is_file()


def test_models_by_their_hub_id(files: Path, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from huggingface_hub import HfApi
from opendance_hf.pipeline.backends import make_backend
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.backends.yolox import YOLOX
brought, api = Path({str(files)!r}), HfApi()
file, repo = YOLOX.hub_file, YOLOX.default_hub_id
for name in (repo, "me/cliff", "me/smoothnet"):
    api.create_repo(name)
api.upload_file(path_or_fileobj=brought / file, path_in_repo=file, repo_id=repo)
for name in ("cliff", "smoothnet"):
    api.upload_folder(folder_path=brought / name, repo_id=f"me/{{name}}")
for role, name, here, there in (
    ("detector", "yolox", file, repo), ("detector", "yolox", file, f"{{repo}}/{{file}}"),
    ("lifter", "cliff", "cliff", "me/cliff"), ("smoother", "smoothnet", "smoothnet", "me/smoothnet"),
):
    local = make_backend(role, f"{{name}}:{{brought / here}}").prepare()
    hub = make_backend(role, f"{{name}}:{{there}}").prepare()
    assert local.sha256 == hub.sha256, name
    hub.load()
    print(hub.label)
assert YOLOX().prepare().sha256 == YOLOX(str(brought / file)).prepare().sha256
try:
    make_backend("lifter", "cliff:me/missing").prepare()
except BackendError as error:
    assert "no such file, folder or Hub id" in str(error), error
"""
    with FakeHub() as hub:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=hub.env(tmp_path / "home") | {"OPENDANCE_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["yolox", "yolox", "cliff-res50", "smoothnet-w8"]


def test_a_hub_that_cannot_be_reached_is_not_a_typo(tmp_path: Path) -> None:
    program = """
from opendance_hf.pipeline.backends import make_backend
from opendance_hf.pipeline.backends.base import BackendError
for role, name in (("lifter", "cliff:me/cliff"), ("detector", "yolox")):
    try:
        make_backend(role, name).prepare()
    except BackendError as error:
        print(str(error).replace(chr(10), " "))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ
        | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OPENDANCE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    named, default = done.stdout.splitlines()
    for line in (named, default):
        assert "cannot be downloaded" in line
        assert "network" in line
    assert "me/cliff" in named
    assert "yolox:FILE" in default, "the file can also be given"
