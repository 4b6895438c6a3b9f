"""How `prepare` works: what it plans, who does the work, what a shard is made by, how a dataset comes together."""
