"""Read the YAML file of a manifest, built in or a user's own; every error names the file and the key.

docs/own-dataset.md describes the keys. Lists (classes, missing recordings, the subsets of a split) are part of the
YAML file or text files with one entry per line, in the folder of the user's YAML file or, for built-in datasets,
in manifests/lists.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.files import read_lines
from skelpipe.manifest import (
    BODY_CHOICES,
    BY_ID,
    EMPTY_FRAMES,
    MISSING_JOINTS,
    SUBSETS,
    LabelTable,
    Manifest,
    Segments,
    Split,
    Value,
    Windows,
    as_value,
)
from skelpipe.plugins import suggestion
from skelpipe.raw.label_table import read_label_table
from skelpipe.raw.poses.formats import POSE_FORMATS
from skelpipe.raw.readers import FIXED_CHANNELS, READERS
from skelpipe.skeleton import Layout, layout, parse_layout
from skelpipe.untrusted import described, shown
from skelpipe.yaml_reader import Section, parse_yaml, read_yaml

__all__ = ["axis_letters", "channel_names", "load_manifest"]

KEYS = (
    *("name", "title", "reader", "layout", "bodies", "name_pattern", "suffix", "strict_names", "label"),
    *("first_label", "ranges", "missing", "units", "y", "segments", "classes", "splits", "terms", "homepage"),
    *("labels", "case", "windows"),
    *("axes", "channels", "array", "body_choice", "empty_frames", "missing_joints", "missing_value"),
    "image_size",
)
SPLIT_KEYS = ("field", "train", "test", "published")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
AXES = {"N": "recordings", "T": "frames", "V": "joints", "M": "bodies", "C": "numbers per joint"}
CHANNELS = ("x", "y", "z", "score", "unused")
SCORES = ("score", "scores", "confidence", "conf", "visibility", "probability", "prob", "likelihood", "certainty")
AXES_RULE = "T, V and C are expected once each, M and N at most once"
DEFAULT_LABEL = "action"
UNLABELLED = "none"  # the value of the key `label` in a dataset without labels
EVERYTHING = "all"  # the value of a subset that holds all recordings
ABSOLUTE = re.compile(r"/|\.\./|[A-Za-z]:/")
YAML_SUFFIXES = (".yaml", ".yml")

Lines = Callable[[str, str], list[str]]  # (file, where): the lines of a list file


def load_manifest(name: str) -> Manifest:
    """Return the manifest of a built-in dataset by name, such as `ntu60`, or a user's by the path of its YAML."""
    if name.endswith(YAML_SUFFIXES):
        path = Path(name)

        def beside(file: str, where: str) -> list[str]:
            return read_lines(path.parent / file, f"{where}: {path.parent / file}")

        return _parse(Section(read_yaml(path), name, KEYS), SPLIT_KEYS, beside, own=True)
    return _built_in(name)


@cache
def _built_in(name: str) -> Manifest:
    try:
        content = parse_yaml(manifests.read_text("datasets", name), f"{name}.yaml")
    except KeyError as error:
        raise UsageError(f"{error.args[0]}; a dataset of your own is given as the path of its .yaml") from None
    top = Section(content, f"{name}.yaml", (*KEYS, "recordings"))
    return _parse(top, (*SPLIT_KEYS, "needs"), lambda file, _: manifests.read_lines("lists", file), own=False)


def _parse(top: Section, split_keys: tuple[str, ...], lines: Lines, *, own: bool) -> Manifest:
    """Read the keys. The defaults of a user's `own` dataset are not those of the papers' code."""
    name = top.get("name", str)
    if not NAME.fullmatch(name):
        raise UsageError(f"{top.at('name')}: {described(name)} may hold letters, digits, - and _ only")
    _apply_format(top)
    segments = _segments(top)
    suffixes = _suffixes(top)
    case = _choice(top, "case", ("", "upper", "lower"))
    table = _table(top, suffixes, case, lines)
    pattern = _pattern(top, table)
    fields = tuple(pattern.groupindex)
    if table:
        columns = {column: None for row in table.rows.values() for column in row}
        if both := next((column for column in columns if column in fields), None):
            raise UsageError(f"{top.at('labels')}: {described(both)} is a column, and a group of name_pattern")
        fields = (*fields, *columns)
    label = top.get("label", str, DEFAULT_LABEL) if segments else _label(top, table, fields)
    classes = _classes(top, lines, label)
    reader = _reader(top)
    return Manifest(
        name=name,
        title=top.get("title", str, name),
        reader=reader,
        layout=_layout(top, name),
        units=top.get("units", str, "metres"),
        y_down=_choice(top, "y", ("up", "down")) == "down",
        bodies=_at_least(top, "bodies", 1, default=1),
        name_pattern=pattern,
        suffixes=suffixes,
        strict_names=_flag(top, "strict_names", default=True),
        label=label,
        first_label=_within(top, "first_label", 0, 1, default=1),
        ranges=_ranges(top, fields),
        missing=frozenset(_listed(top, "missing", lines, [])),
        recordings=top.get("recordings", str, None),
        segments=segments,
        classes=classes.names,
        classes_note=classes.note,
        splits=_splits(top, fields, split_keys, lines),
        terms=top.get("terms", str, "The terms of the source are not stated."),
        homepage=top.get("homepage", str, ""),
        own=own,
        case=case,
        table=table,
        windows=_windows(top),
        axes=_axes(top, reader),
        channels=_channels(top, reader),
        array=top.text("array") if "array" in top.content else "",
        body_choice=_choice(top, "body_choice", BODY_CHOICES, "motion" if own else "first"),
        empty_frames=_choice(top, "empty_frames", EMPTY_FRAMES, "dropped" if own else "as-authors"),
        missing_joints=_choice(top, "missing_joints", MISSING_JOINTS),
        missing_value=_missing_value(top),
        class_numbers=classes.numbers,
        image_size=_image_size(top),
    )


def _pattern(top: Section, table: LabelTable | None) -> re.Pattern[str]:
    if "name_pattern" not in top.content and (table or top.content.get("label") == UNLABELLED):
        depth = 1 + max((name.count("/") for name in table.rows), default=0) if table else 1
        return re.compile("(?:[^/]+/)?" * (depth - 1) + "[^/]+")
    text = top.get("name_pattern", str)
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"{top.at('name_pattern')}: is no regular expression: {shown(error)}") from None
    if BY_ID in pattern.groupindex:
        raise UsageError(
            f"{top.at('name_pattern')}: no group may be called {described(BY_ID)}: that is the whole name"
        )
    return pattern


def _table(top: Section, suffixes: tuple[str, ...], case: str, lines: Lines) -> LabelTable | None:
    """Return the rows of the labels' file by the recordings' names; the file may give names with their suffix."""
    if "labels" not in top.content:
        return None
    section = top.section("labels", ("file", "id", "label"))
    file, key = section.get("file", str), section.get("id", str, "id")
    rows = {}
    read = read_label_table(lines(file, section.at("file")), file, key, section.get("label", str, "label"))
    for path, row in zip(_tails(read), read.values(), strict=True):
        end = next((end for end in suffixes if path.lower().endswith(end.lower())), "")
        name = path[: len(path) - len(end)]
        name = {"upper": name.upper(), "lower": name.lower()}.get(case, name)
        if name in rows:
            raise UsageError(f"{file}: {name} is given twice")
        rows[name] = row
    return LabelTable(file, rows)


def _tails(names: Iterable[str]) -> list[str]:
    """Return paths as names of recordings: of absolute ones as few of the last folders as tell all apart."""
    paths = [name.replace("\\", "/").removeprefix("./") for name in names]
    if not any(ABSOLUTE.match(path) for path in paths):
        return paths
    parts = [path.split("/") for path in paths]
    taken = range(1, max(map(len, parts)) + 1)
    tails = (["/".join(part[-count:]) for part in parts] for count in taken)
    return next((tail for tail in tails if len(set(tail)) == len(tail)), paths)


def _label(top: Section, table: LabelTable | None, fields: tuple[str, ...]) -> str:
    """Return the field that holds the class, or `none` for a dataset without labels."""
    said = top.get("label", str, "")
    if table and said != UNLABELLED:
        if said:
            raise UsageError(f"{top.at('label')}: the column with the class is the key 'label' of 'labels'")
        label: str = top.section("labels").get("label", str, "label")
        if label not in fields:
            raise UsageError(
                f"{top.at('labels')}: {table.file} has no column {described(label)}, but: {', '.join(fields)}"
            )
        if "classes" not in top.content:
            names = sorted({str(row[label]) for row in table.rows.values() if label in row})
            raise UsageError(
                f"{top.where}: the key 'classes' is missing; {table.file} has: classes: [{', '.join(names[:20])}]"
            )
        return label
    label = said or DEFAULT_LABEL
    if "classes" not in top.content and (label == UNLABELLED or not (said or label in fields)):
        return UNLABELLED
    if "classes" not in top.content:
        raise UsageError(f"{top.where}: the key 'classes' is missing; without labels, write label: {UNLABELLED}")
    if label not in (*fields, UNLABELLED):
        raise UsageError(
            f"{top.at('label')}: name_pattern has no group {described(label)}: it must hold the class"
        )
    return label


def _reader(top: Section) -> str:
    reader: str = top.get("reader", str)
    if reader not in READERS:
        known = f"{', '.join(READERS)}{suggestion()}"
        raise UsageError(f"{top.at('reader')}: there is no reader {described(reader)}; there are: {known}")
    return reader


def _axes(top: Section, reader: str) -> tuple[str, ...]:
    """Return the letters of the key `axes`, such as `T,V,C`."""
    if "axes" not in top.content:
        return ()
    said = top.content["axes"]
    axes = axis_letters(
        ",".join(top.texts("axes")) if isinstance(said, list) else top.text("axes"), top.at("axes")
    )
    if reader in FIXED_CHANNELS:
        raise UsageError(f"{top.at('axes')}: the files of reader {reader} are text, which has no axes")
    return axes


def axis_letters(said: str, where: str) -> tuple[str, ...]:
    """Return the letters of axes such as `T,V,C`, with or without commas; a UsageError starts with `where`."""
    axes = tuple("".join(said.upper().replace(",", " ").split()))
    known = ", ".join(f"{letter} {meaning}" for letter, meaning in AXES.items())
    if wrong := next((letter for letter in axes if letter not in AXES), None):
        raise UsageError(f"{where}: there is no axis {described(wrong)}; there are: {known}; {AXES_RULE}")
    if len(set(axes)) != len(axes) or not {"T", "V", "C"} <= set(axes):
        raise UsageError(f"{where}: {AXES_RULE} ({known})")
    return axes


def _channels(top: Section, reader: str) -> tuple[str, ...]:
    """Return the meaning of each number of a joint, names of a score as `score`."""
    if "channels" not in top.content:
        return ()
    said = top.content["channels"]
    words = said.replace(",", " ").split() if isinstance(said, str) else top.texts("channels")
    channels = channel_names(words, top.at("channels"))
    if channels not in FIXED_CHANNELS.get(reader, (channels,)):
        allowed = " or ".join(f"[{', '.join(each)}]" for each in FIXED_CHANNELS[reader])
        raise UsageError(f"{top.at('channels')}: the files of reader {reader} hold {allowed}")
    return channels


def channel_names(words: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the meaning of each number of a joint, a score's as `score`; a UsageError starts with `where`."""
    names = [word.strip().lower() for word in words]
    channels = tuple("score" if name in SCORES else name for name in names)
    if wrong := next((name for name in channels if name not in CHANNELS), None):
        raise UsageError(f"{where}: there is no channel {described(wrong)}; there are: {', '.join(CHANNELS)}")
    used = [name for name in channels if name != "unused"]
    if len(set(used)) != len(used) or not {"x", "y"} <= set(used):
        raise UsageError(
            f"{where}: x and y are expected once each, z and score at most once,"
            f" found {', '.join(names) or 'none'}; a number that is not needed is called unused"
        )
    return channels


def _missing_value(top: Section) -> float | None:
    value = top.content.get("missing_value")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(
            f"{top.at('missing_value')}: the number that stands for a joint that was not found is expected,"
            f" found {described(value)}; NaN always stands for one"
        )
    return float(value)


def _apply_format(top: Section) -> None:
    """Add what the reader's format fixes (units, direction of y, channels); refuse what contradicts it."""
    kind = POSE_FORMATS.get(str(top.content.get("reader")))
    if kind is None:
        return
    solid = kind.channels and "z" not in kind.channels[0] and "z" in str(top.content.get("channels", ""))
    fixed = {"units": kind.units if not solid else "", "y": {True: "down", False: "up", None: ""}[kind.y_down]}
    for key, value in fixed.items():
        if value and top.content.setdefault(key, value) != value:
            raise UsageError(
                f"{top.at(key)}: the positions that reader {top.content['reader']} returns are in {value}"
                if key == "units"
                else f"{top.at(key)}: in the files of reader {top.content['reader']} y grows {value}wards"
            )
    if kind.channels:
        top.content.setdefault("channels", list(kind.channels[0]))


def _image_size(top: Section) -> tuple[int, int] | None:
    if "image_size" not in top.content:
        return None
    said = top.get("image_size", list)
    if len(said) != 2 or not all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in said):
        raise UsageError(
            f"{top.at('image_size')}: the pictures' width and height are expected, such as [1920, 1080]"
        )
    return said[0], said[1]


def _layout(top: Section, name: str) -> Layout:
    said = top.content.get("layout")
    if isinstance(said, dict):
        return parse_layout({"name": name, **said}, top.at("layout"))
    known = top.get("layout", str)
    try:
        return layout(known)
    except UsageError as error:
        raise UsageError(f"{top.at('layout')}: {error}; or a mapping that defines one") from None


def _suffixes(top: Section) -> tuple[str, ...]:
    said = top.content.get("suffix")
    suffixes = (said,) if isinstance(said, str) else tuple(top.texts("suffix"))
    if not suffixes or not all(suffix.strip(" .") and "/" not in suffix for suffix in suffixes):
        raise UsageError(f"{top.at('suffix')}: the end of a file's name is expected, such as .npy")
    return suffixes


def _segments(top: Section) -> Segments | None:
    if "segments" not in top.content:
        return None
    section = top.section("segments", ("suffix", "longest"))
    return Segments(_suffixes(section), _within(section, "longest", 1, 1 << 30, default=1 << 30))


@dataclass(frozen=True)
class _Classes:
    """Names in label order; their numbers where a mapping states them; where the names are from."""

    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    note: str = ""


def _classes(top: Section, lines: Lines, label: str) -> _Classes:
    said = top.content.get("classes")
    if label == UNLABELLED:
        if said:
            raise UsageError(
                f"{top.at('label')}: {UNLABELLED} means that there are no labels, and there are classes"
            )
        return _Classes()
    if isinstance(said, list):
        found = _Classes(tuple(top.texts("classes")))
    elif isinstance(said, dict) and said and not {"file", "first", "note"} & {*said}:
        found = _numbered(top, said)
    else:
        section = top.section("classes", ("file", "first", "note"))
        listed = [name.strip() for name in lines(section.get("file", str), section.at("file"))]
        found = _Classes(tuple(listed[: section.get("first", int, len(listed))]), (), section.get("note", str, ""))
    names = found.names
    if not names or len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise UsageError(f"{top.at('classes')}: names are expected, each once, none empty")
    if number := next((name for name in names if name.isdecimal()), None):
        raise UsageError(
            f"{top.at('classes')}: {described(number)} is a number: give names; numbers count classes from"
            " first_label, or write a mapping such as {1: sit, 8: throw}"
        )
    return found


def _numbered(top: Section, said: dict[Any, Any]) -> _Classes:
    """Return the classes of a mapping `{1: sit, 8: throw}`, in the order of the numbers."""
    section = top.section("classes")
    if wrong := [
        number for number in said if not isinstance(number, int) or isinstance(number, bool) or number < 0
    ]:
        raise UsageError(f"{section.at(wrong[0])}: the number of a class is expected before its name, or 'file'")
    if "first_label" in top.content:
        raise UsageError(f"{top.at('first_label')}: counts the classes of a list; here each has its number")
    numbers = tuple(sorted(said))
    return _Classes(tuple(section.text(str(number)) for number in numbers), numbers)


def _windows(top: Section) -> Windows | None:
    if "windows" not in top.content:
        return None
    if "segments" in top.content:
        raise UsageError(f"{top.at('windows')}: segments cut recordings already")
    section = top.section("windows", ("length", "stride"))
    section.get("length", int)  # required
    length = _at_least(section, "length", 1, default=1)
    return Windows(length, _at_least(section, "stride", 1, default=length))


def _ranges(top: Section, groups: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    section = top.section("ranges", groups, {})
    found = {}
    for key in section.content:
        limits = section.get(key, list)
        if len(limits) != 2 or not all(isinstance(limit, int) for limit in limits) or limits[0] > limits[1]:
            raise UsageError(f"{section.at(key)}: two whole numbers are expected, the lower first")
        found[key] = (limits[0], limits[1])
    return found


def _splits(top: Section, groups: tuple[str, ...], keys: tuple[str, ...], lines: Lines) -> dict[str, Split]:
    section = top.section("splits")
    if not section.content:
        raise UsageError(f"{section.where}: at least one split is expected")
    return {name: _split(section.section(name, keys), name, groups, lines) for name in section.content}


def _split(section: Section, name: str, groups: tuple[str, ...], lines: Lines) -> Split:
    if not NAME.fullmatch(name):
        raise UsageError(f"{section.where}: a split's name may hold letters, digits, - and _ only")
    published = section.section("published", SUBSETS, {})
    counts = {subset: published.get(subset, int) for subset in SUBSETS} if published.content else {}
    needs = section.get("needs", str, "")
    if needs:
        return Split(name, BY_ID, published=counts, needs=needs)
    if everything := next((subset for subset in SUBSETS if section.content.get(subset) == EVERYTHING), None):
        if len(section.content) > 1:
            raise UsageError(
                f"{section.at(everything)}: {EVERYTHING} puts every recording there: no other key fits"
            )
        train, test = (None if subset == everything else frozenset[Value]() for subset in SUBSETS)
        return Split(name, BY_ID, train, test)
    field = section.get("field", str)
    if field not in (*groups, BY_ID):
        raise UsageError(
            f"{section.at('field')}: name_pattern has no group {described(field)};"
            f" there are: {shown(', '.join((*groups, BY_ID)))}"
        )
    sets = {subset: _values(section, subset, lines) for subset in SUBSETS if subset in section.content}
    if not sets:
        raise UsageError(f"{section.where}: one of the keys 'train' and 'test' is expected")
    if both := sorted(map(str, sets.get("train", frozenset()) & sets.get("test", frozenset()))):
        raise UsageError(f"{section.where}: {both[0]} is in both subsets")
    return Split(name, field, sets.get("train"), sets.get("test"), counts)


def _values(section: Section, subset: str, lines: Lines) -> frozenset[Value]:
    values = _listed(section, subset, lines)
    if section.get("field", str) == BY_ID:
        return frozenset(values)
    return frozenset(map(as_value, values))


def _listed(section: Section, key: str, lines: Lines, default: Any = None) -> list[str]:
    """Return a list: the value itself, or the lines of the file that `{file: NAME}` names."""
    said = section.content.get(key, default)
    if isinstance(said, dict):
        inner = section.section(key, ("file",))
        return [line.strip() for line in lines(inner.get("file", str), inner.at("file")) if line.strip()]
    return section.texts(key, default)


def _within(section: Section, key: str, low: int, high: int, *, default: int) -> int:
    value: int = section.get(key, int, default)
    if not low <= value <= high:
        raise UsageError(f"{section.at(key)}: {value} is not between {low} and {high}")
    return value


def _at_least(section: Section, key: str, low: int, *, default: int) -> int:
    value: int = section.get(key, int, default)
    if value < low:
        raise UsageError(f"{section.at(key)}: {value} is less than {low}")
    return value


def _choice(section: Section, key: str, choices: tuple[str, ...], default: str = "") -> str:
    value: str = section.get(key, str, default or choices[0])
    if value not in choices:
        raise UsageError(f"{section.at(key)}: {described(value)} is not one of {', '.join(choices)}")
    return value


def _flag(section: Section, key: str, *, default: bool) -> bool:
    value = section.content.get(key, default)
    if not isinstance(value, bool):
        raise UsageError(f"{section.at(key)}: true or false is expected, found {described(value)}")
    return value
