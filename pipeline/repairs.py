"""Define the repairs that annotators can make of a sequence: a table, and the function of each on the dancers of a clip.

To add a repair, add one entry to :data:`REPAIRS`. The page of ``opendance inspect``, the ledger, the CSV and the stages
``repair`` and ``cut`` read the table.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.clip import Bodies, Clip, Floats, Landmarks, Repair, Times
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX, LANDMARKS

FEET: Final = ("left", "right")
#: Frames per second of the previews on which annotators mark spans.
PREVIEW_FPS: Final = 30
#: How far a span reaches beyond the instants of its first and last frame of the preview, seconds: half a frame.
_HALF_FRAME_S: Final = 0.5 / PREVIEW_FPS
#: Shortest repair, seconds: one frame of the preview is 1/30 s.
MIN_S: Final = 0.03
#: Longest time in a source, seconds.
_MAX_S: Final = 1e9
#: How far a span may reach beyond the ends of a sequence, seconds: half a frame of the preview, and the rounding of the
#: sequence to whole frames.
_MARGIN_S: Final = 0.05


class RepairError(OpenDanceError, ValueError):
    """Raised for a repair that is invalid or does not fit its sequence; the message names the value and what fits."""


@dataclass
class Dancers:
    """Hold the results of D dancers in T frames that repairs change; the arrays are copies and are changed in place.

    Attributes:
        landmarks: landmarks.
        boxes: (D, T, 4) boxes.
        bodies: SMPL bodies; None in pipelines without them.
        feet: (D, T, 2) feet that are pinned.
    """

    landmarks: Landmarks
    boxes: Floats
    bodies: Bodies | None
    feet: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, landmarks: Landmarks, boxes: Floats, bodies: Bodies | None) -> Dancers:
        """Copy the results of a clip, without pinned feet."""
        shape = (*landmarks.visibility.shape[:2], len(FEET))
        return cls(*deepcopy((landmarks, boxes, bodies)), feet=np.zeros(shape, dtype=bool))

    def arrays(self) -> list[npt.NDArray]:
        """Return all arrays, whose first axis is the dancer and the second the frame."""
        found = self.landmarks
        own = [found.image, found.world, found.visibility, found.regions_px, self.boxes, self.feet]
        bodies = self.bodies
        return own if bodies is None else [*own, bodies.rotations, bodies.betas, bodies.transl]


@dataclass(frozen=True)
class Kind:
    """One kind of repair.

    Attributes:
        label: name on the page.
        text: text for rows and lists, with the fields of :class:`~opendance_hf.pipeline.clip.Repair`.
        needs: fields beside the span that it has: ``dancer``, ``other``, ``foot``.
        stage: stage of the pipeline that applies it.
        apply: function that changes the dancers of a clip in some of its frames, for the stage ``repair``.
        moves_bodies: False if SMPL bodies of an estimator cannot be repaired, so that it does not fit pipelines with them.
    """

    label: str
    text: str
    needs: tuple[str, ...] = ()
    stage: str = "repair"
    apply: Callable[[Dancers, Repair, slice], None] | None = None
    moves_bodies: bool = True


def pin_foot(dancers: Dancers, repair: Repair, frames: slice) -> None:
    """Mark a foot as standing; the fit and the clean-up hold it in one place."""
    assert repair.dancer is not None
    assert repair.foot is not None
    dancers.feet[repair.dancer - 1, frames, FEET.index(repair.foot)] = True


def exchange_sides(dancers: Dancers, repair: Repair, frames: slice) -> None:
    """Exchange the left and right landmarks of a dancer, and pins of the feet that were made before.

    In metres it is the other reading of the same picture, with the depth mirrored: mirrored or not, whichever is nearer to
    the frames around the span, and mirrored without frames around it.
    """
    assert repair.dancer is not None
    dancer, found = repair.dancer - 1, dancers.landmarks
    for values in (found.image[dancer], found.world[dancer], found.visibility[dancer]):
        values[frames] = values[frames][:, _OTHER_SIDE]
    dancers.feet[dancer, frames] = dancers.feet[dancer, frames, ::-1]
    world = found.world[dancer]
    mirrored = world[frames] * np.array([1, 1, -1], dtype=np.float32)
    edges = [(frames.start, frames.start - 1), (frames.stop - 1, frames.stop)]
    edges = [(own, beside) for own, beside in edges if 0 <= beside < len(world)]
    jump = sum(float(np.abs(world[own] - world[beside]).sum()) for own, beside in edges)
    other = sum(float(np.abs(mirrored[own - frames.start] - world[beside]).sum()) for own, beside in edges)
    if not edges or other < jump:
        world[frames] = mirrored


def exchange_dancers(dancers: Dancers, repair: Repair, frames: slice) -> None:
    """Exchange everything that is known of two dancers."""
    assert repair.dancer is not None
    assert repair.other is not None
    pair = [repair.dancer - 1, repair.other - 1]
    for values in dancers.arrays():
        values[pair, frames] = values[pair[::-1], frames]


#: Kinds of repairs by name, in the order in which those that were made on the same preview are applied: all of them refer
#: to the dancers and sides that the preview shows.
REPAIRS: Final[dict[str, Kind]] = {
    "pin_foot": Kind(
        "Pin a foot", "pin the {foot} foot of dancer {dancer}", ("dancer", "foot"), apply=pin_foot
    ),
    "exchange_sides": Kind(
        "Exchange left and right",
        "exchange left and right of dancer {dancer}",
        ("dancer",),
        apply=exchange_sides,
        moves_bodies=False,
    ),
    "exchange_dancers": Kind(
        "Exchange two dancers", "exchange dancers {dancer} and {other}", ("dancer", "other"), apply=exchange_dancers
    ),
    "cut": Kind("Cut", "cut", stage="cut"),
}  # fmt: skip
_OTHER_SIDE: Final = [
    LANDMARK_INDEX[
        name.replace("left", "right") if "left" in name else name.replace("right", "left")
    ]
    for name in LANDMARKS
]  # fmt: skip


def describe(repair: Repair) -> str:
    """Return a repair as text, without its span: "exchange left and right of dancer 1"."""
    return REPAIRS[repair.kind].text.format(dancer=repair.dancer, other=repair.other, foot=repair.foot)


def describe_in_row(repair: Repair, start_s: float, num_frames: int, fps: float) -> str:
    """Return a repair as text with its frames (the last one included) in a sequence that starts at ``start_s``.

    A cut has no frames in the sequence; its text has seconds of the source.
    """
    if REPAIRS[repair.kind].stage == "cut":
        return f"{describe(repair)}, {repair.start_s:.2f} to {repair.end_s:.2f} s of the source"
    first, last = (round((instant - start_s) * fps) for instant in _instants(repair))
    first, last = max(first, 0), min(last, num_frames - 1)
    return f"{describe(repair)}, frames {first} to {last}"


def check_repair(
    repair: Repair, start_s: float, end_s: float, num_dancers: int, *, has_bodies: bool = False
) -> Repair:
    """Check that a repair fits a sequence, and return it with a pair of dancers in ascending order.

    2 and 1 are the same pair as 1 and 2: both together would cancel each other.

    Args:
        repair: the repair.
        start_s: start of the sequence, seconds of the source.
        end_s: end of the sequence.
        num_dancers: number of its dancers.
        has_bodies: True if the pipeline of the build estimates SMPL bodies (stage ``lift``).

    Raises:
        RepairError: naming the value and what fits.
    """
    if repair.kind not in REPAIRS:
        raise RepairError(f"unknown repair {repair.kind!r}: expected one of {', '.join(REPAIRS)}")
    kind = REPAIRS[repair.kind]
    for name in ("dancer", "other", "foot"):
        if (getattr(repair, name) is not None) != (name in kind.needs):
            wanted = "needs" if name in kind.needs else "does not take"
            raise RepairError(f"the repair {repair.kind!r} {wanted} the field {name!r}")
    if "other" in kind.needs and num_dancers < 2:
        raise RepairError(f"{describe(repair)}: the sequence has only one dancer")
    for name in ("dancer", "other"):
        number = getattr(repair, name)
        if number is not None and not 1 <= number <= num_dancers:
            raise RepairError(
                f"{describe(repair)}: the sequence has no dancer {number}, only 1 to {num_dancers}"
            )
    if repair.other is not None and repair.other == repair.dancer:
        raise RepairError(f"{describe(repair)}: give two different dancers")
    if repair.foot is not None and repair.foot not in FEET:
        raise RepairError(f"unknown foot {repair.foot!r}: expected {' or '.join(FEET)}")
    for name in ("start_s", "end_s"):
        if (
            not abs(seconds := getattr(repair, name)) < _MAX_S
        ):  # NaN is not, and integers may be too long for a float
            raise RepairError(
                f"{describe(repair)}: {name} is {seconds!r:.20}, expected seconds of the source"
            )
    span = f"from {repair.start_s:.2f} to {repair.end_s:.2f} s"
    if not repair.end_s - repair.start_s >= MIN_S:
        raise RepairError(f"{describe(repair)} {span}: the last frame must not lie before the first")
    if not (start_s - _MARGIN_S <= repair.start_s and repair.end_s <= end_s + _MARGIN_S):
        raise RepairError(
            f"{describe(repair)} {span}: outside of the sequence, which is from {start_s:.2f} to {end_s:.2f} s"
        )
    if has_bodies and not kind.moves_bodies:
        raise RepairError(f"{describe(repair)}: not possible for the SMPL bodies of the stage 'lift'")
    if repair.dancer is not None and repair.other is not None and repair.other < repair.dancer:
        return replace(repair, dancer=repair.other, other=repair.dancer)
    return repair


def repairs_at(stage: str, clip: Clip) -> tuple[Repair, ...]:
    """Return the repairs of a clip that a stage applies, in order: those in its span, of dancers that it has."""
    found = []
    for repair in clip.repairs:
        numbers = [number for number in (repair.dancer, repair.other) if number is not None]
        known = max(numbers, default=0) <= len(clip.landmarks.visibility)
        possible = clip.bodies is None or REPAIRS[repair.kind].moves_bodies
        inside = is_in_span(repair, clip.start_s, clip.end_s)
        if REPAIRS[repair.kind].stage == stage and inside and known and possible:
            found.append(repair)
    return tuple(found)


def span_of_frames(start_s: float, first: int, last: int) -> tuple[float, float]:
    """Return the span of frames of a preview, the last one included, whose sequence starts at ``start_s``."""
    return start_s + (first - 0.5) / PREVIEW_FPS, start_s + (last + 0.5) / PREVIEW_FPS


def frames_of(repair: Repair, times_s: Times) -> slice:
    """Return the frames at (T,) times, T at least 2, that a repair covers; the slice may be empty.

    Annotators see, at every instant of the preview, the nearest frame of the source, at equal distance the later one. So a
    repair covers the frame nearest to the instant of its first frame of the preview, the one nearest to that of its last
    frame, and those between. Instants before the first frame, or after the end of the last one, belong to other sequences.
    """
    gaps_s = np.diff(times_s)
    edges = np.concatenate([times_s[:1] - 1e-3, times_s[:-1] + gaps_s / 2, times_s[-1:] + gaps_s[-1:] - 1e-3])
    first, last = np.searchsorted(edges, np.array(_instants(repair)) + 1e-6, side="right") - 1
    return slice(max(int(first), 0), min(int(last) + 1, len(times_s)))


def is_in_span(repair: Repair, start_s: float, end_s: float) -> bool:
    """Return whether a repair covers a frame of the preview in a span; half a frame beyond is not enough."""
    first_s, last_s = _instants(repair)
    return first_s < end_s - 1e-3 and last_s > start_s - 1e-3


def _instants(repair: Repair) -> tuple[float, float]:
    """Return the instants of the first and the last frame of the preview that a repair covers, seconds of the source."""
    return repair.start_s + _HALF_FRAME_S, repair.end_s - _HALF_FRAME_S
