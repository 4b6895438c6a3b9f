"""Momentum contrast: a query network, its slow copy, and a queue of past keys (He et al. 2020)."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.models.encoders import draw_weights
from skelpipe.models.losses import upcast
from skelpipe.models.together import joins

__all__ = ["MoCo", "draw_keys"]


class MoCo(nn.Module):
    """The networks and the queue that the contrastive methods share; a method decides when each is used.

    `encoder` maps clips [N, C, T, V, M] to h [N, D], `head` maps h to [N, dim]. The key network starts as a
    copy of both (they must be initialised by then) and has no gradients. It is in training mode with the rest:
    its batch normalisation uses the key batch. `queue` [K, dim] and `pointer`, the row written next, are
    buffers, so a checkpoint holds them. `momentum` may be set between steps. While `held` is true the key network
    does not change: so an optimiser step over several batches updates it once. `gather` takes this process's rows,
    such as keys, and returns those of the whole batch in order, so that every process writes the same queue.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(self, encoder: nn.Module, head: nn.Module, *, dim: int, queue_size: int, momentum: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_head = copy.deepcopy(head).requires_grad_(False)
        self.momentum = momentum
        self.held = False
        self.gather: Callable[[Tensor], Tensor] = _own_rows
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, dim), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def query(self, x: Tensor) -> Tensor:
        """Return z [N, dim], unit length, of clips [N, C, T, V, M]."""
        return self.project(self.encoder(x))

    def project(self, h: Tensor) -> Tensor:
        """Return z [N, dim], unit length, of pooled features h [N, D]."""
        return _unit(self.head(h))

    def project_all(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Return z [N, dim] of pooled features h [N, D] of several batches."""
        if joins(self.head, features[0]):
            return self.project(torch.cat(features)).chunk(len(features))
        return tuple(map(self.project, features))

    @torch.no_grad()
    def key(self, x: Tensor) -> Tensor:
        """Return z [N, dim] of clips [N, C, T, V, M] by the key network, without gradients."""
        return self.key_project(self.key_encoder(x))

    @torch.no_grad()
    def key_project(self, h: Tensor) -> Tensor:
        """Return z [N, dim] of pooled features h [N, D] by the key network's head, without gradients."""
        return _unit(self.key_head(h))

    @torch.no_grad()
    def update_key(self) -> None:
        """Update the key parameters: theta_k <- m theta_k + (1 - m) theta_q (eq. 2). Buffers do not change."""
        if self.held:
            return
        keys: list[Tensor] = [*self.key_encoder.parameters(), *self.key_head.parameters()]
        queries: list[Tensor] = [*self.encoder.parameters(), *self.head.parameters()]
        torch._foreach_lerp_(keys, queries, 1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Write keys [n, dim] over the oldest rows, in order. Of more than K keys, the last K stay."""
        keys = self.gather(keys)
        size = len(self.queue)
        offsets = torch.arange(max(0, len(keys) - size), len(keys), device=self.queue.device)
        rows = (self.pointer + offsets) % size
        self.queue.index_copy_(0, rows, keys[-size:].to(self.queue.dtype))
        self.pointer.add_(len(keys)).remainder_(size)


def _own_rows(keys: Tensor) -> Tensor:
    return keys


def _unit(z: Tensor) -> Tensor:
    return F.normalize(upcast(z), dim=1)


def draw_keys(moco: MoCo, init: str) -> None:
    """Draw the key network's weights again, so that it does not start as a copy of the query network.

    The released code of all methods but ActCLR initialises both after it copied one to the other (divergence
    `key-initial-weights`). With init="default" nothing is drawn and the key network is a copy.
    """
    draw_weights(moco.key_encoder, init)
    draw_weights(moco.key_head, init)
