"""Streams that may be compressed: what Python's own readers give, in proportion to what was read."""

import bz2
import gzip
import io
import lzma
import random
from collections.abc import Callable

import pytest

from skelpipe.errors import RawError
from skelpipe.raw.inflating import inflating

PACKERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
CONTENT = random.Random(0).randbytes(300_000) + b"abc" * 10_000


def joined(content: bytes) -> bytes:
    return b"".join(inflating(io.BytesIO(content), "f"))


@pytest.mark.parametrize("packer", PACKERS)
def test_what_is_inflated_is_what_was_packed(packer: str) -> None:
    pack = PACKERS[packer]
    assert joined(pack(CONTENT)) == CONTENT
    assert joined(pack(CONTENT) + pack(b"more") + bytes(512)) == CONTENT + b"more"
    assert joined(pack(b"")) == b""


def test_other_files_stay_as_they_are() -> None:
    assert joined(CONTENT) == CONTENT
    assert joined(b"") == b""


@pytest.mark.parametrize("packer", PACKERS)
def test_what_is_damaged_cut_off_or_far_too_large_is_refused(packer: str) -> None:
    packed = PACKERS[packer](CONTENT)
    with pytest.raises(RawError, match=r"^f: damaged or cut off"):
        joined(packed[: len(packed) // 2])
    with pytest.raises(RawError, match=r"^f: damaged: it does not inflate"):
        joined(packed[:9] + bytes(200) + packed[209:])
    bomb = PACKERS[packer](bytes(8 << 20))
    given = []
    with pytest.raises(RawError, match=r"^f: inflates to more than 200 times its size"):
        given.extend(inflating(io.BytesIO(bomb), "f"))
    assert sum(map(len, given)) <= 200 * len(bomb) + (2 << 20)
