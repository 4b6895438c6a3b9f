"""What ranks that train one network exchange: gradients after each step, states now and then."""

import hashlib

import torch
from torch import nn

from skelpipe.errors import SkelpipeError
from skelpipe.train.running.ranks import Ranks

__all__ = ["check_equal", "seed_ranks", "sum_gradients"]


def sum_gradients(network: nn.Module, team: Ranks) -> None:
    """Add up the gradients of all ranks, in one message.

    Each rank's loss must already count by its share of the clips. One message after backward, where
    DistributedDataParallel sends many during it: methods call parts of their networks several times a step,
    outside of any one `forward`, some parts not at all; and with networks of one to four million weights there is
    nothing to win from sending early.
    """
    if team.world == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = team.sum(torch.cat([gradient.flatten() for gradient in gradients]))
    pieces = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(pieces, gradients, strict=True)])


def check_equal(network: nn.Module, team: Ranks) -> None:
    """Raise SkelpipeError, on all ranks, where one has other numbers than rank 0 in any parameter or buffer."""
    if team.world == 1:
        return
    state = network.state_dict()
    sums = torch.stack([value.double().sum() for value in state.values()])
    everyone = team.gather(sums[None])
    rank, place = _first_other(everyone)
    if rank:
        raise SkelpipeError(
            f"rank {rank} has other numbers than rank 0 in {list(state)[place]}: the ranks compute differently "
            f"(other versions of torch, or broken hardware?). Resume from an older checkpoint"
        )


def seed_ranks(seed: int, epoch: int, rank: int | None, team: Ranks) -> None:
    """Seed torch's generators for an epoch, from which dropout draws: each rank's own, or (None) all alike.

    The state is a function of seed, epoch and rank, so that a checkpoint need not hold one of every rank. A
    process that is alone draws on as it was.
    """
    if team.world == 1:
        return
    whose = "all" if rank is None else rank
    word = hashlib.sha256(f"skelpipe {seed} {epoch} {whose}".encode()).digest()
    torch.manual_seed(int.from_bytes(word[:8], "big") >> 1)


def _first_other(everyone: torch.Tensor) -> tuple[int, int]:
    """Return the first (rank, column) of [world, n] that differs from rank 0's, or (0, 0)."""
    other = ((everyone != everyone[0]) & ~(everyone.isnan() & everyone[0].isnan())).nonzero()
    return (int(other[0, 0]), int(other[0, 1])) if len(other) else (0, 0)
