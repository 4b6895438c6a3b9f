"""Features through the loader: of clips that are augmented afresh, or of more clips than memory should hold."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from skelpipe.augment.chain import chain
from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.progress import progress
from skelpipe.train.evaluation.embedding import Embedded, frozen
from skelpipe.train.running.ranks import ranks

__all__ = ["FeatureLoader", "embed_augmented"]

SHEAR, CROP = 0.5, 6  # the normal augmentation of all methods (docs/augmentation.md)
CLIPS = 256  # per batch of `embed_augmented`


class FeatureLoader:
    """Batches of a frozen network's features, epoch after epoch, on the network's device.

    With `augment` each clip is cropped in time and sheared afresh every epoch, by draws of (seed, epoch, clip),
    and the view derived from the result. Each of several ranks embeds its share of a batch, and all get all.
    """

    def __init__(
        self,
        network: nn.Module,
        dataset: Dataset,
        subset: str,
        view: str,
        batch_size: int,
        *,
        device: torch.device,
        augment: bool,
        seed: int = 0,
        shuffle: bool = True,
        balanced: bool = False,
    ) -> None:
        """Read `subset`; with `shuffle` in another order each epoch, without its last, shorter batch.

        With `balanced` an epoch has all classes equally often.
        """
        self._network, self._team = network, ranks()
        self._ids = dataset.ids(subset)
        stored = not augment and view in dataset.views
        stream = Stream(
            dataset,
            subset,
            [view if stored else "joint"],
            batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=shuffle,
            rank=self._team.rank,
            world=self._team.world,
            balanced=balanced,
        )
        recipe = {"clip": chain("normal", shear=SHEAR, crop=CROP) if augment else None}
        self._loader = Loader(stream, device, recipe, derive="stored" if stored else "after", view=view)

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self._loader)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the next epoch's batches: features [n,D], labels int64[n] and rows of the subset int64[n].

        Raises SkelpipeError at the first features that are not finite.
        """
        for batch in self._loader:
            mine = torch.empty(0, 0, device=batch.clip.device)
            if len(batch):
                with frozen(self._network):
                    mine = self._network(batch.clip).flatten(1).float()
            features = self._all(mine)
            index = self._team.gather(batch.index)
            if not bool(features.isfinite().all()):
                bad = int(index[int((~features.isfinite().all(dim=1)).nonzero()[0])])
                raise SkelpipeError(f"the embedding of {self._ids[bad]} is not finite")
            yield features, self._team.gather(batch.label), index

    def _all(self, mine: Tensor) -> Tensor:
        """Return the features of all ranks; a rank without clips does not know their width."""
        if self._team.world == 1:
            return mine
        width = int(self._team.gather(torch.tensor([mine.shape[1]])).max())
        return self._team.gather(mine if len(mine) else mine.new_empty(0, width))


def embed_augmented(
    network: nn.Module,
    dataset: Dataset,
    subset: str,
    view: str,
    *,
    device: torch.device,
    seed: int = 0,
    quiet: bool = True,
) -> Embedded:
    """Embed every clip of `subset` once, cropped and sheared, in row order; the network is left as it was."""
    loader = FeatureLoader(
        network, dataset, subset, view, CLIPS, device=device, augment=True, seed=seed, shuffle=False
    )
    batches = progress(loader.epoch(), f"embedding {subset}, augmented", len(loader), quiet=quiet)
    parts = [(features.cpu(), labels.cpu()) for features, labels, _ in batches]
    features, labels = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    return Embedded(features, labels, list(dataset.ids(subset)))
