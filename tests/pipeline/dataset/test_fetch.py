"""Files fetched whole: what is written is what the card says, however it comes and is taken."""

import hashlib
import io

import numpy as np
import pytest

from skelpipe.dataset.fetch import BLOCK, fetch
from skelpipe.dataset.inventory import DataFile
from skelpipe.errors import DatasetError
from skelpipe.storage import LocalFilesystem, retry


class _Reluctant(io.BytesIO):
    """A file that takes at most `most` bytes of each write, as one without a buffer may."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def write(self, content) -> int:
        return super().write(content[: self.most])


def _file(content: bytes) -> DataFile:
    return DataFile("a.tar", hashlib.sha256(content).hexdigest(), len(content), len(content))


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, (8 << 20) + 5])
@pytest.mark.parametrize("most", [1 << 30, 100_000])
def test_a_file_of_any_size_arrives_whole(size: int, most: int, tmp_path) -> None:
    content = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    (tmp_path / "a.tar").write_bytes(content)
    out = _Reluctant(most)
    assert fetch(LocalFilesystem(tmp_path), _file(content), out) == size
    assert out.getvalue() == content


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, -1])
def test_one_wrong_byte_in_any_block_is_noticed(at: int, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "POLICY", retry.RetryPolicy(first=0.001))
    content = bytearray(2 * BLOCK + 100)
    file = _file(bytes(content))
    content[at] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DatasetError, match="damaged on the server: 524,388 of 524,388 bytes came 3 times"):
        fetch(LocalFilesystem(tmp_path), file, io.BytesIO())
