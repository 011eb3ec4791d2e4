"""A new model is one folder and one line of the table: it trains, saves, is pushed, loads and dances."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from opendance_hf.storage import pack
from tests.factories import make_sequence
from tests.fakehub import FakeHub
from tests.fixtures.make_music_synth import synth_music

FOLDER = {
    "__init__.py": "",
    "configuration_march.py": """
from transformers import PretrainedConfig


class MarchConfig(PretrainedConfig):
    model_type = "march"
    music_input = ("music_features_fact", 35)

    def __init__(self, hidden_size=8, **kwargs):
        self.hidden_size = hidden_size
        super().__init__(**kwargs)
""",
    "modeling_march.py": '''
import torch
from torch import nn
from transformers import GenerationConfig
from transformers.utils.generic import ModelOutput
from dataclasses import dataclass

from march.configuration_march import MarchConfig
from opendance_hf.modeling.pretrained import DanceGenerationMixin, DancePreTrainedModel


@dataclass
class MarchOutput(ModelOutput):
    loss: torch.Tensor | None = None
    joints: torch.Tensor | None = None


class MarchForDanceGeneration(DanceGenerationMixin, DancePreTrainedModel):
    """Joints of each frame straight from its music."""

    config_class = MarchConfig
    main_input_name = "music"
    generation_names = ("lift",)
    seed_frames = 0

    def __init__(self, config):
        super().__init__(config)
        self.layers = nn.Sequential(nn.Linear(35, config.hidden_size), nn.ReLU(), nn.Linear(config.hidden_size, 72))
        self.generation_config = GenerationConfig(lift=0.0)
        self.post_init()

    def seed_inputs(self, seed):
        return {}

    def forward(self, music, joints=None):
        found = self.layers(music).unflatten(-1, (24, 3))
        return MarchOutput(None if joints is None else (found - joints).square().mean(), found)

    @torch.no_grad()
    def generate_dance(self, music_features, num_frames, *, generator=None, generation_config=None, **options):
        lift = self.generation_options(generation_config, **options).lift
        return MarchOutput(joints=self(music_features[:, : max(num_frames)]).joints + lift)
''',
    "training.py": '''
import torch
from torch.utils.data import Dataset

from march.configuration_march import MarchConfig
from march.modeling_march import MarchForDanceGeneration
from opendance_hf.data import SequenceReader
from opendance_hf.training.stage import Stage


class MarchWindows(Dataset):
    def __init__(self, dataset, num_frames=60, **selection):
        self.num_frames, self.reader = num_frames, SequenceReader(dataset, **selection)
        self.windows = self.reader.windows(num_frames, num_frames)

    def fingerprint(self):
        return self.reader.fingerprint(("joints", "music_features_fact"))

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, index):
        number, _, start = self.windows[index]
        row = self.reader.row(number)
        joints, music = (
            torch.from_numpy(self.reader.matrix(row, name, start, self.num_frames).copy())
            for name in ("joints", "music_features_fact")
        )
        return {"joints": joints.unflatten(-1, (24, 3)), "music": music}


class MarchStage(Stage):
    """Learn the pose of each moment of the music."""

    name = "march"
    model_section = MarchConfig
    data_section = MarchWindows

    def build_model(self):
        return MarchForDanceGeneration(MarchConfig(**self.recipe["model"]))

    def build_data(self, options):
        return MarchWindows(self.arguments.dataset, **options)
''',
    "recipes/march_debug.yaml": """
model: {hidden_size: 16}
data: {num_frames: 30}
trainer: {max_steps: 30, per_device_train_batch_size: 4, learning_rate: 1.0e-2, report_to: none, logging_steps: 10}
validation: {songs: 1, samples: 0, seconds: 3}
""",
}

#: The table line, and what a user types afterwards.
USE = """
import sys
from opendance_hf.modeling.models import MODELS, DANCE_EXTRACTOR, ModelEntry, register

MODELS["march"] = ModelEntry("march.configuration_march:MarchConfig", "march.modeling_march:MarchForDanceGeneration",
    "March, joints straight from the music.", "dance = model.generate_dance(music_features_fact, [num_frames])",
    DANCE_EXTRACTOR, dances=True, stages={"march": "march.training:MarchStage"})
register(MODELS["march"])

import numpy as np
from opendance_hf.cli import app
from opendance_hf.dance import Dancer
from opendance_hf.training.stages import run
from transformers import pipeline

model = run("march", dataset="opendance-3d", output_dir="runs/march", push_to_hub="org/march")
dancer = Dancer.from_pretrained("org/march")
assert type(dancer.model) is type(model)
(dance,) = dancer("song.wav")
assert dance.joints.shape == (1, 150, 24, 3)
assert np.isfinite(dance.joints).all()
(local,) = Dancer.from_pretrained("runs/march")("song.wav")
assert (local.joints == dance.joints).all()
found = pipeline("music-to-dance", model="org/march")("song.wav")
assert (found["joints"] == dance.joints[0]).all()
app(["generate", "song.wav", "--model", "org/march", "--out", "dance.npz"], standalone_mode=False)
assert (np.load("dance.npz")["joints"] == dance.joints[0]).all()
"""


def test_one_folder_and_one_line_add_a_model(tmp_path: Path) -> None:
    for name, text in FOLDER.items():
        path = tmp_path / "march" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    pack([make_sequence(i, 1, 240) for i in range(24)], tmp_path / "opendance-3d")
    sound = np.resize(synth_music(30_720), round(2.5 * 30_720))
    soundfile.write(tmp_path / "song.wav", sound, 30_720, subtype="FLOAT")
    with FakeHub() as hub:
        environment = hub.env(tmp_path / "home")
        done = subprocess.run(
            [sys.executable, "-c", USE],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        repo = hub.repos["model", "org/march"]
        files = repo.commits[repo.refs["main"]]
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "recipe.yaml"} <= set(files)
    card = files["README.md"].decode()
    assert "March, joints straight from the music." in card
    assert "from march.modeling_march import MarchForDanceGeneration" in card
    assert "| loss |" in card  # it was validated
    assert "div_k" in card or "music_motion" in card  # and danced to a held-out song
