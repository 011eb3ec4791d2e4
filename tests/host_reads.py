"""Find operations that make the host wait for a device, on a machine without one."""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operations whose result, or the shape of it, is known only after the values are read. ``item``, ``tolist`` of one number,
#: ``bool`` and ``int`` of a tensor all dispatch the first.
_READS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "unique_dim",
    "equal",
    "bincount",
)


class HostReads(TorchDispatchMode):
    """Count reads of values by the host, and operations with tensors on two devices: copies between them.

    On the ``meta`` device, which has no values, a read that :data:`_READS` lacks raises an error of PyTorch.

    Attributes:
        reads: places in the code, innermost first, by their number.
        copies: operations between devices, by their number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _READS:
            frames = traceback.extract_stack()[::-1]
            self.reads[" < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames)] += 1
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.copies[name] += 1
        return out


class Graphs:
    """Backend of ``torch.compile`` that runs graphs as they are and counts how often it was asked for one."""

    def __init__(self) -> None:
        self.count = 0

    def __deepcopy__(self, memo: Any) -> Graphs:
        return self  # generation configurations are copied

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> torch.fx.GraphModule:
        self.count += 1
        return graph
