"""Train the lifter on pairs of estimated landmarks and true joints, which ``opendance synthesize`` makes.

opendance synthesize pairs --clips 500
opendance train lifter --dataset pairs --output-dir runs/lifter --config cmu
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from opendance_hf.data import NoWindowsError
from opendance_hf.modeling.lifter import LifterConfig, LifterModel
from opendance_hf.motion.lifting import mirrored, rotation_to_axis
from opendance_hf.motion.procrustes import procrustes_error
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.training.recipe import RunArguments
from opendance_hf.training.stage import Stage

#: Arrays of a file of pairs: of all frames, one clip after another; then of all clips.
_OF_FRAMES: Final = ("image", "world", "vis", "truth")
_OF_CLIPS: Final = ("n", "wh", "focal", "name", "seed")
#: Factors of the speed; a half of the windows keeps its own.
_SPEEDS: Final = (0.75, 1.3)
#: Largest roll that is added to that of the camera, radians.
_ROLL: Final = 0.26
#: Largest relative changes of the length of a bone, and of the focal length that is assumed.
_BONE, _FOCAL = 0.08, 0.18
#: Bones of the limbs: the joint at the far end, and that at the near end.
_LIMB_BONES: Final = (("knee", "hip"), ("ankle", "knee"), ("elbow", "shoulder"), ("wrist", "elbow"))


class LifterPairs(Dataset[dict[str, Tensor]]):
    """Windows of estimated landmarks with the true joints, from a folder of ``.npz`` files.

    Args:
        dataset: the folder.
        num_frames: length of a window.
        stride: frames from one window of a clip to the next.
        leave_out: names of trials to leave out, see ``only``.
        only: names of trials to use; a choreography is named ``choreo``, and ``choreo/7`` is those whose seed ends in 7.
        augment: True to vary the windows at random: mirror, roll, speed, focal length and bone lengths.
        landmarks: of the model.
        joints: of the model.

    Raises:
        NoWindowsError: if no clip is selected.
        ValueError: if a file is not one of pairs.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        num_frames: int = 40,
        stride: int = 8,
        leave_out: list[str] | None = None,
        only: list[str] | None = None,
        augment: bool = True,
        landmarks: list[str] | None = None,
        joints: list[str] | None = None,
    ) -> None:
        config = LifterConfig(landmarks=landmarks, joints=joints)
        self.landmarks, self.joints = config.landmarks, config.joints
        self.num_frames, self.augment = num_frames, augment
        self.files = sorted(Path(dataset).glob("*.npz"))
        if not self.files:
            raise ValueError(f"{dataset}: no .npz files of pairs; make some with: opendance synthesize")
        self._read(lambda name, seed: _selected(name, seed, only, leave_out))
        starts = [
            (clip, start)
            for clip, frames in enumerate(self.frames.tolist())
            for start in range(0, max(frames - num_frames, 0) + 1, stride)
        ]
        if not starts:
            raise NoWindowsError(f"{dataset}: no pairs of these trials")
        self.starts = torch.tensor(starts)

    def _read(self, selected: Any) -> None:
        """Read the selected clips into arrays of all frames."""
        rows: dict[str, list[Any]] = {key: [] for key in (*_OF_FRAMES, *_OF_CLIPS)}
        marks = [LANDMARK_INDEX[name] for name in self.landmarks]
        for file in self.files:
            with np.load(file, allow_pickle=False) as data:
                missing = [key for key in (*_OF_FRAMES, *_OF_CLIPS, "names") if key not in data]
                if missing:
                    raise ValueError(f"{file}: not a file of pairs: it has no array {missing[0]!r}")
                order = [data["names"].tolist().index(name) for name in self.joints]
                keep = [selected(str(n), int(s)) for n, s in zip(data["name"], data["seed"], strict=True)]
                in_frames = np.repeat(keep, data["n"])
                for key in _OF_CLIPS:
                    rows[key].append(data[key][keep])
                for key in ("image", "world", "vis"):
                    rows[key].append(data[key][in_frames][:, marks].astype(np.float32))
                rows["truth"].append(data["truth"][in_frames][:, order].astype(np.float32))
        arrays = {key: np.concatenate(values) for key, values in rows.items()}
        self.frames = torch.from_numpy(arrays["n"].astype(np.int64))
        self.first = self.frames.cumsum(0) - self.frames
        size = torch.from_numpy(arrays["wh"].astype(np.float32))
        #: The focal length that the pipeline assumes, and the ratio of the true one to it.
        assumed = size.norm(dim=1)
        self.focal_ratio = torch.from_numpy(arrays["focal"].astype(np.float32)) / assumed
        clip = torch.repeat_interleave(torch.arange(len(self.frames)), self.frames)
        rays = (torch.from_numpy(arrays["image"]) - size[clip, None] / 2) / assumed[clip, None, None]
        self.rays = rays * torch.tensor([1.0, -1.0])
        self.world, self.truth = torch.from_numpy(arrays["world"]), torch.from_numpy(arrays["truth"])
        self.visibility = torch.from_numpy(arrays["vis"])
        self.names = [str(name) for name in arrays["name"]]

    def fingerprint(self) -> str:
        """Return the SHA-256 of the files' content and of the selected trials, as hex digits."""
        total = hashlib.sha256(" ".join(self.names).encode())
        for file in self.files:
            with file.open("rb") as content:
                total.update(hashlib.file_digest(content, "sha256").digest())
        return total.hexdigest()

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """Return a batch of windows; random numbers are those of torch."""
        clip, start = self.starts[indices].unbind(1)
        frames = self.frames[clip]
        position = start[:, None] + torch.arange(self.num_frames)
        position = torch.minimum(position, frames[:, None] - 1).float()
        if self.augment:
            position = self._at_other_speed(frames)
        low = position.floor().long()
        high = torch.minimum(low + 1, frames[:, None] - 1)
        share = position - low

        def at(values: Tensor) -> Tensor:
            first = self.first[clip, None]
            between = share[(...,) + (None,) * (values.ndim - 1)]
            return values[first + low] * (1 - between) + values[first + high] * between

        rays, world, visibility, truth = map(at, (self.rays, self.world, self.visibility, self.truth))
        ratio = self.focal_ratio[clip]
        if self.augment:
            rays, world, truth = self._other_bones(rays, world, truth, ratio)
            rays, world, truth = self._other_roll(rays, world, truth)
            rays = rays * _uniform(len(clip), _FOCAL)[:, None, None, None]
        hips = truth[:, :, [self.joints.index("left_hip"), self.joints.index("right_hip")]].mean(dim=2)
        turn = rotation_to_axis(hips)
        joints = (truth - hips[:, :, None]) @ turn.transpose(-1, -2)
        batch = {"rays": rays, "world": world, "visibility": visibility, "joints": joints}
        return self._half_mirrored(batch) if self.augment else batch

    def _at_other_speed(self, frames: Tensor) -> Tensor:
        """Return (B, T) positions in clips, of every second window at another speed than the clip's."""
        count, last = len(frames), self.num_frames - 1
        speed = torch.where(torch.rand(count) < 0.5, torch.ones(count), torch.empty(count).uniform_(*_SPEEDS))
        speed = torch.minimum(speed, (frames - 1) / last)
        room = frames - 1 - speed * last
        start = torch.rand(count) * room
        start = torch.where(speed == 1, (start + 0.5).floor().clamp(max=room), start)
        return start[:, None] + speed[:, None] * torch.arange(self.num_frames)

    def _other_bones(
        self, rays: Tensor, world: Tensor, truth: Tensor, ratio: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change the lengths of bones, and move the landmarks by as much."""
        index = {name: i for i, name in enumerate(self.joints)}
        moved = torch.zeros_like(truth)

        def factor() -> Tensor:
            return (_uniform(len(truth), _BONE) - 1)[:, None, None]

        def middle(name: str) -> Tensor:
            return (truth[:, :, index[f"left_{name}"]] + truth[:, :, index[f"right_{name}"]]) / 2

        trunk = factor() * (middle("shoulder") - middle("hip"))
        for name, moved_with in (("shoulder", trunk), ("hip", 0.0)):
            across = factor()
            for side in ("left", "right"):
                joint = index[f"{side}_{name}"]
                moved[:, :, joint] = moved_with + across * (truth[:, :, joint] - middle(name))
        for name in ("neck", "head"):
            moved[:, :, index[name]] = trunk
        for end, start in _LIMB_BONES:
            change = factor()
            for side in ("left", "right"):
                far, near = index[f"{side}_{end}"], index[f"{side}_{start}"]
                moved[:, :, far] = moved[:, :, near] + change * (truth[:, :, far] - truth[:, :, near])
        carriers = [index[_carrier(name, index)] for name in self.landmarks]
        by, at = moved[:, :, carriers], truth[:, :, carriers]
        after = at + by
        flat = (after[..., :2] / -after[..., 2:] - at[..., :2] / -at[..., 2:]) * ratio[:, None, None, None]
        turn = rotation_to_axis(middle("hip"))
        return rays + flat, world + by @ turn.transpose(-1, -2), truth + moved

    def _other_roll(self, rays: Tensor, world: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn the camera about its optical axis."""
        angle = _ROLL * (2 * torch.rand(len(rays)) - 1)
        cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
        turn = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], dim=-1).view(-1, 1, 3, 3)
        return rays @ turn[..., :2, :2], world @ turn, truth @ turn

    def _half_mirrored(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mirror every window with a probability of a half."""
        flip = torch.rand(len(batch["rays"])) < 0.5
        out = {}
        for name, value in batch.items():
            swapped = value[:, :, mirrored(self.joints if name == "joints" else self.landmarks)]
            if name != "visibility":
                swapped = swapped * torch.tensor([-1.0, 1.0, 1.0])[: value.shape[-1]]
            out[name] = torch.where(flip[(...,) + (None,) * (value.ndim - 1)], swapped, value)
        return out


def _carrier(landmark: str, joints: dict[str, int]) -> str:
    """Return the joint that a landmark moves with."""
    side = landmark.partition("_")[0]
    return landmark if landmark in joints else f"{side}_ankle" if landmark.endswith("foot_index") else "head"


def _uniform(count: int, change: float) -> Tensor:
    """Return random factors from 1 - change to 1 + change."""
    return 1 + change * (2 * torch.rand(count) - 1)


def _selected(name: str, seed: int, only: list[str] | None, leave_out: list[str] | None) -> bool:
    """Return True if a clip of this trial is among those wanted and not among those left out."""
    trial = name.partition("/")[0]
    names = {trial, f"{trial}/{seed % 10}"} if trial == "choreo" else {trial}
    return (only is None or bool(names & set(only))) and not names & set(leave_out or ())


@torch.no_grad()
def errors(model: LifterModel, data: Dataset[Any], windows: int) -> dict[str, float]:
    """Measure the errors of evenly spaced windows, beside those of the estimator (``raw``), in millimetres."""
    count = min(windows, len(data))  # type: ignore[arg-type]
    picked = Subset(data, [i * len(data) // count for i in range(count)])  # type: ignore[arg-type]
    totals: dict[str, float] = {}
    for batch in DataLoader(picked, 64, collate_fn=lambda items: items):
        given = {name: value.to(model.device) for name, value in batch.items() if name != "joints"}
        true = batch["joints"].numpy()
        for prefix, found in (
            ("", model.lift(**given)),
            ("raw_", model.estimated(given["world"])),
        ):
            joints = found.float().cpu().numpy()
            here = {
                "mpjpe_mm": np.linalg.norm(joints - true, axis=-1).mean(),
                "pa_mpjpe_mm": procrustes_error(joints[:, :, :12], true[:, :, :12]).mean(),
                "accel_error_mm": np.linalg.norm(np.diff(joints - true, n=2, axis=1), axis=-1).mean(),
            }
            for name, value in here.items():
                totals[prefix + name] = totals.get(prefix + name, 0.0) + 1000 * value * len(true) / count
    return {name: round(float(value), 2) for name, value in totals.items()}


class LifterStage(Stage):
    """Learn to correct the depth of estimated landmarks."""

    name = "lifter"
    takes_tars = False
    model_section = LifterConfig
    data_section = LifterPairs
    given = ("landmarks", "joints")
    dancers = 0

    @staticmethod
    def collate(items: Any) -> dict[str, Tensor]:
        """Return the batch, which the data make at once."""
        batch: dict[str, Tensor] = items
        return batch

    def build_model(self) -> LifterModel:
        """Make a lifter with random weights."""
        return LifterModel(LifterConfig(**self.recipe["model"]))

    def build_data(self, options: dict[str, Any]) -> LifterPairs:
        """Read the pairs."""
        config = self.model.config
        return LifterPairs(
            self.arguments.dataset, **options, landmarks=config.landmarks, joints=config.joints
        )

    def build_held_out(self) -> tuple[LifterPairs | None, str | None]:
        """Read the pairs of the trials that are left out."""
        options = self.recipe["data"]
        if not options.get("leave_out"):
            return None, None
        frames = self.data.num_frames
        others = {"leave_out": None, "only": options["leave_out"], "augment": False, "stride": frames}
        return self.build_data({**options, **others}), "left out"

    def trained_on(self) -> str:
        """Describe the pairs."""
        return f"{len(self.data.frames):,} clips with {len(self.data.rays):,} frames of single dancers."

    def validate(self, model: LifterModel) -> dict[str, float]:
        """Measure the errors on trials that are left out, beside the estimator's."""
        return errors(model, self.others, self.validation.windows)


def run(arguments: RunArguments) -> LifterModel:
    """Train as the recipe says, write the model to ``output_dir`` and return it."""
    return LifterStage(arguments).run()


if __name__ == "__main__":
    LifterStage.main()
