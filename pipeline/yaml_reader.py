"""Read YAML files that people write: every error message names the file and the key."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from skelpipe.errors import UsageError

__all__ = ["Section", "parse_yaml", "read_yaml"]

MISSING: Any = object()
KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "a mapping of keys"}


class Section:
    """A mapping in a YAML file.

    `where` is the file and the keys that lead to the mapping, such as `my.yaml: splits.xsub`; error messages begin
    with it. `known` lists the allowed keys. All methods raise UsageError.
    """

    def __init__(self, content: Any, where: str, known: Iterable[str] | None = None) -> None:
        if not isinstance(content, Mapping):
            raise UsageError(f"{where}: {KINDS[dict]} is expected, found {_described(content)}")
        self.content = {str(key): value for key, value in content.items()}
        self.where = where
        if known is not None:
            self._refuse_unknown(sorted(known))

    def _refuse_unknown(self, known: list[str]) -> None:
        for key in self.content:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
                raise UsageError(f"{self.at(key)}: there is no such key; {hint}")

    def at(self, key: object) -> str:
        """Return the file and the keys that lead to `key`, for messages."""
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"

    def get(self, key: str, kind: type, default: Any = MISSING) -> Any:
        """Return the value of a key, which must be of this type; without a default the key is required."""
        if key not in self.content:
            if default is MISSING:
                raise UsageError(f"{self.where}: the key {key!r} is missing")
            return default
        value = self.content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{self.at(key)}: {KINDS[kind]} is expected, found {_described(value)}")
        return value

    def texts(self, key: str, default: Any = MISSING) -> list[str]:
        """Return a list of texts; numbers in it become texts as written."""
        values = self.get(key, list, default)
        for value in values:
            if not isinstance(value, (str, int, float)) or isinstance(value, bool):
                raise UsageError(f"{self.at(key)}: a list of texts is expected, {_described(value)} is none")
        return [str(value) for value in values]

    def text(self, key: str) -> str:
        """Return a text; a number becomes a text as written."""
        value = self.get(key, object)
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise UsageError(f"{self.at(key)}: {KINDS[str]} is expected, found {_described(value)}")
        return str(value)

    def section(self, key: str, known: Iterable[str] | None = None, default: Any = MISSING) -> "Section":
        """Return the mapping under a key."""
        return Section(self.get(key, dict, default), self.at(key), known)


def _described(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def read_yaml(path: str | Path) -> Any:
    """Return the content of a YAML file; UsageError if it cannot be read or is not YAML."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no UTF-8 text") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return the content of YAML text; a UsageError, which begins with `where`, if it is not YAML."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{where}{line}: is no YAML: {getattr(error, 'problem', None) or error}") from None
    except ValueError as error:  # for a date that does not exist
        raise UsageError(f"{where}: is no YAML: {error}") from None


class _Loader(yaml.SafeLoader):
    """YAML's safe value types; a duplicate key is an error, where PyYAML would silently use the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value if isinstance(key_node.value, str) else id(key_node))
        return super().construct_mapping(node, deep)
