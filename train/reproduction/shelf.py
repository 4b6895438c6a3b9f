"""The datasets under a root, found by their cards: by dataset, split and number of frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD
from skelpipe.errors import DatasetError, UsageError
from skelpipe.storage import child_url, open_filesystem
from skelpipe.train.running.provenance import dataset_name

__all__ = ["Shelf", "open_shelf"]


@dataclass(frozen=True)
class Shelf:
    """The datasets under `root` by name (`ntu60-xsub`) and frames, and by digest the URLs they are read from."""

    root: str
    datasets: Mapping[tuple[str, int], Dataset]
    urls: Mapping[str, str]

    def find(self, name: str, frames: int) -> Dataset | None:
        """Return the dataset of a name whose clips have so many frames."""
        return self.datasets.get((name, frames))

    def missing(self, name: str, frames: int) -> str:
        """Say what there is instead of a dataset that is not there, and what to do about it."""
        others = sorted(length for other, length in self.datasets if other == name)
        if not others:
            return f"{self.root} has no {name} of {frames} frames"
        return (
            f"{self.root} has no {name} of {frames} frames, only of {' and '.join(map(str, others))}: prepare it "
            f"with --frames {frames}, or run on the other length with --frames {others[0]}"
        )


def open_shelf(root: str, names: Sequence[str], lengths: Sequence[int], say: Callable[[str], None]) -> Shelf:
    """Open every dataset in a folder of the root, whatever the folder's name; only cards are read.

    `say` gets a line for each folder whose card is damaged. A web address cannot list its folders: there a dataset
    is looked for as NAME and as NAME-FRAMES, with these `names` and `lengths`. Raises UsageError for two different
    datasets of one name and length.
    """
    found: dict[tuple[str, int], Dataset] = {}
    urls: dict[str, str] = {}
    places: dict[tuple[str, int], str] = {}
    filesystem = open_filesystem(root)
    for folder, is_card in _folders(root, names, lengths):
        url = child_url(root, folder)
        try:
            dataset = Dataset.open(url)
        except DatasetError as error:
            if is_card:
                say(f"{folder} is left out: {error}")
            continue
        key = (dataset_name(dataset), dataset.frames)
        other = found.setdefault(key, dataset)
        if other.digest != dataset.digest:
            raise UsageError(
                f"{filesystem}: {places[key]} and {folder} are different datasets, both {key[0]} of {key[1]} "
                "frames: move one of them elsewhere"
            )
        places.setdefault(key, folder)
        urls.setdefault(dataset.digest, url)
    return Shelf(str(filesystem), found, urls)


def _folders(root: str, names: Sequence[str], lengths: Sequence[int]) -> list[tuple[str, bool]]:
    """Return the folders that may hold a dataset, and whether each is known to hold a card."""
    filesystem = open_filesystem(root)
    if filesystem.is_local:
        cards = filesystem.local_path.glob(f"*/{CARD}")
        return sorted((card.parent.name, True) for card in cards)
    try:
        listed = [PurePosixPath(name) for name in filesystem.names()]
    except UsageError:  # a web address
        return [(folder, False) for name in names for folder in (name, *(f"{name}-{each}" for each in lengths))]
    return sorted((path.parts[0], True) for path in listed if path.name == CARD and len(path.parts) == 2)
