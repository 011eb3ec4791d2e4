"""Seeded dances: what each dancer does on every beat, for one dancer or for up to four who relate to each other.

A dance is a list of :class:`Count`, one a beat: which foot lands where, how low the body is, where the trunk and the
arms go. :mod:`opendance_hf.synthetic.motion` turns it into poses. Places are world metres seen by the audience, which
sits at +z: a dancer with ``turn_deg`` 0 faces it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

Side = Literal["left", "right"]
Pattern = Literal["mirrored", "canon", "call", "crossing"]

PATTERNS: Final[tuple[Pattern, ...]] = ("mirrored", "canon", "crossing", "call")
_GROUP_PATTERNS: Final[tuple[Pattern, ...]] = ("mirrored", "crossing", "canon")
_MOST_DANCERS: Final = 4
#: Distance between neighbours of a duo, and of a group.
_DUO_M: Final = 1.52
_GROUP_M: Final = 1.3

#: Arm poses of the left arm in the chest's frame (x to the dancer's left, y up, z ahead): upper arm, then forearm.
ARMS: Final[dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]]] = {
    "rest": ((0.22, -1.0, 0.05), (0.10, -0.90, 0.42)),
    "groove": ((0.40, -0.80, 0.10), (0.05, 0.05, 1.0)),
    "hip": ((0.80, -0.60, -0.15), (-0.70, -0.55, 0.45)),
    "guard": ((0.40, -0.75, 0.45), (-0.10, 0.80, 0.60)),
    "back": ((0.35, -0.80, -0.45), (0.30, -0.90, 0.05)),
    "cross": ((0.25, -0.55, 0.80), (-0.75, -0.05, 0.65)),
    "low_out": ((0.75, -0.62, 0.15), (0.80, -0.45, 0.40)),
    "side": ((1.0, 0.05, 0.12), (0.98, 0.05, 0.25)),
    "bow": ((0.95, 0.05, 0.30), (-0.55, 0.10, 0.85)),
    "ahead": ((0.20, -0.05, 1.0), (0.05, 0.05, 1.0)),
    "goal": ((0.98, 0.08, 0.12), (0.15, 0.98, 0.22)),
    "vee": ((0.62, 0.78, 0.12), (0.50, 0.86, 0.20)),
    "tall": ((0.28, 0.95, 0.12), (0.05, 1.0, 0.15)),
    "crown": ((0.72, 0.62, 0.15), (-0.62, 0.72, 0.20)),
    "punch": ((0.30, 0.45, 0.85), (0.15, 0.70, 0.70)),
}
_KINDS: Final = ("side", "lunge", "kicks", "side_kicks", "drop", "fold", "walk", "deep")
_LOW: Final = ("hip", "back", "cross", "low_out", "rest")
_MIDDLE: Final = ("groove", "guard", "ahead", "bow", "side", "low_out")
_HIGH: Final = ("side", "goal", "vee", "tall", "crown", "punch")


@dataclass(frozen=True)
class Count:
    """One beat of one dancer.

    Attributes:
        foot: the foot that arrives on the beat, None to stay.
        step_m: how far the dancer's place moves (x, z).
        turn_deg: how far the dancer turns, counter-clockwise seen from above.
        wide_m: how much further out than usual the foot lands; ``ahead_m`` how much further ahead.
        lift_m: height at which the foot is held on the beat instead of landing; it lands on the next.
        level_m: how much lower the hips are.
        lean_deg: of the trunk ahead; ``bend_deg`` to its left, ``twist_deg`` to its left.
        arms: poses of the left and right arm, keys of :data:`ARMS`.
    """

    foot: Side | None = None
    step_m: tuple[float, float] = (0.0, 0.0)
    turn_deg: float = 0.0
    wide_m: float = 0.0
    ahead_m: float = 0.0
    lift_m: float = 0.0
    level_m: float = 0.02
    lean_deg: float = 3.0
    bend_deg: float = 0.0
    twist_deg: float = 0.0
    arms: tuple[str, str] = ("groove", "groove")

    def mirrored(self) -> Count:
        """Mirror left and right."""
        swap: dict[Side, Side] = {"left": "right", "right": "left"}
        return replace(
            self,
            foot=None if self.foot is None else swap[self.foot],
            step_m=(-self.step_m[0], self.step_m[1]),
            turn_deg=-self.turn_deg,
            bend_deg=-self.bend_deg,
            twist_deg=-self.twist_deg,
            arms=(self.arms[1], self.arms[0]),
        )


@dataclass(frozen=True)
class Part:
    """What one dancer does: where they start (x, z), and the counts, the first on beat 0."""

    place_m: tuple[float, float]
    counts: tuple[Count, ...]


def compose(seed: int, num_dancers: int, num_beats: int) -> tuple[list[Part], list[tuple[int, int, Pattern]]]:
    """Compose a dance of ``num_beats`` counts.

    Returns:
        One part per dancer, and for two or more the (first beat, end beat, pattern) of their phrases; for one, none.

    Raises:
        ValueError: for another number of dancers than one to four.
    """
    rng = np.random.default_rng([seed, num_dancers, 1])
    if num_dancers == 1:
        return [Part((0.0, 0.0), tuple(_solo(rng, num_beats)[:num_beats]))], []
    if num_dancers == 2:
        return _duo(rng, num_beats)
    if not 3 <= num_dancers <= _MOST_DANCERS:
        raise ValueError(f"dances are for one to {_MOST_DANCERS} dancers, got {num_dancers}")
    return _group(rng, num_dancers, num_beats)


def _solo(rng: np.random.Generator, num_beats: int) -> list[Count]:
    counts = _phrase(rng)
    while len(counts) < num_beats:
        way = int(rng.choice([-1, 1]))
        counts += _half_turn(rng, way)
        counts += _phrase(rng)[: int(rng.choice([2, 4]))]
        counts += _half_turn(rng, way, _moved(counts))
        counts += _phrase(rng) + (_phrase(rng) if rng.random() < 0.5 else [])
    return counts


def _duo(rng: np.random.Generator, num_beats: int) -> tuple[list[Part], list[tuple[int, int, Pattern]]]:
    order = list(PATTERNS[:1]) + [PATTERNS[1 + int(i)] for i in rng.permutation(len(PATTERNS) - 1)]
    ours: list[Count] = []
    theirs: list[Count] = []
    marks: list[tuple[int, int, Pattern]] = []
    side = -1
    while len(ours) < num_beats:
        pattern = order[len(marks) % len(order)]
        start = len(ours)
        if pattern == "mirrored":
            way = int(rng.choice([-1, 1]))
            mine = _half_turn(rng, way) + _phrase(rng)[:2]
            mine += _half_turn(rng, way, _moved(mine))
            ours += mine
            theirs += [count.mirrored() for count in mine]
        elif pattern == "canon":
            mine = _phrase(rng)
            ours += mine + _groove(rng, 2)
            theirs += _groove(rng, 2) + mine
        elif pattern == "call":
            mine = _phrase(rng)
            ours += mine + _groove(rng, 4)
            theirs += _groove(rng, 4) + [count.mirrored() for count in mine]
        else:
            ours += _cross(rng, -side, 0.30)
            theirs += _cross(rng, side, -0.30)
            side = -side
        marks.append((start, len(ours), pattern))
    marks = [(a, min(b, num_beats), pattern) for a, b, pattern in marks if a < num_beats]
    left, right = Part((-0.76, 0.0), tuple(ours[:num_beats])), Part((0.76, 0.0), tuple(theirs[:num_beats]))
    return [left, right], marks


def _group(
    rng: np.random.Generator, num_dancers: int, num_beats: int
) -> tuple[list[Part], list[tuple[int, int, Pattern]]]:
    """Compose a dance of three or more in a row: in unison, one after the other, and two neighbours change places."""
    counts: list[list[Count]] = [[] for _ in range(num_dancers)]
    order = list(range(num_dancers))  # dancers from left to right
    marks: list[tuple[int, int, Pattern]] = []
    while len(counts[0]) < num_beats:
        pattern = _GROUP_PATTERNS[len(marks) % len(_GROUP_PATTERNS)]
        start = len(counts[0])
        if pattern == "mirrored":
            way = int(rng.choice([-1, 1]))
            mine = _half_turn(rng, way) + _phrase(rng)[:2]
            mine += _half_turn(rng, way, _moved(mine))
            for place, dancer in enumerate(order):
                counts[dancer] += [c.mirrored() for c in mine] if place % 2 else mine
        elif pattern == "canon":
            mine = _phrase(rng)
            for place, dancer in enumerate(order):
                counts[dancer] += _groove(rng, 2 * place) + mine + _groove(rng, 2 * (num_dancers - 1 - place))
        else:
            left = int(rng.integers(num_dancers - 1))
            for place, dancer in enumerate(order):
                if place in (left, left + 1):
                    way = 1 if place == left else -1
                    counts[dancer] += _cross(rng, way, 0.30 * way, _GROUP_M)
                else:
                    counts[dancer] += _groove(rng, 6)
            order[left], order[left + 1] = order[left + 1], order[left]
        marks.append((start, len(counts[0]), pattern))
    marks = [(a, min(b, num_beats), pattern) for a, b, pattern in marks if a < num_beats]
    middle = (num_dancers - 1) / 2
    parts = [Part((_GROUP_M * (d - middle), 0.0), tuple(own[:num_beats])) for d, own in enumerate(counts)]
    return parts, marks


def _arm_phrase(rng: np.random.Generator, length: int) -> list[tuple[str, str]]:
    """Arm poses that swing between low and high; both arms alike, in turns, or each its own."""
    how = str(rng.choice(["both", "turns", "free"], p=[0.45, 0.35, 0.20]))
    out = []
    for i in range(length):
        low, high, middle = str(rng.choice(_LOW)), str(rng.choice(_HIGH)), str(rng.choice(_MIDDLE))
        here, there = (high, low) if i % 2 == 0 else (low, high)
        if how == "both":
            out.append((here, here))
        elif how == "turns":
            out.append((here, there))
        else:
            out.append((here, middle) if i // 2 % 2 == 0 else (middle, here))
    return out


def _phrase(rng: np.random.Generator) -> list[Count]:
    """Return four counts that end where they began, on the spot or near it."""
    a: Side = "left" if rng.random() < 0.5 else "right"
    b: Side = "right" if a == "left" else "left"
    arms = _arm_phrase(rng, 4)
    reach = float(rng.uniform(0.42, 0.58))
    counts = _steps(str(rng.choice(_KINDS)), a, b, reach)
    return [replace(count, arms=pair) for count, pair in zip(counts, arms, strict=True)]


def _steps(kind: str, a: Side, b: Side, reach: float) -> list[Count]:
    """Return the four counts of a kind of phrase that starts with the foot ``a``; ``reach`` is its longest step, metres."""
    s = 1.0 if a == "left" else -1.0
    if kind == "side":  # a long step aside, the other foot crosses behind, and back
        counts = [
            Count(a, (s * reach, 0.0), wide_m=0.10, level_m=0.06, bend_deg=20 * s, twist_deg=14 * s),
            Count(b, wide_m=-0.30, ahead_m=-0.24, level_m=0.16, lean_deg=20.0, twist_deg=-10 * s),
            Count(b, (-s * reach, 0.0), wide_m=0.16, level_m=0.06, bend_deg=-20 * s, twist_deg=-14 * s),
            Count(a, wide_m=-0.30, ahead_m=-0.24, level_m=0.16, lean_deg=20.0, twist_deg=10 * s),
        ]
    elif kind == "lunge":  # wide to one side, reach over, and back
        counts = [
            Count(a, (s * 0.14, 0.0), wide_m=0.50, level_m=0.14, bend_deg=28 * s, twist_deg=14 * s),
            Count(level_m=0.26, bend_deg=-30 * s, lean_deg=16.0, twist_deg=-16 * s),
            Count(a, (-s * 0.14, 0.0), wide_m=-0.16, ahead_m=0.22, lean_deg=-10.0),
            Count(b, wide_m=0.30, level_m=0.14, twist_deg=-18 * s, lean_deg=26.0),
        ]
    elif kind == "kicks":  # one leg ahead, the other knee up
        counts = [
            Count(a, lift_m=0.52, ahead_m=0.62, lean_deg=-12.0),
            Count(a, ahead_m=-0.34, level_m=0.16, lean_deg=34.0),
            Count(b, lift_m=0.50, ahead_m=0.24, lean_deg=-4.0, twist_deg=16 * s),
            Count(b, wide_m=0.20, level_m=0.14, lean_deg=16.0),
        ]
    elif kind == "side_kicks":  # a leg out to each side
        counts = [
            Count(a, lift_m=0.46, wide_m=0.56, bend_deg=-26 * s),
            Count(a, wide_m=-0.18, ahead_m=0.20, level_m=0.16, lean_deg=20.0),
            Count(b, lift_m=0.46, wide_m=0.56, bend_deg=26 * s),
            Count(b, wide_m=0.10, level_m=0.16, lean_deg=20.0),
        ]
    elif kind == "drop":  # down and up in a wide stance
        counts = [
            Count(a, wide_m=0.40, level_m=0.08, lean_deg=-8.0),
            Count(level_m=0.34, lean_deg=42.0),
            Count(b, lift_m=0.50, ahead_m=0.20, lean_deg=-10.0),
            Count(b, wide_m=0.10, level_m=0.16, lean_deg=18.0),
        ]
    elif kind == "fold":  # bow deeply, rise with a twist and a leg behind
        counts = [
            Count(a, wide_m=0.24, level_m=0.06, lean_deg=-12.0),
            Count(level_m=0.12, lean_deg=66.0, twist_deg=14 * s),
            Count(b, lift_m=0.40, ahead_m=-0.40, lean_deg=22.0, bend_deg=14 * s),
            Count(b, level_m=0.10, twist_deg=-26 * s),
        ]
    elif kind == "walk":  # two long steps ahead, two back
        counts = [
            Count(a, (0.0, 0.8 * reach), ahead_m=0.18, twist_deg=-24 * s, lean_deg=-4.0),
            Count(b, ahead_m=0.26, twist_deg=24 * s, level_m=0.16, lean_deg=18.0),
            Count(a, (0.0, -0.8 * reach), ahead_m=-0.22, twist_deg=-18 * s, level_m=0.16, lean_deg=34.0),
            Count(b, wide_m=0.24, lean_deg=-10.0, bend_deg=-14 * s),
        ]
    else:  # a long step ahead and down, back up, and a long one behind
        counts = [
            Count(a, ahead_m=0.56, level_m=0.16, lean_deg=14.0, twist_deg=-20 * s),
            Count(level_m=0.28, lean_deg=26.0, twist_deg=20 * s),
            Count(a, lift_m=0.48, ahead_m=0.20, lean_deg=-12.0),
            Count(a, ahead_m=-0.46, level_m=0.20, lean_deg=22.0),
        ]
    return counts


def _moved(counts: list[Count]) -> tuple[float, float]:
    """Return the distance from the start that counts lead to, metres."""
    return sum(c.step_m[0] for c in counts), sum(c.step_m[1] for c in counts)


def _half_turn(rng: np.random.Generator, way: int, moved: tuple[float, float] = (0.0, 0.0)) -> list[Count]:
    """Return three counts: half a turn in two steps that undo what was ``moved``, and the feet apart."""
    home = (-0.5 * moved[0], -0.5 * moved[1])
    feet: tuple[Side, Side] = ("left", "right") if way > 0 else ("right", "left")
    arms = _arm_phrase(rng, 3)
    return [
        Count(
            feet[0],
            home,
            turn_deg=80.0 * way,
            wide_m=0.12,
            ahead_m=0.14,
            level_m=0.08,
            lean_deg=10.0,
            arms=arms[0],
        ),
        Count(feet[1], home, turn_deg=70.0 * way, wide_m=0.06, ahead_m=0.20, lean_deg=-8.0, arms=arms[1]),
        Count(feet[0], turn_deg=30.0 * way, wide_m=0.22, level_m=0.16, lean_deg=24.0, arms=arms[2]),
    ]


def _groove(rng: np.random.Generator, length: int) -> list[Count]:
    """Small steps on the spot."""
    feet: tuple[Side, Side] = ("left", "right")
    arms = _arm_phrase(rng, length)
    return [
        Count(
            feet[i // 2 % 2],
            wide_m=0.34 if i % 2 == 0 else 0.0,
            ahead_m=0.12 if i % 2 == 0 else 0.0,
            bend_deg=14.0 * (-1) ** (i // 2),
            level_m=0.05 + 0.07 * (i % 2),
            arms=arms[i],
        )
        for i in range(length)
    ]


def _cross(rng: np.random.Generator, way: int, depth_m: float, apart_m: float = _DUO_M) -> list[Count]:
    """Six counts to the other side: step out in depth, four across, step back in."""
    lead: Side = "left" if way > 0 else "right"
    trail: Side = "right" if way > 0 else "left"
    arms = _arm_phrase(rng, 6)
    across = way * apart_m / 4
    steps = [
        Count(trail, (0.0, depth_m)),
        Count(lead, (across, 0.0), wide_m=0.20, bend_deg=14.0 * way, level_m=0.06),
        Count(trail, (across, 0.0), wide_m=-0.30, ahead_m=-0.18, lean_deg=18.0, level_m=0.14),
        Count(lead, (across, 0.0), wide_m=0.20, bend_deg=14.0 * way, level_m=0.06),
        Count(trail, (across, 0.0), wide_m=-0.30, ahead_m=-0.18, lean_deg=18.0, level_m=0.14),
        Count(lead, (0.0, -depth_m), wide_m=0.10, lean_deg=-6.0),
    ]
    return [replace(count, arms=pair) for count, pair in zip(steps, arms, strict=True)]
