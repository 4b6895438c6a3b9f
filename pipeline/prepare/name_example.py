"""An example of a name that a pattern matches, for messages: `S001C001P001R001A001` says more than the pattern."""

import re
from collections.abc import Sequence
from typing import Any

from skelpipe.manifest import Manifest

__all__ = ["example_file"]

_parser: Any = re._parser  # type: ignore[attr-defined]  # the parse tree of a pattern; a test would see it change
_constants: Any = re._constants  # type: ignore[attr-defined]


def example_file(manifest: Manifest) -> str:
    """Return the name, with the folders that count, of a file that could be a recording of this dataset."""
    first = next(manifest.expected_ids(), None)
    try:
        name = first or "".join(_texts(_parser.parse(manifest.name_pattern.pattern)))
    except (ValueError, IndexError):  # a construct that has no short example
        name = ""
    if not manifest.name_pattern.fullmatch(name):
        return f"{manifest.name_pattern.pattern}{manifest.suffixes[0]} (a regular expression)"
    return name + manifest.suffixes[0]


def _texts(tree: Sequence[Any]) -> list[str]:
    return [_text(kind, value) for kind, value in tree]


def _text(kind: Any, value: Any) -> str:
    if kind is _constants.LITERAL:
        return chr(value)
    if kind is _constants.SUBPATTERN:
        return "".join(_texts(value[-1]))
    if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
        fewest, _, content = value
        return "".join("".join(_texts(content)) for _ in range(max(1, fewest)))
    if kind is _constants.BRANCH:
        return "".join(_texts(value[1][0]))
    if kind is _constants.IN:
        return _of_set(value)
    if kind is _constants.ANY:
        return "x"
    if kind is _constants.NOT_LITERAL:
        return "x" if value != ord("x") else "y"
    if kind is _constants.AT:
        return ""
    raise ValueError(f"no example of {kind}")


def _of_set(members: Sequence[Any]) -> str:
    kind, value = members[0]
    if kind is _constants.NEGATE:
        return "x"
    if kind is _constants.RANGE:
        return "1" if value[0] == ord("0") else chr(value[0])
    if kind is _constants.CATEGORY:
        return "1" if value in (_constants.CATEGORY_DIGIT, _constants.CATEGORY_WORD) else " "
    return chr(value)
