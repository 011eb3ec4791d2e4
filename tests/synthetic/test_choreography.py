from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from opendance_hf.synthetic.choreography import ARMS, PATTERNS, compose


def test_a_seed_is_a_dance() -> None:
    assert compose(3, 2, 20) == compose(3, 2, 20)
    assert compose(3, 1, 20) != compose(4, 1, 20)


@pytest.mark.parametrize("num_dancers", [1, 2])
def test_every_beat_has_a_count(num_dancers: int) -> None:
    for seed in range(20):
        parts, _ = compose(seed, num_dancers, 17)
        assert [len(part.counts) for part in parts] == [17] * num_dancers
        for part in parts:
            assert {pose for count in part.counts for pose in count.arms} <= set(ARMS)


def test_a_lifted_foot_comes_down_on_the_next_beat() -> None:
    for seed in range(30):
        for part in compose(seed, 2, 30)[0]:
            for count, following in pairwise(part.counts):
                if count.lift_m:
                    assert following.foot == count.foot
                    assert not following.lift_m


def test_two_dancers_relate_as_their_pattern_says() -> None:
    seen = set()
    for seed in range(10):
        (ours, theirs), marks = compose(seed, 2, 40)
        for start, end, pattern in marks:
            a, b = ours.counts[start:end], theirs.counts[start:end]
            if end == 40:  # the last one may be cut off
                continue
            seen.add(pattern)
            if pattern == "mirrored":
                assert b == tuple(count.mirrored() for count in a)
            elif pattern == "canon":
                assert b[2:] == a[:-2]
            elif pattern == "call":
                assert b[4:] == tuple(count.mirrored() for count in a[:-4])
            else:
                before, after = (
                    [part.place_m[0] + sum(c.step_m[0] for c in part.counts[:k]) for part in (ours, theirs)]
                    for k in (start, end)
                )
                assert np.sign(before[0] - before[1]) == -np.sign(after[0] - after[1])
    assert seen == set(PATTERNS)


def test_a_mirror_undoes_itself() -> None:
    for count in compose(0, 1, 30)[0][0].counts:
        assert count.mirrored().mirrored() == count


@pytest.mark.parametrize("num_dancers", [0, 5])
def test_there_are_dances_for_one_to_four(num_dancers: int) -> None:
    with pytest.raises(ValueError, match=f"one to 4 dancers, got {num_dancers}"):
        compose(0, num_dancers, 8)


@pytest.mark.parametrize("num_dancers", [3, 4])
def test_a_group_stays_in_its_row_except_for_neighbours_who_change_places(num_dancers: int) -> None:
    for seed in range(6):
        parts, marks = compose(seed, num_dancers, 30)
        assert [len(part.counts) for part in parts] == [30] * num_dancers
        assert {pattern for _, _, pattern in marks} >= {"mirrored", "crossing"}
        for start, end, pattern in marks:
            before, after = (
                np.argsort([part.place_m[0] + sum(c.step_m[0] for c in part.counts[:k]) for part in parts])
                for k in (start, end)
            )
            if end - start == 6 and pattern == "crossing":
                changed = np.flatnonzero(before != after)
                assert changed.tolist() == [changed[0], changed[0] + 1]
            elif end < 30:
                assert (before == after).all()
