"""From a dataset to augmented batches on the training device: the order of an epoch, its stream and its views."""

from skelpipe.loader.loader import READERS, Batch, Loader
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Augmentation, Mats, On

__all__ = ["READERS", "Augmentation", "Batch", "Loader", "Mats", "On", "Stream"]
