"""From a dataset to augmented batches on the training device: epoch order, streams, and the views of a batch."""

from skelpipe.loader.loader import CLIP_READERS, Batch, Loader
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Augmentation, Mats, On

__all__ = ["CLIP_READERS", "Augmentation", "Batch", "Loader", "Mats", "On", "Stream"]
