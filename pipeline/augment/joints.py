"""Joints reordered, or replaced by weighted sums of joints, per sample."""

import torch
from torch import Tensor

__all__ = ["mix_joints", "product", "reorder"]

WORDS = {4: torch.int32, 8: torch.int64}


def reorder(x: Tensor, joints: Tensor) -> Tensor:
    """Return y[n,c,t,v] = x[n,c,t,joints[n,v]] of clips [N,C,T,V,M]; `joints` is int64[N,V]."""
    n, c, t, v, m = x.shape
    if joints.shape != (n, v):
        raise ValueError(f"an order of {tuple(joints.shape)} joints does not fit clips of {tuple(x.shape)}")
    word = WORDS.get(m * x.element_size())
    if word is None or x.requires_grad or x.storage_offset() % m or x.numel() == 0:
        return x.gather(3, joints[:, None, None, :, None].expand(x.shape))
    # The bodies of a joint are moved as one number, which is twice as fast.
    table = x.reshape(n, c * t, v * m).view(word)
    return table.gather(2, joints[:, None].expand(n, c * t, v)).view(x.dtype).view(x.shape)


def mix_joints(x: Tensor, mixture: Tensor) -> Tensor:
    """Return y[n,c,t,v] = sum over w of mixture[n,v,w] * x[n,c,t,w] of clips [N,C,T,V,M], in x's dtype."""
    n, c, t, v, m = x.shape
    planes = x.reshape(n, c * t, v * m).to(torch.promote_types(x.dtype, mixture.dtype))
    wide = mixture.new_zeros(n, v, m, v, m, dtype=planes.dtype)  # bodies do not mix
    for body in range(m):
        wide[:, :, body, :, body] = mixture.transpose(1, 2)
    return product(planes, wide.view(n, v * m, v * m)).to(x.dtype).view(x.shape)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply matrices in full precision: no half precision under autocast, no TF32 where that is allowed."""
    with torch.autocast(a.device.type, enabled=False):
        if a.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
            return torch.matmul(a.double(), b.double()).float()
        return torch.matmul(a, b)
