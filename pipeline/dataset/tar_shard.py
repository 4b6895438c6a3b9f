"""A shard is a plain WebDataset tar that is also a strided numpy array.

One sample is two members, `ID.cls` (the label as text) and `ID.VIEW.npy` (npy 1.0, C order, `[C,T,V,M]`). Every
ustar header, npy preamble and padding has a fixed size, so each sample takes `stride` bytes and the array of
sample i starts at `i*stride + data_offset`. `tar`, webdataset and DALI (with the `.idx` file) read it as an
ordinary tar.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skelpipe.errors import DatasetError
from skelpipe.untrusted import described

__all__ = [
    "BLOCK",
    "CLS_DATA",
    "LONGEST_NAME",
    "NPY_DATA",
    "NPY_HEADER",
    "TAIL",
    "Geometry",
    "check_shard",
    "index_text",
    "new_block",
    "ustar_headers",
]

BLOCK = 512
CLS_DATA = BLOCK
NPY_HEADER = 2 * BLOCK
NPY_DATA = 3 * BLOCK
TAIL = bytes(2 * BLOCK)  # a tar ends with two empty blocks
LONGEST_NAME = 100
NAME, SIZE, CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)


@dataclass(frozen=True)
class Geometry:
    """The byte layout of the shards of one view. `shape` is `[C,T,V,M]`, `dtype` a numpy name such as float32."""

    view: str
    shape: tuple[int, int, int, int]
    dtype: str = "float32"

    @cached_property
    def preamble(self) -> bytes:
        """What `numpy.save` writes before an array of this shape."""
        file = io.BytesIO()
        header = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.getvalue()

    @cached_property
    def array_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def data_offset(self) -> int:
        return NPY_DATA + len(self.preamble)

    @property
    def npy_bytes(self) -> int:
        return len(self.preamble) + self.array_bytes

    @property
    def stride(self) -> int:
        return NPY_DATA + -(-self.npy_bytes // BLOCK) * BLOCK

    def shard_bytes(self, samples: int) -> int:
        return samples * self.stride + len(TAIL)

    def arrays(self, block: np.ndarray) -> np.ndarray:
        """Return the samples of a block, uint8 `[n,stride]`, as `[n,C,T,V,M]` without a copy."""
        data = block[:, self.data_offset : self.data_offset + self.array_bytes]
        return data.view(self.dtype).reshape(len(block), *self.shape)


def _bytes(texts: Sequence[bytes], width: int) -> np.ndarray:
    return np.array(texts, f"S{width}").view(np.uint8).reshape(len(texts), width)


def ustar_headers(rows: np.ndarray, names: Sequence[str], sizes: Sequence[int]) -> None:
    """Write POSIX ustar headers of regular files (owner root, time 0) into `rows`, uint8 `[n,512]`."""
    encoded = [name.encode() for name in names]
    if too_long := [name for name in names if len(name.encode()) > LONGEST_NAME]:
        raise DatasetError(f"{too_long[0]}: the name is longer than the {LONGEST_NAME} bytes a tar header takes")
    rows[:, NAME] = _bytes(encoded, LONGEST_NAME)
    rows[:, 100:124] = np.frombuffer(b"0000644\0" + b"0000000\0" * 2, np.uint8)
    rows[:, SIZE] = _bytes([b"%011o" % size for size in sizes], 12)
    rows[:, 136:148] = np.frombuffer(b"%011o\0" % 0, np.uint8)
    rows[:, CHECKSUM] = ord(" ")
    rows[:, 156] = ord("0")
    rows[:, 257:265] = np.frombuffer(b"ustar\x0000", np.uint8)
    rows[:, 329:345] = np.frombuffer(b"0000000\0" * 2, np.uint8)
    sums = rows.sum(axis=1, dtype=np.int64)
    rows[:, CHECKSUM] = _bytes([b"%06o\0 " % total for total in sums], 8)


def check_shard(
    shard: np.ndarray, geometry: Geometry, ids: Sequence[str], where: str, *, named: bool = True
) -> None:
    """Check the size, the first and the last record of a shard's bytes (uint8), before the stride is relied on.

    Unless `named`, the names in the records are not compared with `ids`. Raises DatasetError, beginning with
    `where`.
    """
    expected = geometry.shard_bytes(len(ids))
    if len(shard) != expected:
        raise DatasetError(
            f"{where}: {len(shard)} bytes, {expected} expected: the shard is cut off or of another dataset"
        )
    for row in {0, len(ids) - 1}:
        record = shard[row * geometry.stride :]
        name = bytes(record[NPY_HEADER : NPY_HEADER + LONGEST_NAME]).rstrip(b"\0").decode("utf-8", "replace")
        if named and name != f"{ids[row]}.{geometry.view}.npy":
            raise DatasetError(
                f"{where}: sample {row} is {described(name)}, {described(ids[row])} is expected:"
                " not the card's shard"
            )
        if bytes(record[NPY_DATA : geometry.data_offset]) != geometry.preamble:
            raise DatasetError(f"{where}: sample {row} holds an array of another shape or type than the card says")


def new_block(geometry: Geometry, ids: Sequence[str], labels: Sequence[int]) -> np.ndarray:
    """Return the records of these samples, uint8 `[n,stride]`, with all arrays zero; fill `arrays(block)`."""
    block = np.zeros((len(ids), geometry.stride), np.uint8)
    texts = [str(label).encode() for label in labels]
    ustar_headers(block[:, :BLOCK], [f"{id_}.cls" for id_ in ids], [len(text) for text in texts])
    width = max(map(len, texts), default=1)
    block[:, CLS_DATA : CLS_DATA + width] = np.array(texts, f"S{width}").view(np.uint8).reshape(-1, width)
    names = [f"{id_}.{geometry.view}.npy" for id_ in ids]
    ustar_headers(block[:, NPY_HEADER : NPY_HEADER + BLOCK], names, [geometry.npy_bytes] * len(ids))
    block[:, NPY_DATA : geometry.data_offset] = np.frombuffer(geometry.preamble, np.uint8)
    return block


def index_text(geometry: Geometry, ids: Sequence[str], labels: Sequence[int]) -> str:
    """Return DALI's index of a shard, version 1.2: a line per sample, `extension offset size name` per member."""
    lines = [f"v1.2 {len(ids)}"]
    extension = f"{geometry.view}.npy"
    for row, (id_, label) in enumerate(zip(ids, labels, strict=True)):
        start = row * geometry.stride
        cls = f"cls {start + CLS_DATA} {len(str(label))} {id_}.cls"
        lines.append(f"{cls} {extension} {start + NPY_DATA} {geometry.npy_bytes} {id_}.{extension}")
    return "\n".join(lines) + "\n"
