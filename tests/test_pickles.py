from __future__ import annotations

import os
import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

from opendance_hf import pickles
from opendance_hf.pickles import PickleError, load_pickled_arrays


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
    monkeypatch.setattr("opendance_hf.pickles.MAX_BYTES", 1000)
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


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def get(index: int) -> bytes:
    return b"j" + struct.pack("<I", index)


def put(index: int) -> bytes:
    return b"r" + struct.pack("<I", index)


def frombuffer(data: bytes, shape: bytes) -> bytes:
    """{'x': numpy's _frombuffer(data, float64, shape, 'C')}, with the bytes, the type and the function memoised."""
    return (
        b"\x80\x04}" + text("x") + b"cnumpy._core.numeric\n_frombuffer\n" + put(0)
        + b"(" + data + put(2) + b"cnumpy\ndtype\n" + text("f8") + b"\x85R" + put(1) + shape + text("C") + b"tR"
    )  # fmt: skip


LONG4_1MB = b"\x8b" + struct.pack("<I", 1_000_000) + b"\x7f" * 1_000_000
BYTES_1MB = b"B" + struct.pack("<I", 1_000_000) + bytes(1_000_000)
AGAIN = b"(" + get(2) + get(1) + b"M" + struct.pack("<H", 125) + b"M\xe8\x03\x86" + text("C") + b"tR"
NESTED = 100_000

ATTACKS = {
    "a tuple of tuples for a key, which Python cannot hash": (
        b"\x80\x04})" + b"\x85" * NESTED + b"K\x01s.",
        "holds a dictionary with a tuple for a key",
    ),
    "a tuple of tuples for a value": (
        b"\x80\x04}" + text("x") + b")" + b"\x85" * NESTED + b"s.",
        "nested too deeply",
    ),
    "lists of lists, a thousand times the same": (
        b"\x80\x04}"
        + text("0")
        + b"]("
        + b"K\x01" * 1000
        + b"e"
        + put(0)
        + b"s"
        + b"".join(text(str(k)) + b"](" + get(k - 1) * 1000 + b"e" + put(k) + b"s" for k in range(1, 4))
        + b".",
        "far more memory than the file itself, read value by value",
    ),
    "a list in itself": (b"\x80\x04}" + text("x") + b"]" + put(0) + get(0) + b"as.", "nested too deeply"),
    "a dictionary in itself": (b"\x80\x04}" + put(0) + text("x") + get(0) + b"s.", "nested too deeply"),
    "thousands of arrays of the same bytes": (
        frombuffer(BYTES_1MB, b"M" + struct.pack("<H", 125) + b"M\xe8\x03\x86")
        + b"s"
        + text("y")
        + b"("
        + (get(0) + AGAIN) * 5000
        + b"ts.",
        "far more memory than the file itself",
    ),
    "the same array thousands of times": (
        frombuffer(BYTES_1MB, b"M" + struct.pack("<H", 125) + b"M\xe8\x03\x86")
        + put(3)
        + b"s"
        + text("y")
        + b"("
        + get(3) * 5000
        + b"ts.",
        "far more memory than the file itself, read value by value",
    ),
    "a product of huge integers": (
        frombuffer(b"C\x08" + bytes(8), b"(" + LONG4_1MB + put(4) + get(4) * 31 + b"t") + b"s.",
        "holds an integer of more than 64 bits",
    ),
    "an empty array of absurd shape": (
        frombuffer(b"C\x00", b"K\x00\x8a\x06\0\0\0\0\0\x01\x86") + b"s.",
        "impossible shape",
    ),
    "a huge integer for a key": (b"\x80\x04}" + LONG4_1MB + b"K\x01s.", "more than 64 bits"),
    "a line without an end": (b"F" + b"1" * 3_000_000 + b"\n", "damaged, or not a pickle"),
    "a line of 64 MB": (b"V" + b"a" * (64 * 1024**2) + b"\n.", "holds a line of more than"),
    "a text without quotes": (b"S" + bytes(3_000_000) + b"\n.", "damaged, or not a pickle"),
    "a length beyond the file": (b"\x8e" + b"\xff" * 7 + b"\x7f" + b"abc", "damaged, or not a pickle"),
    "a thousand sets of the same list": (
        b"\x80\x04}"
        + text("y")
        + b"]("
        + b"N" * 50_000
        + b"e"
        + put(0)
        + b"sc__builtin__\nset\n"
        + put(1)
        + b"\x85"
        + b"".join(get(1) + get(0) + b"\x85R" + put(k) for k in range(2, 1002))
        + b".",
        "far more memory than the file itself;",
    ),
    "a thousand dictionaries of the same pairs": (
        b"\x80\x04}"
        + text("y")
        + b"("
        + b"".join(b"M" + struct.pack("<H", k) + b"N\x86" for k in range(20_000))
        + b"l"
        + put(0)
        + b"sccollections\nOrderedDict\n"
        + put(1)
        + b"".join(get(1) + get(0) + b"\x85R" + put(k) for k in range(2, 202))
        + b".",
        "far more memory than the file itself;",
    ),
    "a thousand texts of the same bytes": (
        b"\x80\x04(" + BYTES_1MB + put(0) + (b"}" + get(0) + b"Ns") * 1000 + b"l.",
        "far more memory than the file itself;",
    ),
    "too many instructions": (b"\x80\x04]" + b"N" * 300_000 + b".", "more than 200,000 instructions"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_small_programs_with_large_wishes(tmp_path: Path, attack: str) -> None:
    program, why = ATTACKS[attack]
    path = tmp_path / "a.pkl"
    path.write_bytes(program)
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(PickleError, match=why) as caught:
            load_pickled_arrays(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(program) + 64e6
    assert time.perf_counter() - start < 20
    message = str(caught.value)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < len(str(path)) + 250


@pytest.mark.parametrize("container", [b"}", b"]", b"(d", b"(l"])
def test_containers_are_paid_for_when_they_are_made(
    container: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickles, "_SLACK_BYTES", 100_000)
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x04}" + text("x") + b"](" + container * 5_000 + b"es.")
    with pytest.raises(PickleError, match="far more memory than the file itself"):
        load_pickled_arrays(path)


@pytest.mark.parametrize(
    "program",
    [
        b"cos\x1b[31mX\x1b]0;title\x07\nsystem\n.",
        b"\x80\x04" + text("\x1b[31m" * 1000) + text("\u202esystem") + b"\x93.",
        b"\x80\x04}" + text("x") + b"cnumpy\ndtype\n" + text("\x1b[1m") + b"\x85Rs.",
        b"I\x1b[31m\n.",
        b"S\x1b]0;title\x07\n.",
    ],
)
def test_messages_control_no_terminal(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(program)
    with pytest.raises(PickleError) as caught:
        load_pickled_arrays(path)
    message = str(caught.value)
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < len(str(path)) + 250


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_shared_stays_shared(tmp_path: Path, protocol: int) -> None:
    array = np.arange(200_000, dtype=np.float64)
    path = tmp_path / "a.pkl"
    path.write_bytes(
        pickle.dumps({"x": array, "y": [array, array], 3: array[:2], b"z": 2**60}, protocol=protocol)
    )
    found = load_pickled_arrays(path)
    assert found["x"] is found["y"][0] is found["y"][1]
    assert list(found) == ["x", "y", "3", "z"]
    assert found["z"] == 2**60
    np.testing.assert_array_equal(found["x"], array)


@pytest.mark.parametrize(
    "program",
    [
        b"", b".", b"(.", b"s.", b"}s.", b"}(s.", b"u.", b"}u.", b"e.", b"]e.", b"K\x01a.", b"t.", b"\x85.", b"R.",
        b"K\x01)R.", b"K\x01}b.", b"b.", b"h\x00.", b"\x94.", b"}(K\x01u.", b"\x80\x09}.", b"]K\x01\x93.", b"(d",
        b"cnumpy._core.multiarray\n_reconstruct\n)R.", b"cnumpy\ndtype\n.", b"(]K\x01\x87.",
    ],
)  # fmt: skip
def test_programs_that_make_no_sense(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(program)
    with pytest.raises(PickleError, match=r"a\.pkl: "):
        load_pickled_arrays(path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    program=st.lists(
        st.sampled_from(list(b"}](lt)esuab\x85\x86\x87\x94R\x93N\x88dK\x01h\x00X.")), max_size=60
    )
)
def test_programs_at_random_give_one_error(tmp_path: Path, program: list[int]) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(bytes(program) + b".")
    message = f"{path}: "
    try:
        found = load_pickled_arrays(path)
    except PickleError as error:
        message = str(error)
    else:
        assert isinstance(found, dict)
    assert message.startswith(f"{path}: ")


@pytest.mark.parametrize("level", [1, 3, 6, 9])
def test_zlib_of_joblib_is_read(level: int, tmp_path: Path) -> None:
    joblib.dump({"a": np.arange(9), "b": [np.ones((2, 3))]}, tmp_path / "a.pkl", compress=level)
    content = load_pickled_arrays(tmp_path / "a.pkl")
    np.testing.assert_array_equal(content["a"], np.arange(9))
    np.testing.assert_array_equal(content["b"][0], np.ones((2, 3)))


def test_zlib_that_is_large_inside_or_cut_off_is_refused(tmp_path: Path) -> None:
    joblib.dump({"a": np.zeros(10**6)}, tmp_path / "a.pkl", compress=9)
    with pytest.raises(PickleError, match="more than 1,000,000 bytes when decompressed"):
        load_pickled_arrays(tmp_path / "a.pkl", max_bytes=10**6)
    data = (tmp_path / "a.pkl").read_bytes()
    (tmp_path / "a.pkl").write_bytes(data[: len(data) // 2])
    with pytest.raises(PickleError, match="damaged"):
        load_pickled_arrays(tmp_path / "a.pkl")


def test_the_length_of_a_program_is_limited(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": list(range(1000))}))
    with pytest.raises(PickleError, match="more than 500 instructions"):
        load_pickled_arrays(tmp_path / "a.pkl", max_instructions=500)


@pytest.mark.parametrize("method", ["gzip", "bz2", "xz", "lzma"])
@pytest.mark.parametrize("level", [1, 3, 6, 9])
def test_compression_of_joblib_is_named(method: str, level: int, tmp_path: Path) -> None:
    joblib.dump({"a": np.arange(9)}, tmp_path / "a.pkl", compress=(method, level))
    with pytest.raises(
        PickleError, match=rf"a\.pkl: compressed by {method}, which is not read; write it again"
    ):
        load_pickled_arrays(tmp_path / "a.pkl")
