"""Reading prepared datasets, local or remote: the card, the sample table, and the clips as arrays."""

from skelpipe.dataset.dataset import Dataset, Reader
from skelpipe.dataset.joined import JoinedDataset

__all__ = ["Dataset", "JoinedDataset", "Reader"]
