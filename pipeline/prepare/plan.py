"""The plan of `prepare`: clips to write, their shards, and what is left out and why."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from skelpipe.errors import RawError
from skelpipe.manifest import SUBSETS, Fields, Value
from skelpipe.raw.labels import Segment
from skelpipe.raw.source import RawFile

__all__ = ["Cut", "Drop", "Found", "Plan", "Sample", "ShardPlan", "Video", "counts"]


@dataclass(frozen=True)
class Found:
    """The file of a recording, the fields of its name, and its subset."""

    file: RawFile
    fields: Fields
    subset: str


@dataclass(frozen=True)
class Cut:
    """The frames of an untrimmed recording that are a clip: `start` to `end`, from 1, both inclusive.

    Of more than `longest` frames the middle is kept. `origin` is the file and line of the label row, for messages.
    """

    recording: str
    start: int
    end: int
    longest: int
    origin: str


@dataclass(frozen=True)
class Sample:
    """One clip to prepare. `fields` are those of its recording's name, `label` counts from 0.

    `cut` is None for a clip that is a whole recording; `note` describes what is unusual but not damaged.
    """

    id: str
    subset: str
    label: int
    fields: Fields
    file: RawFile
    cut: Cut | None = None
    note: str = ""


@dataclass(frozen=True)
class Drop:
    """One recording or clip left out, and why."""

    id: str
    subset: str
    label: int
    fields: Fields
    reason: str
    cut: Cut | None = None


@dataclass(frozen=True)
class Video:
    """One untrimmed recording with the rows of its label file."""

    id: str
    subset: str
    fields: Fields
    file: RawFile
    rows: tuple[Segment, ...]


@dataclass(frozen=True)
class ShardPlan:
    """The clips of one shard, sorted by id."""

    subset: str
    name: str
    samples: tuple[Sample, ...]


@dataclass
class Plan:
    """The plan of `prepare`. Samples, drops and videos are sorted by id."""

    samples: list[Sample] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    imported: bool = False  # whether names, labels and subsets are those of other programs' files
    outside: Counter[str] = field(default_factory=Counter)  # number of ignored recordings, by reason
    unlisted: set[Value] = field(default_factory=set)  # values of the split's field on neither of its lists
    label_files: dict[RawFile, str] = field(default_factory=dict)  # of untrimmed recordings, with their XXH128
    others: int = 0  # number of files that are not recordings
    other: str = ""  # the first of them

    def shards(self, size: int) -> list[ShardPlan]:
        """Cut each subset into shards of `size` samples; the last one may be shorter."""
        shards = []
        for subset in SUBSETS:
            chosen = [sample for sample in self.samples if sample.subset == subset]
            for number, start in enumerate(range(0, len(chosen), size)):
                shards.append(ShardPlan(subset, f"{number:06d}", tuple(chosen[start : start + size])))
        return shards

    @property
    def newest(self) -> int:
        """The time of the last change of a sample's file, in ns."""
        return max((sample.file.changed for sample in self.samples), default=0)

    def fingerprint(self, *, times: bool = False) -> str:
        """Return a hash of the ids and sizes of all recordings; with `times` also of their times of change.

        Times are valid on this machine only: they show whether a file was edited while a prepare was unfinished.
        """
        hasher = hashlib.sha256()
        for sample in self.samples:
            changed = sample.file.changed if times else ""
            frames = f" {sample.label} {sample.cut.start} {sample.cut.end}" if sample.cut else ""
            if self.imported:  # neither its name nor the manifest says these
                frames += f" {sample.file.item} {sample.subset} {sample.label}"
            hasher.update(f"{sample.id} {sample.file.size} {changed}{frames}\n".encode())
            for _, part in sample.file.parts:
                hasher.update(
                    f"{part.relative.rpartition('/')[2]} {part.size} {part.changed if times else ''}\n".encode()
                )
        for drop in self.drops:
            hasher.update(f"{drop.id} {drop.reason}\n".encode())
        return hasher.hexdigest()

    def refuse(self, drop: Drop, message: str, *, skip_bad: bool) -> None:
        """Add a drop if damaged recordings are to be skipped, else raise a RawError with the message."""
        if not skip_bad:
            raise RawError(f"{message}; repair it, move it away or pass --on-error skip")
        self.drops.append(drop)


def counts(samples: Sequence[Sample] | Sequence[Drop]) -> dict[str, int]:
    """Return the number of samples in each subset."""
    found = Counter(sample.subset for sample in samples)
    return {subset: found[subset] for subset in SUBSETS}
