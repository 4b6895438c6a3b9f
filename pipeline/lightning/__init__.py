"""Batches for Lightning's Trainer. Imported on request only: needs the extra `lightning`."""

from skelpipe.lightning.data_module import DataModule

__all__ = ["DataModule"]
