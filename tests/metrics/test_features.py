from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.metrics import geometric_features, kinetic_features, motion_features, root_at_origin
from opendance_hf.motion.skeleton import JOINT_INDEX
from tests.fixtures.make_metrics_small import SETS, synth_motion

SETTINGS = settings(max_examples=15)


@pytest.mark.parametrize("name", SETS)
def test_parity_with_plain_loops(repo: Path, name: str) -> None:
    count, first = SETS[name]
    got = motion_features(synth_motion(first + i) for i in range(count))
    with np.load(repo / "tests/fixtures/metrics_small.npz") as arrays:
        np.testing.assert_allclose(got.kinetic, arrays[f"kinetic_{name}"], rtol=1e-5)
        np.testing.assert_allclose(got.geometric, arrays[f"geometric_{name}"], atol=1e-6)


@pytest.mark.shared
def test_parity_with_the_official_code(shared: Path) -> None:
    with np.load(shared / "reference/metrics.npz") as arrays:
        motions = [arrays[f"motion{i}"] for i in range(8)]
        got = motion_features(motions)
        for i in range(8):
            np.testing.assert_allclose(got.kinetic[i], arrays[f"kinetic{i}"], rtol=1e-5)
            np.testing.assert_allclose(got.geometric[i], arrays[f"geometric{i}"], rtol=1e-5)
        for i in range(2):  # as they stand, root not moved
            np.testing.assert_allclose(kinetic_features(motions[i]), arrays["kinetic_noshift"][i], rtol=1e-5)
            np.testing.assert_allclose(
                geometric_features(motions[i]), arrays["geometric_noshift"][i], rtol=1e-5
            )


def test_energies_of_a_steady_walk() -> None:
    joints = np.zeros((30, 24, 3))
    joints += np.arange(30)[:, None, None] / 60 * np.array([3.0, 0.5, 4.0])  # metres a second
    kinetic = kinetic_features(joints).reshape(24, 3)
    np.testing.assert_allclose(kinetic[:, 0], 25)
    np.testing.assert_allclose(kinetic[:, 1], 0.25)


def test_a_raised_foot_and_a_fast_wrist_by_hand() -> None:
    joints = np.zeros((11, 24, 3))
    joints[:, :, 0] = np.arange(24)  # apart from each other
    joints[:5, JOINT_INDEX["right_ankle"], 1] = 0.4  # 1.2 x 0.2568 = 0.308 m; frames 1 to 4 of 1 to 10
    joints[:, JOINT_INDEX["left_wrist"], 2] = np.arange(11) * 0.4 / 60  # 0.4 m/s reads as 0.8, limit 0.642
    got = geometric_features(joints)
    assert got[16] == pytest.approx(0.4)
    assert got[17] == 0
    assert (got[12], got[13], got[31]) == (0, 1, 0)


@pytest.mark.parametrize("fps", [60, 120, 25])
def test_corrected_energy_expenditure_is_the_acceleration_wherever_the_dance_stands(fps: float) -> None:
    seconds = np.arange(40)[:, None, None] / fps
    joints = np.zeros((40, 24, 3)) + 0.5 * seconds**2 * np.array([3.0, 0.0, 4.0])  # 5 m/s²
    for place in (0.0, 100.0):
        energy = kinetic_features(joints + place, corrected=True, fps=fps).reshape(24, 3)[:, 2]
        np.testing.assert_allclose(energy, 5, rtol=1e-6)
    official = [kinetic_features(joints + place).reshape(24, 3)[0, 2] for place in (0.0, 100.0)]
    assert official[1] > 50 * official[0]  # the slip: it measures the distance from the origin


def test_corrected_speeds_are_those_of_the_frame_rate() -> None:
    for fps in (60, 120):
        joints = np.zeros((11, 24, 3))
        joints[:, :, 0] = np.arange(24)
        joints[:, JOINT_INDEX["left_wrist"], 2] = np.arange(11) * 0.4 / fps  # 0.4 m/s, limit 0.642
        joints[:, JOINT_INDEX["right_wrist"], 2] = np.arange(11) * 0.7 / fps
        got = geometric_features(joints, corrected=True, fps=fps)
        assert (got[12], got[13]) == (1, 0)


def test_corrected_hands_are_the_ones_the_definitions_name() -> None:
    still = np.zeros((11, 24, 3))
    still[:, JOINT_INDEX["spine3"], 1] = 0.3
    still[:, JOINT_INDEX["spine1"], 1] = 0.1
    still[:, JOINT_INDEX["right_wrist"]] = (-0.3, 0.3, 0.1)
    still[:, JOINT_INDEX["left_wrist"]] = (0.3, 0.3, 0.1)

    def moved(joint: str, *velocity: float) -> np.ndarray:
        joints = still.copy()
        joints[:, JOINT_INDEX[joint]] += np.arange(11)[:, None] / 60 * np.array(velocity)
        return geometric_features(joints, corrected=True)[[4, 5, 9, 10, 11]]

    # The right hand rises, the left hand rises, the hands approach, the right, the left leaves the pelvis.
    np.testing.assert_array_equal(moved("right_wrist", 0, 0, 0), [0, 0, 0, 0, 0])
    np.testing.assert_array_equal(moved("right_wrist", 0, 0.8, 0), [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(moved("left_wrist", 0, 0.8, 0), [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(moved("left_wrist", -0.8, 0, 0), [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(moved("left_wrist", 0.8, 0, 0), [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(moved("right_wrist", 0.8, 0, 0), [0, 0, 1, 0, 0])


def test_only_corrected_features_know_other_frame_rates() -> None:
    for function in (kinetic_features, geometric_features):
        with pytest.raises(ValueError, match="the official features are defined at 60 FPS, got 120"):
            function(synth_motion(0), fps=120)
        with pytest.raises(ValueError, match="fps must be positive"):
            function(synth_motion(0), corrected=True, fps=0)


def test_batches_and_lists_agree() -> None:
    motions = [synth_motion(i)[:50] for i in range(4)]
    together = motion_features(np.stack(motions))
    for i, motion in enumerate(motions):
        alone = motion_features([motion])
        np.testing.assert_allclose(together.kinetic[i], alone.kinetic[0])
        np.testing.assert_array_equal(together.geometric[i], alone.geometric[0])
    stacked = np.stack([root_at_origin(motion.astype(np.float64)) for motion in motions]).reshape(
        2, 2, 50, 24, 3
    )
    np.testing.assert_allclose(kinetic_features(stacked).reshape(4, 72), together.kinetic)
    np.testing.assert_array_equal(geometric_features(stacked).reshape(4, 32), together.geometric)


def test_no_motions() -> None:
    got = motion_features([])
    assert (got.kinetic.shape, got.geometric.shape) == ((0, 72), (0, 32))


@SETTINGS
@given(seed=st.integers(0, 1000), shift=st.tuples(*[st.floats(-50, 50)] * 3))
def test_where_a_dance_stands_does_not_matter(seed: int, shift: tuple[float, float, float]) -> None:
    motion = synth_motion(seed)[:40].astype(np.float64)
    here, there = motion_features([motion]), motion_features([motion + shift])
    np.testing.assert_allclose(there.kinetic, here.kinetic, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        there.geometric, here.geometric, atol=1 / 39
    )  # a comparison may tip by rounding


@SETTINGS
@given(seed=st.integers(0, 1000), frames=st.integers(3, 12))
def test_ranges(seed: int, frames: int) -> None:
    kinetic, geometric = motion_features([synth_motion(seed)[:frames]])
    assert np.isfinite(kinetic).all()
    assert (kinetic >= 0).all()
    assert ((geometric >= 0) & (geometric <= 1)).all()


def test_a_still_body_of_one_point_has_features() -> None:
    kinetic, geometric = motion_features([np.zeros((3, 24, 3))])
    assert (kinetic == 0).all()
    assert np.isfinite(geometric).all()


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (np.zeros((10, 22, 3)), r"joints must be \(frames, 24, 3\), got \(10, 22, 3\)"),
        (np.zeros((24, 3)), r"must be \(frames, 24, 3\), got \(24, 3\)"),
        (np.zeros((2, 24, 3)), "at least 3 frames, got 2"),
        (np.full((9, 24, 3), np.nan), "NaN or infinity"),
    ],
)
def test_bad_joints(joints: np.ndarray, message: str) -> None:
    for function in (kinetic_features, geometric_features):
        with pytest.raises(ValueError, match=message):
            function(joints)
    with pytest.raises(ValueError, match="motion 1: .*" + message):
        motion_features([np.zeros((5, 24, 3)), joints])
