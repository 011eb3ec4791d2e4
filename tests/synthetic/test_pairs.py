from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf.apps import synthesize
from opendance_hf.assets import AssetError, asset_files
from opendance_hf.cli import app
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.pipeline.backends.base import Keypoints, Region
from opendance_hf.pipeline.clip import Floats, Image
from opendance_hf.synthetic import pairs as pairs_module
from opendance_hf.synthetic.motion import TRUTH_JOINTS
from opendance_hf.synthetic.pairs import (
    HELD_OUT,
    MotionsError,
    Recipe,
    find_motions,
    make_pairs,
    trial_of,
    write_shard,
)
from tests.synthetic.support import needs_body

SECONDS = 1.5


class Looking:
    """An estimator that finds everybody in the middle of the region, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[Image, Region, bool]] = []

    def region_of_box(self, box: Floats) -> Region:
        x1, y1, x2, y2 = (float(value) for value in box)
        return Region((x1 + x2) / 2, (y1 + y2) / 2, max(x2 - x1, y2 - y1))

    def estimate(self, image: Image, region: Region, mirrored: bool = False) -> Keypoints:
        self.shown.append((image, region, mirrored))
        points = np.tile(np.array([region.cx, region.cy], np.float32), (33, 1))
        return Keypoints(points, np.zeros((33, 3), np.float32), np.ones(33, np.float32), 1.0, region)


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Looking:
    estimator = Looking()
    monkeypatch.setattr(pairs_module, "loaded", lambda backend: (estimator,))
    return estimator


@pytest.fixture(scope="module")
def motions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A couple that walks side by side for 3 s, in the files of three trials."""
    folder = tmp_path_factory.mktemp("motions")
    way = np.linspace(0, 1, 181)[:, None, None] * [1.0, 0, 0]
    rest = forward_kinematics(np.zeros((24, 3)), np.array([0.0, 0.95, 0]), MEAN_OFFSETS)
    couple = np.stack([rest + way, rest + way + np.array([0, 0, -0.8])])
    for stem in ("salsa_01", "salsa_09", "modern_05_02"):
        np.savez(folder / f"{stem}.npz", joints=couple.astype(np.float32), fps=60.0)
    return folder


def test_trials_of_the_tests_are_left_out(motions: Path) -> None:
    assert [path.stem for path in find_motions(motions)] == ["salsa_01"]
    assert [path.stem for path in find_motions(motions, ["salsa_01"])] == ["modern_05_02", "salsa_09"]
    assert trial_of(Path("modern_05_03.npz")) == "05_03"
    assert trial_of(Path("salsa_03.npz")) == "salsa_03"
    with pytest.raises(MotionsError, match="besides those that are held out"):
        find_motions(motions, [*HELD_OUT, "salsa_01"])


def test_a_damaged_motion_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"not a zip file")
    with pytest.raises(MotionsError, match=r"bad\.npz"):
        make_pairs(1, Recipe((tmp_path / "bad.npz",)), Looking())


@needs_body
def test_a_couple_is_two_pairs_of_one_clip(motions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "_CHOREOGRAPHED_SHARE", 0.0)
    looking = Looking()
    pairs = make_pairs(3, Recipe(find_motions(motions), duos=1.0, seconds=SECONDS), looking)
    assert sorted(pair.name for pair in pairs) == ["salsa_01/0", "salsa_01/1"]
    assert {pair.seed for pair in pairs} == {3}
    assert len(looking.shown) == 2 * 18
    assert not any(mirrored for _, _, mirrored in looking.shown)
    camera = pairs[0].camera
    for number, pair in enumerate(pairs):
        # The truth, y up in the camera's frame, is in the picture, about where the estimator looked.
        pixels = pair.truth[..., :2] * [1, -1] / -pair.truth[..., 2:] * camera.focal_px
        pixels += np.array([camera.width_px, camera.height_px]) / 2
        assert pixels.min() > 0
        assert (pixels < [camera.width_px, camera.height_px]).all()
        sizes = np.array([region.size for _, region, _ in looking.shown[number::2]])
        off = np.linalg.norm(pixels[:, :2].mean(axis=1) - pair.image[:, 0], axis=-1)
        assert np.median(off / sizes) < 0.25
    apart = np.linalg.norm(pairs[0].truth[0, :2].mean(axis=0) - pairs[1].truth[0, :2].mean(axis=0))
    assert apart == pytest.approx(0.8, abs=0.05)


@needs_body
def test_cameras_turn_and_the_dancers_turn_away(motions: Path) -> None:
    plans = [pairs_module._plan(seed, Recipe(find_motions(motions))) for seed in range(60)]
    views = [plan.trouble.view for plan in plans]
    for name, low, high in (("pitch_deg", -5, 35), ("roll_deg", -25, 25), ("focal_ratio", 1 / 1.6, 1.6)):
        values = np.array([getattr(view, name) for view in views])
        assert values.min() >= low
        assert values.max() <= high
        assert np.ptp(values) > 0.6 * (high - low)
    assert (np.cos(np.radians([view.yaw_deg for view in views if view])) < 0).mean() > 0.2
    assert {plan.num_dancers for plan in plans} == {1, 2}
    assert any(
        plan.trouble.moves.hold_s > 0.5 for plan in (pairs_module._plan(s, Recipe()) for s in range(20))
    )


@needs_body
def test_a_shard_has_the_arrays_that_the_trainer_reads(
    tmp_path: Path, looking: Looking, motions: Path
) -> None:
    path = tmp_path / "pairs.npz"
    recipe = Recipe(find_motions(motions), duos=1.0, seconds=SECONDS)
    assert write_shard(path, range(5, 6), recipe) == 1
    with np.load(path, allow_pickle=False) as data:
        found = {key: (data[key].shape, data[key].dtype.kind) for key in data}
        assert sorted(data["name"].tolist()) == ["salsa_01/0", "salsa_01/1"]
        assert data["names"].tolist() == list(TRUTH_JOINTS)
        assert np.abs(np.degrees(data["roll"])).max() <= 25
    assert found == {
        "n": ((2,), "i"), "image": ((36, 33, 2), "f"), "world": ((36, 33, 3), "f"), "vis": ((36, 33), "f"),
        "truth": ((36, 14, 3), "f"), "wh": ((2, 2), "i"), "focal": ((2,), "f"), "pitch": ((2,), "f"),
        "roll": ((2,), "f"), "name": ((2,), "U"), "seed": ((2,), "i"), "names": ((14,), "U"),
    }  # fmt: skip
    first = path.read_bytes()
    assert write_shard(path, range(5, 6), recipe) == 0
    assert write_shard(path, range(5, 7), recipe) == 2  # a longer run completes the last shard
    with np.load(path) as data:
        assert sorted(set(data["seed"].tolist())) == [5, 6]
    path.unlink()
    write_shard(path, range(5, 6), recipe)
    assert path.read_bytes() == first


@pytest.mark.slow
@needs_body
def test_an_interrupted_command_continues(
    tmp_path: Path, motions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        asset_files("blazepose")
    except AssetError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(synthesize, "CLIPS_PER_SHARD", 1)
    out = tmp_path / "pairs"
    command = ["synthesize", str(out), "--clips", "2", "--seed", "0", "--seconds", str(SECONDS)]
    command += ["--pose", "blazepose", "--dancers", "1", "--motions", str(motions), "--workers", "1"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    shards = {path.name: path.read_bytes() for path in out.glob("pairs_*.npz")}
    assert sorted(shards) == ["pairs_0000000.npz", "pairs_0000001.npz"]
    (out / "pairs_0000001.npz").unlink()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0
    assert again.output.count("there already") == 1
    assert {path.name: path.read_bytes() for path in out.glob("pairs_*.npz")} == shards
    other = CliRunner().invoke(app, [*command, "--dancers", "2"])
    assert other.exit_code == 2
    assert "other motions or options" in " ".join(other.output.split())


@pytest.mark.parametrize("dancers", ["3", "-0.1", "both", "nan"])
def test_an_impossible_number_of_dancers_is_refused(dancers: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["synthesize", str(tmp_path / "out"), "--dancers", dancers])
    assert done.exit_code == 2
    assert "1, 2, or a share" in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
