"""A dataset as a LightningDataModule: augmented batches to train on, complete ones to evaluate, exact resume."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.front.arguments import whole_number
from skelpipe.loader import Loader, Stream
from skelpipe.loader.batch import NOT_VIEWS
from skelpipe.loader.view_recipes import ViewRecipes, view_recipes
from skelpipe.views import VIEWS

try:
    from lightning.pytorch import LightningDataModule
except ImportError:
    raise UsageError("training with Lightning needs the extra: pip install 'skelpipe[lightning]'") from None

__all__ = ["DataModule"]


class DataModule(LightningDataModule):
    """The batches of a dataset on the Trainer's device, each process with its share of every global batch.

    Training batches are those of `Loader(Stream(dataset, "train", ...), device, recipe, ...)`. Validation, test
    and prediction read all clips of the subset `evaluate_on` in row order, as the one view `clip`, without
    augmentation. All processes make the same number of steps; a share of the last evaluation batch may be empty.

    The position is saved in Lightning's checkpoints, so that `fit(..., ckpt_path=...)` goes on with the next
    batch, within an epoch too, on any number of processes.
    """

    def __init__(
        self,
        dataset: Dataset | str | Path,
        recipe: ViewRecipes,
        batch_size: int,
        *,
        view: str = "joint",
        derive: str = "after",
        seed: int = 0,
        balanced: bool = False,
        evaluate_on: str = "test",
        reader: str = "native",
        prefetch: int = 2,
    ) -> None:
        """Take an open dataset, or its folder or URL; the other arguments are those of `Stream` and `Loader`.

        `batch_size` is that of the global batch, over all processes.
        """
        super().__init__()
        view_recipes(recipe, NOT_VIEWS)  # says at once what is wrong with them
        whole_number(batch_size, "batch_size", 1)
        self.dataset = dataset if isinstance(dataset, Dataset) else Dataset.open(dataset)
        self.recipe, self.batch_size, self.view, self.derive = recipe, batch_size, view, derive
        self.seed, self.balanced, self.evaluate_on = seed, balanced, evaluate_on
        self.reader, self.prefetch = reader, prefetch
        self._loaders: list[Loader] = []
        self._training: Loader | None = None
        self._state: dict[str, Any] = {}  # to go on from, where no loader has begun
        if view not in VIEWS:
            raise UsageError(f"there is no view {view!r}; there are: {', '.join(VIEWS)}")
        self._stream("train", seed=seed, balanced=balanced)  # says at once what is wrong with these

    def __repr__(self) -> str:
        return (
            f"<DataModule: view {self.view}, global batches of {self.batch_size}, views {', '.join(self.recipe)}, "
            f"evaluated on {self.evaluate_on}, of {self.dataset!r}>"
        )

    def train_dataloader(self) -> Loader:
        """Return a loader that goes on where the one before, or a checkpoint, stood."""
        state = self.state_dict()
        self._training = self._loader("train", self.recipe, seed=self.seed, balanced=self.balanced)
        if state:
            self._training.load_state(state)
        return self._training

    def val_dataloader(self) -> Loader:
        return self._loader(self.evaluate_on, {"clip": None})

    test_dataloader = predict_dataloader = val_dataloader

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the training batches, for Lightning's checkpoints."""
        return dict(self._state) if self._training is None else self._training.state()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let training go on from there."""
        self._state = dict(state_dict)
        if self._training is not None:
            self._training.load_state(self._state)

    def teardown(self, stage: str) -> None:
        """End the threads that read ahead; a later `fit` goes on where this one stopped."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def _loader(self, subset: str, recipe: ViewRecipes, **options: Any) -> Loader:
        rank, world, device = 0, 1, torch.device("cpu")
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            device = self.trainer.strategy.root_device
        loader = Loader(
            self._stream(subset, rank=rank, world=world, **options),
            device,
            recipe,
            derive=self.derive,
            view=self.view,
            prefetch=self.prefetch,
            reader=self.reader,
        )
        self._loaders.append(loader)
        return loader

    def _stream(self, subset: str, **options: Any) -> Stream:
        source = "joint" if self.derive == "after" else self.view
        return Stream(self.dataset, subset, [source], self.batch_size, **options)
