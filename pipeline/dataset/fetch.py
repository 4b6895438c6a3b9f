"""One file of a dataset from its place: whole, as the card has it, or an error that says what came instead."""

import hashlib
from collections.abc import Callable
from typing import IO

from skelpipe.dataset.inventory import DataFile
from skelpipe.errors import DatasetError, SkelpipeError
from skelpipe.storage import retry
from skelpipe.storage.filesystem import Filesystem
from skelpipe.storage.retry import ExhaustedError

__all__ = ["fetch", "write_all"]

TIMES = 3  # a file is read before it is called damaged
TOO_LONG = 1 << 20  # bytes over the card's size after which a file is not read on


def fetch(place: Filesystem, file: DataFile, out: IO[bytes], suspect: Callable[[], None] | None = None) -> int:
    """Write a file's bytes to the start of `out` and return their number.

    A broken connection is the place's to mend. A file of another size or sha256 than the card's is read again;
    `suspect` is called before that, to find out whether the dataset was replaced meanwhile. Raises DatasetError
    where it stays so, SkelpipeError where the place does not give it; both tell bytes got and expected. OSErrors
    are those of `out`.
    """
    expected = "" if file.size is None else f" of {file.size:,}"
    longest = 0  # what an earlier attempt may have written
    for attempt in range(1, TIMES + 1):
        hasher = hashlib.sha256()
        got = 0
        out.seek(0)
        try:
            for piece in place.stream(file.name):
                got += len(piece)
                if file.size is not None and got > file.size + TOO_LONG:
                    break
                hasher.update(piece)
                write_all(out, piece)
        except SkelpipeError as error:
            if suspect is not None and not isinstance(error, ExhaustedError):
                suspect()
            raise SkelpipeError(f"{error} ({got:,}{expected} bytes came)") from None
        if hasher.hexdigest() == file.sha256:
            if got < longest:
                out.truncate(got)
            return got
        longest = max(longest, got)
        if suspect is not None:
            suspect()
        if attempt < TIMES:
            retry.POLICY.wait(attempt)
    raise DatasetError(
        f"{place}/{file.name}: damaged on the server: {got:,}{expected} bytes came {TIMES} times, "
        "and their sha256 is not the card's"
    )


def write_all(out: IO[bytes], piece: bytes) -> None:
    """Write a piece whole."""
    rest = memoryview(piece)
    while rest:  # a raw file may take less than it is given
        rest = rest[out.write(rest) :]
