"""Strict reader of MSR Action3D skeleton text: one body, 20 lines per frame, `x y z confidence`, metres.

The tracker writes a frame in which it lost the body with every joint at the origin. Such frames are left out, so
the recording becomes shorter.
"""

import math

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.recording import Recording
from skelpipe.raw.text import is_nan
from skelpipe.untrusted import described

__all__ = ["read_msr"]

COLUMNS = 4


def read_msr(text: np.ndarray, name: str, joints: int = 20) -> Recording:
    """Parse the bytes of a skeleton file, uint8 [n+1]: the content and one newline that the caller adds.

    NaN stands for a joint that was not found. The file has no body ids: all are 0. Raises RawError that
    names file, line and frame (both from 1).
    """
    lines = bytes(text).rstrip().split(b"\n")
    if lines == [b""]:
        raise RawError(f"{name}: the file is empty")
    rows = [_row(line, name, number, joints) for number, line in enumerate(lines)]
    if len(rows) % joints:
        raise RawError(
            f"{name}:{len(rows)}: frame {len(rows) // joints + 1} announces {joints} joints,"
            f" {len(rows) % joints} follow (cut off in download?)"
        )
    xyz = np.array(rows).reshape(-1, joints, 3)
    seen = xyz.any(axis=(1, 2))
    if not seen.any():
        raise RawError(f"{name}: no body in any of its {len(xyz)} frames")
    xyz = xyz[seen]
    return Recording(np.ones(len(xyz), np.int32), np.zeros(len(xyz), np.int64), xyz)


def _row(line: bytes, name: str, number: int, joints: int) -> list[float]:
    columns = line.split()
    where = f"{name}:{number + 1}: frame {number // joints + 1}, joint {number % joints + 1}"
    if len(columns) != COLUMNS:
        raise RawError(f"{where}: {COLUMNS} columns are expected, found {len(columns)}")
    try:
        values = [_number(column) for column in columns]
    except ValueError:
        wrong = next(column for column in columns if not _is_number(column))
        raise RawError(f"{where}: {described(wrong)} is not a number") from None
    if np.isinf(values).any():
        raise RawError(f"{where}: {values} holds a value that is not finite")
    return values[:3]


def _number(word: bytes) -> float:
    if b"_" in word:
        raise ValueError("Python reads 1_0 as 10")
    return math.nan if is_nan(word) else float(word)


def _is_number(word: bytes) -> bool:
    try:
        _number(word)
    except ValueError:
        return False
    return True
