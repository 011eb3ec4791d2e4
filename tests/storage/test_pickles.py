from __future__ import annotations

import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from opendance_hf.storage.pickles import PickleError, load_pickled_arrays


class Evil:
    """Runs a command when unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_back_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    wanted = {
        "smpl_poses": np.arange(12, dtype=np.float64).reshape(4, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big_endian": np.arange(3, dtype=">i4"),
        "flags": np.array([True, False]),
        "empty": np.empty((0, 72)),
        "scalar": np.float64(2.5),
        "plain": [1, (2.0, "three"), None],
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(wanted, protocol=protocol))
    found = load_pickled_arrays(path)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_equal(found[name], value)
        if isinstance(value, np.ndarray):
            assert found[name].dtype == value.dtype.newbyteorder("=")
            assert found[name].flags.writeable


def test_ordered_dictionaries_and_the_names_of_numpy_1(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    data = pickle.dumps(OrderedDict(x=np.ones(3)), protocol=2)
    path.write_bytes(data.replace(b"numpy._core", b"numpy.core"))
    np.testing.assert_array_equal(load_pickled_arrays(path)["x"], np.ones(3))


def python2_array(values: np.ndarray) -> bytes:
    """{'x': values} as Python 2 wrote it: text for bytes."""
    raw = values.astype("<f8").tobytes()
    return (
        b"\x80\x02}q\x00U\x01xq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85"
        b"U\x01bq\x04\x87R(K\x01K" + bytes([len(values)]) + b"\x85cnumpy\ndtype\nq\x05U\x02f8K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(raw)) + raw
        + b"tbs."
    )  # fmt: skip


def test_python_2(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    values = np.array([1.0, -2.5, 1e-9])
    path.write_bytes(python2_array(values))
    np.testing.assert_array_equal(load_pickled_arrays(path)["x"], values)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: {"smpl_poses": e}, lambda e: {"x": [e, np.ones(2)]}])
def test_nothing_is_executed(tmp_path: Path, protocol: int, wrap: object) -> None:
    proof = tmp_path / "executed"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(wrap(Evil(f"touch {proof}")), protocol=protocol))  # type: ignore[operator]
    with pytest.raises(PickleError, match=r"evil.pkl: .*(posix|nt).system.*nothing of it was executed"):
        load_pickled_arrays(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"(S'touch x'\nios\nsystem\n.",  # INST
        b"\x80\x02cbuiltins\nexec\nq\x00.",
        b"cnumpy\nndarray\n((I1000000000000\nttR.",  # an array of 8 TB
        b"Ptoken\n.",  # PERSID
        b"}r\xff\xff\xff\x7f.",  # a memo of two billion entries
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"c__main__\nEvil\n)\x81.",
        b"cnumpy\ndtype\n}(S'__init__'\ncnumpy\nndarray\nub.",  # BUILD on a name
        b"cnumpy\ndtype\n(N}(S'__init__'\ncnumpy\nndarray\nutb.",
    ],
)
def test_programs_are_refused(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "program.pkl"
    path.write_bytes(program)
    with pytest.raises(PickleError, match="nothing of it was executed"):
        load_pickled_arrays(path)


def test_what_is_no_dictionary_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    for value, why in (
        ([1, 2], "holds a list, not a dictionary"),
        ({"x": np.array([None, {}])}, "not of numbers"),
        ({"x": np.array(["text"])}, "not of numbers"),
    ):
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(PickleError, match=why):
            load_pickled_arrays(path)


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"x": np.zeros(1000)}))
    monkeypatch.setattr("opendance_hf.storage.pickles.MAX_BYTES", 1000)
    with pytest.raises(PickleError, match="above 1,000 are refused"):
        load_pickled_arrays(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_one_error(tmp_path: Path, data: st.DataObject) -> None:
    array = data.draw(st_np.arrays(np.float32, st_np.array_shapes(max_dims=3, max_side=4)))
    good = pickle.dumps({"smpl_poses": array, "n": 3}, protocol=data.draw(st.integers(0, 5)))
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(good)))]
    path = tmp_path / "a.pkl"
    path.write_bytes(broken)
    message = str(path)
    try:
        found = load_pickled_arrays(path)
    except PickleError as error:
        message = str(error)
    else:
        assert isinstance(found, dict)
    assert message.startswith(str(path))
