"""Strict reading of JSON files that pose estimators write: damage is named with its place."""

import json
from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.files import unique_keys
from skelpipe.raw.text import in_utf8, json_nan
from skelpipe.untrusted import described

__all__ = ["entry", "joint_numbers", "listed", "parse_json", "whole_number"]

MOST_BYTES = 1 << 28  # of one file; Python needs three to four times as much memory for it
NUMBERS = {int, float, type(None)}  # bool, a subclass of int, is another type


def parse_json(text: np.ndarray, name: str) -> Any:
    """Return the content of a JSON file, uint8 [n+1]: the content and one byte that the caller adds.

    The tokens NaN and Infinity, which Python and C++ programs write, become floats, and so do the C libraries'
    spellings of NaN. Raises RawError for a file
    that is empty, too large, cut off or no JSON, and for a key that an object holds twice.
    """
    if len(text) == 1:
        raise RawError(f"{name}: the file is empty")
    if len(text) > MOST_BYTES:
        raise RawError(
            f"{name}: {len(text) - 1} bytes are more than the {MOST_BYTES} that are read as one JSON file"
        )
    content = in_utf8(bytes(text[:-1]), name)
    if zeros := content.count(b"\0"):
        raise RawError(f"{name}: holds {zeros} NUL bytes: it is damaged, or no JSON in UTF-8")
    try:
        return _loaded(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RawError(f"{name}: byte {error.start + 1} is no UTF-8 text: no JSON") from None
    except json.JSONDecodeError as error:
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
            raise RawError(f"{name}: ends in the middle of its JSON (cut off in download?)") from None
        raise RawError(f"{name}:{error.lineno}: is no JSON: {error.msg}, column {error.colno}") from None
    except RecursionError:
        raise RawError(f"{name}: its lists are nested too deeply: no file of poses is") from None
    except ValueError as error:  # a duplicate key, or a number of thousands of digits
        raise RawError(f"{name}: {str(error).partition(';')[0]}") from None


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError:
        plain = json_nan(text)  # C programs write nan, -nan(ind), 1.#QNAN, ...
        if plain == text:
            raise
    return json.loads(plain, object_pairs_hook=unique_keys)


def entry(content: Any, key: str, where: str) -> Any:
    """Return the value of a key of a JSON object; RawError if it is no object or the key is missing."""
    if not isinstance(content, dict):
        raise RawError(f"{where}: an object with {key!r} is expected, found {described(content)}")
    if key not in content:
        raise RawError(f"{where}: the key {key!r} is missing")
    return content[key]


def listed(content: Any, where: str, what: str = "a list") -> list[Any]:
    """Return the content if it is a list, else raise RawError."""
    if not isinstance(content, list):
        raise RawError(f"{where}: {what} is expected, found {described(content)}")
    return content


def whole_number(value: Any, where: str) -> int:
    """Return a whole number of at most 64 bits (2.0 is one), else raise RawError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise RawError(f"{where}: a whole number is expected, found {described(value)}")
    if not -(1 << 63) <= value < 1 << 63:
        raise RawError(f"{where}: {described(value)} is too large")
    return int(value)


def joint_numbers(values: Any, joints: tuple[str, ...], each: int, where: str) -> np.ndarray:
    """Return float64 [V,each] of a flat list of numbers, or of a list of V lists; null becomes NaN.

    Raises RawError, which begins with `where`, for another count of joints or numbers, and for a value that is no
    number or not finite (NaN is one: a joint that was not found).
    """
    flat = listed(values, where, "a list of numbers")
    if flat and isinstance(flat[0], list):
        for number, (joint, found) in enumerate(zip(joints, flat, strict=False), 1):
            if not isinstance(found, list) or len(found) != each:
                raise RawError(
                    f"{where}, joint {number} ({joint}): {each} numbers are expected, found {described(found)}"
                )
        if len(flat) != len(joints):
            raise RawError(f"{where}: {len(joints)} joints are expected, found {len(flat)}")
        flat = [value for point in flat for value in point]
    if len(flat) != len(joints) * each:
        count = f" ({len(flat) // each} joints)" if len(flat) % each == 0 else ""
        expected = f"{len(joints) * each} numbers are expected for {len(joints)} joints"
        raise RawError(f"{where}: {expected}, found {len(flat)}{count}")
    kinds = set(map(type, flat))
    if not kinds <= NUMBERS:
        wrong = next(place for place, value in enumerate(flat) if type(value) not in NUMBERS)
        raise RawError(f"{where}, {_joint(joints, wrong // each)}: {described(flat[wrong])} is no number")
    if type(None) in kinds:
        flat = [np.nan if value is None else value for value in flat]
    try:
        points = np.array(flat, np.float64).reshape(len(joints), each)
    except OverflowError:
        raise RawError(f"{where}: a number is too large") from None
    if (infinite := np.isinf(points)).any():
        wrong = int(np.argwhere(infinite)[0, 0])
        raise RawError(
            f"{where}, {_joint(joints, wrong)}: {points[wrong].tolist()} holds a value that is not finite"
        )
    return points


def _joint(joints: tuple[str, ...], index: int) -> str:
    return f"joint {index + 1} ({joints[index]})"
