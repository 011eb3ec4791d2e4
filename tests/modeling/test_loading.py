"""The kind of a model is checked before it is loaded, and every name that cannot be used is answered at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from opendance_hf.errors import OpenDanceError
from opendance_hf.modeling.bailando import BailandoVQVAE, BailandoVQVAEConfig
from opendance_hf.modeling.loading import ModelError, load_model, model_type_of
from opendance_hf.storage import pack
from tests.conftest import REPO
from tests.factories import make_sequence
from tests.fakehub import FakeHub


@pytest.fixture(scope="module")
def vqvae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading") / "vqvae"
    BailandoVQVAE(BailandoVQVAEConfig(hidden_size=16, codebook_size=16)).save_pretrained(folder)
    return folder


def test_it_loads_the_weights_in_evaluation_mode(vqvae: Path) -> None:
    assert model_type_of(str(vqvae)) == "bailando_vqvae"
    model = load_model(str(vqvae), expected=("bailando", "bailando_vqvae"))
    assert isinstance(model, BailandoVQVAE)
    assert not model.training
    saved = load_file(vqvae / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in saved.items())


def test_a_configuration_of_absurd_size_is_refused_before_it_is_built(vqvae: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(vqvae, tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_downsamples": 2**31}))
    with pytest.raises(
        ModelError, match=r"num_downsamples in its config\.json is 2147483648, expected at most"
    ):
        model_type_of(str(folder))


def test_another_kind_is_refused_before_the_weights_are_read(vqvae: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((vqvae / "config.json").read_text())
    with pytest.raises(ModelError, match="of type 'bailando_vqvae', expected 'bailando' or 'fact'") as caught:
        load_model(str(tmp_path), expected=("bailando", "fact"))
    assert isinstance(caught.value, OpenDanceError)
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        load_model(str(tmp_path), expected=("bailando_vqvae",))


def test_missing_weights_are_counted_and_named(
    vqvae: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text((vqvae / "config.json").read_text())
    weights = load_file(vqvae / "model.safetensors")
    left = {name: value for name, value in weights.items() if not name.startswith("upper.decoder")}
    save_file(left, tmp_path / "model.safetensors", metadata={"format": "pt"})
    verbosity = logging.get_verbosity()
    with pytest.raises(ModelError, match=rf"{len(weights) - len(left)} of its weights.*upper\.decoder"):
        load_model(str(tmp_path), expected=("bailando_vqvae",))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert logging.get_verbosity() == verbosity


@pytest.mark.parametrize("name", ["./none", "../none", "none", "~/none", "a/b/c", "runs/none"])
def test_a_missing_folder_is_answered_without_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr("huggingface_hub.get_session", lambda: pytest.fail("asked the Hub"))
    with pytest.raises(ModelError, match="no such folder here, and no such repository on the Hub"):
        model_type_of(name)


def test_folders_without_a_model_are_named(tmp_path: Path) -> None:
    pack([make_sequence(0)], tmp_path / "opendance-3d")
    with pytest.raises(ModelError, match="opendance-3d: a dataset, expected the folder of a model"):
        model_type_of(str(tmp_path / "opendance-3d"))
    np.savez(tmp_path / "dance.npz", joints=np.zeros((3, 24, 3)))
    with pytest.raises(ModelError, match="a dataset"):
        model_type_of(str(tmp_path))
    with pytest.raises(ModelError, match="a file, expected the folder"):
        model_type_of(str(tmp_path / "dance.npz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        model_type_of(str(tmp_path / "empty"))
    for text, why in (("{", "cannot be read"), ("[]", "cannot be read"), ("{}", "has no model_type")):
        (tmp_path / "empty" / "config.json").write_text(text)
        with pytest.raises(ModelError, match=why):
            model_type_of(str(tmp_path / "empty"))


def run(program: str, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env=env | {"PYTHONPATH": str(REPO)}, cwd=cwd, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


HUB = """
import time
from opendance_hf.modeling.loading import ModelError, load_model, model_type_of
def said(name):
    start = time.monotonic()
    try:
        return load_model(name, expected=("bailando_vqvae",)).config.model_type
    except ModelError as error:
        return str(error)
    finally:
        assert time.monotonic() - start < 8
"""


@pytest.mark.slow
def test_models_of_the_hub(vqvae: Path, tmp_path: Path) -> None:
    with FakeHub() as hub:
        env = hub.env(tmp_path / "home")
        # No card: a push writes one for models of `opendance train` alone.
        files = {file.name: file.read_bytes() for file in vqvae.iterdir()}
        program = f"{HUB}\nprint(said('org/none'))\nprint(said('org/coder'))\nprint(said('org/data'))\nprint(said('org/dances'))"
        upload = (
            "from huggingface_hub import HfApi, CommitOperationAdd as Add\n"
            f"api = HfApi()\napi.create_repo('org/coder')\napi.create_repo('org/data')\n"
            f"api.create_repo('org/dances', repo_type='dataset')\n"
            f"api.upload_file(path_or_fileobj=b'# x', path_in_repo='README.md', repo_id='org/dances', repo_type='dataset')\n"
            f"api.create_commit('org/coder', [Add(n, p) for n, p in "
            f"{[(name, str(vqvae / name)) for name in files]!r}], commit_message='x')"
        )
        run(upload, env, tmp_path)
        none, coder, data, dances = run(program, env, tmp_path).splitlines()
        assert none.startswith("org/none: no such folder here, and no such repository on the Hub")
        assert coder == "bailando_vqvae"
        assert "has no config.json" in data
        assert dances == "org/dances: a dataset on the Hub, expected a model"
    # The Hub is gone now: one quick attempt, and the cache serves what it has.
    start = time.monotonic()
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        program = f"{HUB}\nprint(said('org/coder'))\nprint(said('org/other'))"
        coder, other = run(program, env | more, tmp_path).splitlines()
        assert coder == "bailando_vqvae"
        assert other.startswith("org/other: no such folder here, not in the cache, and the Hub")
    assert time.monotonic() - start < 120
