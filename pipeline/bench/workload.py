"""What is measured: the clips of a dataset in batches, on a device, for some seconds per row."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError
from skelpipe.loader.stream import Stream
from skelpipe.manifest import SUBSETS

__all__ = ["Workload"]


@dataclass(frozen=True, slots=True)
class Workload:
    """A dataset to read, the batch size, the device, and about how many seconds each row is measured."""

    dataset: Dataset
    batch_size: int
    device: torch.device
    seconds: float

    @property
    def subset(self) -> str:
        """The subset that is read: the first that has clips. Raises DatasetError where none has."""
        for subset in SUBSETS:
            if self.dataset.count(subset):
                return subset
        raise DatasetError(f"{self.dataset.path}: holds no samples to measure with")

    @property
    def batch(self) -> int:
        """The batch size, or the number of clips where there are fewer."""
        return min(self.batch_size, self.dataset.count(self.subset))

    def stream(self) -> Stream:
        """Return a new stream of shuffled, full batches of joint clips."""
        return Stream(self.dataset, self.subset, ["joint"], self.batch, shuffle=True, drop_last=True)

    def batches(self, most: int, multiple: int = 1) -> list[tuple[Tensor, Tensor]]:
        """Return up to `most` batches in the device's memory: clips [N,C,T,V,M] and their rows, int64[N].

        Clips are cut so that the number of frames is a multiple of `multiple`.
        """
        reader = self.dataset.reader(self.subset, "joint")
        frames = self.dataset.frames // multiple * multiple
        batches = []
        for number in range(min(most, len(reader) // self.batch)):
            rows = np.arange(number * self.batch, (number + 1) * self.batch)
            clips = torch.from_numpy(reader.gather(rows))[:, :, :frames].contiguous()
            batches.append((clips.to(self.device), torch.from_numpy(rows).to(self.device)))
        return batches
