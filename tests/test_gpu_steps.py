"""The benchmark of steps on a GPU runs wherever there is none, too, and says that nothing was measured."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu_steps

_SIZES = {
    "vqvae": {"hidden_size": 8, "codebook_size": 16, "num_residual_layers": 1},
    "gpt": {"hidden_size": 8, "codebook_size": 16, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1,
            "max_codes": 5},
}  # fmt: skip


def test_all_kinds_of_steps_run() -> None:
    eager = {name: options for name, options in gpu_steps.TRAINING.items() if "mode" not in options}
    found = gpu_steps.measure(
        "cpu",
        batches=(2,),
        songs=(1, 2),
        steps=6,
        repeats=1,
        sizes=_SIZES,
        training={**eager, "bf16": {"fused": True, "bf16": True}},
        generating={"ours": None},
    )
    assert len(found) == 3 * 3 + 2 * 2
    assert all(value["s"] > 0 for value in found.values())


def test_without_a_gpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_steps.run()["what"] == "no GPU: unmeasured"
