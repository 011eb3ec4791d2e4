"""The stage that cleans motion: only the motion changes, and nothing when it is switched off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from opendance_hf.cleanup.feet import FEET, foot_contacts
from opendance_hf.cleanup.settings import FeetLimits
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.pipeline.clip import Clip, Fit, Motion
from opendance_hf.pipeline.pipelines import default_pipeline, paper_pipeline
from opendance_hf.pipeline.stages.clean import Clean, contacts_at
from opendance_hf.schema import Camera
from tests.cleanup.dancers import stepping_dancer

CAMERA = Camera(64, 48, 80.0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 4.0))


def drifting_clip() -> Clip:
    body = stepping_dancer(180)
    body.pelvis[:, 0] += 0.05 * np.sin(np.arange(180) / 10)
    poses, transl = body.poses[None].astype(np.float32), body.transl[None].astype(np.float32)
    rest = body.rest_offsets[None].astype(np.float32)
    motion = Motion(
        start_s=0.0,
        end_s=3.0,
        poses=poses,
        transl=transl,
        joints=forward_kinematics(poses, transl, rest[:, None]).astype(np.float32),
        confidence=np.ones((1, 180), dtype=np.float32),
    )
    fit = Fit(np.arange(180) / 60, body.local[None], transl, rest, CAMERA)
    return Clip(Path("x.mp4"), "0" * 64, fit=fit, motion=motion)


def test_it_is_in_the_default_pipeline_and_can_be_switched_off() -> None:
    assert Clean() in default_pipeline()
    assert not any(isinstance(stage, Clean) for stage in paper_pipeline())
    clip = drifting_clip()
    assert Clean(apply=False)(clip) is clip


def test_feet_stand_and_everything_else_stays() -> None:
    clip = drifting_clip()
    found = Clean()(clip)
    assert isinstance(found, Clip)
    for name in ("poses", "transl", "joints"):
        assert getattr(found.motion, name).dtype == np.float32
    joints = forward_kinematics(found.motion.poses, found.motion.transl, clip.fit.rest_offsets[:, None])
    np.testing.assert_allclose(joints, found.motion.joints, atol=1e-5)
    assert np.abs(found.motion.joints - clip.motion.joints).max() > 0.01
    assert found.fit is clip.fit
    assert found.motion.confidence is clip.motion.confidence
    assert (found.start_s, found.end_s) == (clip.start_s, clip.end_s)


def test_the_contacts_that_the_image_shows_are_held() -> None:
    clip = drifting_clip()
    seen = foot_contacts(stepping_dancer(180).joints, 60, FeetLimits())[None]
    found = Clean()(replace(clip, fit=replace(clip.fit, contacts=seen)))
    assert isinstance(found, Clip)

    def slide(motion: Motion) -> float:
        steps = np.linalg.norm(np.diff(motion.joints[0][:, FEET][..., [0, 2]], axis=0), axis=-1)
        return float(steps[seen[0, 1:] & seen[0, :-1]].mean())

    assert seen.sum() > 200
    assert slide(found.motion) < 0.2 * slide(clip.motion)


def test_contacts_are_those_of_the_nearest_frame_of_the_source() -> None:
    clip = drifting_clip()
    contacts = np.zeros((1, 4, 4), dtype=bool)
    contacts[0, 2] = True
    fit = replace(clip.fit, times_s=np.array([0.0, 0.1, 0.2, 0.3]), contacts=contacts)
    times_s = np.array([0.0, 0.14, 0.16, 0.24, 0.26, 0.4])
    found = contacts_at(fit, times_s)
    assert found is not None
    assert found[0, :, 0].tolist() == [False, False, True, True, False, False]
    assert contacts_at(clip.fit, times_s) is None


def test_in_a_picture_that_shakes_contacts_come_from_the_motion() -> None:
    clip = drifting_clip()
    nothing = replace(clip, fit=replace(clip.fit, contacts=np.zeros((1, 180, 4), dtype=bool)))
    plain, shaken = Clean()(clip), Clean()(nothing)
    assert isinstance(plain, Clip)
    assert isinstance(shaken, Clip)
    np.testing.assert_array_equal(shaken.motion.joints, plain.motion.joints)
