"""WebDataset shards that others wrote, as a dataset to train on directly."""

from skelpipe.foreign.shards import ForeignShards, ShardForm

__all__ = ["ForeignShards", "ShardForm"]
