"""Heads as maps: what they compute and what they hold."""

import torch
import torch.nn.functional as F
from torch import nn

from skelpipe.models.parts import projection_head


def test_plain_head_is_two_affine_maps_with_a_relu_between() -> None:
    head = projection_head(6, 5, 4)
    (w1, b1), (w2, b2) = ((m.weight, m.bias) for m in head if isinstance(m, nn.Linear))
    h = torch.randn(7, 6)
    assert torch.allclose(head(h), F.relu(h @ w1.T + b1) @ w2.T + b2, atol=1e-6)
    assert sum(p.numel() for p in projection_head(256, 256, 128).parameters()) == 256 * 257 + 128 * 257


def test_batch_norm_head_normalises_between() -> None:
    head = projection_head(6, 5, 4, batch_norm=True)
    first, last = (m for m in head if isinstance(m, nn.Linear))
    h = torch.randn(9, 6)
    hidden = first(h)
    hidden = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, correction=0) + 1e-5)
    assert torch.allclose(head(h), last(F.relu(hidden)), atol=1e-5)
