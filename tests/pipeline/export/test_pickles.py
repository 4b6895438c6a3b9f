"""The pickles are what Python's own unpickler makes the same things of, without a name that numpy 1 lacks."""

import io
import pickle
import pickletools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.export.pickles import START, STOP, array_part, dict_part, part, write_pickle
from skelpipe.raw.plain_pickle import load_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


def read(content: bytes) -> Any:
    return pickle.loads(content)


@given(PLAIN)
def test_plain_things(value: Any) -> None:
    assert read(START + part(value) + STOP) == value


@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", "<i8", "|u1"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1,), (0, 3), ()])
def test_arrays(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    found = read(START + array_part(array) + STOP)
    assert found.dtype == array.dtype
    assert found.shape == shape
    assert np.array_equal(found, array)
    transposed = read(START + array_part(np.ones((2, 3), dtype).T) + STOP)
    assert transposed.shape == (3, 2)


def stream(count: int) -> bytes:
    file = io.BytesIO()
    items = (dict_part({"name": part(f"n{n}"), "x": array_part(np.full((2, 2), n, "<f4"))}) for n in range(count))
    write_pickle(file, {"split": {"a_train": ["n0"]}}, "annotations", items)
    return file.getvalue()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_stream_of_items_is_one_dict(count: int) -> None:
    found = read(stream(count))
    assert found["split"] == {"a_train": ["n0"]}
    assert [each["name"] for each in found["annotations"]] == [f"n{n}" for n in range(count)]
    for n, each in enumerate(found["annotations"]):
        assert np.array_equal(each["x"], np.full((2, 2), n))
    pickletools.dis(stream(count), io.StringIO())  # well-formed: no opcode is left on the stack


def test_numpy_1_knows_every_name() -> None:
    names = {value for opcode, value, _ in pickletools.genops(stream(2)) if opcode.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    loaded = load_pickle(memoryview(stream(2)), "x.pkl")  # a reader that knows nothing else
    assert [each["name"] for each in loaded["annotations"]] == ["n0", "n1"]
