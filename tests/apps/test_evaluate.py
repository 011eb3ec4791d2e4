from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from opendance_hf.apps.evaluate import EvaluateError, load_clips, run_evaluate
from opendance_hf.storage import save_sequence, write_parquet
from tests.factories import make_sequence
from tests.fixtures.make_metrics_small import synth_motion


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    folder = tmp_path / "dances"
    folder.mkdir()
    solo, duet = synth_motion(1), np.stack([synth_motion(2)[:50], synth_motion(3)[:50]])
    np.savez(folder / "a.npz", joints=solo, music_beats=np.array([3, 20, 40]), fps=60)
    np.savez(folder / "b.npz", joints=duet, id="pas-de-deux")
    save_sequence(folder / "c.npz", make_sequence(5, 2))
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "opendance-3d"
    write_parquet(root, "individual", "train", [make_sequence(i, num_frames=60) for i in range(5)])
    write_parquet(root, "individual", "test", [make_sequence(9, num_frames=50)])
    write_parquet(root, "collaborative", "train", [make_sequence(i, 2) for i in range(20, 22)])
    return root


def test_npz_files_of_both_kinds(generated: Path) -> None:
    clips = list(load_clips(generated))
    assert [clip.id for clip in clips] == ["a", "pas-de-deux", make_sequence(5, 2).id]
    assert [clip.joints.shape[0] for clip in clips] == [1, 2, 2]
    assert clips[0].music_beats is not None
    assert clips[0].music_beats.tolist() == [3, 20, 40]
    assert clips[1].music_beats is None
    np.testing.assert_array_equal(clips[2].joints[1, :, 0], make_sequence(5, 2).joints[:, 72:75])
    (alone,) = load_clips(generated / "a.npz")
    assert alone.id == "a"


def test_all_of_a_dataset(dataset: Path) -> None:
    clips = list(load_clips(dataset))
    assert sorted(len(clip.joints) for clip in clips) == [1] * 6 + [2] * 2
    assert len({clip.id for clip in clips}) == 8


def test_table_and_json(generated: Path, dataset: Path, tmp_path: Path) -> None:
    text = io.StringIO()
    out = tmp_path / "new" / "scores.json"
    result = run_evaluate(generated, dataset, out, protocol="bailando", console=Console(file=text, width=120))
    restored = json.loads(out.read_text())
    assert restored["protocol"]["name"] == "bailando"
    assert restored["fid_k"]["value"] == result.fid_k.value
    assert restored["reference"]["num_samples"] == 10
    assert [row["id"] for row in restored["predictions"]["clips"]][1] == "pas-de-deux"
    shown = text.getvalue()
    assert "Evaluation, protocol bailando" in shown
    assert "* FID_k of predictions: needs N >= 73 in both sets" in shown
    assert "pas-de-deux" in shown
    assert f"{result.predictions.motion_motion.value:.4f}" in shown


def test_errors_name_the_file(generated: Path, tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(EvaluateError) as caught:
            run_evaluate(path, generated)
        return str(caught.value)

    assert message(tmp_path / "none") == f"{tmp_path / 'none'}: no such file or folder"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "neither a dataset (data/CONFIG/*.parquet) nor a folder of .npz files" in message(empty)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"no archive")
    assert message(bad).startswith(f"{bad}: ")
    np.savez(bad, joints=np.array([object()], dtype=object))
    assert message(bad).startswith(f"{bad}: Object arrays cannot be loaded")  # nothing is unpickled
    np.savez(bad, poses=np.zeros(3))
    assert message(bad) == f"{bad}: holds no array 'joints'"
    np.savez(bad, joints=synth_motion(1), fps=30)
    assert message(bad) == f"{bad}: 30 FPS; resample the motion to 60 first"
    np.savez(bad, joints=np.zeros((9, 22, 3)))
    assert message(bad) == f"{bad}: clip 'bad': joints must be (frames, 24, 3), got (1, 9, 22, 3)"
    np.savez(bad, provenance="{}")
    assert message(bad).startswith(f"{bad}: misses the column(s)")
    with pytest.raises(EvaluateError, match="unknown protocol"):
        run_evaluate(generated, generated, protocol="x")
