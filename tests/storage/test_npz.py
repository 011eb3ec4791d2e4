from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.schema import SchemaError
from opendance_hf.storage import load_sequence, save_sequence
from opendance_hf.storage.npz import Header, load_header
from tests.factories import assert_same, make_sequence


@pytest.mark.parametrize("num_dancers", [1, 2, 3])
@pytest.mark.parametrize("full", [True, False])
def test_round_trip(tmp_path: Path, num_dancers: int, full: bool) -> None:
    seq = make_sequence(3, num_dancers, full=full)
    assert_same(load_sequence(save_sequence(tmp_path / "a.npz", seq)), seq)


def test_same_sequence_same_bytes(tmp_path: Path) -> None:
    first = save_sequence(tmp_path / "a.npz", make_sequence(1))
    second = save_sequence(tmp_path / "b.npz", make_sequence(1))
    assert first.read_bytes() == second.read_bytes()


def test_header_alone(tmp_path: Path) -> None:
    seq = make_sequence(1, 2)
    file = save_sequence(tmp_path / "a.npz", seq)
    assert load_header(file) == Header(
        id=seq.id,
        group=seq.group,
        num_dancers=2,
        num_frames=40,
        fps=60.0,
        bpm=seq.bpm,
        motion_velocity=seq.motion_velocity,
        genre=seq.genre,
        has_betas=True,
        backends=(("detect", "nanodet", "3.0.4"), ("pose", "blazepose", "0.5")),
        licence="CC0-1.0",
    )
    short = load_header(save_sequence(file, make_sequence(1, full=False)))
    assert (short.config, short.genre, short.has_betas) == ("individual", None, False)


def test_provenance_is_json_without_pickle(tmp_path: Path) -> None:
    path = save_sequence(tmp_path / "a.npz", make_sequence(1))
    with np.load(path, allow_pickle=False) as archive:
        assert json.loads(archive["provenance"].item())["licence"] == "CC0-1.0"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_sequence(tmp_path / "a.npz", make_sequence(1))
    before = path.read_bytes()

    def crash(file: object, **arrays: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(OSError, match="disk full"):
        save_sequence(path, make_sequence(2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"a\.txt: .*\.npz"):
        save_sequence(tmp_path / "a.txt", make_sequence(1))
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        load_sequence(tmp_path / "none.npz")

    text = tmp_path / "text.npz"
    text.write_text("not an archive")
    truncated = save_sequence(tmp_path / "truncated.npz", make_sequence(1))
    truncated.write_bytes(truncated.read_bytes()[:1000])
    bare = tmp_path / "bare.npz"
    with bare.open("wb") as file:
        np.save(file, np.zeros(3))
    for path in (text, truncated, bare):
        with pytest.raises(SchemaError, match=f"{path.name}: "):
            load_sequence(path)

    np.savez(tmp_path / "poor.npz", id="a")
    with pytest.raises(SchemaError, match=r"poor\.npz: the column\(s\) confidence, group"):
        load_sequence(tmp_path / "poor.npz")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    path = save_sequence(tmp_path / "a.npz", make_sequence(1))
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["joints"] = np.array([{"evil": 1}], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(
        SchemaError, match=r"a\.npz: not a sequence file: .*Python objects, which are never read"
    ):
        load_sequence(path)


def test_bad_provenance_names_the_file(tmp_path: Path) -> None:
    path = save_sequence(tmp_path / "a.npz", make_sequence(1))
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["provenance"] = np.asarray('{"colour": "red"}')
    np.savez(path, **arrays)
    with pytest.raises(SchemaError, match=r"a\.npz: not a valid sequence"):
        load_sequence(path)


def test_files_of_older_schemas_load(tmp_path: Path) -> None:
    seq = make_sequence(1, full=False)
    path = save_sequence(tmp_path / "a.npz", seq)
    with np.load(path) as archive:
        arrays = dict(archive)
    assert "subset_rank" not in arrays
    provenance = json.loads(arrays["provenance"].item())
    del provenance["pipeline"]
    arrays["provenance"] = np.asarray(json.dumps(provenance))
    np.savez(path, **arrays, column_of_tomorrow=np.zeros(3))
    assert_same(load_sequence(path), seq)
