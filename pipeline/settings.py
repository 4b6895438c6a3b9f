"""The values of a recipe: the kinds that fields of settings have, and how a section becomes checked settings.

Settings are plain frozen dataclasses whose fields have one of the kinds below, with defaults. A section of a
recipe says what differs from them.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BeforeValidator,
    PydanticUserError,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails

from skelpipe.errors import UsageError
from skelpipe.untrusted import described
from skelpipe.yaml_reader import nearest, unknown_key

__all__ = [
    "TOP",
    "Amount",
    "Bounds",
    "Count",
    "Flag",
    "Number",
    "Positive",
    "Share",
    "Variant",
    "Whole",
    "checked",
    "declared",
    "flat",
    "is_section",
    "nested",
    "top_keys",
    "with_sections",
]

S = TypeVar("S")

_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)  # made once for each class


def _number(value: Any) -> Any:
    """YAML reads 1e-4 as text: take it as the number that it is meant to be."""
    if isinstance(value, str):
        with suppress(ValueError):  # then it is refused as the text that it is
            return float(value)
    return value


def _in_order(bounds: list[int]) -> list[int]:
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        raise ValueError("[least, most]")
    return bounds


TOP: Final = MappingProxyType({"top": True})  # metadata of a field whose key stands at the top of a file

Number = Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(_number)]
Whole = Annotated[int, Strict(), Ge(0)]
Count = Annotated[int, Strict(), Ge(1)]
Amount = Annotated[Number, Ge(0)]
Positive = Annotated[Number, Gt(0)]
Share = Annotated[Number, Ge(0), Le(1)]
Flag = Annotated[bool, Strict()]
Bounds = Annotated[list[Count], Strict(), AfterValidator(_in_order)]  # least and most
Variant = Literal["paper", "released"]


WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "list_type": "a list of whole numbers",
    "dict_type": "a section of `key: value` lines",
}


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
    try:
        made: S = _adapter(kind).validate_python(content | inner)
        return made
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{where}: {_complaint(first, '' if first['loc'][0] in top else at)}") from None


def declared(kind: Any) -> Any:
    """Return the defaults of settings that were declared outside; ValueError where they cannot be checked."""
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise ValueError("its Settings are no dataclass")
    try:
        return checked(kind, {}, "its Settings", base=kind())
    except (TypeError, PydanticUserError) as error:
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


def _complaint(error: ErrorDetails, at: str) -> str:
    """Say in the words of a recipe what pydantic found."""
    names = [str(part) for part in error["loc"] if isinstance(part, str)]
    key, value, context = ".".join(filter(None, [at, *names])), error["input"], error.get("ctx", {})
    wanted = WANTED.get(error["type"])
    if wanted and len(names) < len(error["loc"]):  # within a list
        wanted = WANTED["list_type"]
    if error["type"] == "value_error":
        wanted = str(context["error"])
    if wanted:
        return f"{key} must be {wanted}, not {described(value)}"
    if error["type"] == "literal_error":
        known = str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ")
        return f"{key} is {described(value)}; {nearest(str(value), known)}known: {', '.join(known)}"
    limits = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "a multiple of"}
    limit = next((f"{words} {context[name]:g}" for name, words in limits.items() if name in context), error["msg"])
    return f"{key} is {value}; it must be {limit}"
