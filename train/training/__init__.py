"""Runs of training, from their start or their newest checkpoint to the weights that they leave."""
