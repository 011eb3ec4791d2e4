"""A step of generation neither waits for the device nor leaves the compiled graph, and draws as multinomial would."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation import CompileConfig

from opendance_hf.modeling import layers
from opendance_hf.modeling.bailando import BailandoGPT
from opendance_hf.modeling.bailando_pp import BailandoPPGPT
from opendance_hf.modeling.layers import Generators, choose_codes, draw_noise
from tests.host_reads import Graphs, HostReads

_SIZES: dict[str, Any] = {
    "codebook_size": 16, "hidden_size": 16, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1,
    "max_codes": 7, "initializer_range": 0.5, "hears": "beats",
}  # fmt: skip
ROTARY = {"position_embedding_type": "rotary", "attention_window": 4}
SAMPLED = {"do_sample": True, "top_k": 8, "top_p": 0.95, "temperature": 1.3}
STEPS = 20
#: Kinds of steps after the first: with caches, and of a window that slides.
CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], int]] = {
    "absolute": (BailandoGPT, {}, SAMPLED, 2),
    "rotary": (BailandoGPT, ROTARY, SAMPLED, 1),
    "guided": (BailandoGPT, ROTARY, {**SAMPLED, "guidance_scale": 3.0}, 1),
    "greedy": (BailandoGPT, ROTARY, {"do_sample": False}, 1),
    "duet": (BailandoPPGPT, ROTARY, SAMPLED, 1),
    "duet_absolute": (BailandoPPGPT, {}, SAMPLED, 2),
    "couple": (BailandoPPGPT, {**ROTARY, "relation": True}, {**SAMPLED, "guidance_scale": 3.0}, 1),
}


def build(case: str) -> tuple[Any, Tensor, Tensor]:
    """A model, music of two songs, and the first codes."""
    torch.manual_seed(0)
    kind, options, _, _ = CASES[case]
    model = kind(kind.config_class(**_SIZES, **options)).eval()
    shape = (2, 2, 2, 1) if kind is BailandoPPGPT else (2, 2, 1)
    return model, torch.randn(2, STEPS, 5), torch.randint(16, shape)


def generate(model: Any, music: Tensor, codes: Tensor, case: str, **more: Any) -> Tensor:
    config = GenerationConfig(**CASES[case][2])
    config.compile_config = more.pop("compile_config", None)
    generator = torch.Generator().manual_seed(0)
    steps = more.pop("steps", STEPS)
    if CASES[case][1].get("relation"):
        more |= {"place_codes": codes[0, :, :1], "hands_codes": codes[1, :, :1]}
    found = model.generate_codes(
        music, *codes, steps=steps, generation_config=config, generator=generator, **more
    )
    return torch.cat(found, dim=1)


@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_nothing_on_the_host(case: str) -> None:
    model, music, codes = build(case)
    with HostReads() as guard:
        found = generate(model, music, codes, case)
    assert not guard.reads
    assert len(found.unique()) > 4
    # The same on a device without values, to which only the noise of all steps is copied, at once.
    model, music, codes = model.to("meta"), music.to("meta"), codes.to("meta")
    with HostReads() as guard:
        generate(model, music, codes, case)
    assert not guard.reads
    assert guard.copies == ({"_to_copy": 1} if CASES[case][2]["do_sample"] else {})


@pytest.mark.parametrize("case", CASES)
def test_steps_are_compiled_once(case: str) -> None:
    model, music, codes = build(case)
    wanted = generate(model, music, codes, case)
    torch._dynamo.reset()
    graphs = Graphs()
    options = CompileConfig(fullgraph=True, backend=graphs, mode=None)  # a graph break is an error
    found = generate(model, music, codes, case, compile_config=options)
    assert graphs.count == CASES[case][3]
    assert torch.equal(found, wanted)
    again = generate(model, music.flip(1), codes, case, compile_config=options)
    assert graphs.count == CASES[case][3]
    assert not torch.equal(again, wanted)


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_draws_are_those_of_multinomial(shape: tuple[int, ...], pieces: bool) -> None:
    def seeded() -> Generators:
        generators = [torch.Generator().manual_seed(seed) for seed in range(shape[0])]
        return generators if pieces else generators[0]

    logits = torch.randn(5, 2, *shape, 512, generator=torch.Generator().manual_seed(9))
    generator, config = seeded(), GenerationConfig(do_sample=True)
    noise = draw_noise(5, logits.shape[1:], seeded())
    for step, halves in enumerate(logits):
        for half, rows in enumerate(halves):
            found = choose_codes(rows, config, noise[step, half])
            groups = (
                rows.softmax(-1).flatten(0, -2)[None] if not pieces else rows.softmax(-1).view(3, -1, 512)
            )
            drawn = [
                torch.multinomial(group, 1, generator=one)
                for group, one in zip(groups, generator if pieces else [generator], strict=True)
            ]
            assert torch.equal(found.flatten(), torch.cat(drawn).flatten())


def test_draws_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, music, codes = build("rotary")
    at_once = generate(model, music, codes, "rotary")
    monkeypatch.setattr(layers, "_STEPS_PER_DRAW", 3)
    assert torch.equal(generate(model, music, codes, "rotary"), at_once)


def test_several_steps_follow_only_nothing() -> None:
    cache = layers.StepCache(4, 3)
    layers.StepCache.start_step([cache], torch.arange(2))
    keys = torch.zeros(1, 2, 6, 8)
    cache.update(keys, keys)
    layers.StepCache.start_step([cache], torch.arange(2, 4))
    with pytest.raises(ValueError, match="expected one step after the first ones, got 2"):
        cache.update(keys, keys)
