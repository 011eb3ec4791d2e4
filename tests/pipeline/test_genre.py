from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.pipeline.backends.audio_classifier import AudioClassifier, label_order
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.stages.genre import Genre
from opendance_hf.schema import GENRES

_LABELS = ["Rock", "Hip-Hop", "pop", "reggae", "metal", "JAZZ", "disco", "country", "classical", "blues"]


def classifier(folder: Path, labels: list[str]) -> str:
    """A tiny classifier of random weights whose answer hangs on the sound."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(10, 8), conv_kernel=(10, 8), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, classifier_proj_size=8, id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )  # fmt: skip
    Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=16_000).save_pretrained(folder)
    return str(folder)


def test_labels_are_found_in_any_order_and_spelling(tmp_path: Path) -> None:
    order = label_order("m", dict(enumerate(_LABELS)))
    assert [_LABELS[i].lower().replace("-", "") for i in order] == list(GENRES)
    name = classifier(tmp_path / "other", [*_LABELS[:9], "techno"])
    with pytest.raises(
        BackendError, match=r"missing: blues; other: techno.*give a model of blues, classical"
    ):
        AudioClassifier(name).prepare()
    with pytest.raises(BackendError, match="no audio classifier can be loaded"):
        AudioClassifier(str(tmp_path / "nothing")).prepare()
    done = CliRunner().invoke(
        app, ["build", str(tmp_path), "--genre-model", name, "--out", str(tmp_path / "d")]
    )
    assert done.exit_code == 2
    assert "not the ten of GTZAN" in " ".join(done.output.split())


def test_scores_are_those_of_the_model_in_our_order(tmp_path: Path) -> None:
    name = classifier(tmp_path / "genres", _LABELS)
    sound = np.random.default_rng(0).normal(0, 0.1, 10 * 16_000).astype(np.float32)
    soundfile.write(tmp_path / "song.wav", sound, 16_000, subtype="FLOAT")
    model = AudioClassifier(name).prepare()
    genre, scores = model.load().classify(tmp_path / "song.wav", 1.0, 9.0)
    plain = Wav2Vec2ForSequenceClassification.from_pretrained(name).eval()
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(name)(
        sound[16_000 : 9 * 16_000], sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        wanted = plain(**inputs).logits[0].softmax(-1).numpy()
    by_label = {label.lower().replace("-", ""): value for label, value in zip(_LABELS, wanted, strict=True)}
    np.testing.assert_allclose(scores, [by_label[g] for g in GENRES], atol=1e-5)
    assert scores.dtype == np.float32
    assert genre == max(by_label, key=by_label.__getitem__)
    assert Genre(model).provenance() == (("genre", "genres", model.revision[:12]),)


def test_a_classifier_is_identified_by_its_content(tmp_path: Path) -> None:
    name = classifier(tmp_path / "genres", _LABELS)
    one = AudioClassifier(name).prepare()
    shutil.copytree(name, tmp_path / "moved")
    moved = AudioClassifier(str(tmp_path / "moved")).prepare()
    assert Genre(moved).fingerprinted() == Genre(one).fingerprinted()
    weights = tmp_path / "genres" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert Genre(AudioClassifier(name).prepare()).fingerprinted() != Genre(one).fingerprinted()
    with pytest.raises(BackendError, match="not the genre classifier that the configuration was made with"):
        one.prepare()
    assert moved.prepare() == moved
