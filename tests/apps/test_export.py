"""``opendance export``: from files, rows and the Hub's folders, with song and terms beside."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import opendance_hf.apps.export as exporting
from opendance_hf.apps.export import ExportError, ExportOptions, export, format_for, writable
from opendance_hf.apps.import_item import Job, import_item
from opendance_hf.cli import app
from opendance_hf.files import OutputError
from opendance_hf.formats import bvh, glb, opendance, vrma
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigged import Rigged
from opendance_hf.formats.rigged import rigged as rigged_of
from opendance_hf.loading_scripts import Item
from opendance_hf.music import decode_audio
from opendance_hf.schema import per_dancer
from opendance_hf.storage import pack
from opendance_hf.terms import TERMS
from tests.factories import make_sequence
from tests.formats.support import dance, joint_error_mm


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path,) = opendance.write(dance(2), tmp_path / "two.npz")
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["export", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_writes_a_file_and_names_it(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.glb"
    assert str(out) in run(file, "--to", "glb", "--rig", "mixamo", "--out", out).replace("\n", "")
    assert joint_error_mm(glb.read(out).joints, dance(2).joints) < 0.01


def test_formats_have_names_and_suffixes() -> None:
    assert format_for("glb") == format_for(".GLB") == "glb"
    assert {"bvh", "glb", "vrma", "usd", "fbx", "aistpp"} <= set(writable())
    with pytest.raises(ExportError, match="unknown format 'maya': expected one of"):
        format_for("maya")


def test_one_dancer_at_another_rate(file: Path, tmp_path: Path) -> None:
    run(file, "--to", "bvh", "--dancer", 2, "--fps", 30, "--out", tmp_path / "b.bvh")
    found = bvh.read(tmp_path / "b.bvh")
    assert (found.fps, found.num_frames) == (30, 45)
    assert joint_error_mm(found.joints[0], dance(2).joints[1, ::2]) < 0.01


def test_aist_files_are_resampled_to_their_only_rate(tmp_path: Path) -> None:
    opendance.write(dance(1, fps=30), tmp_path / "slow.npz")
    run(tmp_path / "slow.npz", "--to", "aistpp", "--out", tmp_path / "a.pkl")
    from opendance_hf.formats import aistpp

    found = aistpp.read(tmp_path / "a.pkl")
    assert (found.fps, found.num_frames) == (60, 180)
    assert joint_error_mm(found.joints[:, ::2], dance(1, fps=30).joints) < 1


def test_any_format_that_is_read_can_be_exported(tmp_path: Path) -> None:
    bvh.write(dance(), tmp_path / "a.bvh", rig="unity")
    run(tmp_path / "a.bvh", "--to", "vrma", "--out", tmp_path / "a.vrma")
    assert joint_error_mm(glb.read(tmp_path / "a.vrma").joints, dance().joints) < 0.01


def test_joints_alone_get_rotations_without_twist_and_it_is_said(tmp_path: Path) -> None:
    opendance.write(Motion(dance().joints, 60.0), tmp_path / "j.npz")
    said = run(tmp_path / "j.npz", "--to", "bvh", "--out", tmp_path / "j.bvh")
    assert "without twist" in said
    assert joint_error_mm(bvh.read(tmp_path / "j.bvh").joints, dance().joints) < 1


def dataset(folder: Path, count: int = 2) -> Path:
    rows = [make_sequence(seed, 2, 300) for seed in range(count)]
    rows = [replace(row, provenance=replace(row.provenance, licence="cmu-mocap")) for row in rows]
    pack(rows, folder, webdataset=False)
    return folder


def test_a_row_of_a_dataset_brings_its_terms(tmp_path: Path) -> None:
    folder, seq = dataset(tmp_path / "set"), make_sequence(1, 2, 300)
    run(folder, "--row", seq.id, "--to", "opendance", "--out", tmp_path / "row.npz")
    found = opendance.read(tmp_path / "row.npz")
    assert joint_error_mm(found.joints, per_dancer(seq.joints, 2, 24, 3)) < 1e-3
    assert TERMS["cmu-mocap"] in (tmp_path / "row.licence.txt").read_text()
    assert TERMS["cmu-mocap"] in found.meta["licence"]


def test_which_row_is_asked(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set")
    with pytest.raises(
        ExportError, match="has several dances; choose one with --row: seq-0000-2, seq-0001-2"
    ):
        export(str(folder), "glb", None, ExportOptions())
    with pytest.raises(ExportError, match="has no row 'x'; choose one"):
        export(str(folder), "glb", None, ExportOptions(row="x"))


def song(path: Path, seconds: float, rate: int = 22_050) -> Path:
    """A tone that gets higher: its place in time is its pitch."""
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * (200 * time + 20 * time**2)), rate)
    return path


def test_the_part_of_the_song_is_beside_the_file(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", 1)
    tune = song(tmp_path / "song.wav", 12)
    run(folder, "--to", "bvh", "--audio", tune, "--out", tmp_path / "d.bvh")
    sound, rate = soundfile.read(tmp_path / "d.wav")
    assert len(sound) / rate == pytest.approx(300 / 60, abs=1e-3)
    # The row starts at 1.25 s of its source: 200 + 2 * 20 * 1.25 Hz.
    spectrum = np.abs(np.fft.rfft(sound[: rate // 4] * np.hanning(rate // 4)))
    assert spectrum.argmax() * 4 == pytest.approx(200 + 40 * (1.25 + 0.125), abs=8)
    run(folder, "--to", "bvh", "--audio", tune, "--audio-start", 6, "--out", tmp_path / "e.bvh")
    later, _ = soundfile.read(tmp_path / "e.wav")
    spectrum = np.abs(np.fft.rfft(later[: rate // 4] * np.hanning(rate // 4)))
    assert spectrum.argmax() * 4 == pytest.approx(200 + 40 * 6.125, abs=8)


def test_a_song_that_starts_before_the_dance_is_cut_where_the_import_heard_it(tmp_path: Path) -> None:
    tune = song(tmp_path / "song.wav", 12)
    bvh.write(dance(1, 300), tmp_path / "a.bvh")
    item = Item("a", (tmp_path / "a.bvh",), "bvh", "song", audio="song", audio_start_s=4.0)
    job = Job(item, "a", tmp_path, tmp_path, tune, {}, "unknown", tmp_path / "store")
    (row,) = import_item(job).rows
    sequence = tmp_path / "store" / "sequences" / row.file
    run(sequence, "--to", "opendance", "--out", tmp_path / "row.npz")
    for source in (sequence, tmp_path / "row.npz"):
        run(source, "--to", "bvh", "--audio", tune, "--out", tmp_path / f"{source.stem}-out.bvh")
        sound, rate = soundfile.read(tmp_path / f"{source.stem}-out.wav")
        spectrum = np.abs(np.fft.rfft(sound[: rate // 4] * np.hanning(rate // 4)))
        assert spectrum.argmax() * 4 == pytest.approx(200 + 40 * 4.125, abs=8)


def test_only_the_part_of_the_song_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[float | None, ...]] = []

    def decode(path: Path, rate: int, start: float = 0.0, end: float | None = None) -> np.ndarray:
        spans.append((start, end))
        return decode_audio(path, rate, start, end)

    monkeypatch.setattr(exporting, "decode_audio", decode)
    tune = song(tmp_path / "song.wav", 12)
    run(dataset(tmp_path / "set", 1), "--to", "bvh", "--audio", tune, "--out", tmp_path / "d.bvh")
    assert spans == [(1.25, 6.25)]


def test_a_song_that_ends_before_the_dance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"short\.wav: ends 3\.2 s before the dance"):
        export(
            str(dataset(tmp_path / "set", 1)), "bvh", tmp_path / "d.bvh",
            ExportOptions(audio=song(tmp_path / "short.wav", 3)),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ExportOptions(detail="low"), "bvh files have no --detail"),
        (ExportOptions(dancer=3), "--dancer 3: the dance has 2 dancer"),
        (ExportOptions(rig="maya"), "unknown rig 'maya'"),
        (ExportOptions(row="a"), "is one dance; --row is for datasets"),
    ],
)
def test_wrong_options_are_named(options: ExportOptions, said: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        export(str(file), "bvh", tmp_path / "o.bvh", options)
    assert not list(tmp_path.glob("o*"))


def test_existing_files_and_inputs_are_kept(file: Path, tmp_path: Path) -> None:
    (tmp_path / "o_1.bvh").write_text("mine")
    done = CliRunner().invoke(app, ["export", str(file), "--to", "bvh", "--out", str(tmp_path / "o.bvh")])
    assert done.exit_code == 2
    assert "o_1.bvh" in done.output
    assert (tmp_path / "o_1.bvh").read_text() == "mine"
    assert not (tmp_path / "o_0.bvh").exists()
    before = file.read_bytes()
    done = CliRunner().invoke(
        app, ["export", str(file), "--to", "opendance", "--out", str(file), "--overwrite"]
    )
    assert done.exit_code == 2
    assert file.read_bytes() == before


def test_fbx_without_blender_says_what_is_needed(file: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        [
            "export",
            str(file),
            "--to",
            "fbx",
            "--blender",
            "no-such-blender",
            "--out",
            str(tmp_path / "o.fbx"),
        ],
    )
    assert done.exit_code == 2
    assert "Blender 4.2 or newer with --blender PATH" in done.output.replace("\n", " ")


def test_a_blender_that_fails_is_quoted(file: Path, tmp_path: Path) -> None:
    program = tmp_path / "blender"
    program.write_text("#!/bin/sh\necho 'Error: no such operator' >&2\nexit 3\n")
    program.chmod(0o755)
    with pytest.raises(ValueError, match="no such operator"):
        export(str(file), "fbx", tmp_path / "o.fbx", ExportOptions(blender=str(program)))
    assert not list(tmp_path.glob("*.fbx"))


def test_an_old_blender_is_refused_by_its_version(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bpy.py").write_text("class app:\n    version, version_string = (4, 1, 0), '4.1.0'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"Blender 4\.1\.0 is too old, 4\.2 or newer is needed"):
        export(str(file), "fbx", tmp_path / "o.fbx", ExportOptions(blender=sys.executable))


def test_a_blender_that_fails_at_the_second_dancer_leaves_no_file(file: Path, tmp_path: Path) -> None:
    program = tmp_path / "blender"
    program.write_text(
        f'#!/bin/sh\n[ -e "{tmp_path}/once" ] && exit 3\ntouch "{tmp_path}/once"\n'
        'while [ "$1" != -- ]; do shift; done\ncp "$2" "$3"\n'
    )
    program.chmod(0o755)
    with pytest.raises(ValueError, match=r"o_1\.fbx"):
        export(str(file), "fbx", tmp_path / "o.fbx", ExportOptions(blender=str(program)))
    assert (tmp_path / "once").exists()
    assert not list(tmp_path.glob("*.fbx"))


def test_vrm_animations_are_all_written_or_none(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def rigged(path: Path, dancer: Motion, table: object) -> Rigged:
        if made:
            raise OSError("no space")
        made.append(path)
        return rigged_of(path, dancer, table)  # type: ignore[arg-type]

    monkeypatch.setattr(vrma, "rigged", rigged)
    with pytest.raises(OSError, match="no space"):
        export(str(file), "vrma", tmp_path / "o.vrma", ExportOptions())
    assert not list(tmp_path.glob("*.vrma"))


@pytest.mark.parametrize(
    ("to", "out", "options", "said"),
    [
        ("aistpp", "o.pkl", ExportOptions(fps=30), "--fps 30: aistpp files have 60 frames per second"),
        ("glb", "o.bvh", ExportOptions(), r"o\.bvh: .* must end in \.glb"),
        ("usd", "o.usdz", ExportOptions(), r"o\.usdz: .* must end in \.usd, \.usdc, \.usda"),
    ],
)
def test_wrong_rates_and_names_are_told_before_reading(
    to: str, out: str, options: ExportOptions, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "load_dance", lambda *_: pytest.fail("read the dance"))
    with pytest.raises(ValueError, match=said):
        export("any.npz", to, Path(out), options)


def test_rotations_without_a_skeleton_are_computed_again_and_it_is_said(tmp_path: Path) -> None:
    motion = dance()
    opendance.write(Motion(motion.joints, 60.0, poses=motion.poses), tmp_path / "p.npz")
    said = run(tmp_path / "p.npz", "--to", "bvh", "--out", tmp_path / "p.bvh")
    assert "rotations are computed again" in " ".join(said.split())


def test_usd_is_read_back_by_its_own_library(file: Path, tmp_path: Path) -> None:
    usd_skel = pytest.importorskip("pxr.UsdSkel", reason="usd-core is not installed (extra usd)")
    from pxr import Usd

    run(file, "--to", "usd", "--out", tmp_path / "d.usd")
    stage = Usd.Stage.Open(str(tmp_path / "d.usd"))
    skeletons = [usd_skel.Skeleton(prim) for prim in stage.Traverse() if prim.IsA(usd_skel.Skeleton)]
    assert len(skeletons) == 2
    cache = usd_skel.Cache()
    for dancer, skeleton in enumerate(skeletons):
        query = cache.GetSkelQuery(skeleton)
        for frame in (0, 41, 89):
            places = np.array([list(m.ExtractTranslation()) for m in query.ComputeJointSkelTransforms(frame)])
            assert joint_error_mm(places, dance(2).joints[dancer, frame]) < 0.01


def test_terms_and_songs_do_not_replace_files_of_the_user(tmp_path: Path) -> None:
    folder = str(dataset(tmp_path / "set", 1))
    (tmp_path / "d.licence.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"d\.licence\.txt"):
        export(folder, "bvh", tmp_path / "d.bvh", ExportOptions())
    assert (tmp_path / "d.licence.txt").read_text() == "mine"
    assert not list(tmp_path.glob("d*.bvh"))


def test_a_song_that_is_refused_leaves_no_dance(tmp_path: Path) -> None:
    short = song(tmp_path / "short.wav", 3)
    with pytest.raises(ExportError, match="before the dance"):
        export(str(dataset(tmp_path / "set", 1)), "bvh", tmp_path / "d.bvh", ExportOptions(audio=short))
    assert not list(tmp_path.glob("d*.bvh"))


@pytest.mark.parametrize("name", ["captures/dance.npz", "../dance.npz", "captures/dance.bvh"])
def test_a_mistyped_path_is_not_looked_up_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "_row_of_hub", lambda *_: pytest.fail("asked the Hub"))
    with pytest.raises(ExportError, match="no such file"):
        exporting.load_dance(name, None)
