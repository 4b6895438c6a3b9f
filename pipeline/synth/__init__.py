"""Synthetic raw recordings from a kinematic model, in the file formats of the real datasets."""
