"""Choose the number of CPU threads for training."""

from __future__ import annotations

import logging
import os
from typing import Final

import torch
from torch import nn

logger = logging.getLogger(__name__)

#: Environment variables with which users set the number themselves.
_SET_BY_USER: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
#: Parameters of a model for which one more thread pays off. Measured on two cores: 0.27 million parameters are slower
#: with two threads (54 to 75 ms a step instead of 44), 2.3 million are faster (128 instead of 188).
_PARAMETERS_PER_THREAD: Final = 1_000_000


def choose_threads(model: nn.Module) -> int:
    """Set the number of threads of torch, and return it.

    Small models get few threads: they spend more time on starting and joining threads than on computing. A busy machine
    gets no more threads than it has idle cores, since threads that wait for a core hold up all others. Nothing changes
    with a GPU, or if the user set the number with ``OMP_NUM_THREADS`` or ``MKL_NUM_THREADS``.
    """
    threads = torch.get_num_threads()
    if torch.cuda.is_available() or any(name in os.environ for name in _SET_BY_USER):
        return threads
    parameters = sum(p.numel() for p in model.parameters())
    busy = round(os.getloadavg()[0])
    chosen = max(1, min(threads, threads - busy, 1 + parameters // _PARAMETERS_PER_THREAD))
    if chosen != threads:
        torch.set_num_threads(chosen)
        logger.info("using %d of %d CPU threads; OMP_NUM_THREADS sets another number", chosen, threads)
    return chosen
