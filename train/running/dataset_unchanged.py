"""Noticing that a dataset was replaced while a run reads it."""

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import read_card
from skelpipe.errors import DatasetError

__all__ = ["check_unchanged"]


def check_unchanged(dataset: Dataset) -> None:
    """Read the card again; DatasetError where it is another dataset's now, or no longer there.

    What a cache holds stays what it is, so where there is one nothing is asked: a fetch asks.
    """
    if dataset.remote is not None:
        if dataset.remote.cache is None:
            dataset.remote.confirm(now=True)
        return
    now = read_card(dataset.filesystem.local_path)["digest"]
    if now != dataset.digest:
        raise DatasetError(
            f"{dataset.path}: was replaced while the run was on: its digest is {now}, the run trains on "
            f"{dataset.digest}. Put that dataset back and go on with --resume, or start another run"
        )
