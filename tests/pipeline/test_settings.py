"""The kinds of settings, against pydantic's strict types: the same values are taken, and as the same."""

import math
import signal
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, MultipleOf
from pydantic import AllowInfNan, Field, Strict, TypeAdapter, ValidationError
from pydantic_core import core_schema

from skelpipe.door.signals import Ended, ending_on_signals
from skelpipe.errors import UsageError
from skelpipe.settings import (
    Amount,
    Bounds,
    Count,
    Flag,
    Integer,
    Number,
    Positive,
    Share,
    Text,
    Whole,
    checked,
    declared,
    multiple_of,
)

FLOAT = Annotated[float, Strict(), AllowInfNan(False)]
INT = Annotated[int, Strict()]
KINDS: dict[str, tuple[Any, Any]] = {
    "number": (Number, FLOAT),
    "integer": (Integer, INT),
    "text": (Text, Annotated[str, Strict()]),
    "plain text": (str, Annotated[str, Strict()]),
    "flag": (Flag, Annotated[bool, Strict()]),
    "whole": (Whole, Annotated[INT, Ge(0)]),
    "count": (Count, Annotated[INT, Ge(1)]),
    "amount": (Amount, Annotated[FLOAT, Ge(0)]),
    "positive": (Positive, Annotated[FLOAT, Gt(0)]),
    "share": (Share, Annotated[FLOAT, Ge(0), Le(1)]),
    "fours": (Annotated[Count, multiple_of(4)], Annotated[INT, Ge(1), MultipleOf(4)]),
    "choice": (Literal["a", "b"], Literal["a", "b"]),
    "list": (list[Count], Annotated[list[Annotated[INT, Ge(1)]], Strict()]),
    "choices": (list[Literal["a", "b"]], Annotated[list[Literal["a", "b"]], Strict()]),
    "section": (dict[str, Any], Annotated[dict[str, Any], Strict()]),
    "any": (Any, Any),
    "perhaps": (Count | None, Annotated[INT, Ge(1)] | None),
    "only pydantic's": (Annotated[int, Field(lt=3)] | list[Share], Annotated[int, Field(lt=3)] | list[Share]),
}
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 4, 6, 10**20, 0.0, 0.5, 1.0, -0.5, 1.5, math.inf, -math.inf, math.nan),
    *("", "a", "b", "c", [], [1], [1, 2], [0], [True], ["a"], ["a", "c"], [0.5], [2.0], {}, {"a": 1}, b"a"),
]


def made(kind: Any, default: Any) -> type:
    """Return settings with one field."""
    of = dataclass(frozen=True, kw_only=True)
    body = {"__annotations__": {"value": kind}, "value": field(default_factory=lambda: default)}
    return of(type("Made", (), body))


@pytest.mark.parametrize(("kind", "strict"), KINDS.values(), ids=KINDS)
def test_a_kind_takes_what_the_strict_type_takes(kind: Any, strict: Any) -> None:
    settings, oracle = made(kind, None), TypeAdapter(strict)
    for value in VALUES:
        try:
            wanted = oracle.validate_python(value)
        except ValidationError:
            with pytest.raises(UsageError, match=r"^my\.yaml: at\.value (is|must be) "):
                checked(settings, {"value": value}, "my.yaml", "at", base=settings())
            continue
        found = checked(settings, {"value": value}, "my.yaml", "at", base=settings()).value
        assert (found, type(found)) == (wanted, type(wanted)), value
        if kind is not Any and isinstance(value, list | dict):
            assert found is not value  # a default is not shared


@pytest.mark.parametrize(("text", "number"), [("1e-4", 1e-4), (" 2 ", 2.0), (".5", 0.5)])
def test_a_number_may_be_a_text_as_yaml_reads_it(text: str, number: float) -> None:
    assert checked(made(Number, 0.0), {"value": text}, "my.yaml").value == number


def test_kinds_within_what_only_pydantic_knows_keep_their_limits() -> None:
    settings = made(dict[str, Bounds] | Annotated[Share, Field(lt=0.5)], 0.1)
    assert checked(settings, {"value": {"a": [1, 2]}}, "my.yaml").value == {"a": [1, 2]}
    for value in ({"a": [2, 1]}, 0.7, -0.1):
        with pytest.raises(UsageError, match=r"^my\.yaml: value"):
            checked(settings, {"value": value}, "my.yaml")


def test_what_cannot_be_checked_is_said_when_it_is_declared() -> None:
    with pytest.raises(ValueError, match="a setting needs a default, and a kind"):
        declared(made(pytest.MonkeyPatch, None))


def test_a_signal_while_a_check_is_made_comes_after_it() -> None:
    """Within pydantic it would come out as an error of the kind."""
    made_whole = []

    class Kind:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            signal.raise_signal(signal.SIGTERM)
            made_whole.append(source)
            return core_schema.any_schema()

    with pytest.raises(Ended), ending_on_signals():
        checked(made(Kind, None), {"value": 1}, "my.yaml")
    assert made_whole
