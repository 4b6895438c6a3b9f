"""Donors: which clip of the batch each clip is mixed with (spec B5)."""

import torch
from torch import Tensor

from skelpipe.augment.draws import Draws

__all__ = ["DONOR", "below", "donors", "draw_donors", "draw_turn", "take"]

DONOR = "donor"  # what parameters that `draw_donors` drew are called, wherever they are

BITS = 31


def draw_turn(draws: Draws) -> Tensor:
    """Draw what `donors` turns into a shift: int64[N] in 0..2^31-1, equal in a batch."""
    return draws.shared().integers(1, 0, 1 << BITS)[:, 0]


def below(turn: Tensor, limit: Tensor | int) -> Tensor:
    """Return integers from 0..limit-1, uniform if `turn` is uniform in 0..2^31-1 (limits far below 2^31)."""
    return (turn * limit) >> BITS


def draw_donors(draws: Draws) -> Tensor:
    """Draw each clip's donor, int64[N]: its place in the batch, of batches that are drawn for as a whole."""
    return donors(draw_turn(draws), *draws.batches())


def donors(turn: Tensor, place: Tensor, size: Tensor) -> Tensor:
    """Return int64[N]: the donor (i + n) mod S of clip i of a batch of S, n uniform in 1..S-2 as `turn` has it.

    `place` is i and `size` S, int64[N] each. One shift for a batch, never a clip itself. Two clips are each
    other's donors; a clip alone is its own.
    """
    return (place + 1 + below(turn, (size - 2).clamp_(min=1))) % size


def take(x: Tensor, donor: Tensor, frames: Tensor) -> Tensor:
    """Return y[n,c,t] = x[donor[n],c,frames[n,t]] of clips [N,C,T,V,M]: whole frames of other clips."""
    n, c, t, v, m = x.shape
    channels = torch.arange(c, device=x.device)
    rows = (donor[:, None, None] * c + channels[:, None]) * t + frames[:, None]
    return x.reshape(n * c * t, v * m).index_select(0, rows.reshape(-1)).view(x.shape)
