import numpy as np
import pytest

from skelpipe.dataset.gather import Pieces

SIZES = (3, 1, 40)  # rows of the pieces
WIDTHS = (1, 7, 1024, 1500)  # numbers per row: less than a page, a page, more


def pieces_of(width: int, dtype: str, offset: int = 0) -> list[np.ndarray]:
    """Rows of random bytes in records with headers, as in shards, `offset` bytes off any alignment."""
    rng, found = np.random.default_rng(width), []
    row = width * np.dtype(dtype).itemsize
    for size in SIZES:
        records = rng.integers(0, 256, offset + size * (row + 12), np.uint8)[offset:].reshape(size, row + 12)
        found.append(records[:, 8 : 8 + row].view(dtype))
    return found


def bits(rows: np.ndarray) -> bytes:
    return rows.tobytes()  # NaNs too are to be the same


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("width", WIDTHS)
def test_rows_come_from_the_pieces_in_the_order_asked_for(width: int, offset: int, dtype: str) -> None:
    pieces = pieces_of(width, dtype, offset)
    expected = np.concatenate(pieces)
    several = Pieces(pieces, np.dtype(dtype))
    joined = Pieces.joined([Pieces(pieces[:1], np.dtype(dtype)), Pieces(pieces[1:], np.dtype(dtype))])
    rng = np.random.default_rng(0)
    for rows in (np.arange(44), rng.permutation(44), np.array([43, 3, 3, 0, 2]), np.array([3]), np.array([], int)):
        out = np.empty((len(rows) + 2, width), dtype)  # with a row on each side, which nobody writes
        out.view(np.uint8)[:] = 99
        for source in (several, joined):
            source.copy(rows, out[1:-1])
            assert bits(out[1:-1]) == bits(expected[rows])
            assert {*bits(out[0]), *bits(out[-1])} == {99}
        assert len(several) == len(joined) == 44


@pytest.mark.parametrize("row", [-1, 44, -(2**63), 2**63 - 1])
def test_a_row_that_is_not_there_is_refused(row: int) -> None:
    pieces = Pieces(pieces_of(7, "float32"), np.dtype("float32"))
    rows = np.array([0, row, 1])
    with pytest.raises(IndexError, match="rows go from 0 to 43"):
        pieces.copy(rows, np.empty((3, 7), np.float32))
    with pytest.raises(IndexError, match="rows go from 0 to 43"):
        pieces.mapped(rows)
    with pytest.raises(IndexError, match="rows go from 0 to -1"):
        Pieces([], np.dtype("float32")).copy(np.array([0]), np.empty((1, 0), np.float32))


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 7), np.float32),
        np.empty((3, 6), np.float32),
        np.empty((3, 7), np.float64),
        np.empty((7, 3), np.float32).T,
    ],
)
def test_nothing_is_written_where_the_rows_do_not_fit(out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="3 rows do not fit"):
        Pieces(pieces_of(7, "float32"), np.dtype("float32")).copy(np.arange(3), out)


@pytest.mark.parametrize(
    "piece", [np.zeros((2, 6), np.float32), np.zeros((2, 7), np.float64), np.zeros((2, 14), np.float32)[:, ::2]]
)
def test_pieces_of_other_rows_are_refused(piece: np.ndarray) -> None:
    with pytest.raises(ValueError, match="piece 3 does not have rows of 7 float32"):
        Pieces([*pieces_of(7, "float32"), piece], np.dtype("float32"))
