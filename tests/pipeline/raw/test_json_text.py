"""Strict JSON: every kind of damage is one line that names its place."""

import json
from typing import Any

import numpy as np
import pytest

from skelpipe.errors import RawError
from skelpipe.raw.json_text import joint_numbers, parse_json, whole_number


def parse(content: str | bytes) -> Any:
    data = content if isinstance(content, bytes) else content.encode()
    return parse_json(np.frombuffer(data + b"\n", np.uint8), "a.json")


def test_what_python_writes_is_read() -> None:
    content = {"frames": [{"x": [1, 2.5, -3e7], "name": "Jörg"}, None, True], "empty": {}}
    assert parse(json.dumps(content)) == parse(b"\xef\xbb\xbf" + json.dumps(content).encode()) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.json: the file is empty"),
        ("[1, 2", r"a\.json: ends in the middle of its JSON \(cut off in download\?\)"),
        ('{"people": [{"pose', r"a\.json: ends in the middle of its JSON"),
        ('[1,\n 2,\n oops]', r"a\.json:3: is no JSON: Expecting value, column 2"),
        ("[1] [2]", r"a\.json:1: is no JSON: Extra data"),
        ("[" * 100_000, r"a\.json: its lists are nested too deeply"),
        ('{"a": 1, "a": 2}', r"a\.json: the key 'a' is given twice in one object"),
        (b'{"a": "\xff"}', r"a\.json: byte 8 is no UTF-8 text"),
        (b"[1, 2]" + bytes(8), r"a\.json: holds 8 NUL bytes"),
        ("[" + "9" * 5000 + "]", r"a\.json: Exceeds the limit"),
    ],
)  # fmt: skip
def test_damage_is_named(content: str | bytes, message: str) -> None:
    with pytest.raises(RawError, match=f"^{message}") as caught:
        parse(content)
    assert "\n" not in str(caught.value)


JOINTS = ("head", "hip")


@pytest.mark.parametrize("values", [[1, 2, 0.5, 3, 4, None], [[1, 2, 0.5], [3, 4, None]]])
def test_flat_and_nested_lists_are_the_same(values: list[Any]) -> None:
    np.testing.assert_array_equal(joint_numbers(values, JOINTS, 3, "a"), [[1, 2, 0.5], [3, 4, np.nan]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], r"6 numbers are expected for 2 joints, found 3 \(1 joints\)"),
        ([1, 2, 3, 4], r"6 numbers are expected for 2 joints, found 4$"),
        ([[1, 2, 3]], r"2 joints are expected, found 1"),
        ([[1, 2, 3], [1, 2]], r"joint 2 \(hip\): 3 numbers are expected, found \[1, 2\]"),
        ([1, 2, 3, True, 5, 6], r"joint 2 \(hip\): True is no number"),
        ([1, 2, "3", 4, 5, 6], r"joint 1 \(head\): '3' is no number"),
        ([1, 2, 3, 4, [5], 6], r"joint 2 \(hip\): \[5\] is no number"),
        ([1, 2, 3, 4, float("inf"), 6], r"joint 2 \(hip\): \[4\.0, inf, 6\.0\] holds a value that is not finite"),
        ([1, 2, 3, 4, 10**400, 6], r"a number is too large"),
        ("nothing", r"a list of numbers is expected, found 'nothing'"),
        (None, r"a list of numbers is expected, found nothing"),
    ],
)
def test_what_is_no_number_is_named(values: Any, message: str) -> None:
    with pytest.raises(RawError, match=f"^frame 3, person 1.*{message}"):
        joint_numbers(values, JOINTS, 3, "frame 3, person 1")


@pytest.mark.parametrize("value", [7, 7.0])
def test_whole_numbers(value: float) -> None:
    assert whole_number(value, "a") == 7


@pytest.mark.parametrize("value", [7.5, True, "7", None, float("nan"), float("inf"), 1e30])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(RawError, match=r"^a: "):
        whole_number(value, "a")
