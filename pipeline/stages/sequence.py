"""Assemble the row of a sequence from the results of the stages, validate it, and write it into the build folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from opendance_hf import __version__
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.repairs import REPAIRS, describe_in_row, is_in_span
from opendance_hf.pipeline.stage import Stage
from opendance_hf.schema import (
    FPS,
    Backend,
    Camera,
    DanceSequence,
    Provenance,
    flat_dancers,
    mean_joint_speed,
    validate,
)
from opendance_hf.storage.npz import save_sequence

#: Placeholder of the licence. Licence and group are set when the dataset is packed, so changing them re-runs no stage.
UNDECIDED: Final = "unknown"


@dataclass(frozen=True)
class Sequence(Stage):
    """Write ``sequences/{id}.npz``, the annotation that datasets are packed from."""

    name = "sequence"
    version = 2
    reads = ("video", "fit", "motion", "columns")
    writes = ("sequence",)
    files = ("sequences/{id}.npz",)
    columns = (
        "id", "group", "num_dancers", "num_frames", "joints", "smpl_pose", "smpl_transl", "rest_offsets", "smpl_betas",
        "motion_velocity", "confidence", "provenance",
    )  # fmt: skip
    keeps_result = False

    def __call__(self, clip: Clip) -> Clip:
        """Process one sequence."""
        sequence = validate(DanceSequence(**self.row(clip)))
        target = clip.job.build / self.files[0].format(id=clip.id)
        target.parent.mkdir(exist_ok=True)
        save_sequence(target, sequence)
        return replace(clip, sequence=sequence)

    def camera(self, clip: Clip) -> Camera:
        """Return the camera of the fit, with the largest turn and zoom within the sequence that were taken out."""
        if clip.steadied is None:
            return clip.fit.camera
        turn_deg, zoom = clip.steadied.between(clip.motion.start_s, clip.motion.end_s).largest()
        return replace(clip.fit.camera, turn_deg=turn_deg, zoom=zoom)

    def repairs(self, clip: Clip) -> tuple[str, ...]:
        """Return the repairs that the sequence contains as text."""
        motion = clip.motion
        return tuple(
            describe_in_row(repair, motion.start_s, motion.num_frames, FPS)
            for repair in clip.repairs
            if REPAIRS[repair.kind].stage == "cut" or is_in_span(repair, motion.start_s, motion.end_s)
        )

    def row(self, clip: Clip) -> dict[str, Any]:
        """Return the values of all columns."""
        motion = clip.motion
        return {
            "id": clip.id,
            "group": clip.sha256[:16],
            "num_dancers": len(motion.poses),
            "num_frames": motion.num_frames,
            "joints": flat_dancers(motion.joints),
            "smpl_pose": flat_dancers(motion.poses),
            "smpl_transl": flat_dancers(motion.transl),
            "rest_offsets": clip.fit.rest_offsets.reshape(-1),
            "smpl_betas": None if clip.fit.betas is None else clip.fit.betas.reshape(-1),
            "motion_velocity": mean_joint_speed(motion.joints),
            "confidence": flat_dancers(motion.confidence),
            "provenance": Provenance(
                source_sha256=clip.sha256,
                start_s=motion.start_s,
                end_s=motion.end_s,
                source_fps=clip.video.fps,
                licence=UNDECIDED,
                opendance_version=__version__,
                camera=self.camera(clip),
                backends=tuple(Backend(*backend) for backend in clip.backends),
                pipeline=clip.job.pipeline,
                repairs=self.repairs(clip),
            ),
            **clip.columns,
        }
