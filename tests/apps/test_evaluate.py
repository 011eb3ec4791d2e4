from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from opendance_hf.apps.clips import EvaluateError, _load_hub, load_clips
from opendance_hf.apps.evaluate import EvaluateOptions, run_evaluate
from opendance_hf.files import OutputError
from opendance_hf.motion.skeleton import MEAN_OFFSETS
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
    console = Console(file=text, width=120)
    result = run_evaluate(generated, dataset, out, EvaluateOptions(protocol="bailando"), console=console)
    restored = json.loads(out.read_text())
    assert restored["protocol"]["name"] == "bailando"
    assert restored["fid_k"]["value"] == result.fid_k.value
    assert restored["reference"]["num_samples"] == 10
    assert [row["id"] for row in restored["predictions"]["clips"]][1] == "pas-de-deux"
    shown = text.getvalue()
    assert "Evaluation, protocol bailando" in shown
    assert "* FID_k of predictions: biased upwards, comparable at this N only; needs N >= 73" in shown
    assert "pas-de-deux" in shown
    assert f"{result.predictions.means['motion_motion'].mean:.4f}" in shown
    for label in ("step beat", "foot events, 1/s", "partner steps", "steps (clone)", "steps (mirrored)"):
        assert label in shown
    assert re.search(r"steps \(clone\) .* control", shown)


def shown(predictions: Path, reference: Path, width: int = 80) -> str:
    text = io.StringIO()
    run_evaluate(predictions, reference, console=Console(file=text, width=width))
    assert max(map(len, text.getvalue().splitlines())) <= width
    assert "…" not in text.getvalue()
    return text.getvalue()


def test_one_dance_has_scores_and_neither_sets_nor_intervals(generated: Path, dataset: Path) -> None:
    text = shown(generated / "a.npz", dataset)
    assert "Evaluation of 1 dance, protocol opendance-3d" in text
    assert "FID and diversity compare sets: they need at least two dances" in text
    for absent in ("FID_k", "Div_k", "Means", "95%", "interval"):
        assert absent not in text
    assert not [line for line in text.splitlines() if line.startswith("*")]
    assert "jitter, m/s³" in text
    for name in ("reference", "dance", "better"):
        assert name in text


def test_reasons_are_given_once(generated: Path, dataset: Path) -> None:
    text = shown(generated, dataset)
    assert "Means" in text
    assert "95%" not in text, "no set has the groups for an interval"
    assert "No intervals: they need 10 groups (songs); reference has 8, predictions 3." in " ".join(
        text.split()
    )
    reasons = [line.partition(": ")[2] for line in text.splitlines() if line.startswith("*")]
    assert len(reasons) == len(set(reasons))


def test_errors_name_the_file(generated: Path, tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(EvaluateError) as caught:
            run_evaluate(path, generated)
        return str(caught.value)

    assert message(tmp_path / "none") == f"{tmp_path / 'none'}: no such file or folder"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "neither a dataset (data/CONFIG/*.parquet) nor a folder of .npz or .pkl files" in message(empty)
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"no archive")
    assert message(bad).startswith(f"{bad}: ")
    np.savez(bad, joints=np.array([object()], dtype=object))
    assert message(bad).startswith(
        f"{bad}: 'joints' contains Python objects, expected"
    )  # nothing is unpickled
    np.savez(bad, poses=np.zeros(3))
    assert message(bad) == f"{bad}: the array 'joints' is missing"
    np.savez(bad, joints=synth_motion(1), fps=30)
    assert "clip 'bad' has 30 FPS, but the protocol opendance-3d is defined at 60: resample" in message(bad)
    np.savez(bad, joints=np.zeros((9, 22, 3)))
    for fact in (f"{bad}: joints", "(1, 9, 24, 3)", "(1, 9, 22, 3)"):
        assert fact in message(bad)
    np.savez(bad, provenance="{}")
    assert message(bad).startswith(f"{bad}: the column(s)")
    with pytest.raises(EvaluateError, match="unknown protocol"):
        run_evaluate(generated, generated, options=EvaluateOptions(protocol="x"))


def aist_motion(frames: int = 90, **changes: object) -> dict[str, object]:
    """What AIST++ pickles hold: the body sways, 93.78 units to the metre."""
    poses = np.zeros((frames, 72))
    poses[:, 48:54] = np.sin(np.arange(frames) / 8)[:, None]
    transl = np.tile([0.0, 93.78, 93.78], (frames, 1))
    return {
        "smpl_poses": poses,
        "smpl_trans": transl,
        "smpl_scaling": np.array([93.78]),
        "smpl_loss": 0.1,
    } | changes


def test_aist_pickles(tmp_path: Path) -> None:
    for music in ("mBR0", "mJB3"):
        name = f"gBR_sBM_cAll_d04_{music}_ch01.pkl"
        (tmp_path / name).write_bytes(pickle.dumps(aist_motion(), protocol=2))
    clips = list(load_clips(tmp_path))
    assert [clip.group for clip in clips] == ["mBR0", "mJB3"]
    assert clips[0].joints.shape == (1, 90, 24, 3)
    np.testing.assert_allclose(clips[0].joints[0, :, 0], np.tile([0, 1, 1], (90, 1)), atol=1e-9)
    wrist = np.linalg.norm(clips[0].joints[0, :, 20] - clips[0].joints[0, :, 18], axis=-1)
    np.testing.assert_allclose(wrist, np.linalg.norm(MEAN_OFFSETS[20]), rtol=1e-6)


def test_bad_pickles_give_one_error_and_run_nothing(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    proof = tmp_path / "executed"
    for content, why in (
        (b"cos\nsystem\n(S'touch " + str(proof).encode() + b"'\ntR.", "asks for os.system"),
        (b"no pickle at all", "damaged, or not a pickle"),
        (pickle.dumps(aist_motion())[:-200], "damaged, or not a pickle"),
        (pickle.dumps({"keypoints3d": np.zeros((9, 17, 3))}), "legs are 0 m long"),
        (pickle.dumps(aist_motion(smpl_trans=np.zeros((5, 3)))), "not a SMPL motion"),
        (pickle.dumps(aist_motion(smpl_scaling=np.array([0.0]))), "not a SMPL motion"),
        (pickle.dumps(aist_motion(smpl_trans=np.full((90, 3), np.nan))), "NaN or infinity in joints"),
        (pickle.dumps(aist_motion(2)), "at least 3 frames"),
    ):
        path.write_bytes(content)
        with pytest.raises(EvaluateError) as caught:
            list(load_clips(path))
        assert str(caught.value).startswith(f"{path}: ")
        assert why in str(caught.value)
    assert not proof.exists()


def test_hub_datasets_are_read_like_folders(dataset: Path) -> None:
    found, expected = list(_load_hub(str(dataset))), list(load_clips(dataset))
    assert sorted(clip.id for clip in found) == sorted(clip.id for clip in expected)
    by_id = {clip.id: clip for clip in expected}
    for clip in found:
        np.testing.assert_array_equal(clip.joints, by_id[clip.id].joints)
        np.testing.assert_array_equal(clip.music_beats, by_id[clip.id].music_beats)
        assert (clip.group, clip.ground) == (by_id[clip.id].group, 0.0)


def test_a_hub_that_does_not_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(EvaluateError, match=r"nobody/nothing: .*Hub"):
        list(load_clips("nobody/nothing"))


def test_two_systems_and_figures(generated: Path, dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(generated, other)
    with np.load(other / "a.npz") as arrays:
        noisy = dict(arrays)
    noisy["joints"] = noisy["joints"] + np.random.default_rng(0).normal(0, 0.05, noisy["joints"].shape)
    np.savez(other / "a.npz", **noisy)
    out, text = tmp_path / "scores.json", io.StringIO()
    run_evaluate(
        generated,
        dataset,
        out,
        EvaluateOptions(versus=other, figures=tmp_path / "figures", seed=3),
        console=Console(file=text, width=160),
    )
    restored = json.loads(out.read_text())
    assert restored["seed"] == 3
    assert restored["versus"]["tests"]["jitter"]["difference"] < 0
    assert restored["versus"]["tests"]["jitter"]["n"] == 5
    assert restored["versus"]["predictions"]["num_clips"] == 3
    assert "Predictions minus versus" in text.getvalue()
    drawn = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert drawn[:3] == ["a.png", "pas-de-deux-dancer0.png", "pas-de-deux-dancer1.png"]
    assert len(drawn) == 5
    with Image.open(tmp_path / "figures" / "a.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 100


def test_results_are_replaced_if_wanted_and_never_lie_in_an_input(generated: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "scores.json", tmp_path / "figures"
    figures.mkdir()
    for file in (out, figures / "a.png"):
        file.write_text("mine")
    for options in (EvaluateOptions(), EvaluateOptions(figures=figures)):
        with pytest.raises(OutputError, match="with --overwrite"):
            run_evaluate(generated, generated, out if options.figures is None else None, options)
    for overwrite in (False, True):
        options = EvaluateOptions(overwrite=overwrite)
        with pytest.raises(OutputError, match="is in the input"):
            run_evaluate(generated, generated, generated / "scores.json", options)
        with pytest.raises(OutputError, match="is an input"):
            run_evaluate(generated, generated, None, replace(options, figures=generated))
    assert out.read_text() == (figures / "a.png").read_text() == "mine"
    run_evaluate(generated, generated, out, EvaluateOptions(figures=figures, overwrite=True))
    assert json.loads(out.read_text())["seed"] == 0
    assert (figures / "a.png").read_bytes()[1:4] == b"PNG"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_archives_give_one_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, joints=synth_motion(1)[:5], music_beats=np.array([1, 3]), id="a", fps=60)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = f"{path}: "
    try:
        (clip,) = load_clips(path)
    except EvaluateError as error:
        message = str(error)
    else:
        assert np.isfinite(clip.joints).all()
    assert message.startswith(f"{path}: ")


GOOD: np.ndarray = np.stack([synth_motion(1)])


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"fps": np.array([60.0, 60.0])}, "'fps' has 2 values, expected one number"),
        ({"fps": np.array(60 + 0j)}, "'fps' contains complex128"),
        ({"fps": np.array("sixty")}, "'fps' contains text"),
        ({"fps": np.array(1e9)}, "between 1 and 1000"),
        ({"ground": np.zeros(2)}, "'ground' has 2 values"),
        ({"joints": GOOD.astype(complex)}, "'joints' contains complex"),
        ({"joints": np.zeros((1, 9, 24, 3), "M8[s]")}, "'joints' contains datetime64"),
        (
            {"joints": np.zeros((1, 9, 24), [("x", "f4"), ("y", "f4"), ("z", "f4")])},
            "'joints' contains structures",
        ),
        ({"joints": GOOD * 100}, "clip 'a': joints must be in metres; this body is 1"),
        ({"joints": GOOD / 100}, "joints must be in metres, but the distance from pelvis to head is 0.00"),
        ({"joints": GOOD + 1e5}, "joints must be in metres; one is 1e+05 m from the origin"),
        ({"music_beats": np.arange(50) % 9 == 0}, "numpy.flatnonzero"),
        ({"music_beats": (np.arange(50) % 9 == 0).astype(int)}, "numpy.flatnonzero"),
        ({"music_beats": np.zeros(3, [("x", "f4")])}, "'music_beats' contains structures"),
        ({"id": np.array(["a", "b"])}, "'id' has 2 values, expected one text"),
        ({"id": np.array("a" * 5000)}, "'id' has 20,000 bytes"),
    ],
)
def test_arrays_of_another_kind(tmp_path: Path, arrays: dict[str, np.ndarray], why: str) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"joints": GOOD, **arrays})  # type: ignore[arg-type]
    with pytest.raises(EvaluateError) as caught:
        list(load_clips(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


def test_a_collapsed_body_is_a_bad_dance_but_a_dance(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", joints=np.zeros((9, 24, 3)), id=np.array(["one"]), fps=np.array([60]))
    (clip,) = load_clips(tmp_path)
    assert (clip.id, clip.fps) == ("one", 60.0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"smpl_poses": {}}, "smpl_poses is a dict, expected an array of real numbers"),
        ({"smpl_poses": None}, "smpl_poses is a NoneType"),
        ({"smpl_poses": [[1.0], [1.0, 2.0]]}, "smpl_poses is a list"),
        ({"smpl_poses": np.zeros((90, 72), bool)}, "smpl_poses has the type bool"),
        ({"smpl_poses": 1.0, "smpl_trans": 2.0}, "not a SMPL motion"),
        ({"smpl_poses": np.full((90, 72), 1e300)}, "NaN or infinity in joints"),
        ({"smpl_scaling": []}, "smpl_scaling is a list"),
        ({"smpl_scaling": np.zeros(0)}, "not a SMPL motion"),
        ({"smpl_scaling": None}, "smpl_scaling is a NoneType"),
        ({"smpl_scaling": float("inf")}, "not a SMPL motion"),
        ({"smpl_scaling": 1e-9}, "expected at most 10 m; is the translation in centimetres"),
    ],
)
def test_pickles_that_hold_no_motion(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(aist_motion(**changes)))  # type: ignore[arg-type]
    with pytest.raises(EvaluateError) as caught:
        list(load_clips(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert why in str(caught.value)


@pytest.mark.parametrize("annotated", [False, True])
def test_archives_that_unpack_to_gigabytes_are_refused_unread(tmp_path: Path, annotated: bool) -> None:
    """Only the directory of the archive is looked at, so claiming the size will do for the test."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        if annotated:
            archive.writestr("provenance.npy", b"")
        archive.writestr("joints.npy", b"")
    content = bytearray(path.read_bytes())
    # The size in the last entry of the central directory; what follows it is 22 bytes, its name 10.
    entry = len(content) - 22 - 46 - len("joints.npy")
    content[entry + 24 : entry + 28] = (2_000_000_000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(
        EvaluateError, match=r"a\.npz: unpacks to 2,000,000,000 bytes, at most .* are allowed"
    ):
        list(load_clips(path))


def test_headers_that_claim_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1, 10**12, 24, 3)}
    )
    for content, why in (
        (
            header.getvalue() + bytes(864),
            "'joints' is damaged: 864 bytes do not match the shape (1, 1000000000000, 24, 3)",
        ),
        (b"\x93NUMPY\x01\x00\x10\x00{[]: 1}         ", "'joints' is damaged or not an array"),
        (b"text", "'joints' is damaged or not an array"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("joints.npy", content)
        with pytest.raises(EvaluateError) as caught:
            list(load_clips(path))
        assert str(caught.value) == f"{path}: {why}"


def test_files_of_another_kind_are_told_what_is_expected(tmp_path: Path) -> None:
    text, bare = tmp_path / "any.txt", tmp_path / "bare.npz"
    text.write_text("hello")
    with bare.open("wb") as file:
        np.save(file, GOOD)
    for path, what in ((text, "not an .npz archive"), (bare, "a single .npy array")):
        with pytest.raises(EvaluateError) as caught:
            list(load_clips(path))
        assert str(caught.value).startswith(f"{path}: {what}; expected an .npz file with an array 'joints'")
        assert "allow_pickle" not in str(caught.value)
