"""Training pairs of the lifter: what a pose estimator finds in rendered clips, and the true joints of the same frames.

The errors of a real estimator cannot be imitated by noise, so clips are drawn and the estimator runs on the pictures.
No video is written. Every clip depends on its seed and the :class:`Recipe` only.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.pipeline.backends import loaded, make_backend
from opendance_hf.pipeline.backends.base import Keypoints, PoseEstimator, Region
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stages.pose import Pose
from opendance_hf.schema import Camera
from opendance_hf.synthetic.body import BONES
from opendance_hf.synthetic.clips import Capture, Clip, Trouble, make_clip, picture_of, truth_of
from opendance_hf.synthetic.filming import View, tilt_of
from opendance_hf.synthetic.motion import TRUTH_JOINTS
from opendance_hf.synthetic.moves import Moves

Array = npt.NDArray[np.floating]
Image = npt.NDArray[np.uint8]

#: Trials of CMU's database that no network may see: the tests are rendered from them.
HELD_OUT: Final = ("05_02", "05_04", "05_06", "05_07", "05_09", "salsa_09", "salsa_10")
FPS: Final = 12.0
CLIPS_PER_SHARD: Final = 8
CHOREOGRAPHED: Final = "choreo"
_CHOREOGRAPHED_SHARE: Final = 0.35
_MIN_SECONDS: Final = 1.5  # of a captured trial
_SIZES: Final = {1: ((480, 854), (540, 720), (854, 480)), 2: ((854, 480), (720, 540), (480, 854))}
_HIPS: Final = [BONES.index("upperleg01.L"), BONES.index("upperleg01.R")]
_SHOULDERS: Final = [BONES.index("upperarm01.L"), BONES.index("upperarm01.R")]
_TORSO: Final = [
    LANDMARK_INDEX[name] for name in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
]
#: BlazePose's circle around a body, relative to the farthest bone from the hips. This and the noise of its regions were
#: measured on 247 frames of six clips that are not held out.
_CIRCLE: Final = 1.06
_CLIP_SCALE_STD: Final = 0.06
_REGION_STD: Final = (
    0.03,
    0.03,
    0.05,
    0.06,
)  # centre and log radius relative to the radius, rotation in radians
_REGION_NOISE_FRAMES: Final = 1.5
#: Share of the clips whose regions are those of boxes, as where the first pass of the pipeline is not plausible.
_BOX_SHARE: Final = 0.15


class MotionsError(OpenDanceError, ValueError):
    """Raised if the captured motions cannot be read, or there are none; the message has the file."""


@dataclass(frozen=True)
class Recipe:
    """Everything that pairs depend on besides their seeds.

    Attributes:
        motions: files of captured trials: ``joints`` (D, T, 24, 3) metres, y up, and ``fps``.
        duos: share of the clips with two dancers in the picture.
        seconds: length of a clip.
        estimator: backend of the role ``pose``.
    """

    motions: tuple[Path, ...] = ()
    duos: float = 0.5
    seconds: float = 6.7
    estimator: str = "blazepose-heavy"

    def describe(self) -> dict[str, Any]:
        """Return the recipe as JSON, with the hashes of the motions in place of their paths."""
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.motions}
        return {
            "motions": digests,
            "duos": self.duos,
            "seconds": self.seconds,
            "estimator": self.estimator,
            "fps": FPS,
            "clips_per_shard": CLIPS_PER_SHARD,
        }


@dataclass(frozen=True)
class Pair:
    """One dancer of one clip over T frames.

    Attributes:
        image: (T, 33, 2) pixels, ``world`` (T, 33, 3) metres, ``visibility`` (T, 33): of the estimator.
        truth: (T, 14, 3) joints of :data:`~opendance_hf.synthetic.motion.TRUTH_JOINTS` in the frame of the camera turned
            y-up (x right, z towards the viewer), metres.
        camera: of the clip.
        name: trial and dancer, such as ``salsa_03/1``, or ``choreo``.
        seed: of the clip.
    """

    image: Array
    world: Array
    visibility: Array
    truth: Array
    camera: Camera
    name: str
    seed: int


@dataclass(frozen=True)
class _Plan:
    """Hold the random choices of a clip, drawn from its seed."""

    num_dancers: int
    capture: Capture | None
    names: list[str]
    size: tuple[int, int]
    trouble: Trouble
    jpeg_quality: int
    seconds: float
    rng: np.random.Generator = field(repr=False)


def find_motions(folder: Path, held_out: Iterable[str] = HELD_OUT) -> tuple[Path, ...]:
    """Return the captured trials of a folder, without those that are held out.

    Raises:
        MotionsError: if there are none.
    """
    left_out = set(held_out)
    files = sorted(path for path in folder.glob("*.npz") if not {path.stem, trial_of(path)} & left_out)
    if not files:
        raise MotionsError(f"{folder}: no captured motions (.npz) besides those that are held out")
    return tuple(files)


def trial_of(path: Path) -> str:
    """Return the name of a trial: CMU's numbers where the file has two of them (``modern_05_03`` is 05_03), else the stem."""
    match = re.search(r"\d+_\d+$", path.stem)
    return match.group() if match else path.stem


def write_shard(path: Path, seeds: Sequence[int], recipe: Recipe) -> int:
    """Write the pairs of some clips to an npz file, unless it has them; return the number of clips that were made.

    Arrays of all pairs are joined: ``n`` (P,) frames of each pair, ``image`` (N, 33, 2), ``world`` (N, 33, 3), ``vis``
    (N, 33), ``truth`` (N, 14, 3), and for each pair ``wh`` (P, 2) picture size and ``focal`` (P,) in pixels, ``pitch`` and
    ``roll`` (P,) in radians, ``name`` and ``seed``; ``names`` (14,) of the joints.

    Raises:
        MotionsError: if a captured trial cannot be read.
    """
    if path.is_file():
        with np.load(path) as data:
            if set(data["seed"].tolist()) == set(seeds):
                return 0
    (estimator,) = loaded(make_backend("pose", recipe.estimator))
    pairs = [pair for seed in seeds for pair in make_pairs(seed, recipe, estimator)]
    tilts = np.array([tilt_of(pair.camera) for pair in pairs])
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            n=np.array([len(pair.truth) for pair in pairs]),
            image=np.concatenate([pair.image for pair in pairs]).astype(np.float32),
            world=np.concatenate([pair.world for pair in pairs]).astype(np.float16),
            vis=np.concatenate([pair.visibility for pair in pairs]).astype(np.float16),
            truth=np.concatenate([pair.truth for pair in pairs]).astype(np.float32),
            wh=np.array([[pair.camera.width_px, pair.camera.height_px] for pair in pairs]),
            focal=np.array([pair.camera.focal_px for pair in pairs]),
            pitch=tilts[:, 0],
            roll=tilts[:, 1],
            name=np.array([pair.name for pair in pairs]),
            seed=np.array([pair.seed for pair in pairs]),
            names=np.array(list(TRUTH_JOINTS)),
        )
    return len(seeds)


def make_pairs(seed: int, recipe: Recipe, estimator: PoseEstimator) -> list[Pair]:
    """Draw the clip of a seed, run the estimator on it, and return one pair for each dancer.

    Raises:
        MotionsError: if a captured trial cannot be read.
    """
    plan = _plan(seed, recipe)
    clip = make_clip(
        seed,
        plan.num_dancers,
        duration_s=plan.seconds,
        fps=FPS,
        size=plan.size,
        trouble=plan.trouble,
        capture=plan.capture,
        supersample=1,
    )
    camera = clip.stage.camera
    regions = [
        _regions(camera.project(dance.positions), estimator, np.random.default_rng([seed, number, 10]))
        for number, dance in enumerate(clip.dances)
    ]
    people = []
    for frame in range(len(clip.times_s)):
        picture = _compressed(picture_of(clip, frame), plan.jpeg_quality)
        people.append([estimator.estimate(picture, row[frame]) for row in regions])
    visibility = _visibility(people, clip)
    rotation = np.asarray(camera.rotation).reshape(3, 3)
    truth = (truth_of(clip).joints @ rotation.T + np.asarray(camera.translation)) * [1.0, -1.0, -1.0]
    return [
        Pair(
            np.stack([frame[d].image for frame in people]),
            np.stack([frame[d].world for frame in people]),
            visibility[d],
            truth[d],
            camera,
            name,
            seed,
        )
        for d, name in enumerate(plan.names)
    ]


def _plan(seed: int, recipe: Recipe) -> _Plan:
    rng = np.random.default_rng([seed, 9])
    num_dancers = 2 if rng.random() < recipe.duos else 1
    capture, names, seconds = _captured(rng, num_dancers, recipe)
    if capture is None:
        names = [CHOREOGRAPHED] if num_dancers == 1 else [f"{CHOREOGRAPHED}/{d}" for d in range(2)]
    common = rng.random(3) < 0.5
    facing = capture is None and rng.random() < 0.5
    view = View(
        pitch_deg=float(rng.uniform(0, 15) if common[0] else rng.uniform(-5, 35)),
        roll_deg=float(np.clip(rng.normal(0, 3), -25, 25) if common[1] else rng.uniform(-25, 25)),
        focal_ratio=float(np.exp(rng.normal(0, 0.1) if common[2] else rng.uniform(-1, 1) * np.log(1.6))),
        yaw_deg=float(rng.normal(0, 30) if facing else rng.uniform(-180, 180)),
        slack=float(rng.uniform(1.0, 1.5)),
    )
    hold_s = float(rng.uniform(1.2, 0.6 * seconds)) if rng.random() < 0.2 and seconds > 4 else 0.0
    trouble = Trouble(
        obstacle=bool(rng.random() < 0.15),
        moves=Moves(float(rng.uniform(0.5, seconds - hold_s)) if hold_s else 0.0, hold_s),
        view=view,
    )
    size = _SIZES[num_dancers][rng.integers(3)]
    return _Plan(num_dancers, capture, names, size, trouble, int(rng.integers(55, 93)), seconds, rng)


def _captured(
    rng: np.random.Generator, num_dancers: int, recipe: Recipe
) -> tuple[Capture | None, list[str], float]:
    """Draw a captured trial and its seconds; there is none if the clip is to be choreographed."""
    trials = [(path, *_read(path)) for path in recipe.motions]
    usable = [
        (path, joints, fps)
        for path, joints, fps in trials
        if len(joints) >= num_dancers and joints.shape[1] / fps > _MIN_SECONDS + 0.2
    ]
    if not usable or rng.random() < _CHOREOGRAPHED_SHARE:
        return None, [], recipe.seconds
    path, joints, fps = usable[rng.integers(len(usable))]
    chosen = rng.permutation(len(joints))[:num_dancers]
    seconds = min(recipe.seconds, joints.shape[1] / fps - 0.2)
    first = int(rng.integers(0, joints.shape[1] - int((seconds + 0.1) * fps)))
    part = joints[chosen, first : first + int((seconds + 0.1) * fps) + 1].copy()
    part[..., [0, 2]] -= part[:, :, 0][..., [0, 2]].mean(axis=(0, 1))
    return Capture(part, fps), [f"{trial_of(path)}/{d}" for d in chosen], seconds


@functools.cache
def _read(path: Path) -> tuple[Array, float]:
    try:
        with np.load(path, allow_pickle=False) as data:
            joints, fps = data["joints"].astype(np.float64), float(data["fps"])
    except (OSError, ValueError, KeyError) as error:
        raise MotionsError(f"{path}: not a captured motion with joints and fps ({error})") from None
    if joints.ndim != 4 or joints.shape[2:] != (NUM_JOINTS, 3):
        raise MotionsError(f"{path}: joints of shape {joints.shape}, expected (D, T, {NUM_JOINTS}, 3)")
    return joints, fps


def _compressed(picture: Image, quality: int) -> Image:
    """Return a picture after JPEG compression."""
    encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def _regions(pixels: Array, estimator: PoseEstimator, rng: np.random.Generator) -> list[Region]:
    """Return one dancer's region in every frame, as the two passes of the pipeline would find it.

    Args:
        pixels: (T, B, 2) true bones in the picture.
        estimator: makes regions of boxes.
        rng: draws the errors of the regions.
    """
    noise = gaussian_filter1d(rng.normal(size=(len(pixels), 4)), _REGION_NOISE_FRAMES, axis=0)
    noise *= np.array(_REGION_STD) * np.sqrt(2 * np.sqrt(np.pi) * _REGION_NOISE_FRAMES)
    hips, shoulders = pixels[:, _HIPS].mean(axis=1), pixels[:, _SHOULDERS].mean(axis=1)
    up = shoulders - hips
    rotation = np.arctan2(up[:, 0], -up[:, 1]) + noise[:, 3]
    centre = hips
    radius = _CIRCLE * np.linalg.norm(pixels - hips[:, None], axis=-1).max(axis=1)
    if rng.random() < _BOX_SHARE:
        low, high = pixels.min(axis=1), pixels.max(axis=1)
        centre, rotation = (low + high) / 2, np.zeros(len(pixels))
        radius = _CIRCLE * (high - low).max(axis=1) / 2
    centre = centre + noise[:, :2] * radius[:, None]
    radius = radius * np.exp(noise[:, 2] + rng.normal(0, _CLIP_SCALE_STD))
    boxes = np.concatenate([centre - radius[:, None], centre + radius[:, None]], axis=1)
    return [
        replace(estimator.region_of_box(box.astype(np.float32)), rotation=float(angle))
        for box, angle in zip(boxes, rotation, strict=True)
    ]


def _visibility(people: list[list[Keypoints]], clip: Clip) -> Array:
    """Return the (D, T, 33) visibility after the checks of the stage ``pose``.

    Where two estimates are of one person, that person is the one whose true torso is closer.
    """
    limits = Pose()
    image, visibility = (
        np.stack([[getattr(person, name) for person in frame] for frame in people], axis=1)
        for name in ("image", "visibility")
    )
    scores = np.array([[person.score for person in frame] for frame in people]).T
    size = np.array([clip.stage.camera.width_px, clip.stage.camera.height_px])
    visibility = visibility * limits.usable(image, scores, size)
    if len(image) == 2:
        torso = image[:, :, _TORSO]
        length = np.linalg.norm(torso[:, :, :2].mean(axis=2) - torso[:, :, 2:].mean(axis=2), axis=-1)
        middle = torso.mean(axis=2)
        near = np.linalg.norm(middle[0] - middle[1], axis=-1) < limits.same_person_torsos * length.mean(
            axis=0
        )
        true = [clip.stage.camera.project(dance.positions) for dance in clip.dances]
        true_middle = np.stack([bones[:, _HIPS + _SHOULDERS].mean(axis=1) for bones in true])
        off = np.linalg.norm(middle - true_middle, axis=-1)
        visibility[0, near & (off[0] > off[1])] = 0
        visibility[1, near & (off[0] <= off[1])] = 0
    return np.asarray(visibility)
