"""Valid sequences for tests. Random motion to random music: test data, not dance."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.schema import (
    FACT_MUSIC_DIM,
    FRAMES_PER_CODE,
    GENRES,
    MUSIC_DIM,
    Backend,
    Camera,
    DanceSequence,
    Provenance,
    flat_dancers,
    mean_joint_speed,
)


def make_sequence(
    seed: int = 0, num_dancers: int = 1, num_frames: int = 40, *, full: bool = True, **changes: object
) -> DanceSequence:
    """A valid sequence that depends on the arguments only; ``full=False`` leaves out all that may be None."""
    rng = np.random.default_rng([seed, num_dancers, num_frames])

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    poses = 0.3 * floats(num_dancers, num_frames, 24, 3)
    transl = 0.5 * floats(num_dancers, num_frames, 3)
    rest = MEAN_OFFSETS * rng.uniform(0.9, 1.1, (num_dancers, 24, 1)).astype(np.float32)
    joints = forward_kinematics(poses, transl, rest[:, None])
    scores = np.abs(floats(len(GENRES)))
    seq = DanceSequence(
        id=f"seq-{seed:04d}-{num_dancers}",
        group=f"song-{seed:04d}",
        num_dancers=num_dancers,
        num_frames=num_frames,
        joints=flat_dancers(joints),
        smpl_pose=flat_dancers(poses),
        smpl_transl=flat_dancers(transl),
        rest_offsets=rest.reshape(-1),
        music_features=floats(num_frames, MUSIC_DIM),
        music_features_7p5fps=floats(math.ceil(num_frames / FRAMES_PER_CODE), MUSIC_DIM),
        music_features_fact=floats(num_frames, FACT_MUSIC_DIM),
        music_beats=np.arange(3, num_frames, 11, dtype=np.int32),
        bpm=float(rng.uniform(60, 200)),
        motion_velocity=mean_joint_speed(joints),
        confidence=rng.uniform(0, 1, (num_frames, num_dancers)).astype(np.float32),
        provenance=Provenance(
            source_sha256=hashlib.sha256(str(seed).encode()).hexdigest(),
            start_s=1.25,
            end_s=1.25 + num_frames / 60,
            source_fps=30000 / 1001,
            licence="CC0-1.0",
            opendance_version="0.0.0",
            camera=Camera(720, 1280, 1468.6, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0), (0.0, 1.1, 4.2))
            if full
            else None,
            backends=(Backend("detect", "nanodet", "3.0.4"), Backend("pose", "blazepose", "0.5")),
        ),
        smpl_betas=floats(num_dancers * 10) if full else None,
        joint_confidence=rng.uniform(0, 1, (num_frames, 24 * num_dancers)).astype(np.float32)
        if full
        else None,
        genre=GENRES[int(scores.argmax())] if full else None,
        genre_scores=scores if full else None,
    )
    return dataclasses.replace(seq, **changes)  # type: ignore[arg-type]


def assert_same(left: DanceSequence, right: DanceSequence) -> None:
    """Equal to the last bit, types and shapes included."""
    for field in dataclasses.fields(DanceSequence):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert isinstance(b, np.ndarray), field.name
            assert (a.dtype, a.shape) == (b.dtype, b.shape), field.name
            assert a.tobytes() == b.tobytes(), field.name
        else:
            assert type(a) is type(b), field.name
            assert a == b, field.name
