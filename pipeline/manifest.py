"""Dataset manifests: which files are recordings, the fields of their names, and their subset in each split."""

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import cached_property, lru_cache
from itertools import product

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.files import canonical_json
from skelpipe.sample_ids import sample_id
from skelpipe.skeleton import Layout
from skelpipe.untrusted import whole
from skelpipe.yaml_reader import parse_yaml

__all__ = [
    "BODY_CHOICES",
    "BY_ID",
    "EMPTY_FRAMES",
    "MISSING_JOINTS",
    "SUBSETS",
    "Fields",
    "LabelTable",
    "Manifest",
    "Segments",
    "Split",
    "Value",
    "Windows",
    "as_value",
]

SUBSETS = ("train", "test")
BY_ID = "id"  # the field of a split by lists of recording ids
# What is done with more bodies than a clip holds, with frames that show no body, with joints that were not found
# (docs/own-dataset.md).
BODY_CHOICES = ("motion", "first")
EMPTY_FRAMES = ("as-authors", "dropped", "held", "interpolated")
MISSING_JOINTS = ("refused", "held", "interpolated", "parent")

MOST_DIGITS = 4000  # Python makes no number of more

Value = int | str
Fields = Mapping[str, Value]  # the fields of a recording's name: digits as numbers, anything else as text


@lru_cache(maxsize=1 << 12)
def as_value(text: str) -> Value:
    """Return the value of a field: digits as a number, anything else as text."""
    number = whole(text, MOST_DIGITS)
    return text if number is None else number


@dataclass(frozen=True)
class Split:
    """A protocol: a recording is in the train subset if `train` holds the value of its `field`; likewise for test.

    If one of the two sets is None, all other recordings are in its subset. `published` holds the published number
    of clips per subset, without the missing ones, where there is one. A split that `needs` a file of the dataset's
    download, because no list is built in, has neither set until `with_lists`.
    """

    name: str
    field: str
    train: frozenset[Value] | None = None
    test: frozenset[Value] | None = None
    published: Mapping[str, int] = dataclass_field(default_factory=dict)
    needs: str = ""

    def subset(self, fields: Fields, name: str = "") -> str | None:
        """Return the subset of a recording with these fields and this name, or None if it is in neither.

        A list of ids may hold names or their ids.
        """
        values: set[Value] = {name, sample_id(name)} if self.field == BY_ID else {fields[self.field]}
        if self.train is not None and not self.train.isdisjoint(values):
            return "train"
        if self.test is not None and not self.test.isdisjoint(values):
            return "test"
        if self.train is None or self.test is None:
            return "train" if self.train is None else "test"
        return None

    def with_lists(self, train: frozenset[Value], test: frozenset[Value]) -> "Split":
        """Return this split with lists of ids, such as those of a split file."""
        return replace(self, field=BY_ID, train=train, test=test, needs="")


@dataclass(frozen=True)
class Segments:
    """How label files cut untrimmed recordings into clips.

    The name of a label file is the recording's id followed by one of `suffixes`. Of a clip longer than `longest`
    frames, the middle `longest` frames are kept.
    """

    suffixes: tuple[str, ...]
    longest: int


@dataclass(frozen=True)
class Windows:
    """How long recordings are cut into clips of `length` frames, one every `stride` frames.

    The last window starts earlier, so that it ends with the last frame. A recording that is not longer than a
    window is one clip.
    """

    length: int
    stride: int

    def starts(self, frames: int) -> list[int]:
        """Return the first frame, from 0, of each window of a recording."""
        last = max(0, frames - self.length)
        starts = list(range(0, last + 1, self.stride))
        return starts if starts[-1] == last else [*starts, last]


@dataclass(frozen=True)
class LabelTable:
    """A file that says what the recordings are: for each name of a recording its class and further fields."""

    file: str
    rows: Mapping[str, Fields]

    def get(self, name: str) -> Fields | None:
        """Return the fields of a recording; None where no row names it, by its name, id or file."""
        return self.rows.get(name, self.rows.get(sample_id(name)))


@dataclass(frozen=True)
class Manifest:
    """A dataset as its authors describe it. `classes` are in label order, label 0 first; none without labels.

    The name of a recording is its file's name without one of `suffixes`, and the folders above it as far as
    `name_pattern` has slashes; in lower or upper `case`, if there is one, however it is written. The pattern
    splits the name into fields; `table` adds those of a file. The class is the field `label`: a number counted
    from `first_label`, or one of `class_numbers` where classes have numbers of their own, or a class name; with
    `segments` the label files hold the classes. `units` are the units of positions; with `y_down`, y grows
    downwards in the files. `recordings` names the grid of all recordings, if it is known. A file with the right
    suffix and a wrong name is an error with `strict_names`; without, it is no recording. `own` says that a user
    wrote the manifest.

    `made_by` is the profile that had made clips of the arrays before they were stored, empty for recordings as
    they were captured. If arrays are `padded`, zeros at their end are no frames.
    """

    name: str
    title: str
    reader: str
    layout: Layout
    units: str
    y_down: bool
    bodies: int
    name_pattern: re.Pattern[str]
    suffixes: tuple[str, ...]
    strict_names: bool
    label: str
    first_label: int
    ranges: Mapping[str, tuple[int, int]]
    missing: frozenset[str]
    recordings: str | None
    segments: Segments | None
    classes: tuple[str, ...]
    classes_note: str
    splits: Mapping[str, Split]
    terms: str
    homepage: str
    own: bool = False
    case: str = ""
    table: LabelTable | None = None
    windows: Windows | None = None
    axes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    array: str = ""
    body_choice: str = "first"
    empty_frames: str = "as-authors"
    missing_joints: str = "refused"
    missing_value: float | None = None
    class_numbers: tuple[int, ...] = ()
    image_size: tuple[int, int] | None = None
    made_by: str = ""
    padded: bool = True

    @property
    def imported(self) -> bool:
        """Whether `skelpipe import` made it, which has options where a file of a manifest has keys."""
        return self.suffixes == ("",)

    @property
    def stored_channels(self) -> tuple[str, ...]:
        """The channels of a clip: x, y and z (0 in 2D poses), and the score where the files hold one."""
        return ("x", "y", "z", "score") if "score" in self.channels else ("x", "y", "z")

    @property
    def labelled(self) -> bool:
        return bool(self.classes)

    @cached_property
    def depth(self) -> int:
        """The most parts that the pattern takes of a path: the file's name, and a folder per slash."""
        written = self.name_pattern.pattern.replace(r"\/", "/")
        return 1 + re.sub(r"\\.|\[[^]]*\]", "", written).count("/")

    def identity(self, path: str, suffixes: tuple[str, ...] | None = None) -> str | None:
        """Return the name of the recording in the path of its file, or None without a suffix of a recording.

        `suffixes` are others than those of the dataset. The case of suffixes does not count, and `.gz`, or the
        `.txt` that a mail program or Windows adds to a name, may follow them.
        """
        *folders, file = path.replace(os.sep, "/").split("/")
        name = self._without_suffix(file, suffixes or self.suffixes)
        if name is None:
            return None
        if self.depth > 1:
            folders = os.path.abspath(path).replace(os.sep, "/").split("/")[1:-1]
        for taken in range(min(self.depth - 1, len(folders)), 0, -1):
            longer = self._in_case("/".join([*folders[-taken:], name]))
            if self.name_pattern.fullmatch(longer) and (self.table is None or self.table.get(longer) is not None):
                return longer
        return self._in_case(name)

    def _without_suffix(self, file: str, suffixes: tuple[str, ...]) -> str | None:
        lower = file.lower()
        ends = _endings(tuple(suffixes), texts=self.reader != "npy")  # a text beside an array is a note on it
        for end in ends:
            if lower.endswith(end):
                return file[: -len(end)]
        return None

    def _in_case(self, name: str) -> str:
        return name.upper() if self.case == "upper" else name.lower() if self.case == "lower" else name

    def fields(self, name: str) -> dict[str, Value] | None:
        """Return the fields of a recording's name (setup, camera, …), or None if it does not match the pattern."""
        match = self.name_pattern.fullmatch(name)
        if not match:
            return None
        found = {key: as_value(value) for key, value in match.groupdict("").items()}
        return found if self.table is None else {**found, **(self.table.get(name) or {})}

    def class_of(self, fields: Fields) -> int | None:
        """Return the label, from 0, of a recording with these fields, or None if there is no such class.

        Without classes, the label of every recording is -1.
        """
        if not self.labelled:
            return -1
        value = fields.get(self.label, "")
        if isinstance(value, str):
            return self.classes.index(value) if value in self.classes else None
        return self.label_of(value)

    def label_of(self, number: int) -> int | None:
        """Return the label, from 0, of the class with this number in names or label files, or None."""
        if self.class_numbers:
            return self.class_numbers.index(number) if number in self.class_numbers else None
        label = number - self.first_label
        return label if 0 <= label < len(self.classes) else None

    @property
    def numbering(self) -> str:
        """The numbers of the classes, in words."""
        if self.class_numbers:
            return "numbered " + ", ".join(map(str, self.class_numbers))
        return f"numbered {self.first_label} to {self.first_label + len(self.classes) - 1}"

    def without_lists(self) -> "Manifest":
        """Return this manifest without what only planning needs, which may be long: for the jobs of workers."""
        return replace(self, table=None, splits={}, missing=frozenset())

    def outside(self, fields: Fields) -> str | None:
        """Return why a recording with these fields is not part of the dataset, or None if it is."""
        for key, (low, high) in self.ranges.items():
            value = fields[key]
            if isinstance(value, str) or not low <= value <= high:
                return f"not part of {self.name}: {key} {value} is outside {low} to {high}"
        return None

    def expected(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield id and fields of every recording of the complete dataset, without the missing ones.

        Yields nothing if the grid of recordings is not known.
        """
        for head, numbers, actions in self._expected():
            for tail, action in actions:
                if (identity := head + tail) not in self.missing:
                    yield identity, {**numbers, "action": action}

    def expected_ids(self) -> Iterator[str]:
        """Yield the ids of `expected`, in a fraction of its time."""
        for head, _, actions in self._expected():
            yield from (identity for tail, _ in actions if (identity := head + tail) not in self.missing)

    def _expected(self) -> Iterator[tuple[str, dict[str, int], list[tuple[str, int]]]]:
        """Yield per sitting how its ids begin, its fields, and the ends of its ids with their actions."""
        if self.recordings is None:
            return
        grid = parse_yaml(manifests.read_text("recordings", self.recordings), f"{self.recordings}.yaml")

        def inside(key: str, numbers: Iterable[int]) -> list[int]:
            low, high = self.ranges.get(key, (-math.inf, math.inf))
            return [number for number in numbers if low <= number <= high]

        for span, (first_action, last_action) in grid["actions"].items():
            first_setup, last_setup = map(int, span.split("-"))
            actions = [
                (f"A{action:03}", action) for action in inside("action", range(first_action, last_action + 1))
            ]
            for setup in inside("setup", range(first_setup, last_setup + 1)):
                sittings = product(
                    inside("camera", grid["cameras"]),
                    inside("subject", grid["subjects"][setup]),
                    inside("replication", grid["replications"]),
                )
                for camera, subject, replication in sittings:
                    numbers = {"setup": setup, "camera": camera, "subject": subject, "replication": replication}
                    yield f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}", numbers, actions

    def split(self, name: str) -> Split:
        """Return a split by name; UsageError if there is none, or if it needs a file of the download."""
        if name not in self.splits:
            raise UsageError(f"{self.name} has no split {name!r}; there are: {', '.join(self.splits)}")
        split = self.splits[name]
        if split.needs:
            raise UsageError(
                f"the lists of split {name} of {self.name} are not built in: pass --split-file with the file"
                f" {split.needs} of the dataset's download"
            )
        return split

    def definition(self, split: str) -> str:
        """Return a hash of everything that decides which files are clips, their reading, subsets and labels."""
        rule = self.split(split)
        form = [self.axes, self.channels, self.array, self.missing_value]
        content = {
            "reader": self.reader,
            "y_down": self.y_down,
            **({"form": form} if form != [(), (), "", None] else {}),
            **({"image_size": list(self.image_size)} if self.image_size else {}),
            "layout": self.layout.to_plain(),
            "name": [self.name_pattern.pattern, self.suffixes, self.strict_names],
            "label": [self.label, self.class_numbers or self.first_label, self.classes],
            "ranges": {key: list(limits) for key, limits in self.ranges.items()},
            "missing": sorted(self.missing),
            "segments": [self.segments.suffixes, self.segments.longest] if self.segments else None,
            "split": [
                rule.field,
                *(None if subset is None else sorted(map(str, subset)) for subset in (rule.train, rule.test)),
            ],
        }
        if self.windows:
            content["windows"] = [self.windows.length, self.windows.stride]
        if self.case and self.own:
            content["case"] = self.case
        if self.table:
            content["table"] = {name: dict(row) for name, row in self.table.rows.items()}
        return hashlib.sha256(canonical_json(content)).hexdigest()

    def with_split_file(self, name: str, train: frozenset[str], test: frozenset[str]) -> "Manifest":
        """Return this manifest with the lists of a split file (see `skelpipe.prepare.split_file`)."""
        if name not in self.splits:
            raise UsageError(f"{self.name} has no split {name!r}; there are: {', '.join(self.splits)}")
        return replace(self, splits={**self.splits, name: self.splits[name].with_lists(train, test)})


@lru_cache(maxsize=64)
def _endings(suffixes: tuple[str, ...], *, texts: bool) -> tuple[str, ...]:
    added = ("", ".gz", ".txt", ".txt.gz") if texts else ("", ".gz")
    return tuple(suffix.lower() + end for end in added for suffix in suffixes)
