"""The tree of hashes under a dataset's digest: a part of a dataset can be verified, or compared, by itself.

A leaf is the hash of some content: a shard's tar or index, the rows of the sample table, an anchor, a tar of
untrimmed videos. The card holds all leaves, and its digest is a hash over them (`card_digest`). A folder's hash is
that of the names and hashes of what it holds. Leaves say nothing of containers: clips in an HDF5 file have the
hash of the shard that they would be.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skelpipe.dataset.card import SAMPLES, card_digest
from skelpipe.dataset.untrimmed import tar_name
from skelpipe.errors import UsageError
from skelpipe.files import canonical_json
from skelpipe.manifest import SUBSETS

__all__ = ["digest_of", "leaves", "part_hash", "part_leaves"]

SHOWN = 8  # names that a message lists


def leaves(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of every leaf by its name, `train/joint/000000.tar`; that of the table is of its rows."""
    return {name: holder[key] for name, holder, key in _places(card)}


def _places(card: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the name of every leaf, and the object and key of the card that hold its hash."""
    for subset in SUBSETS:
        for shard in card["splits"][subset]["shards"]:
            for view, facts in shard["views"].items():
                stem = f"{subset}/{view}/{shard['name']}"
                yield f"{stem}.tar", facts, "sha256"
                yield f"{stem}.idx", facts, "idx_sha256"
        for facts in card.get("untrimmed", {}).get(subset, {}).get("shards", ()):
            yield tar_name(subset, facts["name"]), facts, "sha256"
    yield SAMPLES, card["samples"], "sha256"
    for view, facts in card["anchors"].items():
        if view != "absent":
            yield f"anchors/{view}.npy", facts, "sha256"


def digest_of(card: Mapping[str, Any], computed: Mapping[str, str]) -> str:
    """Return the digest that a card would have with the leaves `computed` from content; every leaf is needed."""
    own = json.loads(canonical_json(card))  # a copy, however deep
    for name, holder, key in _places(own):
        holder[key] = computed[name]
    return card_digest(own)


def part_leaves(card: Mapping[str, Any], part: str) -> dict[str, str]:
    """Return the leaves of a part: a leaf, with or without its suffix, or a folder, `train` or `train/joint`.

    UsageError where there is none.
    """
    found = leaves(card)
    name = part.strip("/")
    chosen = {
        leaf: hashed
        for leaf, hashed in found.items()
        if leaf == name or leaf.startswith(f"{name}/") or leaf.rpartition(".")[0] == name
    }
    if not chosen:
        raise UsageError(f"--part {part}: there is no such part; there are: {_known(found)}")
    return chosen


def part_hash(part: Mapping[str, str]) -> str:
    """Return the hash of leaves: of a single one its own, else that of the tree of their folders."""
    if len(part) == 1:
        return next(iter(part.values()))
    tree: dict[str, Any] = {}
    for name, hashed in part.items():
        *folders, last = name.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = hashed
    while len(tree) == 1 and isinstance(inside := next(iter(tree.values())), dict):
        tree = inside
    return _folded(tree)


def _folded(tree: Mapping[str, Any]) -> str:
    plain = {name: each if isinstance(each, str) else _folded(each) for name, each in tree.items()}
    return hashlib.sha256(canonical_json(plain)).hexdigest()


def _known(names: Sequence[str] | Mapping[str, str]) -> str:
    folders = dict.fromkeys(name.rpartition("/")[0] or name for name in names)
    shown = [*list(folders)[:SHOWN], *(["…"] if len(folders) > SHOWN else [])]
    return f"{', '.join(shown)}; and each file in them"
