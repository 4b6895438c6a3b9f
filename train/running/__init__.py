"""A run of training: the engine, its ranks, its folder, logs and checkpoints."""
