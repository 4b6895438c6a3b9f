"""Batched augmentations on clips [N,C,T,V,M], any device: `sample` draws parameters, `apply` uses them.

One augmentation per file, with its definition (docs/augmentation.md). `Chain` joins several, `chain` builds the
chains of the methods by name, `Draws` is where all random numbers come from.
"""
