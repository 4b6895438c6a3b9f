"""Dataset manifests: which files are recordings, what their names say, which side of a split they fall on."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.skeleton import Layout, layout

__all__ = ["Manifest", "Split", "load_manifest"]

SIDES = ("train", "test")


@dataclass(frozen=True)
class Split:
    """A protocol: recordings whose `field` has a value in `train` are for training, all others for testing.

    `published` holds the counts of the literature, after the missing list, a side.
    """

    name: str
    field: str
    train: frozenset[int]
    published: Mapping[str, int]

    def side(self, fields: Mapping[str, int]) -> str:
        return "train" if fields[self.field] in self.train else "test"


@dataclass(frozen=True)
class Manifest:
    """A dataset as its authors describe it. `classes` are in label order, label 0 first.

    A recording's file is named by its id, which `name_pattern` takes apart, and `suffix`. `recordings` names the
    grid of all recordings, where it is known.
    """

    name: str
    title: str
    reader: str
    layout: Layout
    bodies: int
    name_pattern: re.Pattern[str]
    suffix: str
    ranges: Mapping[str, tuple[int, int]]
    missing: frozenset[str]
    recordings: str | None
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    terms: str
    homepage: str

    def fields(self, identity: str) -> dict[str, int] | None:
        """Return what a recording's id says (setup, camera, …), or None where it is no such id."""
        match = self.name_pattern.fullmatch(identity)
        return {key: int(value) for key, value in match.groupdict().items()} if match else None

    def outside(self, fields: Mapping[str, int]) -> str | None:
        """Say why a recording with these fields is not part of the dataset, or return None."""
        for key, (low, high) in self.ranges.items():
            if not low <= fields[key] <= high:
                return f"not part of {self.name}: {key} {fields[key]} is outside {low} to {high}"
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
        if name not in self.splits:
            raise UsageError(f"{self.name} has no split {name!r}; there are: {', '.join(self.splits)}")
        return self.splits[name]


@cache
def load_manifest(name: str) -> Manifest:
    """Return a built-in dataset's manifest by name, such as `ntu60`."""
    try:
        content = manifests.read_yaml("datasets", name)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from None
    classes = content["classes"]
    return Manifest(
        name=content["name"],
        title=content["title"],
        reader=content["reader"],
        layout=layout(content["layout"]),
        bodies=content["bodies"],
        name_pattern=re.compile(content["name_pattern"]),
        suffix=content["suffix"],
        ranges={key: (low, high) for key, (low, high) in content["ranges"].items()},
        recordings=content.get("recordings"),
        missing=frozenset(manifests.read_lines("missing", content["missing"])),
        classes=tuple(manifests.read_lines("classes", classes["file"])[: classes["first"]]),
        splits={
            key: Split(key, split["field"], frozenset(split["train"]), split["published"])
            for key, split in content["splits"].items()
        },
        terms=content["terms"],
        homepage=content["homepage"],
    )
