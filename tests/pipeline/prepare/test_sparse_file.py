"""A sparse file in memory against a real one of the same system calls."""

import io
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skelpipe.prepare.sparse_file import PAGE, SparseFile

PLACES = st.one_of(st.integers(0, 300), st.integers(PAGE - 20, PAGE + 20), st.integers(3 * PAGE, 3 * PAGE + 9))
WRITES = st.tuples(st.just("write"), PLACES, st.one_of(st.binary(max_size=60), st.just(b"x" * (2 * PAGE + 7))))
READS = st.tuples(st.just("read"), PLACES, st.integers(0, 2 * PAGE))
CUTS = st.tuples(st.just("truncate"), PLACES, st.none())


@given(st.lists(st.one_of(WRITES, READS, CUTS), max_size=12))
def test_behaves_like_a_file(steps) -> None:
    sparse = SparseFile()
    with tempfile.TemporaryFile(buffering=0) as real:
        for name, place, value in steps:
            for file in (real, sparse):
                file.seek(place)
            if name == "write":
                assert sparse.write(value) == real.write(value)
            elif name == "read":
                assert sparse.read(value) == real.read(value)
            else:
                assert sparse.truncate() == real.truncate()
            assert sparse.tell() == real.tell()
            assert sparse.seek(0, io.SEEK_END) == real.seek(0, io.SEEK_END)
        whole = real.seek(0) or real.read()
        sparse.seek(0)
        assert sparse.read() == whole
        with tempfile.TemporaryFile() as copy:
            sparse.save(copy)
            copy.seek(0)
            assert copy.read() == whole


def test_what_was_never_written_takes_no_room(tmp_path: Path) -> None:
    sparse = SparseFile()
    sparse.seek(1 << 50)
    sparse.write(b"end")
    assert sparse.seek(-5, io.SEEK_CUR) == (1 << 50) - 2
    assert sparse.read() == b"\0\0end"
    sparse.truncate(1 << 51)
    assert sparse.seek(0, io.SEEK_END) == 1 << 51
