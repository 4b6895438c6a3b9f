"""Donors: which clip of the batch each clip is mixed with (spec B5).

With several ranks each mixes within its own slice of the global batch. The number that decides the shift, like
everything that is drawn for a batch as a whole, is the same on all ranks; but a slice is shorter than the batch,
so that mixed clips, unlike all other views, have other donors when the number of ranks is another. A donor from
another rank's slice would have to be read and augmented twice, and its key fetched from the other rank.
"""

import torch
from torch import Tensor

from skelpipe.augment.draws import Draws

__all__ = ["below", "donors", "draw_turn", "take"]

BITS = 31


def draw_turn(draws: Draws) -> Tensor:
    """Draw what `donors` turns into a shift once the batch is known: int64[N] in 0..2^31-1, equal in a batch."""
    return draws.shared().integers(1, 0, 1 << BITS)[:, 0]


def below(turn: Tensor, limit: Tensor | int) -> Tensor:
    """Return integers from 0..limit-1, uniform if `turn` is uniform in 0..2^31-1 (limits far below 2^31)."""
    return (turn * limit) >> BITS


def donors(turn: Tensor) -> Tensor:
    """Return int64[N]: clip i's donor (i + n) mod N, with n uniform in 1..N-2 as `turn` [N] has it.

    One shift for the batch, never a clip itself. Two clips are each other's donors; a clip alone is its own.
    """
    count = len(turn)
    shift = 1 + below(turn, max(count - 2, 1))
    return (torch.arange(count, device=turn.device) + shift) % max(count, 1)


def take(x: Tensor, donor: Tensor, frames: Tensor) -> Tensor:
    """Return y[n,c,t] = x[donor[n],c,frames[n,t]] of clips [N,C,T,V,M]: whole frames of other clips."""
    n, c, t, v, m = x.shape
    channels = torch.arange(c, device=x.device)
    rows = (donor[:, None, None] * c + channels[:, None]) * t + frames[:, None]
    return x.reshape(n * c * t, v * m).index_select(0, rows.reshape(-1)).view(x.shape)
