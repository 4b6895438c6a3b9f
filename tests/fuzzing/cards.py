"""Cards of datasets with odd values, under digests that vouch for them: everything of the dataset is then read."""

import copy
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzzing import seeds

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD, card_digest
from skelpipe.manifest import SUBSETS
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

__all__ = ["card", "damaged_card", "paths", "read_all"]

REMOVED = object()
ODD: tuple[Any, ...] = (
    *(REMOVED, None, True, 0, -1, 1.5, 1e300, 2**70, 10**400, float("nan"), "", "x", "000000", "joint"),
    *(
        "../../etc/passwd",
        "\x1b[31m",
        "٣",
        "1_0",
        "a" * 10_000,
        [],
        {},
        [[]],
        {"a": 1},
        [1] * 1000,
        {"a" * 10_000: 1},
    ),
)
FIRST = 3  # entries of a list that are changed
BODIES = 25  # joints of NTU's layout


@cache
def _dataset() -> Path:
    """A dataset of a few clips in this process's temporary folder."""
    root = Path(tempfile.mkdtemp(prefix="skelpipe-fuzz-"))
    (root / "raw").mkdir()
    for number, name in enumerate(("S001C001P001R001A001", "S001C001P003R001A002", "S001C001P001R002A002")):
        rng = np.random.default_rng(number)
        (root / "raw" / f"{name}.skeleton").write_bytes(seeds.ntu_of(rng.normal(size=(5, 1, BODIES, 3))))
    prepare(load_manifest("ntu60"), [root / "raw"], root / "ds", Options("xsub", 4, 1, 2), quiet=True)
    return root / "ds"


@cache
def _beside() -> Path:
    """A folder with everything of the dataset but its card."""
    folder = _dataset().parent / "damaged"
    shutil.copytree(_dataset(), folder)
    return folder


@cache
def _contents() -> dict[tuple[str, str], bytes]:
    """The clips of each subset and view, and the labels of each subset."""
    dataset = Dataset.open(_dataset())
    return {
        (subset, view): dataset.reader(subset, view).gather(np.arange(dataset.count(subset))).tobytes()
        for subset in SUBSETS
        for view in dataset.views
    } | {(subset, "labels"): dataset.stored_labels(subset).tobytes() for subset in SUBSETS}


def card() -> bytes:
    """Return the card undamaged."""
    return (_dataset() / CARD).read_bytes()


def paths(content: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each value of a card."""
    if before:
        yield before
    if isinstance(content, dict):
        for key, value in content.items():
            yield from paths(value, (*before, key))
    elif isinstance(content, list):
        for number, value in enumerate(content[:FIRST]):
            yield from paths(value, (*before, number))


def with_value(content: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a card with another value at a path, or without it, and the digest that belongs to that."""
    changed = copy.deepcopy(content)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if value is REMOVED:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    if path != ("digest",):
        with suppress(KeyError, ValueError, TypeError):  # nobody can write such a card's digest
            changed["digest"] = card_digest(changed)
    return changed


def damaged_card(whole: bytes, random: Random) -> bytes:
    """Return a card of which one value is another one."""
    content = json.loads(whole)
    found = list(paths(content))
    changed = with_value(content, found[random.randrange(len(found))], ODD[random.randrange(len(ODD))])
    return json.dumps(changed).encode()


def read_all(content: bytes) -> object:
    """Open the dataset with this card and read everything; what is read must be what is there."""
    folder = _beside()
    (folder / CARD).write_bytes(content)
    dataset = Dataset.open(folder)
    assert repr(dataset).isprintable()
    _ = dataset.layout
    for subset in SUBSETS:
        for view in dataset.views:
            found = dataset.reader(subset, view).gather(np.arange(dataset.count(subset))).tobytes()
            assert found == _contents()[subset, view], "the clips differ"
        assert dataset.stored_labels(subset).tobytes() == _contents()[subset, "labels"], "the labels differ"
    for view in dataset.views:
        assert dataset.anchor(view).shape == dataset.shape
    return dataset
