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


def test_three_are_a_crowd() -> None:
    with pytest.raises(ValueError, match="one or two dancers, got 3"):
        compose(0, 3, 8)
