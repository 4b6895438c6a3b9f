"""The list of all data files of a dataset, from its card alone, for `verify`, `copy` and fetching."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skelpipe.dataset.anchor_file import most_anchor_bytes
from skelpipe.dataset.card import SAMPLES, most_table_bytes
from skelpipe.dataset.untrimmed import tar_name
from skelpipe.manifest import SUBSETS
from skelpipe.views import VIEWS

__all__ = ["DATA_FILE", "DataFile", "inventory"]

_SUBSET, _VIEW = "|".join(SUBSETS), "|".join(VIEWS)
DATA_FILE = re.compile(  # the names of data files of any dataset
    rf"({_SUBSET})/({_VIEW})/[^/]+\.(tar|idx)|untrimmed/({_SUBSET})/[^/]+\.tar|anchors/({_VIEW})\.npy"
    rf"|({_SUBSET})\.h5|{re.escape(SAMPLES)}"
)

INDEX_BYTES = 1 << 10  # of a sample in DALI's index, whose names have 100 bytes at most


@dataclass(frozen=True)
class DataFile:
    """A file listed in the card: name within the dataset, sha256, size in bytes if the card has it, and the most
    bytes that it can have.
    """

    name: str
    sha256: str
    size: int | None
    most: int


def inventory(card: Mapping[str, Any]) -> Iterator[DataFile]:
    """Yield every data file of a card, always in the same order, without README.md and the card itself."""
    for subset in SUBSETS:
        if "shards" in card.get("formats", ("shards",)):
            yield from _shards(card, subset)
        if facts := card.get("hdf5", {}).get(subset):
            yield DataFile(facts["file"], facts["sha256"], facts["bytes"], facts["bytes"])
        for facts in card.get("untrimmed", {}).get(subset, {}).get("shards", ()):
            yield DataFile(tar_name(subset, facts["name"]), facts["sha256"], facts["bytes"], facts["bytes"])
    yield DataFile(SAMPLES, card["samples_file"]["sha256"], None, most_table_bytes(card))
    for view, facts in card["anchors"].items():
        if view != "absent":
            yield DataFile(f"anchors/{view}.npy", facts["sha256"], None, most_anchor_bytes(card["shape"]))


def _shards(card: Mapping[str, Any], subset: str) -> Iterator[DataFile]:
    for shard in card["splits"][subset]["shards"]:
        for view, facts in shard["views"].items():
            stem = f"{subset}/{view}/{shard['name']}"
            yield DataFile(f"{stem}.tar", facts["sha256"], facts["bytes"], facts["bytes"])
            yield DataFile(f"{stem}.idx", facts["idx_sha256"], None, INDEX_BYTES * (1 + shard["samples"]))
