"""What `prepare` is going to do: clips to make, their shards, and what is left out and why."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from skelpipe.errors import RawError
from skelpipe.manifest import SUBSETS, Fields
from skelpipe.raw.labels import Segment
from skelpipe.raw.source import RawFile

__all__ = ["Cut", "Drop", "Found", "Plan", "Sample", "ShardPlan", "Video", "counts"]


@dataclass(frozen=True)
class Found:
    """A recording's file, and what its name says."""

    file: RawFile
    fields: Fields
    subset: str


@dataclass(frozen=True)
class Cut:
    """Which frames of an untrimmed recording are a clip: `start` to `end`, from 1, both included.

    `origin` is the row that says so, for messages.
    """

    recording: str
    start: int
    end: int
    longest: int
    origin: str


@dataclass(frozen=True)
class Sample:
    """One clip to prepare. `fields` are what its recording's name says, `label` counts from 0.

    `cut` is None for a clip that is a whole recording; `note` tells what is odd but no damage.
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
    """What `prepare` is going to do. Samples, drops and videos are sorted by id."""

    samples: list[Sample] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)  # recordings left aside, by reason
    others: int = 0  # files that are no recordings

    def shards(self, size: int) -> list[ShardPlan]:
        """Cut each subset into shards of `size` samples, the last one shorter."""
        shards = []
        for subset in SUBSETS:
            chosen = [sample for sample in self.samples if sample.subset == subset]
            for number, start in enumerate(range(0, len(chosen), size)):
                shards.append(ShardPlan(subset, f"{number:06d}", tuple(chosen[start : start + size])))
        return shards

    @property
    def newest(self) -> int:
        """When the last of the samples' files was written, in ns."""
        return max((sample.file.changed for sample in self.samples), default=0)

    def fingerprint(self, *, times: bool = False) -> str:
        """A hash of the ids and sizes of all recordings found; with `times` also of when they were written.

        Times are of this machine: they tell a cut-off prepare that a file was edited, and never leave it.
        """
        hasher = hashlib.sha256()
        for sample in self.samples:
            changed = sample.file.changed if times else ""
            frames = f" {sample.label} {sample.cut.start} {sample.cut.end}" if sample.cut else ""
            hasher.update(f"{sample.id} {sample.file.size} {changed}{frames}\n".encode())
        for drop in self.drops:
            hasher.update(f"{drop.id} {drop.reason}\n".encode())
        return hasher.hexdigest()

    def refuse(self, drop: Drop, message: str, *, skip_bad: bool) -> None:
        """Note a drop or, unless bad recordings are to be skipped, raise a RawError with the message."""
        if not skip_bad:
            raise RawError(f"{message}; mend it, move it away or pass --on-error skip")
        self.drops.append(drop)


def counts(samples: Sequence[Sample] | Sequence[Drop]) -> dict[str, int]:
    """Return how many of them fall on each subset."""
    found = Counter(sample.subset for sample in samples)
    return {subset: found[subset] for subset in SUBSETS}
