"""Pickles of plain values against Python's own unpickler, and everything else refused by its name."""

import codecs
import os
import pickle
import struct
from collections import OrderedDict
from contextlib import suppress
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw import plain_pickle
from skelpipe.raw.plain_pickle import PickledArray, load_pickle

RNG = np.random.default_rng(3)
PLAIN = {
    "texts": ["S001C001P001R001A001.skeleton", "déjà vu", "", "x" * 5000],
    "numbers": [0, 255, 256, 65536, -1, -(1 << 31), 1 << 40, -(1 << 100), 1.5, float("inf"), True, False, None],
    "bytes": [b"", b"\xff\x00", b"\xc3" * 300, bytes(range(256)) * 40],
    "nested": ([1, (2, (3, {"a": [4]}))], {5: "b", None: (), 1.5: [], b"k": 0}),
    "sets": [{1, 2, "c"}, frozenset({3})],
    "scalars": [np.int64(-7), np.float32(0.5), np.bool_(True), np.str_("ab"), np.uint8(200)],
    "small": np.arange(12, dtype=np.float16).reshape(3, 4),
    "large": RNG.normal(size=(2, 60, 25, 3)).astype(np.float32),
    "columns": np.asfortranarray(RNG.normal(size=(3, 5, 7))),
    "swapped": np.arange(6, dtype=">i4").reshape(2, 3),
    "flags": np.array([True, False]),
    "words": np.array(["ab", "cde"]),
    "none": np.zeros((0, 3)),
    "ragged": np.array([np.ones(2), "x", [1, 2]], dtype=object),
    "scalar array": np.array(2.5),
}


def comparable(value: Any) -> Any:
    """Return a value of the reader, or of Python's, as nested tuples with the type of everything."""
    if isinstance(value, PickledArray):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return ["objects", value.shape, [comparable(each) for each in value.ravel()]]
    if isinstance(value, np.ndarray):
        value = value.astype(value.dtype.newbyteorder("<"))  # Python swaps the bytes, the reader keeps the file's
        return ["array", value.dtype.str, value.shape, value.tobytes()]
    if isinstance(value, np.generic):
        return comparable(value.item())
    if isinstance(value, dict):
        return {key: comparable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *map(comparable, value)]
    if isinstance(value, set | frozenset):
        return set(value)
    return type(value).__name__, value


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_those_of_python(protocol: int) -> None:
    content = pickle.dumps(PLAIN, protocol)
    assert comparable(load_pickle(content, "a.pkl")) == comparable(pickle.loads(content))


def test_the_same_object_twice_and_in_itself() -> None:
    shared = [1, np.arange(3)]
    whole: list[Any] = [shared, shared, ("a", shared)]
    whole.append(whole)
    read = load_pickle(pickle.dumps(whole, 4), "a.pkl")
    assert read[0] is read[1]
    assert read[0] is read[2][1]
    assert read[3] is read


def test_names_of_numpy_1_and_2_are_read() -> None:
    content = pickle.dumps([np.arange(4), np.int32(3)], 2)
    for old, new in ((b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")):
        read = load_pickle(content.replace(b"c" + old, b"c" + new), "a.pkl")
        np.testing.assert_array_equal(np.asarray(read[0]), np.arange(4))
        assert read[1] == 3


def test_pickles_of_python_2() -> None:
    """Protocol 0 with quoted strings, and protocol 2 with bytes as 8-bit strings, also inside of an array."""
    label = b"((lp0\nS'S001.skeleton'\np1\naS'caf\\xe9'\np2\na(lp3\nI0\naI59\nat."
    assert load_pickle(label, "a.pkl") == (["S001.skeleton", "café"], [0, 59])
    values = np.arange(2000, dtype="<i4")
    array = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    array += b"(K\x01M" + struct.pack("<H", 2000) + b"\x85cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R"
    array += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    array += b"T" + struct.pack("<I", 8000) + values.tobytes() + b"tb."
    np.testing.assert_array_equal(np.asarray(load_pickle(array, "a.pkl")), values)


def test_arrays_are_views_of_the_file() -> None:
    content = bytearray(pickle.dumps(PLAIN["large"], 4))
    read = np.asarray(load_pickle(content, "a.pkl"))
    before = read.copy()
    at = bytes(content).index(before.tobytes()[:16])
    content[at : at + 4] = struct.pack("<f", 77)
    assert read.ravel()[0] == 77


class Asks:
    """Pickled as a call of something."""

    def __init__(self, what: Any, *arguments: Any) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what, self.arguments


class Own(np.ndarray):
    pass


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("content", "asked"),
    [
        (Asks(os.system, "touch hacked"), "asks for posix.system"),
        (Asks(eval, "1"), r"asks for (builtins|__builtin__).eval"),
        (Asks(getattr, [], "append"), r"asks for (builtins|__builtin__).getattr"),
        (Asks(np.load, "x.npy"), "asks for numpy.load"),
        (Asks(codecs.decode, b"x", "zip"), "asks for _codecs.decode"),
        (PurePosixPath("/etc"), "asks for pathlib"),
        (date(2020, 1, 1), "asks for datetime.date"),
        (OrderedDict(a=1), "asks for collections.OrderedDict"),
        (np.ma.masked_array([1]), "asks for numpy.ma"),
        (np.dtype("f4"), "a numpy.dtype itself"),
        (np.zeros(2, [("a", "f4")]), "holds an array of 'V4'"),
        (np.zeros(2, "datetime64[s]"), "holds an array of 'M8'"),
        (np.zeros(2).view(Own), "asks for|a class of its own"),
        ([1 + 2j], r"asks for (builtins|__builtin__).complex"),
        (print, r"asks for (builtins|__builtin__).print"),
        ({(1, 2): 3}, "keys are neither numbers nor texts"),
    ],
)
def test_everything_else_is_refused_by_its_name(content: Any, asked: str, protocol: int, tmp_path) -> None:
    with pytest.raises(RawError, match=asked) as caught:
        load_pickle(pickle.dumps(content, protocol), "a.pkl")
    assert str(caught.value).startswith("a.pkl: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\x80\x04", "ends early"),
        (b"\x80\x09N.", "protocol 9"),
        (b"PK\x03\x04", "no pickle but a .zip"),
        (b"\x93NUMPY", "no pickle but an .npy"),
        (b".", "nothing, or too much"),
        (b"NN.", "nothing, or too much"),
        (b"(.", "nothing, or too much"),
        (b"Pabc\n.", "persistent id"),
        (b"NQ.", "persistent id"),
        (b"\x82\x01.", "extension registry"),
        (b"\x97.", "a buffer outside of the file"),
        (b"(i__main__\nThing\n.", "__main__.Thing"),
        (b"(c__builtin__\nset\no.", "an object of a class"),
        (b"c__builtin__\nset\n)\x81.", "an object of a class"),
        (b"cos\nsystem\n(S'ls'\ntR.", "asks for os.system"),
        (b"cnumpy\nndarray\n.", "holds numpy.ndarray itself"),
        (b"cnumpy\nndarray\n(K\x01\x85tR.", "calls numpy.ndarray"),
        (b"]}b.", "sets the state"),
        (b"]K\x01R.", "calls what is no name"),
        (b"(cnumpy\nndarray\nt.", "holds numpy.ndarray itself"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00rottR.", "otherwise than as Latin-1"),
        (b"c_codecs\nencode\n(]X\x06\x00\x00\x00latin1tR.", "otherwise than as Latin-1"),
        (b"cbuiltins\nset\n(K\x05tR.", "something else than a list"),
        (b"cbuiltins\nset\n]]a\x85R.", "neither numbers nor texts"),
        (b"cbuiltins\nbytes\nK\x05\x85R.", "with arguments"),
        (b"h\x05.", "recalls what it did not store"),
        (b"q\x01.", "nothing is there to remember"),
        (b"N(q\x01.", "nothing is there to remember"),
        (b"K\x01a.", "a damaged pickle"),
        (b"NK\x01a.", "a list is expected"),
        (b"}K\x01u.", "a mark is missing"),
        (b"}(K\x01u.", "a key without a value"),
        (b"\x8b\xff\xff\xff\x7f.", "an integer of 2147483647 bytes"),
        (b"I" + b"9" * 400 + b"\n.", "too long"),
        (b"X\xff\xff\xff\xffabc.", "ends early"),
        (b"\x8d" + b"\xff" * 8 + b"abc.", "ends early"),
        (b"X\x01\x00\x00\x00\xff.", "a damaged pickle"),
        (b"Iabc\n.", "a damaged pickle"),
        (b"S'abc\n.", "quotes"),
        (b"S" + b"x" * 70000, "ends early"),
    ],
)
def test_damaged_and_hostile_programs_end_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(RawError, match=said) as caught:
        load_pickle(content, "a.pkl")
    assert str(caught.value).startswith("a.pkl: ")
    assert "\n" not in str(caught.value)


def test_an_array_whose_bytes_do_not_fit_its_shape() -> None:
    good = pickle.dumps(np.arange(3, dtype="<i4"), 4)
    for broken in (good.replace(b"K\x03\x85", b"K\x09\x85"), good.replace(b"K\x03\x85", b"J\xff\xff\xff\xff\x85")):
        assert broken != good
        with pytest.raises(RawError, match="are expected|is expected"):
            load_pickle(broken, "a.pkl")


def test_bytes_that_are_no_latin_1_are_damage_when_they_are_read() -> None:
    content = pickle.dumps(np.full(4000, 200, np.uint8), 2)
    at = content.index("È".encode() * 100)
    broken = content[:at] + "中".encode() + content[at + 3 :]
    with pytest.raises(RawError, match=r"^a.pkl: the bytes of an array of shape \[4000\] are damaged"):
        np.asarray(load_pickle(broken, "a.pkl"))


def test_more_objects_than_any_dataset_has_are_refused(monkeypatch) -> None:
    """An opcode of one byte makes an object of a hundred bytes."""
    monkeypatch.setattr(plain_pickle, "MOST_OBJECTS", 1000)
    assert len(load_pickle(b"(" + b"]" * 999 + b"l.", "a.pkl")) == 999
    for opcode in (b"]", b"}", b"\x8f", b"K\x01\x85"):
        with pytest.raises(RawError, match="holds more than 1,000 lists, dicts and arrays"):
            load_pickle(b"(" + opcode * 1001 + b"l.", "a.pkl")


def test_deep_nesting_is_no_recursion() -> None:
    """Lists, or tuples, in each other: read, or refused as a key, where the stack of the process would not do."""
    depth = 250_000
    inner = load_pickle(b"]" * depth + b"a" * (depth - 1) + b".", "a.pkl")
    for _ in range(depth - 1):
        (inner,) = inner
    assert inner == []
    with pytest.raises(RawError, match="neither numbers nor texts"):
        load_pickle(b"}N" + b"\x85" * depth + b"K\x01s.", "a.pkl")


def test_every_cut_and_every_changed_byte_is_an_error_or_a_value() -> None:
    """Only RawError ever leaves the reader, whatever the bytes."""
    content = pickle.dumps({"a": [1, "b", (np.arange(3), b"c")], "d": {2.5}}, 2)
    for cut in range(len(content)):
        with pytest.raises(RawError):
            load_pickle(content[:cut], "a.pkl")
    rng = np.random.default_rng(0)
    for _ in range(3000):
        changed = bytearray(content)
        for at in rng.integers(0, len(content), 2):
            changed[at] = rng.integers(0, 256)
        with suppress(RawError):
            load_pickle(bytes(changed), "a.pkl")
