"""Track each dancer of a shot through crossings.

A tracker links boxes by motion and may swap identities where dancers cross. Therefore boxes are assigned to dancers again
over the whole shot, by the Viterbi algorithm. It minimises differences in clothing, jumps of the box and changes of the
tracker's track. Dancers who are hidden by others may have no box.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.backends import loaded
from opendance_hf.pipeline.backends.base import Backend, Tracker
from opendance_hf.pipeline.backends.bytetrack import ByteTrack
from opendance_hf.pipeline.box_overlap import box_iou, box_nesting
from opendance_hf.pipeline.bystanders import is_image, measure, without_bystanders
from opendance_hf.pipeline.clip import Clip, Detections, Floats, Tracks
from opendance_hf.pipeline.relinking import Costs, Frame, assign, clothing_distance
from opendance_hf.pipeline.stage import Dropped, Stage

#: Maximum number of people that are followed; MoveNet MultiPose detects no more.
MOST_DANCERS: Final = 6


@dataclass(frozen=True)
class Track(Stage):
    """Count the people of a shot, track each of them, and keep the dancers; the score ``bystanders`` counts the others.

    Args:
        tracker: backend that links boxes by motion.
        max_dancers: shots with more dancers are dropped; at most 6, as many people as MoveNet MultiPose finds.
        count_score: minimum detection score of a box that counts as a person.
        count_nested: boxes that overlap a box of higher score by this fraction of the smaller box do not count.
        count_height: minimum height of a box that counts, relative to the tallest box of the frame.
        count_share: a shot has k people if at least k boxes count in this fraction of its frames.
        max_boxes: number of boxes per frame that may be assigned to dancers; those with the highest scores are used.
        clothing_cost: cost, per dancer and frame, per unit of the distance (0 to 1) between the colour histograms of box
            and dancer. The box's distance to the most similar dancer is subtracted first.
        bystander_extent: a person whose box moves less than this during the whole shot, in heights of the person, stands
            still; see :meth:`are_dancers`.
        hidden_extent: the same for somebody smaller than the dancers, whom they hide in part: the median of the four edges.
        bystander_height: maximum height of a bystander's box, relative to the tallest moving person; medians over the shot.
        bystander_overlap: a box that shares more than this with another person's box, of the smaller of the two, may show
            only a part of the person and is not compared.
        border_share: margin at the left and right edge, as a share of the image width, within which a box is cut off.
        picture_extent: a person whose box moves less than this is a picture or a figure, of whatever size.
        passing_s: a person who is visible for less than this, and only walks in one direction, passes by.
        cut_off_aspect: a person at the left or right edge whose box is narrower than this, relative to its height, is hardly
            in the picture.
        image_likeness: a person whose box moves like that of a taller person is its image in a mirror or on a screen:
            minimum of the correlation of the two boxes, see :func:`~opendance_hf.pipeline.bystanders.is_image`.
        unseen_cost: cost, per dancer and frame, of having no box.
        weak_box_cost: cost, per dancer and frame, of a box with score 0; it falls linearly to 0 at score 1.
        jump_cost: cost of a box that does not overlap the dancer's box in the frame before.
        track_change_cost: cost of a box with another track than the dancer's box in the frame before.
        motion_cost: maximum cost of a box with another place or size than expected from the dancer's last boxes and velocity.
    """

    name = "track"
    version = 3
    reads = ("video", "detections")
    writes = ("tracks", "scores")

    tracker: Backend = field(default_factory=ByteTrack, metadata={"role": "tracker"})
    max_dancers: int = 2
    count_score: float = 0.5
    count_nested: float = 0.75
    count_height: float = 0.4
    count_share: float = 0.2
    bystander_extent: float = 0.1
    hidden_extent: float = 0.15
    bystander_height: float = 0.85
    bystander_overlap: float = 0.5
    border_share: float = 0.01
    picture_extent: float = 0.01
    passing_s: float = 5.0
    cut_off_aspect: float = 0.22
    image_likeness: float = 0.92
    max_boxes: int = 6
    clothing_cost: float = 2.0
    unseen_cost: float = 0.4
    weak_box_cost: float = 0.3
    jump_cost: float = 0.5
    track_change_cost: float = 0.1
    motion_cost: float = 4.0

    def __call__(self, clip: Clip) -> Clip | Dropped:
        """Process one shot."""
        end_s = min(clip.end_s, clip.video.duration_s)
        count = self.count_people(clip.detections)
        if count == 0:
            return Dropped(clip.start_s, end_s, "nobody in the picture")
        most = min(self.max_dancers, MOST_DANCERS)
        if count > MOST_DANCERS:
            return Dropped(clip.start_s, end_s, "too many people", f"{count}, at most {most} allowed")
        times = clip.detections.times_s
        if len(times) < 2:
            return Dropped(clip.start_s, end_s, "fewer than two frames")
        step_s = float(np.median(np.diff(times)))
        (start,) = loaded(self.tracker)
        people = self.follow(clip.detections, count, start(1 / step_s))
        are_dancers = self.are_dancers(people, clip.video.width_px)
        dancers = int(are_dancers.sum())
        if dancers > most:
            return Dropped(clip.start_s, end_s, "too many people", f"{dancers}, at most {most} allowed")
        scores = {**clip.scores, "bystanders": float(count - dancers)}
        return replace(clip, tracks=without_bystanders(people, are_dancers), scores=scores)

    def provenance(self) -> tuple[tuple[str, str, str], ...]:
        """Return the rows of the tracker and of the re-linking, see :meth:`Stage.provenance`."""
        return (*super().provenance(), ("relink", "clothing-viterbi", str(self.version)))

    def people(self, boxes: Floats) -> npt.NDArray[np.intp]:
        """Return the indices of the (N, 5) boxes that count as people: confident, not nested, not much smaller."""
        sure = np.flatnonzero(boxes[:, 4] >= self.count_score)
        if len(sure) == 0:
            return sure
        heights = boxes[:, 3] - boxes[:, 1]
        sure = sure[heights[sure] >= self.count_height * heights[sure].max()]
        chosen: list[int] = []
        for index in sure[np.argsort(-boxes[sure, 4])]:
            if not chosen or box_nesting(boxes[[index]], boxes[chosen]).max() < self.count_nested:
                chosen.append(int(index))
        return np.asarray(sorted(chosen), dtype=np.intp)

    def count_people(self, detections: Detections) -> int:
        """Return the largest number of people that are visible together in at least ``count_share`` of the frames."""
        counts = np.array([len(self.people(boxes)) for boxes in detections.by_frame()[0]])
        if len(counts) == 0:
            return 0
        shares = {k: (counts >= k).mean() for k in range(1, counts.max() + 1)}
        return max((k for k, share in shares.items() if share >= self.count_share), default=0)

    def are_dancers(self, tracks: Tracks, width_px: int) -> npt.NDArray[np.bool_]:
        """Return (K,) false for the people of a shot who are bystanders; all are dancers if nobody else would be.

        A bystander stands still over the whole shot while somebody else moves, and is smaller than those who move, as
        people in the background are, is cut off by the left or right edge, or does not even sway, as a picture. A still
        partner of a dancer's size counts as a dancer. Whoever walks through the picture, is hardly in it, or is the
        smaller image of somebody else is a bystander as well.
        """
        people = measure(tracks, self._alone(tracks), self.border_share * width_px, width_px)
        still = people.extents < self.bystander_extent
        smaller = people.heights < self.bystander_height * people.heights[~still].max(initial=0.0)
        picture = people.extents < self.picture_extent
        out = still & (smaller | people.at_border | picture)
        # Somebody behind the dancers is hidden now at the left and now at the right, but neither rises nor walks.
        hidden = people.alone_shares < 0.9
        out |= smaller & ~still & hidden & (people.middle_extents < self.hidden_extent)
        out |= (people.walk_s < self.passing_s) & (people.seen_shares < 0.5)
        out |= people.at_border & (people.aspects < self.cut_off_aspect)
        out |= (people.border_shares > 0.5) & (people.seen_shares < 0.5)
        for k in np.flatnonzero(~out).tolist():
            larger = np.flatnonzero(
                ~out & (self.bystander_height * people.heights > people.heights[k])
            ).tolist()
            out[k] = any(is_image(people, k, other, self.image_likeness) for other in larger)
        return np.asarray(still.all() | out.all() | ~out)

    def _alone(self, tracks: Tracks) -> npt.NDArray[np.bool_]:
        """Return (K, T) true where a person's box overlaps no other's; all of a person's boxes if none is so."""
        alone = tracks.seen.copy()
        for t in range(len(tracks.times_s)):
            here = np.flatnonzero(tracks.seen[:, t])
            overlap = box_nesting(tracks.boxes[here, t], tracks.boxes[here, t])
            np.fill_diagonal(overlap, 0)
            alone[here, t] = overlap.max(axis=1, initial=0) <= self.bystander_overlap
        return np.where(alone.any(axis=1, keepdims=True), alone, tracks.seen)

    def follow(self, detections: Detections, num_dancers: int, tracker: Tracker) -> Tracks:
        """Track ``num_dancers`` dancers (1 to 6) through a shot.

        Dancers are ordered from left to right by their first positions in the image.
        """
        if not 1 <= num_dancers <= MOST_DANCERS:
            raise ValueError(f"num_dancers must be 1 to {MOST_DANCERS}, got {num_dancers}")
        all_boxes, all_clothing = detections.by_frame()
        track_ids = [tracker.update(boxes) for boxes in all_boxes]
        kept = [np.argsort(-boxes[:, 4], kind="stable")[: self.max_boxes] for boxes in all_boxes]
        frames = [
            Frame(float(time_s), b[k], c[k], i[k])
            for time_s, b, c, i, k in zip(
                detections.times_s, all_boxes, all_clothing, track_ids, kept, strict=True
            )
        ]
        boxes, clothing = [frame.boxes for frame in frames], [frame.clothing for frame in frames]
        costs = Costs(
            self.clothing_cost, self.unseen_cost, self.weak_box_cost, self.jump_cost, self.track_change_cost, self.motion_cost
        )  # fmt: skip

        dancer_clothing = self._mean_clothing(boxes, clothing, num_dancers)
        choice = assign(frames, dancer_clothing, costs)
        for _ in range(2):  # recompute each dancer's histogram from the assigned boxes
            rows = [_rows(clothing, choice[:, k]) for k in range(num_dancers)]
            dancer_clothing = np.stack(
                [np.mean(own, axis=0) if own else dancer_clothing[k] for k, own in enumerate(rows)]
            )
            choice = assign(frames, dancer_clothing, costs)

        out = np.full((num_dancers, len(boxes), 4), np.nan, dtype=np.float32)
        for t, frame in enumerate(choice):
            for k, index in enumerate(frame):
                if index >= 0:
                    out[k, t] = boxes[t][index, :4]
        first = [_start_x(track) for track in out]
        return Tracks(detections.times_s, out[np.argsort(first, kind="stable")])

    def _mean_clothing(self, boxes: list[Floats], clothing: list[Floats], num_dancers: int) -> Floats:
        """Return the (K, C) mean colour histogram of each dancer, by constrained k-means.

        Uses the frames in which the boxes of the dancers overlap least.
        """
        from scipy.optimize import linear_sum_assignment

        separate = []
        for b, c in zip(boxes, clothing, strict=True):
            chosen = self.people(b)
            if len(chosen) == num_dancers:
                iou = box_iou(b[chosen], b[chosen])
                np.fill_diagonal(iou, 0)
                separate.append((iou.max(initial=0.0), c[chosen]))
        if not separate:
            rows = np.concatenate(clothing)
            return np.repeat(rows.mean(0, keepdims=True), num_dancers, axis=0)
        separate.sort(key=lambda pair: pair[0])
        frames = np.stack([c for _, c in separate[: max(10, len(separate) // 2)]])
        best, best_cost = frames[0], np.inf
        for start in frames[:: max(1, len(frames) // 5)]:
            means = start
            for _ in range(5):
                order = np.stack([linear_sum_assignment(clothing_distance(f, means).T)[1] for f in frames])
                sorted_frames = np.take_along_axis(frames, order[..., None], axis=1)
                means = sorted_frames.mean(axis=0)
            cost = sum(clothing_distance(f, means).diagonal().sum() for f in sorted_frames)
            if cost < best_cost:
                best, best_cost = means, cost
        return best


def _start_x(track: Floats) -> float:
    seen = track[~np.isnan(track[:, 0])]
    return float(np.mean(seen[:5, [0, 2]])) if len(seen) else float("inf")


def _rows(values: list[Floats], index: npt.NDArray[np.intp]) -> list[Floats]:
    return [values[t][i] for t, i in enumerate(index) if i >= 0]
