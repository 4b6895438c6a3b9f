"""The recordings of a synthetic NTU RGB+D: names in the manifest's ranges, in both subsets of every split."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from skelpipe.errors import UsageError
from skelpipe.manifest import SUBSETS, Manifest, Value
from skelpipe.manifest_file import load_manifest
from skelpipe.synth.actions import INTERACTIONS
from skelpipe.synth.choice import choose_classes, in_turns, require_between

__all__ = ["CAMERAS", "Performance", "plan_performances", "split_counts"]

CAMERAS = (1, 2, 3)
REPLICATIONS = 2  # per subject and action in one setup
LAST_OF_NTU60, LAST_SETUP_OF_NTU60 = 60, 17  # later classes were recorded in later setups
PARITIES = (0, 1, 1, 0)  # odd or even first setup, subject by subject: independent of the alternation train, test


@dataclass(frozen=True, order=True)
class Performance:
    """One performance, recorded by every camera of `CAMERAS`."""

    setup: int
    subject: int
    replication: int
    action: int

    def file_name(self, camera: int) -> str:
        return f"S{self.setup:03}C{camera:03}P{self.subject:03}R{self.replication:03}A{self.action:03}.skeleton"


def plan_performances(dataset: str, subjects: int, actions: int, repeats: int) -> list[Performance]:
    """List subjects x actions x repeats performances of a dataset, sorted.

    Subjects alternate between the subsets of the cross-subject split, and setups between odd and even, so both
    subsets of each split have recordings from two subjects on. A setup has two replications; more repeats use
    more setups. No name on the manifest's missing list is used. Raises UsageError if there are too few names.
    """
    manifest = load_manifest(dataset)
    chosen = _subjects(manifest, subjects)
    classes = _actions(manifest, actions)
    require_between("repeats", repeats, 1, repeats, "at least 1 is needed")
    avoid = _missing_pairs(manifest)
    found = []
    for position, subject in enumerate(chosen):
        for group in _setup_groups(manifest):
            members = [action for action in classes if (action <= LAST_OF_NTU60) == (group[0] == 1)]
            setups = _free_setups(group, subject, PARITIES[position % 4], avoid)
            needed = -(-repeats // REPLICATIONS)
            if members and needed > len(setups):
                raise UsageError(
                    f"--repeats {repeats}: {dataset} has room for {REPLICATIONS * len(setups)} repeats of "
                    f"subject {subject} (two in each setup); ask for fewer"
                )
            found += [
                Performance(setups[r // REPLICATIONS], subject, 1 + r % REPLICATIONS, action)
                for r in range(repeats)
                for action in members
            ]
    return sorted(found)


def split_counts(dataset: str, performances: Sequence[Performance]) -> dict[str, dict[str, int]]:
    """Count the recordings in each subset of each split of the dataset."""
    fields = [asdict(performance) | {"camera": camera} for performance in performances for camera in CAMERAS]
    counts = {}
    for name, split in load_manifest(dataset).splits.items():
        subsets = [split.subset(recording) for recording in fields]
        counts[name] = {subset: subsets.count(subset) for subset in SUBSETS}
    return counts


def _subjects(manifest: Manifest, count: int) -> list[int]:
    low, high = manifest.ranges["subject"]
    require_between("subjects", count, 1, high - low + 1, f"{manifest.name} has subjects {low} to {high}")
    split = next(split for split in manifest.splits.values() if split.field == "subject")
    numbers = range(low, high + 1)
    by_subset = [[s for s in numbers if split.subset({"subject": s}) == subset] for subset in SUBSETS]
    return list(in_turns(by_subset))[:count]


def _actions(manifest: Manifest, count: int) -> list[int]:
    """Choose classes of NTU 60 and, where the dataset has them, of NTU 120."""
    low, high = manifest.ranges["action"]
    require_between("actions", count, 1, high - low + 1, f"{manifest.name} has actions {low} to {high}")
    pairs = [a for a in range(low, high + 1) if a in INTERACTIONS]
    singles = [a for a in range(low, high + 1) if a not in INTERACTIONS]
    return choose_classes(_early_and_late(singles), _early_and_late(pairs), count)


def _early_and_late(actions: list[int]) -> list[int]:
    return list(in_turns([[a for a in actions if (a <= LAST_OF_NTU60) == early] for early in (True, False)]))


def _setup_groups(manifest: Manifest) -> list[list[int]]:
    low, high = manifest.ranges["setup"]
    groups = ([s for s in range(low, high + 1) if (s <= LAST_SETUP_OF_NTU60) == early] for early in (True, False))
    return [group for group in groups if group]


def _missing_pairs(manifest: Manifest) -> frozenset[tuple[Value, Value]]:
    """The (setup, subject) pairs with a missing recording."""
    listed = (manifest.fields(name) for name in manifest.missing)
    return frozenset((fields["setup"], fields["subject"]) for fields in listed if fields)


def _free_setups(group: list[int], subject: int, parity: int, avoid: frozenset[tuple[Value, Value]]) -> list[int]:
    """The setups of a subject, in order: odd and even in turns, `parity` first; starts vary by subject."""
    free = [s for s in group if (s, subject) not in avoid]
    start = subject % len(free)
    turned = free[start:] + free[:start]
    queues = [[s for s in turned if s % 2 == remainder] for remainder in (parity, 1 - parity)]
    return list(in_turns(queues))
