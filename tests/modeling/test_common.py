"""What every model of the table must do: one suite over all of them."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, GenerationConfig, PreTrainedModel

import opendance_hf.modeling
from opendance_hf.modeling.layers import eager_attention_forward
from opendance_hf.modeling.models import MODELS, resolve

_CODES = {"codebook_size": 8, "hidden_size": 8, "num_residual_layers": 1}
#: Weights large enough that attention matters to the output.
_BLOCKS = {
    "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1, "dropout": 0.0, "initializer_range": 0.4,
}  # fmt: skip
_GPT = {"codebook_size": 8, "hidden_size": 8, **_BLOCKS}
_FACT = {
    "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_motion_layers": 1, "num_audio_layers": 1,
    "num_cross_layers": 2, "initializer_range": 0.4, "motion_frames": 6, "audio_frames": 12, "target_frames": 4,
}  # fmt: skip
#: Options of each configuration by model type. Parts of a name after a slash are variants.
CONFIGS: dict[str, dict[str, Any]] = {
    "bailando": {"vqvae_config": _CODES, "gpt_config": _GPT},
    "bailando/rotation": {"vqvae_config": {**_CODES, "rotation_head": True}, "gpt_config": _GPT},
    "bailando_pp": {"vqvae_config": _CODES, "gpt_config": _GPT},
    "bailando_pp/relation": {
        "vqvae_config": _CODES, "gpt_config": {**_GPT, "relation": True}, "relation_config": _CODES,
    },
    "bailando_relation": _CODES,
    "fact": _FACT,
    "bailando_vqvae": _CODES,
    "bailando_vqvae/rotation": {**_CODES, "rotation_head": True, "scaled_init": True},
    "bailando_gpt": _GPT,
    "bailando_gpt/rotary": {**_GPT, "position_embedding_type": "rotary"},
    "bailando_gpt/window": {**_GPT, "music_window": 8, "music_dim": 5, "num_music_layers": 1},
    "bailando_pp_gpt": _GPT,
    "bailando_pp_gpt/relation": {**_GPT, "relation": True},
    "bailando_actor_critic": {"gpt_config": _GPT, "num_critic_layers": 1},
    "music_genre": {
        "embedding_size": 4, "hidden_sizes": (8, 8), "depths": (1, 1), "layer_type": "basic", "num_mel_bins": 32,
    },
    "smoothnet": {"window_size": 8, "hidden_size": 8, "res_hidden_size": 8, "dropout": 0.0},
    "lifter": {"hidden_size": 16, "dilations": (1, 2), "dropout": 0.0, "depth_frames": 5},
    "cliff": {"width": 4, "hidden_size": 8, "dropout": 0.0},
}  # fmt: skip


def codes(*shape: int) -> Tensor:
    return torch.randint(8, shape, generator=torch.Generator().manual_seed(0))


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


INPUTS: dict[str, dict[str, Tensor]] = {
    "bailando": {"music_features": noise(2, 4, 438), "joints": noise(2, 32, 24, 3)},
    "bailando_pp": {"music_features": noise(2, 4, 438), "joints": noise(2, 2, 32, 24, 3)},
    "bailando_relation": {"relation": noise(2, 32, 9)},
    "fact": {"motion": noise(2, 6, 225), "audio": noise(2, 12, 35), "targets": noise(2, 4, 225)},
    "bailando_vqvae": {"joints": noise(2, 32, 24, 3), "root_velocity": noise(2, 32, 3)},
    "bailando_gpt": {
        "upper_codes": codes(2, 5), "lower_codes": codes(2, 5), "music": noise(2, 5, 438),
        "upper_targets": codes(2, 5), "lower_targets": codes(2, 5),
    },
    "bailando_pp_gpt": {
        "upper_codes": codes(2, 2, 5), "lower_codes": codes(2, 2, 5), "music": noise(2, 5, 438),
        "upper_targets": codes(2, 2, 5), "lower_targets": codes(2, 2, 5),
    },
    "bailando_actor_critic": {
        "upper_codes": codes(2, 5), "lower_codes": codes(2, 5), "music": noise(2, 5, 438), "rewards": noise(2, 4),
    },
    "music_genre": {"input_values": noise(2, 22_050), "labels": torch.tensor([1, 2])},
    "smoothnet": {"motion": noise(20, 6)},
    "lifter": {
        "rays": 0.1 * noise(2, 9, 16, 2), "world": noise(2, 9, 16, 3), "visibility": noise(2, 9, 16).sigmoid(),
        "joints": noise(2, 9, 14, 3),
    },
    "cliff": {"images": noise(2, 3, 64, 48), "bbox_info": noise(2, 3)},
}  # fmt: skip
INPUTS["bailando_gpt/window"] = {**INPUTS["bailando_gpt"], "music": noise(2, 8 * 5 + 2 * 8, 5)}
INPUTS["bailando_pp_gpt/relation"] = {
    **INPUTS["bailando_pp_gpt"], "place_codes": codes(2, 1, 5), "hands_codes": codes(2, 1, 5),
    "place_targets": codes(2, 1, 5), "hands_targets": codes(2, 1, 5),
}  # fmt: skip
CASES = list(CONFIGS)


def make(case: str, seed: int = 0) -> PreTrainedModel:
    """An untrained model whose codebooks are filled."""
    torch.manual_seed(seed)
    entry = MODELS[case.partition("/")[0]]
    model = resolve(entry.model)(resolve(entry.config)(**copy.deepcopy(CONFIGS[case])))
    for name, buffer in model.named_buffers():
        if name.endswith("codebook.codes"):
            buffer.normal_()
    return model.eval()


def inputs_of(case: str) -> dict[str, Tensor]:
    return INPUTS.get(case) or INPUTS[case.partition("/")[0]]


def tensors(output: Any) -> dict[str, Tensor]:
    return {name: value for name, value in output.items() if isinstance(value, Tensor)}


def run(model: PreTrainedModel, case: str) -> dict[str, Tensor]:
    with torch.no_grad():
        return tensors(model(**inputs_of(case)))


def close(left: dict[str, Tensor], right: dict[str, Tensor], **tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


WITH_ATTENTION = {
    "bailando", "bailando_pp", "fact", "bailando_gpt", "bailando_pp_gpt", "bailando_actor_critic",
}  # fmt: skip


def implementations(model: PreTrainedModel) -> set[str]:
    """The attention that the layers of a model use."""
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "q_proj")]
    return {str(layer.config._attn_implementation) for layer in layers}


def test_every_model_is_here() -> None:
    assert {case.partition("/")[0] for case in CASES} == set(MODELS)
    assert opendance_hf.modeling.MODELS is MODELS
    for entry in MODELS.values():
        for place in (entry.config, entry.model):
            assert getattr(opendance_hf.modeling, place.partition(":")[2]) is resolve(place)
    with pytest.raises(AttributeError, match="no attribute 'Tango'"):
        opendance_hf.modeling.Tango  # noqa: B018


@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded_by_auto_classes(case: str, tmp_path: Path) -> None:
    model = make(case)
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(model.config)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is type(model)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    close(run(loaded, case), run(model, case), rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_missing_weights_are_initialised(case: str, tmp_path: Path) -> None:
    """Each missing weight, one at a time, gets a value that its initialisation gives, and the others stay."""
    model = make(case)
    model.save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    buffers = dict(model.named_buffers())
    fresh = {name: value for name, value in make(case, seed=1).state_dict().items() if name in whole}
    for parity in (0, 1):
        left_out = sorted(whole)[parity::2]
        kept = {name: value for name, value in whole.items() if name not in left_out}
        save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
        loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
        assert set(info["missing_keys"]) == set(left_out)
        state = loaded.state_dict()
        for name, value in kept.items():
            assert torch.equal(state[name], value), name
        for name in left_out:
            value, expected = state[name].double(), fresh[name].double()
            assert torch.isfinite(value).all(), name
            if name.endswith("codebook.codes"):
                assert not value.any(), name  # drawn from the first batch
            elif name in buffers:
                assert torch.equal(value, expected), name
            elif expected.numel() > 50:
                assert 0.5 * expected.std() <= value.std() <= 2 * expected.std(), name
                assert (value.mean() - expected.mean()).abs() <= expected.std() + 1e-6, name
            elif expected.numel() and expected.unique().numel() == 1 and expected.ndim:
                assert torch.equal(value, expected), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_half_precision(case: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = make(case)
    model.save_pretrained(tmp_path)
    exact = run(model, case)
    half = run(AutoModel.from_pretrained(tmp_path, dtype=dtype), case)
    assert half.keys() == exact.keys()
    for name, value in half.items():
        assert torch.isfinite(value.float()).all(), name
    if "loss" in exact and exact["loss"] is not None:
        torch.testing.assert_close(half["loss"].float(), exact["loss"], rtol=0.1, atol=0.1)
    cast = run(model.to(dtype), case)
    assert all(torch.isfinite(value.float()).all() for value in cast.values())


@pytest.mark.parametrize("case", CASES)
def test_attention_implementations_agree(case: str, tmp_path: Path) -> None:
    model = make(case)
    model.save_pretrained(tmp_path)
    eager = AutoModel.from_pretrained(tmp_path, attn_implementation="eager")
    sdpa = AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa")
    found = run(eager, case)
    for one, name in ((eager, "eager"), (sdpa, "sdpa")):
        assert implementations(one) == ({name} if implementations(model) else set())
    assert bool(implementations(model)) == (case.partition("/")[0] in WITH_ATTENTION)
    close(found, run(sdpa, case), rtol=1e-4, atol=1e-5)
    if implementations(model):
        eager.set_attn_implementation("sdpa")
        assert implementations(eager) == {"sdpa"}
        close(run(eager, case), run(sdpa, case), rtol=0, atol=0)
    with pytest.raises((ValueError, ImportError)):
        AutoModel.from_pretrained(tmp_path, attn_implementation="flash_attention_2")


def test_positions_are_summed_in_single_precision() -> None:
    vqvae: Any = make("bailando_vqvae").to(torch.bfloat16)
    joints, velocity = vqvae.decode(codes(1, 4), codes(1, 4))
    assert joints.dtype == velocity.dtype == torch.float32


def test_eager_attention_drops_out_in_training() -> None:
    layer, query = torch.nn.Identity(), noise(1, 2, 3, 4)
    plain, _ = eager_attention_forward(layer.eval(), query, query, query, None, dropout=1.0)
    dropped, _ = eager_attention_forward(layer.train(), query, query, query, None, dropout=1.0)
    assert plain.any()
    assert not dropped.any()


@pytest.mark.parametrize("case", CASES)
def test_checkpointing_changes_no_gradient(case: str) -> None:
    model = make(case)
    if not model.supports_gradient_checkpointing:
        with pytest.raises(ValueError, match="does not support"):
            model.gradient_checkpointing_enable()
        return
    plain, other = model, copy.deepcopy(model)
    other.gradient_checkpointing_enable()
    assert other.is_gradient_checkpointing
    found = []
    for one in (plain, other):
        for module in one.modules():  # the actor of actor-critic training too, which train() leaves
            module.training = True
        torch.manual_seed(0)
        output = one(**inputs_of(case))
        total = sum(v.float().square().mean() for v in tensors(output).values() if v.requires_grad)
        total.backward()
        found.append({n: p.grad for n, p in one.named_parameters() if p.grad is not None})
    assert found[0]
    close(found[0], found[1], rtol=1e-5, atol=1e-6)
    # What learns without gradients, a codebook, has learned once.
    close(dict(plain.named_buffers()), dict(other.named_buffers()), rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_unknown_keyword_is_refused(case: str) -> None:
    with pytest.raises(TypeError, match="upper_target_'"):
        make(case)(**inputs_of(case), upper_target_=torch.zeros(1))


@pytest.mark.parametrize("case", ["bailando", "bailando_pp", "fact"])
def test_generation_defaults_are_saved(case: str, tmp_path: Path) -> None:
    model: Any = make(case)
    name = model.generation_names[-1]
    setattr(model.generation_config, name, 2)
    model.save_pretrained(tmp_path)
    loaded: Any = AutoModel.from_pretrained(tmp_path)
    assert getattr(loaded.generation_config, name) == 2
    assert loaded.generation_config.do_sample == (case != "fact")
    given = GenerationConfig(do_sample=False, **{name: 3})
    loaded = AutoModel.from_pretrained(tmp_path, generation_config=given)
    assert getattr(loaded.generation_config, name) == 3
    (tmp_path / "generation_config.json").unlink()
    assert AutoModel.from_pretrained(tmp_path).generation_config.do_sample == (case != "fact")
    with pytest.raises(ValueError, match=f"unknown generation option 'beams': expected one of .*{name}"):
        model.generate_dance(noise(1, 6, 438), 6, beams=3)


@pytest.mark.parametrize("case", ["bailando", "bailando_pp", "fact"])
def test_generation_configurations_of_others(case: str, tmp_path: Path) -> None:
    """A configuration without this model's own options, in memory or in a file, gets their defaults."""
    model: Any = make(case)
    model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"do_sample": true, "top_k": 5}')
    loaded: Any = AutoModel.from_pretrained(tmp_path)
    for one, given in ((model, GenerationConfig(do_sample=False)), (loaded, None)):
        inputs: dict[str, Any] = {
            "music_features": noise(1, 12, 35 if case == "fact" else 438),
            "num_frames": 12,
        }
        if case == "fact":
            inputs |= {"seed_poses": noise(1, 6, 24, 3), "seed_transl": noise(1, 6, 3)}
        assert one.generate_dance(**inputs, generation_config=given).joints.shape[-3:] == (12, 24, 3)
    (tmp_path / "generation_config.json").write_text('{"do_sample": tr')
    with pytest.raises(OSError, match="generation_config"):
        AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("top_k", -1, "top_k must be a number of codes, 0 or None for all, got -1"),
        ("top_k", 2.5, "top_k must be"),
        ("temperature", -1.0, "temperature must be a number above 0, got -1.0"),
        ("temperature", "hot", "temperature must be"),
        ("top_p", 1.5, "top_p must be a share above 0, at most 1, got 1.5"),
        ("do_sample", "yes", "do_sample must be True or False, got 'yes'"),
    ],
)
def test_generation_options_outside_their_range(option: str, value: Any, message: str) -> None:
    model: Any = make("bailando")
    with pytest.raises(ValueError, match=message):
        model.generate_dance(noise(1, 6, 438), 6, **{option: value})


def test_contradicting_defaults_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    model: Any = make("bailando")
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other: Any = make("bailando/rotation")
    other.generation_config.do_sample = False  # top_k is still 20
    with pytest.raises(ValueError, match="top_k"):
        other.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_class_from_elsewhere_names_no_code_that_is_not_there(tmp_path: Path) -> None:
    make("bailando").save_pretrained(tmp_path / "one")

    class Mine(resolve(MODELS["bailando"].model)):  # type: ignore[misc]
        pass

    Mine.__module__ = "somewhere.mine"
    Mine.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    assert "auto_map" not in json.loads((tmp_path / "two" / "config.json").read_text())
    assert not list((tmp_path / "two").glob("*.py"))


def test_saving_and_pushing_at_once_uploads_the_code(tmp_path: Path) -> None:
    from opendance_hf.dance import Dancer
    from tests.fakehub import FakeHub

    Dancer.of(make("bailando")).save_pretrained(tmp_path / "dancer")
    program = """
import opendance_hf.dance
from transformers import AutoFeatureExtractor, AutoModel
AutoModel.from_pretrained("dancer").save_pretrained("one", push_to_hub=True, repo_id="org/one")
AutoFeatureExtractor.from_pretrained("dancer").save_pretrained("two", push_to_hub=True, repo_id="org/two")
"""
    with FakeHub() as hub:
        done = subprocess.run(
            [sys.executable, "-c", program], env=hub.env(tmp_path / "home"), cwd=tmp_path, text=True,
            capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        files = {}
        for name in ("org/one", "org/two"):
            repo = hub.repos["model", name]
            files[name] = set(repo.commits[repo.refs["main"]])
    assert {"model.safetensors", "config.json", "modeling_bailando.py", "layers.py"} <= files["org/one"]
    assert {"preprocessor_config.json", "feature_extraction_dance.py", "music_fast.py"} <= files["org/two"]


@pytest.mark.parametrize(
    ("kind", "column", "size"),
    [
        ("bailando", "music_features_7p5fps", 438),
        ("bailando_pp", "music_features_7p5fps", 438),
        ("fact", "music_features_fact", 35),
        ("music_genre", None, None),
        ("cliff", None, None),
    ],
)
def test_extractors_are_found(kind: str, column: str | None, size: int | None, tmp_path: Path) -> None:
    from opendance_hf.modeling.models import extractor_for

    model = make(kind)
    model.save_pretrained(tmp_path)
    extractor_for(model.config).save_pretrained(tmp_path)
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is resolve(MODELS[kind].extractor)
    if column:
        assert (loaded.column, loaded.feature_size, loaded.engine) == (column, size, "fast")


_WITHOUT_THE_PACKAGE = """
import importlib.abc, json, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "opendance_hf":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import numpy as np, torch
from transformers import AutoFeatureExtractor, AutoModel

for folder in sys.argv[2:]:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    inputs = torch.load(folder + "/inputs.pt")
    with torch.no_grad():
        output = model(**inputs)
    torch.save({k: v for k, v in output.items() if isinstance(v, torch.Tensor)}, folder + "/outputs.pt")
    model.save_pretrained(folder + "/again")
    AutoModel.from_pretrained(folder + "/again", trust_remote_code=True)
samples = np.load(sys.argv[1])
folder = sys.argv[2]
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
batch = extractor(samples, 30_720)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
generator = [torch.Generator().manual_seed(3)]
output = model.generate_dance(batch["music_features"], int(batch["num_frames"][0]), generator=generator)
(dance,) = extractor.post_process_dance(output, batch["num_frames"])
np.savez(folder + "/dance.npz", **dance)
"""


@pytest.mark.slow
def test_folders_carry_the_code_of_models_and_extractors(tmp_path: Path) -> None:
    """In a process that cannot import the package, all models load, and a song is danced to with the same joints."""
    import numpy as np

    from opendance_hf.dance import Dancer
    from tests.fixtures.make_music_synth import synth_music

    folders = []
    for case in CASES:
        model = make(case)
        folder = tmp_path / case.replace("/", "-")
        model.save_pretrained(folder)
        torch.save(inputs_of(case), folder / "inputs.pt")
        folders.append(folder)
    sound = synth_music(30_720)[: 30_720 * 2]
    np.save(tmp_path / "samples.npy", sound)
    dancer = Dancer.of(make("bailando"))
    dancer.save_pretrained(folders[0])
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_THE_PACKAGE, str(tmp_path / "samples.npy"), *map(str, folders)],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for case, folder in zip(CASES, folders, strict=True):
        close(torch.load(folder / "outputs.pt"), run(make(case), case), rtol=1e-5, atol=1e-6)
    (expected,) = dancer([{"array": sound, "sampling_rate": 30_720}], seed=3)
    with np.load(folders[0] / "dance.npz") as dance:
        np.testing.assert_array_equal(dance["joints"], expected.joints[0])
        np.testing.assert_array_equal(dance["smpl_pose"], expected.poses[0])
