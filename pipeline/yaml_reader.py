"""Read YAML files that people write: every error message names the file and the key.

A file may come from anywhere: its size, its depth, its numbers and what its aliases stand for have limits.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer

from skelpipe.errors import UsageError
from skelpipe.untrusted import described, shown

__all__ = ["Section", "nearest", "parse_yaml", "read_yaml", "unknown_key"]

MOST_BYTES = 8 << 20
MOST_DEPTH = 32
MOST_VALUES = 250_000  # aliases counted as what they stand for
MOST_NUMBER = 100  # characters of a number; digits of base 60 take time that grows with their square
LARGEST = 2**63 - 1
MOST_KEY = 100  # characters of a key in messages
NEW_LINE = "\n"

MISSING: Any = object()
MERGE = "tag:yaml.org,2002:merge"
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
MISREAD = re.compile(r"[+-]?0[\d_]+|[^_]*\d_.*|[^:]*:.*")  # of numbers: 010 (octal), 1_0, 1:30 (base 60)
KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "a mapping of keys"}


class Section:
    """A mapping in a YAML file.

    `where` is the file and the keys that lead to the mapping, such as `my.yaml: splits.xsub`; error messages begin
    with it. `known` lists the allowed keys. All methods raise UsageError.
    """

    def __init__(self, content: Any, where: str, known: Iterable[str] | None = None) -> None:
        if not isinstance(content, Mapping):
            raise UsageError(f"{where}: {KINDS[dict]} is expected, found {described(content)}")
        self.content = {str(key): value for key, value in content.items()}
        self.where = where
        if known is not None:
            self._refuse_unknown(sorted(known))

    def _refuse_unknown(self, known: list[str]) -> None:
        for key in self.content:
            if key not in known:
                file, _, path = self.at(key).partition(": ")
                beside = path.removesuffix(shown(key, MOST_KEY))
                raise unknown_key(file, path, [beside + name for name in known])

    def at(self, key: object) -> str:
        """Return the file and the keys that lead to `key`, for messages."""
        return f"{self.where}{'.' if ': ' in self.where else ': '}{shown(key, MOST_KEY)}"

    def get(self, key: str, kind: type, default: Any = MISSING) -> Any:
        """Return the value of a key, which must be of this type; without a default the key is required."""
        if key not in self.content:
            if default is MISSING:
                raise UsageError(f"{self.where}: the key {key!r} is missing")
            return default
        value = self.content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            hint = _of_truth(value) if kind is str else ""
            raise UsageError(f"{self.at(key)}: {KINDS[kind]} is expected, found {described(value)}{hint}")
        return value

    def texts(self, key: str, default: Any = MISSING) -> list[str]:
        """Return a list of texts; numbers in it become texts as written."""
        values = self.get(key, list, default)
        for value in values:
            if not isinstance(value, (str, int, float)) or isinstance(value, bool):
                raise UsageError(
                    f"{self.at(key)}: a list of texts is expected, {described(value)} is none{_of_truth(value)}"
                )
        return [str(value) for value in values]

    def text(self, key: str) -> str:
        """Return a text; a number becomes a text as written."""
        value = self.content.get(key, MISSING)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            value = self.get(key, str)
        return str(value)

    def section(self, key: str, known: Iterable[str] | None = None, default: Any = MISSING) -> "Section":
        """Return the mapping under a key."""
        return Section(self.get(key, dict, default), self.at(key), known)


def _of_truth(value: object) -> str:
    """Return what to write where YAML read a word such as `on` as a truth value."""
    if not isinstance(value, bool):
        return ""
    return ": YAML reads on, off, yes and no as true and false; put the word in quotes, such as " + (
        "'on'" if value else "'off'"
    )


def unknown_key(where: str, key: str, known: Sequence[str]) -> UsageError:
    """Return the error for a key, with the keys that lead to it, that does not exist; `where` names the file."""
    return UsageError(
        f"{where}: unknown key {described(key)}; {nearest(key, known)}known: {', '.join(known) or 'none'}"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to say of the known name that is most like this one, or nothing where none is."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]!r}? " if near else ""


def read_yaml(path: str | Path) -> Any:
    """Return the content of a YAML file; UsageError if it cannot be read, is not YAML or is past a limit."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise _too_long(path)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no UTF-8 text") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Return the content of YAML text; a UsageError, which begins with `where`, if it is not YAML.

    So is text of more than 8 MB; values more than 32 deep; more than 250,000 of them, aliases counted as what they
    stand for; an alias for what contains it; a number of more than 100 characters, or a whole one beyond 64 bits;
    and a key that is no text or number.
    """
    if len(text) > MOST_BYTES:
        raise _too_long(where)
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
    except _MisreadError as error:
        raise UsageError(f"{where}:{error.line}: {error.problem}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{min(mark.line + 1, text.rstrip().count(NEW_LINE) + 1)}" if mark else ""  # not past the end
        raise UsageError(f"{where}{line}: is no YAML: {_problem(error)}") from None
    except (ValueError, TypeError) as error:  # PyYAML's own, at a directive or a tag that its content is not of
        raise UsageError(f"{where}: is no YAML: {_problem(error)}") from None


def _problem(error: Exception) -> str:
    """Return what PyYAML found wrong, which repeats parts of the file."""
    return shown(getattr(error, "problem", None) or error)


def _too_long(where: str | Path) -> UsageError:
    return UsageError(f"{where}: is longer than {MOST_BYTES >> 20} MB, which no file of settings is")


if yaml.__with_libyaml__:

    class _SafeLoader(Composer, yaml.CSafeLoader):
        """YAML's safe value types, read by libyaml, which takes a third of the time, and composed in Python."""

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)

else:
    _SafeLoader = yaml.SafeLoader  # type: ignore[assignment, misc]


class _MisreadError(yaml.MarkedYAMLError):
    """A number that YAML 1.1 does not read as people mean it, and its line."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(None, None, problem, mark)
        self.line = mark.line + 1


class _Loader(_SafeLoader):
    """YAML's safe value types within limits; what PyYAML would silently read as something else is an error.

    That is a key given twice, two keys that are one text, such as 1 and "1", and a number with a leading zero, an
    underscore or a colon.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._sizes: dict[int, int] = {}  # values in a composed node, by its identity

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _refused(f"values are nested more than {MOST_DEPTH} deep", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._sizes:
            raise _refused(f"the alias {described(event.anchor)} stands for what contains it", event.start_mark)
        size = self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in _parts(node))
        if size > MOST_VALUES:
            raise _refused(f"there are more than {MOST_VALUES:,} values, with its aliases", event.start_mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (
            ValueError,
            ArithmeticError,
            LookupError,
            TypeError,
            AttributeError,
        ):  # PyYAML's own at a tag that its text is not of
            kind = node.tag.rpartition(":")[2]
            raise _refused(f"{described(node.value)} is no {kind}", node.start_mark) from None
        if isinstance(value, int) and abs(value) > LARGEST:
            raise _refused(f"the number {described(value)} is beyond 64 bits", node.start_mark)
        return value

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if node.tag in NUMBERS and len(text) > MOST_NUMBER:
            problem = f"the number {described(text)} has more than {MOST_NUMBER} characters"
            raise _refused(problem, node.start_mark)
        number = isinstance(node, yaml.ScalarNode) and node.tag in NUMBERS and not node.style
        if number and MISREAD.fullmatch(text) and not text.lower().startswith(("0x", "0b")):
            read = yaml.SafeLoader("").construct_object(yaml.ScalarNode(node.tag, text))
            plain = (
                str(int(text.replace("_", ""))) if ":" not in text and "." not in text else text.replace("_", "")
            )
            meant = f"write '{text}' in quotes" if ":" in text else f"write {plain}, or '{text}' in quotes"
            raise _MisreadError(f"{text} is read as {read}; {meant}", node.start_mark)
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float)):
                raise _refused(f"a key is a text or a number, not {described(key)}", key_node.start_mark)
            if key in seen or str(key) in seen:
                raise _refused(f"the key {described(key)} is given twice", key_node.start_mark)
            seen |= {key, str(key)}
        return super().construct_mapping(node, deep)


def _refused(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, mark)


def _parts(node: yaml.Node | None) -> Iterable[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return node.value
    return (part for pair in node.value for part in pair) if isinstance(node, yaml.MappingNode) else ()
