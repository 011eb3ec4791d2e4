"""Correct the depth of landmarks with the lifter (:mod:`opendance_hf.modeling.lifter`). Role ``depth``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt

from opendance_hf.assets import packaged_weights
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS
from opendance_hf.pipeline.backends.base import FileBackend, check_converted_model
from opendance_hf.pipeline.clip import ExpectedErrors, Floats, Landmarks, VideoInfo
from opendance_hf.pipeline.fitting.camera import camera_roll, level_landmarks
from opendance_hf.pipeline.fitting.settings import FitSettings
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX

if TYPE_CHECKING:
    from opendance_hf.motion.lifting import Lifting

_WEIGHTS: Final = "lifter-cmu"
#: Landmarks that are not joints of the lifter, by the joint that they are moved with.
_CARRIED: Final[dict[str, tuple[str, ...]]] = {
    "head": (
        "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
        "left_ear", "right_ear", "mouth_left", "mouth_right",
    ),
    **{f"{side}_wrist": tuple(f"{side}_{name}" for name in ("pinky", "index", "thumb")) for side in ("left", "right")},
    **{f"{side}_ankle": tuple(f"{side}_{name}" for name in ("heel", "foot_index")) for side in ("left", "right")},
}  # fmt: skip


@dataclass(frozen=True)
class Lifter(FileBackend):
    """Correct the depth with a lifter: that of the package, or ``file``, a folder or Hub id of one that you trained."""

    name: ClassVar[str] = "lifter"
    slow_imports: ClassVar[tuple[str, ...]] = ("opendance_hf.motion.lifting",)
    licence: ClassVar[str] = "CMU motion capture database: free for all uses, not to be resold"
    default_file: ClassVar[str] = _WEIGHTS
    how_to_get: ClassVar[str] = "train one with: opendance train lifter"

    def check(self, path: Path) -> None:
        """Check the type of the model."""
        check_converted_model(path, "lifter")

    def prepare(self) -> Self:
        """Check the file; the path of the package's own lifter is not stored, as it differs from machine to machine."""
        prepared = super().prepare()
        return prepared if self.file else replace(prepared, file="")

    def _find_file(self) -> Path:
        return super()._find_file() if self.file else packaged_weights(_WEIGHTS)

    def load(self) -> LifterCorrector:
        """Load the networks."""
        from opendance_hf.motion.lifting import LiftingNetwork

        return LifterCorrector(LiftingNetwork.load(self._find_file()))


class LifterCorrector:
    """Correct landmarks with the mean of the networks of a lifter, which differ in nothing but their weights."""

    def __init__(self, networks: Sequence[Lifting]) -> None:
        self.networks = networks

    def correct(self, found: Landmarks, video: VideoInfo) -> tuple[Landmarks, ExpectedErrors]:
        """Return the landmarks with other positions in metres, those in the image unchanged, and their expected errors.

        The network reads landmarks at its own frame rate, and its changes are interpolated to the frames of ``found``.
        Landmarks that it does not know, such as fingers, move with the nearest joint that it knows. It reads them as a
        level camera would see them, since it has seen few rolled ones; what counts as rolled are the defaults of the fit.
        """
        roll_rad = camera_roll(found, video, FitSettings())
        lifted, errors = self._lifted(level_landmarks(found, video, roll_rad), video)
        return replace(found, world=level_landmarks(lifted, video, -roll_rad).world), errors

    def _lifted(self, found: Landmarks, video: VideoInfo) -> tuple[Landmarks, ExpectedErrors]:
        import torch
        from scipy.interpolate import make_interp_spline

        config = self.networks[0].config
        start_s, end_s = float(found.times_s[0]), float(found.times_s[-1])
        count = max(2, round((end_s - start_s) * config.frame_rate_hz) + 1)
        clock = np.linspace(start_s, end_s, count)
        marks = [LANDMARK_INDEX[name] for name in config.landmarks]
        centre = np.array([video.width_px / 2, video.height_px / 2])
        focal_px = video.diagonal_px
        rays = (found.image[:, :, marks] - centre) / focal_px * (1.0, -1.0)
        values = [rays, found.world[:, :, marks], found.visibility[:, :, marks]]
        with torch.inference_mode():
            given = [torch.from_numpy(_resampled(value, found.times_s, clock)) for value in values]
            found_by = [network.lift_with_errors(*given) for network in self.networks]
            lifted, errors_m = (torch.stack(values).mean(dim=0) for values in zip(*found_by, strict=True))
            change = lifted - self.networks[0].estimated(given[1])
        spline = make_interp_spline(clock, change.numpy(), k=min(3, count - 1), axis=1)
        moved = np.asarray(spline(found.times_s), dtype=np.float32)
        hips = [LANDMARK_INDEX["left_hip"], LANDMARK_INDEX["right_hip"]]
        world = found.world - found.world[:, :, hips].mean(axis=2, keepdims=True)
        for joint, name in enumerate(config.joints):
            rows = [
                LANDMARK_INDEX[mark] for mark in (name, *_CARRIED.get(name, ())) if mark in LANDMARK_INDEX
            ]
            world[:, :, rows] += moved[:, :, joint, None]
        expected = np.full((*errors_m.shape[:2], NUM_JOINTS), np.nan, dtype=np.float32)
        expected[..., [JOINT_INDEX[name] for name in config.joints]] = errors_m.numpy()
        return replace(found, world=world), ExpectedErrors(clock, expected)


def _resampled(
    values: npt.NDArray[np.floating], times_s: npt.NDArray[np.floating], clock: npt.NDArray[np.floating]
) -> Floats:
    """Interpolate (D, T, ...) values linearly to other times."""
    after = np.searchsorted(times_s, clock).clip(1, len(times_s) - 1)
    share = (clock - times_s[after - 1]) / (times_s[after] - times_s[after - 1])
    share = share.reshape(-1, *[1] * (values.ndim - 2))
    return np.asarray(values[:, after - 1] * (1 - share) + values[:, after] * share, dtype=np.float32)
