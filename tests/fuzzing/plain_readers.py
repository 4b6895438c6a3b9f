"""Readers of recordings written as plainly as their documentation says: slow, and on purpose without shared code.

Each returns (counts, ids, positions [B,V,3]) or raises ValueError.
"""

import json
import re
from typing import Any

import numpy as np

__all__ = ["msr", "ntu", "nw_ucla", "pku"]

NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
NAN = re.compile(rb"[+-]?(nan(\([^) \t\r\n]*\))?|1\.#(ind|qnan|snan|nan)0*)", re.IGNORECASE)
INFINITE = re.compile(rb"[+-]?(inf|infinity|1\.#inf0*)", re.IGNORECASE)
Plain = tuple[list[int], list[int], np.ndarray]


def _lines(content: bytes) -> list[bytes]:
    """Return the lines of a text, without the mark of its coding and whatever line ends it has."""
    for mark, coding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if content.startswith(mark):
            content = content[2:].decode(coding).encode()
            break
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\n" not in content:
        content = content.replace(b"\r", b"\n")
    return content.split(b"\n")


def _number(word: bytes) -> float:
    if NAN.fullmatch(word):
        return float("nan")
    if not NUMBER.fullmatch(word):
        raise ValueError(word)
    return float(word)


def _whole(word: bytes) -> int:
    if not re.fullmatch(rb"[0-9]+", word):
        raise ValueError(word)
    return int(word[:100])


def _words(line: bytes, count: int) -> list[bytes]:
    words = re.split(rb"[ \t\r]+", line.strip(b" \t\r"))
    if len(words) != count or not words[0]:
        raise ValueError(line)
    return words


def _finite(xyz: np.ndarray) -> np.ndarray:
    if np.isinf(xyz).any():
        raise ValueError("infinite")
    return xyz


def ntu(content: bytes, joints: int) -> Plain:
    lines = iter(_lines(content) + [b""] * 2)
    counts: list[int] = []
    ids: list[int] = []
    xyz: list[Any] = []
    for _ in range(min(_whole(_words(next(lines), 1)[0]), len(content))):
        counts.append(_whole(_words(next(lines), 1)[0]))
        for _ in range(min(counts[-1], len(content))):
            body = _words(next(lines, b""), 10)
            ids.append(_whole(body[0]))
            if _whole(_words(next(lines, b""), 1)[0]) != joints:
                raise ValueError("joints")
            for _ in range(joints):
                row = _words(next(lines, b""), 12)
                xyz.append([_number(word) for word in row[:3]])
    if b"".join(lines).strip():
        raise ValueError("more")
    return counts, ids, _finite(np.array(xyz, np.float64).reshape(-1, joints, 3))


def pku(content: bytes, joints: int) -> Plain:
    columns = 2 * joints * 3
    rows = [
        [_number(word) for word in _words(line, columns)]
        for line in b"\n".join(_lines(content)).rstrip().split(b"\n")
    ]
    values = _finite(np.array(rows, np.float64)).reshape(-1, 2, joints, 3)
    counts: list[int] = []
    ids: list[int] = []
    xyz: list[Any] = []
    for frame in values:
        frame[np.isnan(frame).all(axis=(1, 2))] = 0
        with np.errstate(over="ignore", invalid="ignore"):
            second = frame[1].sum() != 0
        first = bool(second or frame[0].any())
        counts.append(first + int(second))
        for slot in range(counts[-1]):
            ids.append(slot)
            xyz.append(frame[slot])
    return counts, ids, np.array(xyz, np.float64).reshape(-1, joints, 3)


def msr(content: bytes, joints: int) -> Plain:
    lines = b"\n".join(_lines(content)).rstrip().split(b"\n")
    rows = [[_number(word) for word in line.split()] for line in lines]
    if any(len(row) != 4 for row in rows) or len(rows) % joints:
        raise ValueError("rows")
    xyz = _finite(np.array(rows, np.float64))[:, :3].reshape(-1, joints, 3)
    xyz = xyz[[bool(np.any(frame != 0)) for frame in xyz]]
    return [1] * len(xyz), [0] * len(xyz), xyz


def nw_ucla(content: bytes, joints: int) -> Plain:
    text = b"\n".join(_lines(content)).decode() if content[:1] != b"{" else content.decode()
    facts: Any = json.loads(text)  # a spelling of NaN in C's way is a ValueError here: there is nothing to compare
    xyz = _finite(np.array(facts["skeletons"], np.float64).reshape(-1, joints, 3))
    seen = [bool(np.any(frame != 0)) for frame in xyz]
    return [int(each) for each in seen], [0] * sum(seen), xyz[seen]
