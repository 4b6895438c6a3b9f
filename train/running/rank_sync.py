"""What the ranks that train one network exchange: gradients after each step, and states to compare."""

import hashlib

import torch
from torch import nn

from skelpipe.errors import SkelpipeError
from skelpipe.train.running.ranks import Ranks

__all__ = ["check_equal", "seed_ranks", "sum_gradients"]


def sum_gradients(network: nn.Module, team: Ranks) -> None:
    """Add up the gradients of all ranks, in one message.

    Each rank's loss must already be weighted by its share of the clips. One message is sent after backward, where
    DistributedDataParallel sends many during it: methods call parts of their networks several times per step,
    outside of any one `forward`, and some parts not at all. With networks of one to four million weights nothing
    is gained by sending early.
    """
    if team.world == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    flat = team.sum(torch.cat([gradient.flatten() for gradient in gradients]))
    pieces = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [p.view_as(g) for p, g in zip(pieces, gradients, strict=True)])


def check_equal(network: nn.Module, team: Ranks) -> None:
    """Raise SkelpipeError, on all ranks, if a parameter or buffer of one differs from that of rank 0."""
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
    """Seed torch's generators, from which dropout draws, for an epoch: per rank, or (None) alike on all ranks.

    The state is a function of seed, epoch and rank, so a checkpoint need not store one per rank. A single process
    keeps its generator as it is.
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
