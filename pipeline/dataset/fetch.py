"""Fetching a file of a remote dataset: complete and as the card says, or an error that says what came."""

import hashlib
from collections.abc import Callable, Iterator
from typing import IO

from skelpipe.dataset.inventory import DataFile
from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.storage import retry
from skelpipe.storage.filesystem import Filesystem, at_most
from skelpipe.storage.retry import ExhaustedError

__all__ = ["fetch", "write_all"]

TIMES = 3  # attempts before a file counts as damaged
BLOCK = 256 << 10  # bytes hashed and then written: the second pass over them finds them in the processor's cache


def fetch(
    filesystem: Filesystem, file: DataFile, out: IO[bytes], check_card: Callable[[], None] | None = None
) -> int:
    """Write a file's bytes to the start of `out` and return their number.

    `filesystem` repairs broken connections itself. A file whose size or sha256 differs from the card is read
    again; before that, `check_card` raises an error if the dataset was replaced meanwhile. Raises DatasetError
    where all attempts differ, SkelpipeError where the server does not send the file; both say how many bytes came
    and how many were expected. An OSError comes from `out`.
    """
    expected = "" if file.size is None else f" of {file.size:,}"
    longest = 0  # what an earlier attempt may have written
    for attempt in range(1, TIMES + 1):
        hasher = hashlib.sha256()
        got = 0
        out.seek(0)
        try:
            for piece in at_most(filesystem.stream(file.name), file.most):
                got += len(piece)
                for block in _blocks(piece):
                    hasher.update(block)
                    write_all(out, block)
        except SkelpipeError as error:
            if check_card is not None and not isinstance(error, ExhaustedError):
                check_card()
            raise SkelpipeError(f"{error} ({got:,}{expected} bytes came)") from None
        if hasher.hexdigest() == file.sha256:
            if got < longest:
                out.truncate(got)
            return got
        longest = max(longest, got)
        if check_card is not None:
            check_card()
        if attempt < TIMES:
            retry.POLICY.wait(attempt)
    raise DatasetError(
        f"{filesystem}/{file.name}: damaged on the server: {got:,}{expected} bytes came {TIMES} times, "
        "and their sha256 differs from the card"
    )


def _blocks(piece: bytes) -> Iterator[memoryview]:
    whole = memoryview(piece)
    for start in range(0, len(whole), BLOCK):
        yield whole[start : start + BLOCK]


def write_all(out: IO[bytes], piece: bytes | memoryview) -> None:
    """Write a whole piece."""
    rest = memoryview(piece)
    while rest:  # an unbuffered file may write less than it is given
        rest = rest[out.write(rest) :]
