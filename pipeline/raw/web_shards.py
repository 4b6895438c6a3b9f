"""WebDataset shards that others wrote: tars, plain or compressed, whose members are named KEY.SUFFIX.

Members of a sample may come in any order, and between those of other samples. Arrays are `.npy`, `.npz` or lists
in `.json`; labels are `.cls`, `.txt` or a value in `.json`. Nothing else is decoded, and nothing is
ever unpickled.
"""

import json
import math
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from lzma import LZMAError
from typing import IO, Any

import braceexpand
import numpy as np
from webdataset.tariterators import base_plus_ext

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.npy import read_array_or_archive

__all__ = ["WebFields", "WebSample", "expand_shards", "is_web_shard", "web_samples"]

MEMBER_BYTES = 1 << 28  # of one member; a clip of 300 frames has below a megabyte
WAITING_BYTES = 1 << 30  # of all members of samples that are not complete yet
MOST_SHARDS = 100_000
SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARRAYS = ("npy", "npz", "json")  # the last parts of suffixes that may hold the array
LABELS = ("cls", "txt", "json")
ARRAY_KEYS = (
    "keypoint",
    "keypoints",
    "skeleton",
    "skeletons",
    "joints",
    "positions",
    "pose",
    "poses",
    "data",
    "clip",
)
LABEL_KEYS = ("label", "class", "action", "category", "target", "cls", "y")
PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "joblib", "dill")
HIDDEN = re.compile(r"(^|/)(\.|__[^/]*__$|__MACOSX/)")  # of file systems, and webdataset's own members
RANGE = re.compile(r"\{(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.(-?\d{1,18}))?\}")
SECRETS = re.compile(r"^(\w+://)(?:[^/@]*@)?([^?#]*).*$", re.DOTALL)  # user-info and query of an address
NONE = "none"
BROKEN = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, LZMAError)


@dataclass(frozen=True)
class WebFields:
    """Where array and label of a sample are: SUFFIX (`npy`, `joint.npy`), or SUFFIX:NAME inside it (`json:label`).

    Empty where a sample has one candidate only; `label` "none" where samples have no labels.
    """

    array: str = ""
    label: str = ""


@dataclass(frozen=True)
class WebSample:
    """One sample: its key, its array, and its label as it is written, a number or a name; None without one."""

    key: str
    array: np.ndarray
    label: int | str | None


def is_web_shard(name: str) -> bool:
    """Say whether this is the name, or address, of a tar."""
    return name.partition("?")[0].lower().endswith(SUFFIXES)


def expand_shards(pattern: str) -> list[str]:
    """Return the names that a brace pattern such as `train-{000000..000009}.tar` stands for.

    Raises UsageError for `pipe:`, which would run a program, for braces that do not match and for too many names.
    """
    if pattern.lower().lstrip().startswith("pipe:"):
        raise UsageError("pipe: would run a program and is not supported: name a file, s3://, gs:// or https://")
    shown = SECRETS.sub(r"\1\2", pattern)
    spans = [
        abs(int(end) - int(first)) // max(1, abs(int(step or 1))) + 1
        for first, end, step in RANGE.findall(pattern)
    ]
    if math.prod(spans) > MOST_SHARDS:  # braceexpand would hold them all
        raise UsageError(f"{shown}: stands for more than {MOST_SHARDS:,} names")
    try:
        names = list(islice(braceexpand.braceexpand(pattern), MOST_SHARDS + 1))
    except ValueError:
        raise UsageError(f"{shown}: its braces do not match, as in train-{{000000..000009}}.tar") from None
    if len(names) > MOST_SHARDS:
        raise UsageError(f"{shown}: stands for more than {MOST_SHARDS:,} names")
    return names


def web_samples(file: IO[bytes], where: str, fields: WebFields) -> Iterator[WebSample]:
    """Yield the samples of one shard, an open file that is read from first to last; `where` names it in messages.

    A sample is yielded once its array and label are there. Raises RawError that names shard and member for damage,
    for members that are too large, that would have to be unpickled, or that are missing.
    """
    waiting: dict[str, dict[str, bytes]] = {}
    done: set[str] = set()
    last, held = "", 0
    for key, suffix, content in _members(file, where):
        if key in done:
            if suffix.rpartition(".")[2] in {*ARRAYS[:2], *LABELS[:2]}:
                raise RawError(
                    f"{where}: {key}.{suffix}: comes after the sample was complete: say which member is the label"
                    f" (cls, txt or json:NAME), and see that no key is there twice"
                )
            continue
        if last and key != last and _is_complete(waiting[last], fields):
            held -= sum(map(len, waiting[last].values()))
            done.add(last)
            yield _decoded(last, waiting.pop(last), where, fields)
        members = waiting.setdefault(key, {})
        if suffix in members:
            raise RawError(f"{where}: {key}.{suffix}: is there twice")
        members[suffix] = content
        held += len(content)
        if held > WAITING_BYTES:
            raise RawError(
                f"{where}: the members of {len(waiting):,} samples up to {key} lie too far apart: write those of a"
                " sample one after another, or say which member is the label (none, where there are no labels)"
            )
        last = key if key in waiting else ""
    for key in list(waiting):
        yield _decoded(key, waiting.pop(key), where, fields)


def _members(file: IO[bytes], where: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield key, suffix in lower case, and content of every member that is a file."""
    member = ""
    try:
        with tarfile.open(fileobj=file, mode="r|*") as tar:
            for info in tar:
                member = info.name
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep all headers
                key, suffix = base_plus_ext(info.name)
                hidden = HIDDEN.search(info.name) is not None
                if not info.isreg() or key is None or hidden:
                    continue
                last = suffix.lower().rpartition(".")[2]
                if last not in {*ARRAYS, *LABELS}:
                    yield key, suffix.lower(), b""  # not read, and never decoded
                    continue
                if info.size > MEMBER_BYTES:
                    raise RawError(f"{where}: {info.name}: {info.size:,} bytes are too many for one member")
                reader = tar.extractfile(info)
                assert reader is not None, "a regular file"
                content = reader.read()
                if len(content) != info.size:
                    raise RawError(f"{where}: {info.name}: cut off (in download?)")
                yield key, suffix.lower(), content
    except BROKEN as error:
        after = f" after {member}" if member else ""
        raise RawError(f"{where}: no tar, or one that is damaged or cut off{after}: {_line(error)}") from None


def _is_complete(members: dict[str, bytes], fields: WebFields) -> bool:
    return _candidate(members, fields.array, ARRAYS) and (
        fields.label == NONE or _candidate(members, fields.label, LABELS)
    )


def _candidate(members: Iterable[str], declared: str, ends: tuple[str, ...]) -> bool:
    if declared:
        return declared.partition(":")[0].lower() in members
    return any(suffix.rpartition(".")[2] in ends for suffix in members)


def _decoded(key: str, members: dict[str, bytes], where: str, fields: WebFields) -> WebSample:
    texts: dict[str, Any] = {}
    suffix, name = _array_member(key, members, texts, where, fields.array)
    at, content = f"{where}: {key}.{suffix}", members[suffix]
    if suffix.rpartition(".")[2] == "json":
        array = _listed(_parsed(suffix, members, texts, f"{where}: {key}"), name, at)
    else:
        array = read_array_or_archive(np.frombuffer(content, np.uint8), at, name)
    return WebSample(
        key, array, None if fields.label == NONE else _label(key, members, texts, where, fields.label)
    )


def _array_member(
    key: str, members: dict[str, bytes], texts: dict[str, Any], where: str, declared: str
) -> tuple[str, str]:
    """Return the suffix of the member that holds the array, and the array's name inside it, or ""."""
    if declared:
        suffix, _, name = declared.partition(":")
        _refuse_pickle(f"{where}: {key}.{suffix}", suffix)
        if suffix.lower() not in members:
            raise RawError(f"{where}: {key}: has no member .{suffix}; it has {_listing(members)}")
        return suffix.lower(), name
    found = [(suffix, "") for suffix in members if suffix.rpartition(".")[2] in ARRAYS[:2]]
    if not found:
        for suffix in (each for each in members if each.rpartition(".")[2] == "json"):
            facts = _parsed(suffix, members, texts, f"{where}: {key}")
            names = [name for name in ARRAY_KEYS if isinstance(facts, dict) and name in facts]
            found += [(suffix, name) for name in names] if isinstance(facts, dict) else [(suffix, "")]
    if len(found) == 1:
        return found[0]
    if found:
        said = " or ".join(f"{suffix}:{name}" if name else suffix for suffix, name in found)
        raise RawError(f"{where}: {key}: which member holds the positions? Say it: {said}")
    for suffix in members:
        _refuse_pickle(f"{where}: {key}.{suffix}", suffix)
    raise RawError(f"{where}: {key}: no member holds an array (.npy, .npz or .json); it has {_listing(members)}")


def _refuse_pickle(at: str, suffix: str) -> None:
    if suffix.lower().rpartition(".")[2] in PICKLES:
        raise RawError(f"{at}: would have to be unpickled, which can run any code: save the positions as .npy")


def _label(
    key: str, members: dict[str, bytes], texts: dict[str, Any], where: str, declared: str
) -> int | str | None:
    suffix, _, name = declared.partition(":")
    suffix = suffix.lower()
    if not declared:
        suffix = next((s for end in LABELS[:2] for s in members if s.rpartition(".")[2] == end), "")
        if not suffix:
            for each in (s for s in members if s.rpartition(".")[2] == "json"):
                facts = _parsed(each, members, texts, f"{where}: {key}")
                names = [n for n in LABEL_KEYS if isinstance(facts, dict) and n in facts]
                if names:
                    suffix, name = each, names[0]
                    break
        if not suffix:
            return None
    if suffix not in members:
        raise RawError(f"{where}: {key}: has no member .{suffix} for the label; it has {_listing(members)}")
    at = f"{where}: {key}.{suffix}"
    if suffix.rpartition(".")[2] == "json":
        facts = _parsed(suffix, members, texts, f"{where}: {key}")
        value = facts.get(name) if isinstance(facts, dict) and name else facts
    else:
        try:
            value = members[suffix].decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise RawError(f"{at}: a label is text, and this is not UTF-8") from None
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise RawError(f"{at}: a label is a number or a name, found {str(value)[:40]!r}")
    if isinstance(value, str) and value.lstrip("-").isdecimal():
        value = int(value)
    return value


def _parsed(suffix: str, members: dict[str, bytes], texts: dict[str, Any], at: str) -> Any:
    if suffix not in texts:
        try:
            texts[suffix] = json.loads(members[suffix])
        except (ValueError, RecursionError) as error:
            raise RawError(f"{at}.{suffix}: no JSON: {_line(error)}") from None
    return texts[suffix]


def _listed(facts: Any, name: str, at: str) -> np.ndarray:
    """Return nested lists of numbers as an array; null is NaN."""
    if name:
        if not isinstance(facts, dict) or name not in facts:
            known = ", ".join(map(str, facts)) if isinstance(facts, dict) else "a list"
            raise RawError(f"{at}: has no {name!r}; it has {known[:200]}")
        facts = facts[name]
    try:
        array = np.array(facts, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise RawError(f"{at}: lists of numbers, all of one length per level, are expected") from None
    return array


def _listing(members: Iterable[str]) -> str:
    return ", ".join(f".{suffix}" for suffix in members)


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
