"""``opendance build --poses`` of a real video with results whose truth is known: joints, ground and places agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS
from opendance_hf.pipeline.video import probe, read_pictures
from opendance_hf.schema import Camera, DanceSequence
from opendance_hf.storage import load_sequence
from tests.pipeline.result_files import dancers_before, write_gvhmr, write_phalp, write_wham
from tests.pipeline.truth import Truth, camera_at

WRITERS = {
    "gvhmr": (write_gvhmr, "duo.pt"),
    "wham": (write_wham, "duo.pkl"),
    "phalp": (write_phalp, "demo_duo.pkl"),
}
LIMBS = [JOINT_INDEX[name] for name in LIMB_JOINTS]


def errors_mm(row: DanceSequence, truth: Truth) -> tuple[float, float, float]:
    """Mean distances of limb joints relative to the pelvis, of all joints but for one shift along the ground, and of feet."""
    count, frames = row.num_dancers, row.num_frames
    made = np.asarray(row.joints, np.float64).reshape(frames, count, 24, 3).swapaxes(0, 1)
    clock = row.provenance.start_s + np.arange(frames) / 60
    inside = clock <= truth.times_s[-1]
    flat = truth.joints.swapaxes(0, 1).reshape(len(truth.times_s), -1)
    true = np.stack([np.interp(clock, truth.times_s, column) for column in flat.T], axis=1)
    true = true.reshape(frames, count, 24, 3).swapaxes(0, 1)
    made, true = made[:, inside], true[:, inside]
    rooted = np.linalg.norm((made - made[:, :, :1]) - (true - true[:, :, :1]), axis=-1)[..., LIMBS]
    away = made - true
    away -= away.mean(axis=(0, 1, 2)) * [1, 0, 1]
    feet = away[:, :, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]], 1]
    return tuple(1000 * float(np.abs(v).mean()) for v in (rooted, np.linalg.norm(away, axis=-1), feet))  # type: ignore[return-value]


def build(video: Path, tool: str, count: int, folder: Path) -> tuple[DanceSequence, Truth]:
    """Write results of known dancers for a video, and build the video with them."""
    info = probe(video, 8192, 3600)
    level = camera_at(1.2, 5.5, pitch_deg=5)
    focal_px = float(np.hypot(info.width_px, info.height_px))
    camera = Camera(info.width_px, info.height_px, focal_px, level.rotation, level.translation)
    truth = dancers_before(camera, sum(1 for _ in read_pictures(video)), count)
    write, name = WRITERS[tool]
    results = folder / "results"
    results.mkdir()
    write(truth, results / name)
    options = ["--poses", str(results), "--out", str(folder / "out"), "--workers", "1", "--no-previews"]
    done = CliRunner().invoke(app, ["build", str(video), *options])
    assert done.exit_code == 0, done.output
    (row,) = (load_sequence(path) for path in (folder / "out.build/sequences").glob("*.npz"))
    return row, truth


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(
    ("tool", "count", "limits_mm"),
    [("gvhmr", 1, (20, 35, 20)), ("wham", 2, (20, 35, 20)), ("phalp", 2, (20, 35, 20))],
)
def test_known_dancers_are_found_again(
    tool: str, count: int, limits_mm: tuple[float, float, float], shared: Path, tmp_path: Path
) -> None:
    row, truth = build(shared / "data/videos/duo.mp4", tool, count, tmp_path)
    assert row.num_dancers == count
    assert ("poses", tool) in [(backend.stage, backend.name) for backend in row.provenance.backends]
    found = errors_mm(row, truth)
    assert all(np.array(found) < limits_mm), found
    assert row.joint_confidence is not None
    assert np.median(row.joint_confidence) > 0.8
