"""A prepared dataset on disk or elsewhere: its card, its sample table, and its clips as arrays."""

from skelpipe.dataset.dataset import Dataset, Reader

__all__ = ["Dataset", "Reader"]
