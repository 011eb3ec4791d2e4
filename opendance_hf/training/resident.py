"""Keep all windows of a training as tensors on the device (``trainer.data_on_device`` of a recipe)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.data import Dataset

logger = logging.getLogger(__name__)

#: Number of windows that are read and copied at a time.
_AT_A_TIME: Final = 64


class ResidentWindows(Dataset[int]):
    """Numbers of windows, whose inputs :meth:`collate` takes from tensors on the device.

    Nothing is read, stacked or copied in a step but the numbers of its windows. The order of the data, and so the result, is
    the same as without.

    Args:
        data: windows that are the same whenever they are read.
        collate: makes the inputs of the model from a list of windows, one row for each.
        device: of the inputs.
    """

    def __init__(
        self, data: Any, collate: Callable[[list[Any]], dict[str, Tensor]], device: torch.device
    ) -> None:
        self._count = len(data)
        if hasattr(data, "order"):
            self.order = data.order
        self.inputs: dict[str, Tensor] = {}
        for first in range(0, self._count, _AT_A_TIME):
            rows = slice(first, min(first + _AT_A_TIME, self._count))
            for name, part in collate([data[index] for index in range(rows.start, rows.stop)]).items():
                if name not in self.inputs:
                    self.inputs[name] = part.new_empty(self._count, *part.shape[1:], device=device)
                self.inputs[name][rows] = part.to(device)
        size = sum(value.numel() * value.element_size() for value in self.inputs.values())
        logger.info("%s windows on the device, %.0f MB", f"{self._count:,}", size / 1e6)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> dict[str, Tensor]:
        """Make the inputs of the model from numbers of windows."""
        rows = torch.tensor(indices)
        return {name: value[rows.to(value.device, non_blocking=True)] for name, value in self.inputs.items()}
