"""A step of training neither waits for the device nor leaves the compiled graph: no host reads, no breaks, no recompiles."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opendance_hf.modeling.bailando import BailandoGPT, BailandoVQVAE, BailandoVQVAEConfig
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import BailandoCodebook, random_bits
from opendance_hf.modeling.bailando_pp import BailandoPPGPT, BailandoRelationConfig, BailandoRelationVQVAE
from tests.host_reads import Graphs, HostReads
from tests.training.support import SMALL, make_data, run_stage

_GPT: dict[str, Any] = {
    "codebook_size": 16, "hidden_size": 16, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1,
    "max_codes": 9, "dropout": 0.1,
}  # fmt: skip
ROTARY = {"position_embedding_type": "rotary", "attention_window": 4}
HEARING = {**ROTARY, "hears": "beats", "code_dropout": 0.3, "music_dropout": 0.1}


def vqvae_case(**options: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    small = {"hidden_size": 8, "codebook_size": 32, "num_residual_layers": 1, "num_downsamples": 2}
    config = BailandoVQVAEConfig(**small, **options)
    batch = {"joints": torch.randn(2, 32, 24, 3), "root_velocity": torch.randn(2, 32, 3)}
    if config.rotation_head:
        batch["rotations"] = torch.randn(2, 32, 24, 3, 3)
    return BailandoVQVAE(config), batch


def accumulated_case() -> tuple[nn.Module, dict[str, Tensor]]:
    model, batch = vqvae_case()
    model.update_in_forward = False
    return model, batch


def gpt_case(kind: Any, dancers: tuple[int, ...], **options: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    model = kind(kind.config_class(**_GPT, **options))
    codes, columns = torch.randint(16, (2, *dancers, 8)), model.config.music_input[1]
    names = ("upper_codes", "lower_codes", "upper_targets", "lower_targets")
    batch = {**dict.fromkeys(names, codes), "music": torch.randn(2, 8, columns)}
    if getattr(model.config, "relation", False):
        relations = torch.randint(16, (2, dancers[0] - 1, 8))
        batch |= dict.fromkeys(("place_codes", "hands_codes", "place_targets", "hands_targets"), relations)
    elif dancers:
        batch["placement_targets"] = torch.randn(2, dancers[0] - 1, 8, 4)
    return model, batch


def relation_case() -> tuple[nn.Module, dict[str, Tensor]]:
    config = BailandoRelationConfig(hidden_size=8, codebook_size=32, num_residual_layers=1)
    return BailandoRelationVQVAE(config), {"relation": torch.randn(2, 32, 9)}


CASES: dict[str, Any] = {
    "vqvae": vqvae_case,
    "vqvae_feet_rotations": lambda: vqvae_case(foot_weight=1.0, rotation_head=True, scaled_init=True),
    "vqvae_accumulated": accumulated_case,
    "gpt": lambda: gpt_case(BailandoGPT, ()),
    "gpt_hearing": lambda: gpt_case(BailandoGPT, (), **HEARING),
    "bailando_pp": lambda: gpt_case(BailandoPPGPT, (2,)),
    "relation": relation_case,
    "bailando_pp_relation": lambda: gpt_case(BailandoPPGPT, (2,), **HEARING, relation=True),
    "bailando_pp_rotary": lambda: gpt_case(BailandoPPGPT, (3,), **ROTARY, max_dancers=3),
}


def test_the_guard_sees_reads_and_copies() -> None:
    vector, codes = torch.randn(3), torch.arange(4)
    for read in (vector[0].item, lambda: bool(codes[0] == 0), codes.unique, codes.nonzero):
        with HostReads() as guard:
            read()
        assert guard.reads
    with HostReads() as guard:
        vector.to("meta")
    assert guard.copies == {"_to_copy": 1}
    assert not guard.reads
    vector, codes = vector.to("meta"), codes.to("meta")
    for read in (vector.cpu, vector.tolist, lambda: codes[codes > 1], lambda: int(codes[0])):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read()


@pytest.mark.parametrize("case", CASES)
def test_a_step_reads_nothing_on_the_host(case: str) -> None:
    torch.manual_seed(0)
    model, batch = CASES[case]()
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-3, fused=True)
    with HostReads() as guard:
        for _ in range(2):
            with torch.autocast("cpu", torch.bfloat16):
                output = model(**batch)
            output.loss.backward()
            if case == "vqvae_accumulated":
                model.update_codebooks([output.vectors, output.vectors])
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert not guard.reads


@pytest.mark.parametrize("case", CASES)
def test_a_step_copies_nothing_between_host_and_device(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: contextlib.nullcontext()
    )  # unknown on this device
    model, batch = CASES[case]()
    model, batch = model.train().to("meta"), {name: value.to("meta") for name, value in batch.items()}
    with HostReads() as guard:
        output = model(**batch)
        output.loss.backward()
        if case == "vqvae_accumulated":
            model.update_codebooks([output.vectors, output.vectors])
    assert not guard.reads
    assert not guard.copies


@pytest.mark.parametrize(
    "case",
    [
        "vqvae_feet_rotations",
        "vqvae_accumulated",
        "gpt_hearing",
        "bailando_pp",
        "bailando_pp_relation",
        "relation",
    ],
)
def test_a_step_is_one_graph_that_is_compiled_once(case: str) -> None:
    torch.manual_seed(0)
    model, batch = CASES[case]()
    torch._dynamo.reset()
    graphs = Graphs()
    compiled = torch.compile(model.train(), backend=graphs, fullgraph=True)  # a graph break is an error
    for _ in range(4):
        batch = {name: value.clone() for name, value in batch.items()}
        compiled(**batch).loss.backward()
    assert graphs.count == 1


@pytest.mark.parametrize(
    "stage", ["vqvae", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("gpt", "bailando_pp"))]
)
def test_the_trainer_reads_values_for_logs_only(stage: str, tmp_path: Path) -> None:
    data, reads = make_data(tmp_path), {}
    for steps in (2, 5):
        options = [*SMALL[stage], "trainer.logging_steps=100", "trainer.save_strategy=no", "trainer.ema_decay=0.9",
                   f"trainer.max_steps={steps}"]  # fmt: skip
        with HostReads() as guard:
            run_stage(stage, data, tmp_path / f"run{steps}", options)
        # A new epoch draws the order of the data, which is never on the device.
        reads[steps] = {place: n for place, n in guard.reads.items() if "dataloader.py" not in place}
    assert reads[2] == reads[5]


def test_bits_are_uniform_and_independent_between_steps() -> None:
    index = torch.arange(1 << 14)
    bits = torch.stack([random_bits(0, torch.tensor(step), index) for step in range(8)])
    assert bits.min() >= 0
    assert bits.max() < 2**32
    ones = torch.stack([(bits >> place) & 1 for place in range(32)]).double().mean((1, 2))
    assert (ones - 0.5).abs().max() < 0.01  # seven standard deviations
    assert torch.corrcoef(bits.double()).fill_diagonal_(0).abs().max() < 0.04
    assert (random_bits(1, torch.tensor(0), index) != bits[0]).all()


@pytest.mark.parametrize("count", [40, 64])
def test_draws_are_permutations_in_which_all_orders_are_alike(count: int) -> None:
    book = BailandoCodebook(BailandoVQVAEConfig(hidden_size=8, codebook_size=32))
    seen = torch.zeros(count, count)
    for step in range(2000):
        book.step.fill_(step)
        order = book._permutation(count)
        assert torch.equal(order.sort().values, torch.arange(count))
        seen[torch.arange(count), order] += 1
    expected = 2000 / count
    chi_square = ((seen - expected).square() / expected).sum().item()
    freedom = (count - 1) ** 2
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_noise_of_repeated_vectors_is_normal() -> None:
    book = BailandoCodebook(BailandoVQVAEConfig(hidden_size=64, codebook_size=512))
    vectors = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    drawn = book.draw(vectors)
    noise = (drawn - vectors[torch.cdist(drawn, vectors).argmin(1)]) * 64**0.5 / 0.01
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    assert noise.pow(4).mean().item() == pytest.approx(3, abs=0.2)
