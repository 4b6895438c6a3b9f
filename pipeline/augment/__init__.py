"""Batched augmentations on `[N,C,T,V,M]` tensors, any device: `sample` draws parameters, `apply` uses them."""
