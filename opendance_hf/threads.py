"""Process the frames of one video in several threads: decoders, models and renderers release the GIL while they run."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Tool = TypeVar("Tool")
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Tool, Item], Result], items: Iterable[Item], tools: Sequence[Tool]
) -> Iterator[Result]:
    """Yield ``work(tool, item)`` for all items in their order; each tool processes one item at a time.

    Items are read ahead while others are processed, at most two per tool beyond the last result that was yielded.
    """
    if len(tools) == 1:
        yield from (work(tools[0], item) for item in items)
        return
    idle: queue.SimpleQueue[Tool] = queue.SimpleQueue()
    for tool in tools:
        idle.put(tool)

    def run(item: Item) -> Result:
        tool = idle.get()
        try:
            return work(tool, item)
        finally:
            idle.put(tool)

    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(len(tools))
    try:
        for item in items:
            waiting.append(pool.submit(run, item))
            if len(waiting) > 2 * len(tools):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
