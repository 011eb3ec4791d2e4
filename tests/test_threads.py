from __future__ import annotations

import threading
import time

import pytest

from opendance_hf.threads import in_order


@pytest.mark.parametrize("tools", [1, 3])
def test_results_come_in_order_and_a_tool_serves_one_at_a_time(tools: int) -> None:
    busy, names = [threading.Lock() for _ in range(tools)], set()

    def work(tool: int, item: int) -> int:
        assert busy[tool].acquire(blocking=False)
        names.add(threading.current_thread().name)
        time.sleep(0.002 * (item % 3))
        busy[tool].release()
        return item * 10

    assert list(in_order(work, range(30), range(tools))) == [item * 10 for item in range(30)]
    assert len(names) == tools


def test_items_are_not_taken_far_ahead() -> None:
    taken = 0

    def items() -> object:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    results = in_order(lambda _, item: item, items(), [0, 1])  # type: ignore[arg-type, misc]
    assert next(results) == 0
    assert taken <= 6


def test_an_error_is_raised_where_its_result_would_be() -> None:
    results = in_order(lambda _, item: 1 // item, [2, 1, 0, 1], [0, 1])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
