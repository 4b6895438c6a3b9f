"""From file names alone to a plan: which recordings are kept, on which side of the split, in which shard."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from skelpipe.errors import RawError
from skelpipe.manifest import SIDES, Manifest
from skelpipe.raw.source import RawFile

__all__ = ["Drop", "Plan", "Sample", "ShardPlan", "counts", "make_plan"]

MISNAMED = "its name is no recording's name of this dataset"
DOUBLED = "the id is found more than once"
MISSING = "on the dataset's list of missing or incomplete skeletons"


@dataclass(frozen=True)
class Sample:
    """One recording to prepare. `fields` are what its name says, `label` counts from 0."""

    id: str
    side: str
    label: int
    fields: dict[str, int]
    file: RawFile


@dataclass(frozen=True)
class Drop:
    """One recording left out, and why."""

    id: str
    side: str
    label: int
    fields: dict[str, int]
    reason: str


@dataclass(frozen=True)
class ShardPlan:
    """The recordings of one shard, sorted by id."""

    side: str
    name: str
    samples: tuple[Sample, ...]


@dataclass
class Plan:
    """What `prepare` is going to do. Samples and drops are sorted by id."""

    samples: list[Sample] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)  # recordings of another dataset, by reason
    others: int = 0  # files that are no recordings

    def shards(self, size: int) -> list[ShardPlan]:
        """Cut each side into shards of `size` samples, the last one shorter."""
        shards = []
        for side in SIDES:
            chosen = [sample for sample in self.samples if sample.side == side]
            for number, start in enumerate(range(0, len(chosen), size)):
                shards.append(ShardPlan(side, f"{number:06d}", tuple(chosen[start : start + size])))
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
            hasher.update(f"{sample.id} {sample.file.size} {changed}\n".encode())
        for drop in self.drops:
            hasher.update(f"{drop.id} {drop.reason}\n".encode())
        return hasher.hexdigest()


def make_plan(manifest: Manifest, split_name: str, files: Iterable[RawFile], *, skip_bad: bool) -> Plan:
    """Sort the files into samples, drops and strangers.

    A misnamed recording or an id found twice is a RawError that names the files; with `skip_bad` it is a drop.
    Of an id found twice none is taken then: which one is right would be a guess.
    """
    split = manifest.split(split_name)
    plan = Plan()
    seen: dict[str, RawFile] = {}
    twice: set[str] = set()
    for file in files:
        name = file.relative.rpartition("/")[2]
        if not name.endswith(manifest.suffix):
            plan.others += 1
            continue
        identity = name.removesuffix(manifest.suffix)
        fields = manifest.fields(identity)
        if fields is None:
            if not skip_bad:
                raise _refusal(file, MISNAMED)
            plan.drops.append(Drop(identity, "", -1, {}, MISNAMED))
            continue
        if reason := manifest.outside(fields):
            plan.outside[reason] += 1
            continue
        side, label = split.side(fields), fields["action"] - 1
        if identity in seen:
            if not skip_bad:
                raise _refusal(file, f"the id is found twice, first as {seen[identity].path}")
            twice.add(identity)
            continue
        seen[identity] = file
        if identity in manifest.missing:
            plan.drops.append(Drop(identity, side, label, fields, MISSING))
        else:
            plan.samples.append(Sample(identity, side, label, fields, file))
    doubled = [sample for sample in plan.samples if sample.id in twice]
    plan.drops += [Drop(s.id, s.side, s.label, s.fields, DOUBLED) for s in doubled]
    plan.samples = [sample for sample in plan.samples if sample.id not in twice]
    plan.samples.sort(key=lambda sample: sample.id)
    plan.drops.sort(key=lambda drop: (drop.id, drop.reason))
    return plan


def _refusal(file: RawFile, reason: str) -> RawError:
    return RawError(f"{file.path}: {reason}; move it away or pass --on-error skip")


def counts(samples: Sequence[Sample] | Sequence[Drop]) -> dict[str, int]:
    """Return how many of them fall on each side."""
    found = Counter(sample.side for sample in samples)
    return {side: found[side] for side in SIDES}
