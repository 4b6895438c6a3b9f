"""Donors: which clip of the batch each clip is mixed with (Chen et al. 2022, section III-B)."""

import torch
from torch import Tensor

from skelpipe.augment.draws import Draws

__all__ = ["DONOR", "below", "donors", "draw_donors", "draw_turn", "take"]

DONOR = "donor"  # the key of parameters drawn by `draw_donors`, in all operators

BITS = 31


def draw_turn(draws: Draws) -> Tensor:
    """Draw the number that `donors` maps to a shift: int64[N] in 0..2^31-1, equal within a batch."""
    once, rows = draws.shared_once()
    turn = once.integers(1, 0, 1 << BITS)[:, 0]
    return turn if rows is None else turn.index_select(0, rows)


def below(turn: Tensor, limit: Tensor | int) -> Tensor:
    """Return integers from 0..limit-1, uniform if `turn` is uniform in 0..2^31-1 (limits far below 2^31)."""
    return (turn * limit) >> BITS


def draw_donors(draws: Draws) -> Tensor:
    """Draw each clip's donor, int64[N]: its position in the batch. `draws` must be of whole batches."""
    return donors(draw_turn(draws), *draws.batches())


def donors(turn: Tensor, position: Tensor, size: Tensor) -> Tensor:
    """Return int64[N]: the donor (i + n) mod S of clip i in a batch of S, n from 1..S-2 by `turn`.

    `position` is i and `size` S, int64[N] each. One shift per batch; no clip is its own donor. In a batch of two
    each clip is the other's donor; a clip alone is its own. Divergence `skelemix-donor-shift`.
    """
    return (position + 1 + below(turn, (size - 2).clamp_(min=1))) % size


def take(x: Tensor, donor: Tensor, frames: Tensor) -> Tensor:
    """Return y[n,c,t] = x[donor[n],c,frames[n,t]] of clips [N,C,T,V,M]: whole frames of other clips."""
    n, c, t, v, m = x.shape
    channels = torch.arange(c, device=x.device)
    rows = (donor[:, None, None] * c + channels[:, None]) * t + frames[:, None]
    return x.reshape(n * c * t, v * m).index_select(0, rows.reshape(-1)).view(x.shape)
