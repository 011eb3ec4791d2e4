"""What people use by name: Auto classes, the processor and ``transformers.pipeline``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

import opendance_hf.dance
from opendance_hf.modeling.bailando import BailandoConfig, BailandoForDanceGeneration
from opendance_hf.modeling.feature_extraction_dance import DanceFeatureExtractor
from opendance_hf.music import SAMPLE_RATE_60FPS, annotate_music, music_features
from tests.fixtures.make_music_synth import synth_music


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = BailandoConfig(
        {"hidden_size": 16, "codebook_size": 8},
        {
            "codebook_size": 8,
            "hidden_size": 24,
            "num_base_layers": 1,
            "num_head_layers": 1,
            "num_attention_heads": 2,
        },
    )
    model = BailandoForDanceGeneration(config)
    for half in (model.vqvae.upper, model.vqvae.lower):
        half.codebook.codes.normal_()
    out = tmp_path_factory.mktemp("model")
    model.save_pretrained(out)
    DanceFeatureExtractor().save_pretrained(out)
    return out


def test_auto_classes_know_the_models(folder: Path) -> None:
    assert opendance_hf.dance.Dancer
    assert isinstance(AutoConfig.from_pretrained(folder), BailandoConfig)
    assert isinstance(AutoModel.from_pretrained(folder), BailandoForDanceGeneration)
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(processor, DanceFeatureExtractor)
    assert (processor.column, processor.engine) == ("music_features_7p5fps", "fast")


def test_the_processor_gives_what_a_dataset_row_holds(tmp_path: Path) -> None:
    audio = synth_music(SAMPLE_RATE_60FPS)
    found = DanceFeatureExtractor()(audio, SAMPLE_RATE_60FPS)
    frames = round(len(audio) / 512)
    assert found["num_frames"].tolist() == [frames]
    assert found["music_features"].shape == (1, -(-frames // 8), 438)
    song = tmp_path / "song.wav"
    soundfile.write(song, audio, SAMPLE_RATE_60FPS, subtype="FLOAT")
    from_file = DanceFeatureExtractor()(song)
    assert from_file["num_frames"].tolist() == [frames]
    np.testing.assert_array_equal(
        from_file["music_features"][0].numpy(), annotate_music(song).music_features_7p5fps
    )
    windowed = DanceFeatureExtractor(music="tpami")(audio, SAMPLE_RATE_60FPS, return_tensors="np")
    assert windowed["music_features"].shape == (1, frames, 55)
    np.testing.assert_allclose(
        windowed["music_features"][0], music_features(audio).features[:frames, :55], atol=1e-3
    )


def test_songs_of_different_lengths_make_one_batch(folder: Path) -> None:
    processor = DanceFeatureExtractor()
    long, short = synth_music(SAMPLE_RATE_60FPS), synth_music(SAMPLE_RATE_60FPS)[: 512 * 100]
    batch = processor([long, short], SAMPLE_RATE_60FPS)
    assert batch["music_features"].shape[0] == 2
    assert not batch["music_features"][1, 13:].any()
    model = AutoModel.from_pretrained(folder)
    output = model.generate_dance(batch["music_features"], int(batch["num_frames"].max()))
    dances = processor.post_process_dance(output, batch["num_frames"])
    assert [len(dance["joints"]) for dance in dances] == batch["num_frames"].tolist()
    assert dances[1]["fps"] == 60


def test_a_pipeline_dances_to_files_and_samples(folder: Path, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, synth_music(SAMPLE_RATE_60FPS)[: 512 * 90], SAMPLE_RATE_60FPS, subtype="FLOAT")
    dance = pipeline("music-to-dance", model=str(folder))
    first = dance(str(song), seed=1)
    assert first["joints"].shape == (90, 24, 3)
    assert np.isfinite(first["joints"]).all()
    np.testing.assert_array_equal(dance(str(song), seed=1)["joints"], first["joints"])
    assert not np.array_equal(dance(str(song), seed=2)["joints"], first["joints"])
    sound = {"array": synth_music(SAMPLE_RATE_60FPS)[: 512 * 60], "sampling_rate": SAMPLE_RATE_60FPS}
    assert [d["joints"].shape for d in dance([sound, sound], do_sample=False)] == [(60, 24, 3)] * 2
    short = {"array": sound["array"][: 512 * 50], "sampling_rate": SAMPLE_RATE_60FPS}
    together = dance([sound, short, sound], batch_size=2, seed=3)
    assert [len(d["joints"]) for d in together] == [60, 50, 60]
    np.testing.assert_allclose(together[1]["joints"], dance(short, seed=3)["joints"], atol=1e-4)
    stream = (one for one in (sound, short))
    assert [len(d["joints"]) for d in dance(stream, batch_size=2)] == [60, 50]
    with pytest.raises(ValueError, match="music-to-dance has no option beams"):
        dance(sound, beams=3)


def test_what_is_no_sound_is_said(tmp_path: Path) -> None:
    processor = DanceFeatureExtractor()
    with pytest.raises(ValueError, match="samples need their sampling_rate"):
        processor(np.zeros(3000))
    with pytest.raises(ValueError, match="audio must be mono"):
        processor(np.zeros((2, 3000)), 48000)
    with pytest.raises(ValueError, match="no song given"):
        processor([])
    with pytest.raises(FileNotFoundError):
        processor(tmp_path / "none.mp3")
    with pytest.raises(ValueError, match="unknown music 'jazz': expected one of bailando, tpami"):
        DanceFeatureExtractor(music="jazz")
    with pytest.raises(ValueError, match="unknown column 'jazz'"):
        DanceFeatureExtractor("jazz")
    with pytest.raises(ValueError, match="feature_size must be 1 to 35 for music_features_fact, got 36"):
        DanceFeatureExtractor("music_features_fact", 36)


_WITHOUT_THE_PACKAGE = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "opendance_hf":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import numpy as np, torch
from transformers import AutoModel

model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
generator = torch.Generator().manual_seed(0)
np.save(sys.argv[2], model.generate_dance(torch.zeros(1, 5, 438), 40, generator=generator).joints.numpy())
"""


def test_a_folder_carries_the_code_for_those_without_the_package(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "joints.npy"
    subprocess.run(
        [sys.executable, "-c", _WITHOUT_THE_PACKAGE, str(folder), str(out)],
        check=True,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    model = AutoModel.from_pretrained(folder).eval()
    assert type(model) is BailandoForDanceGeneration
    expected = model.generate_dance(torch.zeros(1, 5, 438), 40, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(np.load(out), expected.joints, atol=1e-6)
