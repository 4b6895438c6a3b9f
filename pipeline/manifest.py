"""Dataset manifests: which files are recordings, what their names say, which subset of a split they fall on."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from itertools import product

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.files import canonical_json
from skelpipe.skeleton import Layout

__all__ = ["BY_ID", "SUBSETS", "Fields", "Manifest", "Segments", "Split", "Value"]

SUBSETS = ("train", "test")
BY_ID = "id"  # the field of a split by list: the recording's own id

Value = int | str
Fields = Mapping[str, Value]  # what a recording's name says: digits as numbers, anything else as text


@dataclass(frozen=True)
class Split:
    """A protocol: recordings whose `field` has a value in `train` are for training, in `test` for testing.

    With one of the two sets (None: not given) all others fall on the other subset. `published` holds the counts of
    the literature a subset, after the missing list, where there are any. A split that `needs` a file of the
    dataset's download, because no list of it is built in, has neither set until `with_lists`.
    """

    name: str
    field: str
    train: frozenset[Value] | None = None
    test: frozenset[Value] | None = None
    published: Mapping[str, int] = dataclass_field(default_factory=dict)
    needs: str = ""

    def subset(self, fields: Fields, identity: str = "") -> str | None:
        """Return the subset of a recording with these fields and this id; None where both sets leave it out."""
        value = identity if self.field == BY_ID else fields[self.field]
        if self.train is not None and value in self.train:
            return "train"
        if self.test is not None and value in self.test:
            return "test"
        if self.train is None or self.test is None:
            return "train" if self.train is None else "test"
        return None

    def with_lists(self, train: frozenset[Value], test: frozenset[Value]) -> "Split":
        """Return this split by lists of ids, such as a dataset's own split file holds."""
        return replace(self, field=BY_ID, train=train, test=test, needs="")


@dataclass(frozen=True)
class Segments:
    """How label files cut untrimmed recordings into clips.

    `suffixes` end a label file's name behind the recording's id. Of a clip longer than `longest` frames the
    middle is kept.
    """

    suffixes: tuple[str, ...]
    longest: int


@dataclass(frozen=True)
class Manifest:
    """A dataset as its authors describe it. `classes` are in label order, label 0 first.

    A recording's file is named by its id, which `name_pattern` takes apart, and one of `suffixes`. Its class is
    field `label`: a number counted from `first_label`, or a class's name; with `segments` label files tell it.
    `units` are those of positions, whose y grows downwards in the files where `y_down`. `recordings` names the
    grid of all recordings, where it is known. With `strict_names` a file of the right
    suffix and the wrong name is damage, else a stranger.
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

    def identity(self, name: str) -> str | None:
        """Return the id in a file's name, or None where it does not end like a recording's."""
        for suffix in self.suffixes:
            if name.endswith(suffix):
                return name.removesuffix(suffix)
        return None

    def fields(self, identity: str) -> dict[str, Value] | None:
        """Return what a recording's id says (setup, camera, …), or None where it is no such id."""
        match = self.name_pattern.fullmatch(identity)
        if not match:
            return None
        return {key: int(value) if value.isdecimal() else value for key, value in match.groupdict("").items()}

    def class_of(self, fields: Fields) -> int | None:
        """Return the label, from 0, that a recording's name says; None where there is no such class."""
        said = fields[self.label]
        if isinstance(said, str):
            return self.classes.index(said) if said in self.classes else None
        label = said - self.first_label
        return label if 0 <= label < len(self.classes) else None

    def outside(self, fields: Fields) -> str | None:
        """Say why a recording with these fields is not part of the dataset, or return None."""
        for key, (low, high) in self.ranges.items():
            value = fields[key]
            if isinstance(value, str) or not low <= value <= high:
                return f"not part of {self.name}: {key} {value} is outside {low} to {high}"
        return None

    def expected(self) -> Iterator[tuple[str, dict[str, int]]]:
        """Yield id and fields of every recording that the complete dataset holds, less the missing list.

        Nothing where the grid of recordings is not known.
        """
        if self.recordings is None:
            return
        grid = manifests.read_yaml("recordings", self.recordings)
        for span, (first_action, last_action) in grid["actions"].items():
            first_setup, last_setup = map(int, span.split("-"))
            for setup in range(first_setup, last_setup + 1):
                pairs = product(
                    grid["cameras"],
                    grid["subjects"][setup],
                    grid["replications"],
                    range(first_action, last_action + 1),
                )
                for camera, subject, replication, action in pairs:
                    fields = {
                        "setup": setup,
                        "camera": camera,
                        "subject": subject,
                        "replication": replication,
                        "action": action,
                    }
                    identity = f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}A{action:03}"
                    if self.outside(fields) is None and identity not in self.missing:
                        yield identity, fields

    def split(self, name: str) -> Split:
        """Return a split by name; UsageError where there is none, or a file of the download must come first."""
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
        """A hash of all that decides which files are clips, how they are read, and their subsets and labels."""
        rule = self.split(split)
        content = {
            "reader": self.reader,
            "y_down": self.y_down,
            "layout": self.layout.to_plain(),
            "name": [self.name_pattern.pattern, self.suffixes, self.strict_names],
            "label": [self.label, self.first_label, self.classes],
            "ranges": {key: list(limits) for key, limits in self.ranges.items()},
            "missing": sorted(self.missing),
            "segments": [self.segments.suffixes, self.segments.longest] if self.segments else None,
            "split": [
                rule.field,
                *(None if subset is None else sorted(map(str, subset)) for subset in (rule.train, rule.test)),
            ],
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()

    def with_split_file(self, name: str, train: frozenset[str], test: frozenset[str]) -> "Manifest":
        """Return this manifest with a split's lists taken from a file (see `skelpipe.prepare.split_file`)."""
        if name not in self.splits:
            raise UsageError(f"{self.name} has no split {name!r}; there are: {', '.join(self.splits)}")
        return replace(self, splits={**self.splits, name: self.splits[name].with_lists(train, test)})
