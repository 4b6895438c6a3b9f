"""The values of a recipe: the kinds that fields of settings have, and how a section becomes checked settings.

Settings are plain frozen dataclasses whose fields have one of the kinds below, with defaults. A section of a
recipe says what differs from them. These kinds, and lists, texts and choices of them, are checked here, since
every command line is: to import pydantic takes longer than all else that happens before a wrong value is named.
It checks fields of any other kind, which settings of plug-ins may have.
"""

import math
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache, partial
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from skelpipe.door.native_imports import holding
from skelpipe.errors import UsageError
from skelpipe.untrusted import described
from skelpipe.yaml_reader import nearest, unknown_key

__all__ = [
    "TOP",
    "Amount",
    "Bounds",
    "By",
    "Count",
    "Flag",
    "Integer",
    "Limit",
    "Number",
    "Positive",
    "Share",
    "Text",
    "Variant",
    "Whole",
    "above",
    "at_least",
    "at_most",
    "checked",
    "declared",
    "flat",
    "is_section",
    "multiple_of",
    "nested",
    "top_keys",
    "with_sections",
]

S = TypeVar("S")

# The kinds of the fields of settings, by name; looked up once for each class.
_kinds: Callable[[Any], Mapping[str, Any]] = cache(partial(get_type_hints, include_extras=True))


@dataclass(frozen=True, slots=True)
class By:
    """Metadata of a kind: `check` returns the value as settings hold it; ValueError says what is wanted instead.

    Of a number, a text or a flag it is the whole check, of anything else one more, as pydantic's AfterValidator.
    """

    check: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Return the same check for pydantic, where a kind is part of one that only pydantic knows."""
        from pydantic_core import core_schema

        if source in PLAIN:
            return core_schema.no_info_plain_validator_function(self.check)
        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True, slots=True)
class Limit:
    """Metadata of a kind of number: what it must be besides, in words that `bound` ends."""

    words: str
    bound: float
    holds: Callable[[Any, Any], bool]

    def __str__(self) -> str:
        return f"{self.words} {self.bound:g}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Return the same check for pydantic."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if not self.holds(value, self.bound):
            raise ValueError(f"it must be {self}")
        return value


def at_least(bound: float) -> Limit:
    """Return the limit of a number that is `bound` or more."""
    return Limit("at least", bound, operator.ge)


def above(bound: float) -> Limit:
    """Return the limit of a number that is more than `bound`."""
    return Limit("above", bound, operator.gt)


def at_most(bound: float) -> Limit:
    """Return the limit of a number that is `bound` or less."""
    return Limit("at most", bound, operator.le)


def multiple_of(bound: int) -> Limit:
    """Return the limit of a number that `bound` divides."""
    return Limit("a multiple of", bound, _divides)


def _divides(value: int, divisor: int) -> bool:
    return value % divisor == 0


class _RefusedError(Exception):
    """A value that is not of its kind: what to say of it, after its key."""

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


def _number(value: Any) -> float:
    """YAML reads 1e-4 as text: take it as the number that it is meant to be."""
    if isinstance(value, str):
        with suppress(ValueError):  # then it is refused as the text that it is
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number")
    return float(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _in_order(bounds: list[int]) -> list[int]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ValueError("[least, most]")
    return bounds


TOP: Final = MappingProxyType({"top": True})  # metadata of a field whose key stands at the top of a file

Number = Annotated[float, By(_number)]
Integer = Annotated[int, By(_integer)]
Text = Annotated[str, By(_text)]
Flag = Annotated[bool, By(_flag)]
Whole = Annotated[Integer, at_least(0)]
Count = Annotated[Integer, at_least(1)]
Amount = Annotated[Number, at_least(0)]
Positive = Annotated[Number, above(0)]
Share = Annotated[Number, at_least(0), at_most(1)]
Bounds = Annotated[list[Count], By(_in_order)]  # least and most
Variant = Literal["paper", "released"]

PLAIN: Final = (int, float, bool, str)
ITEMS: Final = {int: "whole numbers", float: "numbers"}  # what a list holds, in words; else it is texts


def checked(
    kind: type[S],
    section: Any,
    where: str,
    at: str = "",
    base: S | None = None,
    keys: Mapping[str, str] | None = None,
    above: Mapping[str, Any] | None = None,
) -> S:
    """Return settings of a `kind` with the values of a `section`, the others as in `base` (None: the defaults).

    Sections within are settings as well. `where` names the file, or the option, and `at` the section's key in it.
    `keys` are the keys of fields that are not called like them. Fields marked `TOP` are read from the section
    `above` this one, if it is given.
    Raises UsageError that names file, key, what was found and what is possible.
    """
    if not is_section(section):
        raise UsageError(f"{where}: {at} must be a section of `key: value` lines, not {described(section)}")
    base = kind() if base is None else base
    content: dict[str, Any] = {}
    inner: dict[str, Any] = {}
    top = () if above is None else top_keys(kind)
    known: list[str] = []
    possible: list[str] = []
    for name in (each.name for each in fields(kind)):  # type: ignore[arg-type]
        key, default = (keys or {}).get(name, name), getattr(base, name)
        place, found = ("", above or {}) if name in top else (at, section)
        if name not in top:
            known.append(key)
            possible += [] if _is_empty(default) else [_joined(at, key)]
        if is_dataclass(default) and not isinstance(default, type):
            known += top_keys(type(default))
            possible += top_keys(type(default))
            inner[name] = checked(
                type(default), found.get(key, {}), where, _joined(place, key), default, above=section
            )
        else:
            content[name] = found.get(key, default)
    for key in section:
        if key not in known:
            raise unknown_key(where, _joined(at, key), possible)
    of = _kinds(kind)
    for name, value in content.items():
        try:
            content[name] = _taken(of[name], value)
        except _RefusedError as error:
            raise UsageError(f"{where}: {_joined('' if name in top else at, name)} {error.words}") from None
    return kind(**content, **inner)


def declared(kind: Any) -> Any:
    """Return the defaults of settings that were declared outside; ValueError where they cannot be checked."""
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ValueError("its Settings are no dataclass")
    try:
        return checked(kind, {}, "its Settings", base=kind())
    except (TypeError, NameError) as error:
        raise ValueError(f"a setting needs a default, and a kind of skelpipe.settings: {error}") from None


def top_keys(kind: type) -> tuple[str, ...]:
    """Return the keys of settings that stand at the top of a file, not in the section of the settings."""
    return tuple(each.name for each in fields(kind) if "top" in each.metadata)


def nested(settings: Any) -> dict[str, Any]:
    """Return settings as a file has them: a mapping, of sections too."""
    return asdict(settings)


def flat(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a mapping of sections as one mapping by dotted key, such as `encoder.width`."""
    values: dict[str, Any] = {}
    for key, value in content.items():
        if is_section(value):
            values |= {f"{key}.{name}": each for name, each in flat(value).items()}
        else:
            values[str(key)] = value
    return values


def with_sections(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted key with their sections: the inverse of `flat`."""
    content: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    return content


def is_section(value: Any) -> bool:
    """Say whether a value is a mapping of keys."""
    return isinstance(value, Mapping)


def _is_empty(value: Any) -> bool:
    """Say whether a value is a section that has no keys, as that of a method without settings."""
    return is_dataclass(value) and all("top" in each.metadata for each in fields(value))


def _joined(at: str, key: object) -> str:
    return f"{at}.{key}" if at else str(key)


def _taken(kind: Any, value: Any) -> Any:
    """Return a value as a field of this kind holds it; _RefusedError where it is none."""
    if kind is Any:
        return value
    if kind is str:
        return _done(_text, value)
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _marked(kind, value)
    if origin is Literal:
        return _one_of(parts, value)
    if origin is list:
        item = (*get_args(parts[0]), None)[0]
        wanted = f"must be a list of {ITEMS.get(item, 'texts')}"
        if not isinstance(value, list | tuple):
            raise _RefusedError(f"{wanted}, not {described(value)}")
        return [_item(parts[0], each, wanted) for each in value]
    if kind == dict[str, Any]:
        if not isinstance(value, dict):
            raise _RefusedError(f"must be a section of `key: value` lines, not {described(value)}")
        return dict(value)
    if origin in (Union, UnionType) and NoneType in parts:
        return None if value is None else _taken(Union[tuple(set(parts) - {NoneType})], value)  # noqa: UP007
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, kind):
        return value
    return _by_pydantic(kind, value)


def _marked(kind: Any, value: Any) -> Any:
    """Return a value of an annotated kind."""
    base, *marks = get_args(kind)
    if not all(isinstance(mark, By | Limit) for mark in marks):
        return _by_pydantic(kind, value)
    given = value
    if base not in PLAIN:
        value = _taken(base, value)
    elif not isinstance(marks[0], By):
        return _by_pydantic(kind, value)
    for mark in marks:
        if isinstance(mark, By):
            value = _done(mark.check, value)
        elif not mark.holds(value, mark.bound):
            raise _RefusedError(f"is {given}; it must be {mark}")
    return value


def _done(check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise _RefusedError(f"must be {error}, not {described(value)}") from None


def _item(kind: Any, value: Any, wanted: str) -> Any:
    """Return an item of a list: one that is of another type is a fault of the list."""
    try:
        return _taken(kind, value)
    except _RefusedError as error:
        if error.words.startswith("must be "):
            raise _RefusedError(f"{wanted}, not {described(value)}") from None
        raise


def _one_of(known: tuple[Any, ...], value: Any) -> Any:
    if not any(value == each and type(value) is type(each) for each in known):
        names = list(map(str, known))
        raise _RefusedError(f"is {described(value)}; {nearest(str(value), names)}known: {', '.join(names)}")
    return value


def _by_pydantic(kind: Any, value: Any) -> Any:
    """Return a value of a kind that is none of the above."""
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        with holding():  # an error of a signal would come out as one of the schema
            adapter = TypeAdapter(kind)
        return adapter.validate_python(value)
    except PydanticUserError as error:
        raise TypeError(str(error)) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise _RefusedError(f"is {described(first['input'])}: {first['msg']}") from None
