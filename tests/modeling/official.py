"""Weights by the rule of the reference fixtures: what the official modules were filled with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def official_state(keys: list[Any], mode: str, kscale: float = 0.25) -> dict[str, torch.Tensor]:
    """A state dict under official names, from the fixture's list of keys."""
    state = {}
    for entry in keys:
        row = (
            dict(zip(("i", "key", "shape", "kind", "sum"), entry, strict=False))
            if isinstance(entry, list)
            else entry
        )
        if row["kind"] == "kept":
            continue
        shape = tuple(row["shape"])
        noise = np.random.RandomState(row["i"]).standard_normal(int(np.prod(shape))).astype(np.float32)
        noise = noise.reshape(shape)
        scale = {
            "vector": 0.02,
            "codebook": kscale,
            "matrix": 0.02 if mode == "0.02" else 1 / np.sqrt(noise.size / shape[0]),
            "norm_weight": 0.02,
            "running_var": 0.1,
        }[row["kind"]]
        noise = np.abs(noise) if row["kind"] == "running_var" else noise
        value = (np.float32(scale) * noise).astype(np.float32)
        if row["kind"] in ("norm_weight", "running_var"):
            value = 1 + value
        assert abs(value.sum(dtype=np.float64) - row["sum"]) < 1e-3 * max(1, abs(row["sum"])), row["key"]
        state["module." + row["key"]] = torch.from_numpy(value)
    return state
