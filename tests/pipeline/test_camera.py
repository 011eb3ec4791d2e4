"""Test the estimates of a camera that stands still: its tilt, and its focal length."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from opendance_hf.motion.balance import SEGMENTS, centre_of_mass, vertical
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.fitting.camera import camera_tilt, horizon
from opendance_hf.pipeline.fitting.settings import CameraPriors
from opendance_hf.pipeline.video import probe
from opendance_hf.schema import Camera
from tests.pipeline.media import write_clip
from tests.pipeline.truth import VIDEO, camera_at, dance, together

PRIORS = CameraPriors()


def points_of(joints: np.ndarray) -> dict[str, np.ndarray]:
    return {name: joints[..., index, :] for name, index in JOINT_INDEX.items()}


def test_segments_are_a_whole_body() -> None:
    assert sum(mass for *_, mass, _ in SEGMENTS) == pytest.approx(1.0, abs=0.01)


@given(st.integers(0, 50), st.floats(-180, 180), st.floats(-40, 40), st.floats(-40, 40))
def test_vertical_turns_with_the_frame(seed: int, yaw: float, pitch: float, roll: float) -> None:
    joints = together([dance(seed, 60)], camera_at()).joints
    turn = Rotation.from_euler("yxz", (yaw, pitch, roll), degrees=True).as_matrix()
    up = vertical(points_of(joints))
    np.testing.assert_allclose(vertical(points_of(joints @ turn.T)), turn @ up, atol=1e-3)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["modern_05_03", "modern_05_10", "salsa_01", "salsa_06"])
def test_vertical_of_captured_dancers(shared: Path, name: str) -> None:
    with np.load(shared / "data/mocap" / f"{name}.npz") as data:
        joints = data["joints"].astype(np.float64)
    for dancer in joints:
        assert np.degrees(np.arccos(vertical(points_of(dancer))[1])) < 4


def test_a_dancer_on_one_leg_balances_over_it() -> None:
    joints = together([dance(3, 2)], camera_at()).joints
    points = points_of(joints)
    foot = (points["left_ankle"] + points["left_foot"]) / 2
    points["right_ankle"], points["right_foot"] = (
        points[f"right_{part}"] + (0, 0.8, 0) for part in ("ankle", "foot")
    )
    leg = centre_of_mass(points) - foot
    expected = np.median(leg / np.linalg.norm(leg, axis=-1, keepdims=True), axis=(0, 1))
    np.testing.assert_allclose(vertical(points), expected / np.linalg.norm(expected), atol=1e-2)


@pytest.mark.parametrize("pitch_deg", [-4.0, 0.0, 12.0, 25.0])
def test_horizon_is_seen_by_those_who_walk_in_depth(pitch_deg: float) -> None:
    camera: Camera = camera_at(1.5, 5.0, pitch_deg)
    rng = np.random.default_rng(0)
    ground = np.stack([rng.uniform(-1, 1, 200), np.zeros(200), rng.uniform(-2, 2, 200)], axis=1)
    seen = (360 - camera.project(ground)[:, 1]) / camera.focal_px
    depths = (ground @ np.asarray(camera.rotation).reshape(3, 3).T + np.asarray(camera.translation))[:, 2]
    found, spread = horizon(seen, depths * rng.normal(1, 0.02, 200), 20)
    assert found == pytest.approx(math.tan(math.radians(pitch_deg)), abs=0.03)
    assert spread < 0.05


def test_nobody_who_stays_on_the_spot_shows_a_horizon() -> None:
    assert horizon(np.full(50, -0.3), np.full(50, 4.0), 10)[1] == math.inf
    depths = 4 + 0.01 * np.sin(np.arange(50))
    assert horizon(0.2 - 2 / depths, depths, 10)[1] > 0.2


def test_the_focal_length_is_kept_unless_it_is_seen() -> None:
    unseen = camera_tilt(0.3, (0.0, math.inf), 4, PRIORS)
    assert unseen.focal_ratio == 1
    assert unseen.focal_sd == pytest.approx(PRIORS.focal_sd, rel=0.02)
    assert 0.2 < unseen.pitch_rad < 0.3, "towards the usual pitch"


def test_a_horizon_and_a_pitch_show_the_focal_length() -> None:
    sure = replace(PRIORS, body_sd_rad=0.01, phrase_sd_rad=0.01, horizon_sd=0.01)
    found = camera_tilt(0.4, (0.75 * math.tan(0.4), 0.001), 20, sure)
    assert found.focal_ratio == pytest.approx(0.75, abs=0.05)
    assert found.focal_sd < 0.6 * PRIORS.focal_sd


def test_longer_dances_show_the_pitch_better() -> None:
    short, long = (camera_tilt(0.2, (0.0, math.inf), phrases, PRIORS) for phrases in (1.0, 20.0))
    assert long.pitch_sd_rad < short.pitch_sd_rad


@pytest.mark.parametrize(
    ("stated", "ratio"), [("26", 26 / math.hypot(36, 24)), ("2", None), ("nonsense", None), (None, None)]
)
def test_the_focal_length_that_a_phone_states_is_used(
    tmp_path: Path, stated: str | None, ratio: float | None
) -> None:
    plain, video = write_clip(tmp_path / "plain.mp4"), tmp_path / "phone.mov"
    tags = {} if stated is None else {"com.apple.quicktime.camera.focal_length.35mm_equivalent": stated}
    with (
        av.open(str(plain)) as source,
        av.open(str(video), "w", format="mov", options={"movflags": "use_metadata_tags"}) as target,
    ):
        target.metadata.update(tags)
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    info = probe(video)
    diagonal = math.hypot(info.width_px, info.height_px)
    assert info.focal_px == (None if ratio is None else pytest.approx(ratio * diagonal))
    assert info.assumed_focal_px == pytest.approx((ratio or 1) * diagonal)


def test_the_focal_length_of_a_file_that_states_none_is_the_diagonal() -> None:
    assert VIDEO.assumed_focal_px == pytest.approx(math.hypot(1280, 720))
