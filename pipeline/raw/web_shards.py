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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from lzma import LZMAError
from typing import IO, Any, NamedTuple

import braceexpand
import numpy as np

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.inflating import inflating
from skelpipe.raw.npy import read_array_or_archive
from skelpipe.raw.tar_archive import BoundedTarInfo, TarPieces
from skelpipe.untrusted import described, shown

__all__ = [
    "UNLABELLED",
    "WebFields",
    "WebSample",
    "array_in",
    "expand_shards",
    "is_web_shard",
    "key_and_suffix",
    "numbered",
    "web_samples",
]

UNLABELLED = -1  # the label of a sample without one

MEMBER_BYTES = 1 << 28  # of one member; a clip of 300 frames has below a megabyte
WAITING_BYTES = 1 << 30  # of all members of samples that are not complete yet
MOST_SHARDS = 100_000
MOST_CLASSES = 1_000_000
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
RANGE = re.compile(r"\{(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})(?:\.\.(-?[0-9]{1,18}))?\}")
SECRETS = re.compile(r"^(\w+://)(?:[^/@]*@)?([^?#]*).*$", re.DOTALL)  # user-info and query of an address
NUMBER = re.compile(r"-?[0-9]{1,18}")
NAME_ARRAY = "say which, as in --array npz:NAME"
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
    """One sample: its key, its array, and its label as it is written, a number or a name; None without one.

    `suffix` is that of the member that holds the array, `offset` and `size` are where its content lies in the tar,
    inflated.
    """

    key: str
    array: np.ndarray
    label: int | str | None
    suffix: str
    offset: int
    size: int


class _Member(NamedTuple):
    content: bytes
    offset: int = 0


def is_web_shard(name: str) -> bool:
    """Say whether this is the name, or address, of a tar."""
    return name.partition("?")[0].lower().endswith(SUFFIXES)


def key_and_suffix(member: str) -> tuple[str, str] | None:
    """Return the key of a member's sample and the suffix, in lower case; None for a member of no sample."""
    from webdataset.tariterators import base_plus_ext  # imports torch, which preparing does without

    key, suffix = base_plus_ext(member)
    return None if key is None or HIDDEN.search(member) else (key, suffix.lower())


def numbered(labels: Sequence[int | str | None], where: str) -> tuple[list[int], tuple[str, ...], str]:
    """Return labels as numbers, -1 where there is none; names, in the order of the classes; and a note, or "".

    Numbers count from 0 and stay as they are, and then there are no names. Where any label is a name, all are
    names, in the order of the names. The note says where numbers seem to count from 1. Raises RawError for
    numbers below 0, and for some so large that they are no numbers of classes.
    """
    known = {label for label in labels if label is not None}
    numbers = {label for label in known if isinstance(label, int)}
    if len(numbers) < len(known):
        names = tuple(sorted(set(map(str, known))))
        place = {name: n for n, name in enumerate(names)}
        return [UNLABELLED if label is None else place[str(label)] for label in labels], names, ""
    if numbers and not 0 <= min(numbers) <= max(numbers) < MOST_CLASSES:
        wrong = min(numbers) if min(numbers) < 0 else max(numbers)
        raise RawError(f"{where}: a label is {wrong}: labels count from 0, and up to {MOST_CLASSES - 1:,}")
    note = ""
    if len(numbers) > 1 and 0 not in numbers:
        note = (
            f"{where}: no sample has label 0, the lowest is {min(numbers)}: do labels count from 1? They stay as"
            " they are, and class 0 is empty"
        )
    return [UNLABELLED if label is None else int(label) for label in labels], (), note


def array_in(content: bytes, suffix: str, name: str, at: str) -> np.ndarray:
    """Return the array in the content of a member, `.npy`, `.npz` or `.json`; `name` is its name inside it, or "".

    Raises RawError, which starts with `at`.
    """
    if suffix.rpartition(".")[2] != "json":
        return read_array_or_archive(np.frombuffer(content, np.uint8), at, name, NAME_ARRAY)
    facts = _json(content, at)
    names = _array_names(facts)
    return _listed(facts, name or (names[0] if len(names) == 1 else ""), at)


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
    waiting: dict[str, dict[str, _Member]] = {}
    done: set[str] = set()
    last, held = "", 0
    for key, suffix, member in _members(file, where):
        if key in done:
            if _is_late(suffix, member, f"{where}: {key}.{suffix}", fields):
                raise RawError(
                    f"{where}: {key}.{suffix}: comes after the sample was complete: say which member is the label"
                    f" (cls, txt or json:NAME), and see that no key is there twice"
                )
            continue
        if last and key != last and _is_complete(waiting[last], fields):
            held -= sum(len(each.content) for each in waiting[last].values())
            done.add(last)
            yield _decoded(last, waiting.pop(last), where, fields)
        members = waiting.setdefault(key, {})
        if suffix in members:
            raise RawError(f"{where}: {key}.{suffix}: is there twice")
        members[suffix] = member
        held += len(member.content)
        if held > WAITING_BYTES:
            raise RawError(
                f"{where}: the members of {len(waiting):,} samples up to {key} lie too far apart: write those of a"
                " sample one after another, or say which member is the label (none, where there are no labels)"
            )
        last = key if key in waiting else ""
    for key in list(waiting):
        yield _decoded(key, waiting.pop(key), where, fields)


def _is_late(suffix: str, member: _Member, at: str, fields: WebFields) -> bool:
    """Say whether a member that comes after its sample was complete may hold the array or the label."""
    last = suffix.rpartition(".")[2]
    if last == "json" and not fields.label:
        return bool(_label_names(_json(member.content, at)))
    return last in {*ARRAYS[:2], *LABELS[:2]}


def _members(file: IO[bytes], where: str) -> Iterator[tuple[str, str, _Member]]:
    """Yield key, suffix in lower case, and content of every member that is a file."""
    member = ""
    try:
        opened: Any = TarPieces(inflating(file, where))
        with tarfile.open(fileobj=opened, mode="r|", tarinfo=BoundedTarInfo) as tar:
            for info in tar:
                member = info.name
                tar.members = []  # type: ignore[attr-defined]  # tarfile would keep all headers
                parts = key_and_suffix(info.name)
                if not info.isreg() or parts is None:
                    continue
                if parts[1].rpartition(".")[2] not in {*ARRAYS, *LABELS}:
                    yield *parts, _Member(b"")  # not read, and never decoded
                    continue
                if info.issparse():
                    raise RawError(f"{where}: {shown(info.name)}: is sparse: pack the tar without --sparse")
                if info.size > MEMBER_BYTES:
                    raise RawError(f"{where}: {shown(info.name)}: {info.size:,} bytes are too many for one member")
                reader = tar.extractfile(info)
                assert reader is not None, "a regular file"
                content = reader.read()
                if len(content) != info.size:
                    raise RawError(f"{where}: {shown(info.name)}: cut off (in download?)")
                yield *parts, _Member(content, info.offset_data)
    except BROKEN as error:
        after = f" after {shown(member)}" if member else ""
        raise RawError(f"{where}: no tar, or one that is damaged or cut off{after}: {shown(error)}") from None


def _is_complete(members: Mapping[str, _Member], fields: WebFields) -> bool:
    return _candidate(members, fields.array, ARRAYS) and (
        fields.label == NONE or _candidate(members, fields.label, LABELS)
    )


def _candidate(members: Iterable[str], declared: str, ends: tuple[str, ...]) -> bool:
    if declared:
        return declared.partition(":")[0].lower() in members
    return any(suffix.rpartition(".")[2] in ends for suffix in members)


def _decoded(key: str, members: Mapping[str, _Member], where: str, fields: WebFields) -> WebSample:
    texts: dict[str, Any] = {}
    suffix, name = _array_member(key, members, texts, where, fields.array)
    at, member = f"{where}: {key}.{suffix}", members[suffix]
    if suffix.rpartition(".")[2] == "json":
        array = _listed(_parsed(suffix, members, texts, f"{where}: {key}"), name, at)
    else:
        array = read_array_or_archive(np.frombuffer(member.content, np.uint8), at, name, NAME_ARRAY)
    label = None if fields.label == NONE else _label(key, members, texts, where, fields.label)
    return WebSample(key, array, label, suffix, member.offset, len(member.content))


def _array_member(
    key: str, members: Mapping[str, _Member], texts: dict[str, Any], where: str, declared: str
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
            names = _array_names(facts)
            found += [(suffix, name) for name in names] if isinstance(facts, dict) else [(suffix, "")]
    if len(found) == 1:
        return found[0]
    if found:
        said = " or ".join(f"--array {suffix}:{name}" if name else f"--array {suffix}" for suffix, name in found)
        raise RawError(f"{where}: {key}: which member holds the positions? Say {shown(said)}")
    for suffix in members:
        _refuse_pickle(f"{where}: {key}.{suffix}", suffix)
    raise RawError(f"{where}: {key}: no member holds an array (.npy, .npz or .json); it has {_listing(members)}")


def _refuse_pickle(at: str, suffix: str) -> None:
    if suffix.lower().rpartition(".")[2] in PICKLES:
        raise RawError(f"{at}: would have to be unpickled, which can run any code: save the positions as .npy")


def _array_names(facts: Any) -> list[str]:
    return [name for name in ARRAY_KEYS if isinstance(facts, dict) and name in facts]


def _label_names(facts: Any) -> list[str]:
    return [name for name in LABEL_KEYS if isinstance(facts, dict) and _is_label(facts.get(name))]


def _is_label(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


def _label(
    key: str, members: Mapping[str, _Member], texts: dict[str, Any], where: str, declared: str
) -> int | str | None:
    """Return the declared label, or the only one; candidates that say the same are one."""
    if declared:
        suffix, _, name = declared.partition(":")
        suffix = suffix.lower()
        if suffix not in members:
            raise RawError(f"{where}: {key}: has no member .{suffix} for the label; it has {_listing(members)}")
        return _label_in(key, suffix, name, members, texts, where)
    found = [(suffix, "") for end in LABELS[:2] for suffix in members if suffix.rpartition(".")[2] == end]
    for suffix in (each for each in members if each.rpartition(".")[2] == "json"):
        facts = _parsed(suffix, members, texts, f"{where}: {key}")
        names = [name for name in LABEL_KEYS if isinstance(facts, dict) and name in facts]
        found += [(suffix, name) for name in _label_names(facts) or names[:1]]
    labels = {one: _label_in(key, *one, members, texts, where) for one in found}
    if len(set(labels.values())) > 1:
        said = " or ".join(
            f"--label {suffix}{':' * bool(name)}{name} (here {value})" for (suffix, name), value in labels.items()
        )
        raise RawError(f"{where}: {key}: which is the label? Say {shown(said)}")
    return next(iter(labels.values()), None)


def _label_in(
    key: str, suffix: str, name: str, members: Mapping[str, _Member], texts: dict[str, Any], where: str
) -> int | str:
    at = f"{where}: {key}.{suffix}"
    if suffix.rpartition(".")[2] == "json":
        facts = _parsed(suffix, members, texts, f"{where}: {key}")
        value = facts.get(name) if isinstance(facts, dict) and name else facts
    else:
        try:
            value = members[suffix].content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise RawError(f"{at}: a label is text, and this is not UTF-8") from None
    if not _is_label(value):
        raise RawError(f"{at}: a label is a number or a name, found {described(value)}")
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return int(value)
    assert isinstance(value, int | str)
    return value


def _parsed(suffix: str, members: Mapping[str, _Member], texts: dict[str, Any], at: str) -> Any:
    if suffix not in texts:
        texts[suffix] = _json(members[suffix].content, f"{at}.{suffix}")
    return texts[suffix]


def _json(content: bytes, at: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RawError(f"{at}: no JSON: {shown(error)}") from None


def _listed(facts: Any, name: str, at: str) -> np.ndarray:
    """Return nested lists of numbers as an array; null is NaN."""
    if name:
        if not isinstance(facts, dict) or name not in facts:
            known = ", ".join(map(str, facts)) if isinstance(facts, dict) else "a list"
            raise RawError(f"{at}: has no {described(name)}; it has {shown(known)}")
        facts = facts[name]
    try:
        array = np.array(facts)
        if array.dtype.kind in "OUS" and not (array.size and _are_numbers(array)):  # numpy reads '1_0' as 10
            raise ValueError
        array = array.astype(np.float64)
    except (ValueError, TypeError, OverflowError):
        raise RawError(f"{at}: lists of numbers, all of one length per level, are expected") from None
    return array


def _are_numbers(array: np.ndarray) -> bool:
    return all(value is None or isinstance(value, int | float) for value in array.ravel().tolist())


def _listing(members: Iterable[str]) -> str:
    return shown(", ".join(f".{suffix}" for suffix in members))
