"""Steps of training and generation on a GPU at published size, beside the plain step and the official code's figures.

Without a GPU nothing is measured, and the section says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.generation import CompileConfig

from opendance_hf.modeling.bailando import BailandoGPT, BailandoGPTConfig, BailandoVQVAE, BailandoVQVAEConfig
from opendance_hf.modeling.bailando_pp import BailandoPPGPT

#: Seconds of the official code on one NVIDIA H200, torch 2.11, float32 without TF32, 2026-11-26: a step of 32 windows (forward,
#: backward, Adam; the VQ-VAE without its root decoder), and 20 s of dance.
OFFICIAL_H200: Final = {"vqvae_32": 0.0454, "gpt_32": 0.0464, "generate_1": 1.235, "generate_8": 1.455}
BATCHES, SONGS, CODES, FRAMES = (32, 256), (1, 64), 149, 240
#: Options of a training step: what makes the plain one ours.
TRAINING: Final[dict[str, dict[str, Any]]] = {
    "plain": {"fused": False},
    "ours": {"fused": True},
    "bf16_compiled": {"fused": True, "bf16": True, "mode": "default"},
    "bf16_captured": {"fused": True, "bf16": True, "mode": "reduce-overhead"},
}
#: Options of a generation: arguments of ``CompileConfig``, or None.
GENERATION: Final[dict[str, dict[str, Any] | None]] = {
    "ours": None,
    "captured": {"fullgraph": True, "mode": "reduce-overhead"},
}


def training_cases(
    device: str, batch: int, sizes: dict[str, Any]
) -> dict[str, tuple[nn.Module, dict[str, Tensor]]]:
    """Make each model with a batch; ``sizes`` changes the published ones."""
    torch.manual_seed(0)
    vqvae = BailandoVQVAE(BailandoVQVAEConfig(**sizes.get("vqvae", {})))
    joints = torch.randn(batch, FRAMES, 24, 3, device=device)
    cases: dict[str, Any] = {"vqvae": (vqvae, {"joints": joints, "root_velocity": joints[:, :, 0]})}
    for name, kind, dancers in (("gpt", BailandoGPT, ()), ("bailando_pp", BailandoPPGPT, (2,))):
        model = kind(kind.config_class(**sizes.get("gpt", {})))
        config = model.config
        steps = config.max_codes - 1
        codes = torch.randint(config.codebook_size, (batch, *dancers, steps), device=device)
        names = ("upper_codes", "lower_codes", "upper_targets", "lower_targets")
        music = torch.randn(batch, steps, config.music_dim, device=device)
        cases[name] = (model, {**dict.fromkeys(names, codes), "music": music})
    return {name: (model.to(device).train(), inputs) for name, (model, inputs) in cases.items()}


def training_step(
    model: nn.Module, inputs: dict[str, Tensor], *, fused: bool, bf16: bool = False, mode: str | None = None
) -> Callable[[], None]:
    """Return a function that takes one step with Adam."""
    device = next(iter(inputs.values())).device.type
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=fused)
    forward = model if mode is None else torch.compile(model, fullgraph=True, mode=mode)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            loss = forward(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def generation(
    model: BailandoGPT, device: str, songs: int, options: dict[str, Any] | None, steps: int
) -> Callable[[], None]:
    """Return a function that generates codes of dances to that many songs."""
    config = GenerationConfig(do_sample=True, top_k=20)
    config.compile_config = None if options is None else CompileConfig(**options)
    music = torch.randn(songs, steps, model.config.music_dim, device=device)
    first = torch.zeros(2, songs, 1, dtype=torch.long, device=device)

    def generate() -> None:
        model.generate_codes(music, *first, steps=steps, generation_config=config)

    return generate


def clock(function: Callable[[], None], device: str, repeats: int) -> dict[str, float]:
    """Return the least seconds of a call after three warm ones, and the peak memory in MB."""
    on_gpu = device == "cuda"
    for _ in range(3):
        function()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return {"s": min(times), "peak_mb": torch.cuda.max_memory_allocated() / 1e6 if on_gpu else 0.0}


def measure(
    device: str,
    *,
    batches: tuple[int, ...] = BATCHES,
    songs: tuple[int, ...] = SONGS,
    steps: int = CODES,
    repeats: int = 20,
    sizes: dict[str, Any] | None = None,
    training: dict[str, dict[str, Any]] = TRAINING,
    generating: dict[str, dict[str, Any] | None] = GENERATION,
) -> dict[str, dict[str, float]]:
    """Measure every step; ``sizes`` has arguments of the configurations, published ones by default."""
    found: dict[str, dict[str, float]] = {}
    for batch in batches:
        for kind, options in training.items():
            for name, (model, inputs) in training_cases(device, batch, sizes or {}).items():
                torch._dynamo.reset()
                found[f"{name}_{batch}_{kind}"] = clock(
                    training_step(model, inputs, **options), device, repeats
                )
    for position in ("absolute", "rotary"):
        config = BailandoGPTConfig(position_embedding_type=position, **(sizes or {}).get("gpt", {}))
        model = BailandoGPT(config).to(device).eval()
        for count in songs:
            for kind, options in generating.items():
                torch._dynamo.reset()
                work = generation(model, device, count, options, steps)
                found[f"generate_{position}_{count}_{kind}"] = clock(work, device, max(1, repeats // 4))
    return found


def run() -> dict[str, Any]:
    official = {"official_h200": OFFICIAL_H200}
    if not torch.cuda.is_available():
        return {"what": "no GPU: unmeasured", **official}
    what = f"steps on {torch.cuda.get_device_name()}, torch {torch.__version__}: seconds and peak memory"
    return {"what": what, **measure("cuda"), **official}
