"""Compute hashes of models and tensors, which tell one training run from another."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel


def hash_of(tensors: Iterable[Tensor]) -> str:
    """Return the SHA-256 of the bytes of tensors, in order, as hex digits."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def hash_of_model(model: PreTrainedModel) -> str:
    """Return the SHA-256 of the configuration and all weights of a model, as hex digits.

    Of the configuration, ``model_type`` and the parameters of its constructor count, and those of nested configurations. Where
    the model was loaded from, with which version of ``transformers``, and whether it was saved before makes no difference.
    """
    state = model.state_dict()
    text = json.dumps(_parameters(model.config), sort_keys=True, default=str)
    weights = hash_of(state[name] for name in sorted(state))
    return hashlib.sha256(f"{text} {sorted(state)} {weights}".encode()).hexdigest()


def _parameters(config: PretrainedConfig) -> dict[str, Any]:
    values = config.to_dict()
    found: dict[str, Any] = {"model_type": config.model_type}
    for name in inspect.signature(type(config)).parameters:
        value = getattr(config, name, None)
        if isinstance(value, PretrainedConfig):
            found[name] = _parameters(value)
        elif name in values:  # not **kwargs
            found[name] = values[name]
    return found
