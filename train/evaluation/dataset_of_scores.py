"""The dataset that scores are of, where it can be found."""

import os
from pathlib import Path

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD
from skelpipe.errors import SkelpipeError, UsageError

__all__ = ["find_dataset"]


def find_dataset(
    shards: str | None, digest: str, cache: Path | None = None, cache_size: int | None = None
) -> Dataset | None:
    """Return the dataset at `shards`, or the one with this digest at $SKELPIPE_SHARDS, here or under `data/`.

    None where no place has it; UsageError where `shards` names another one.
    """
    if shards is not None:
        dataset = Dataset.open(shards, cache=cache, cache_size=cache_size)
        if dataset.digest != digest:
            raise UsageError(
                f"{dataset.path} has digest {dataset.digest[:12]}, the scores are of a dataset with {digest[:12]}"
            )
        return dataset
    places = [os.environ.get("SKELPIPE_SHARDS", ""), ".", *sorted(str(card.parent) for card in _cards())]
    for place in places:
        if place and Path(place, CARD).is_file():
            try:
                dataset = Dataset.open(place)
            except SkelpipeError:
                continue  # it is not needed: a report without drawings says how to add them
            if dataset.digest == digest:
                return dataset
    return None


def _cards() -> list[Path]:
    return list(Path("data").glob(f"*/{CARD}"))
