from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from opendance_hf.pipeline.stages.detect import Detections, boxes_at, detect_people
from opendance_hf.threads import in_order
from tests.pipeline.fakes import Still


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


class Fixed:
    name, version = "fixed", "1"

    def detect(self, image: np.ndarray) -> np.ndarray:
        return np.array([[image[0, 0, 0], 0, 40, 40, 0.9]], np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_people_are_not_looked_for_in_every_frame(threads: int) -> None:
    frames = [Still(t / 60, np.full((48, 64, 3), t, np.uint8)) for t in range(60)]
    found = detect_people(frames, [Fixed()] * threads)
    np.testing.assert_allclose(found.times_s, np.arange(0, 60, 8) / 60)
    np.testing.assert_allclose(found.frames_s, np.arange(60) / 60)
    assert [boxes[0, 0] for boxes in found.boxes] == list(range(0, 60, 8))
    part = found.between(0.25, 0.5)
    assert (part.times_s[0], len(part.frames_s)) == (pytest.approx(16 / 60), 15)


def test_what_was_found_is_kept(tmp_path) -> None:  # type: ignore[no-untyped-def]
    found = detect_people(
        [Still(time_s, np.zeros((48, 64, 3), np.uint8)) for time_s in (0.0, 0.01)], [Fixed()]
    )
    found.save(tmp_path / "found.npz")
    again = Detections.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(again.frames_s, [0.0, 0.01])
    assert len(again.boxes) == len(found.boxes) == 1


def test_boxes_between_two_looks_and_none_beside_a_gap() -> None:
    boxes = np.array([[[0.0] * 4, [2.0] * 4, [np.nan] * 4, [6.0] * 4]], np.float32)
    at = boxes_at(np.array([0.0, 1.0, 2.0, 3.0]), boxes, np.array([0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 3.2]))
    np.testing.assert_array_equal(at[0, :, 0], [0.0, 1.0, 2.0, np.nan, np.nan, 6.0, 6.0])
