"""skelpipe: from raw skeleton recordings to datasets, streams and augmented batches."""

__version__ = "0.2.0"
