"""Compute hashes of models and tensors, which tell one training run from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


def hash_of(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of the bytes of tensors, in order, as hex digits."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def hash_of_model(model: PreTrainedModel) -> str:
    """Return the SHA-256 of the configuration and all weights of a model, as hex digits.

    Where the model was loaded from, and with which version of ``transformers``, makes no difference.
    """
    state = model.state_dict()
    text = json.dumps(_without_origin(model.config.to_dict()), sort_keys=True, default=str)
    weights = hash_of(state[name] for name in sorted(state))
    return hashlib.sha256(f"{text} {sorted(state)} {weights}".encode()).hexdigest()


def _without_origin(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    return {
        name: _without_origin(value)
        for name, value in config.items()
        if name not in ("_name_or_path", "transformers_version")
    }
