"""Absent bodies, which are zeros throughout: their rows are all the same and are computed once.

In most clips of NTU RGB+D and PKU-MMD the second body is absent. A backbone whose rows are bodies computes one
absent row for all of them; batch normalisation counts it as often as it stands for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.weak import WeakTensorKeyDictionary

from skelpipe.devices import sent
from skelpipe.models.batch_norm import Repeats

__all__ = [
    "Computed",
    "Together",
    "computed_rows",
    "computed_together",
    "leaves_out_absent",
    "mean_of_present",
    "present_bodies",
    "present_factor",
    "tell_present",
    "teller",
]


@dataclass(frozen=True)
class Computed:
    """Which of R rows are computed. All others are absent bodies.

    `chosen` int64[P] are the numbers of the rows that are computed, None for all. `place` int64[R] says for each
    of the R rows which of the P results is its own; where it is None, results of absent rows are zero. `repeats`
    is what batch normalisation has to know; None where each computed row stands for itself.
    """

    rows: int
    chosen: Tensor | None
    place: Tensor | None
    repeats: Repeats | None

    def of(self, x: Tensor) -> Tensor:
        """Return the rows [P, ...] of x [R, ...] that are computed."""
        return x if self.chosen is None else x.index_select(0, self.chosen)

    def spread(self, y: Tensor) -> Tensor:
        """Return the results [R, ...] of all rows, from those of the computed ones, [P, ...]."""
        if y.dim() == 4 and y.is_contiguous(memory_format=torch.channels_last):
            return self._spread(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # stays channels last
        return self._spread(y)

    def _spread(self, y: Tensor) -> Tensor:
        if self.place is not None:
            return y.index_select(0, self.place)
        if self.chosen is None:
            return y
        y = y if self.repeats is None else y * 0  # nobody is present
        return y.new_zeros(self.rows, *y.shape[1:]).index_copy(0, self.chosen, y)


def present_bodies(clips: Tensor) -> Tensor:
    """Return which bodies of clips [N, C, T, V, M] are not zero throughout, bool [N, M]; NaN is not zero."""
    return (clips != 0).flatten(1, -2).any(1)


# What is known of clips on other devices, where looking would mean to wait for the device.
_TOLD = WeakTensorKeyDictionary()


def tell_present(clips: Tensor, present: Tensor) -> Tensor:
    """Say which bodies of clips on another device are present, bool [N, M] on the CPU; return the clips.

    It must be true of the content: bodies that are said to be absent are taken as zeros. Bodies said to be present
    may be zeros.
    """
    _TOLD[clips] = present
    return clips


def teller(method: nn.Module) -> Callable[[Tensor, Tensor], object] | None:
    """Return what a loader is to call for a method that computes absent bodies once: `tell_present`, or None."""
    once = any(getattr(network, "absent_bodies", "") == "once" for network in method.modules())
    return tell_present if once else None


def computed_rows(clips: Tensor, how: str, *, random: bool) -> Computed | None:
    """Return the rows of clips [N, C, T, V, M] (row n * M + m) that a network has to compute; None for all.

    `how` is the setting `absent_bodies`. `random` says that the network draws random numbers for each row, as
    dropout does, so that absent rows are not alike with "as-papers". None is returned too where looking at the
    content would mean to wait for a device, where the graph must not depend on the content, and where the clips
    themselves need gradients.
    """
    if how != "masked" and ((random and how == "as-papers") or clips.shape[4] < 2):
        return None
    present = _known(clips)
    if present is None:
        return None
    present = present.flatten()
    rows, absent = len(present), (~present).nonzero().flatten()
    chosen = present.nonzero().flatten()
    if how == "masked":
        if not len(absent):
            return Computed(rows, None, None, None)
        if not len(chosen):  # a batch without anybody: one row, which counts for nothing
            return Computed(rows, absent[:1].to(clips.device), None, Repeats(1, 0))
        return Computed(rows, sent(chosen, clips.device), None, None)
    if len(absent) < 2:
        return None
    place = torch.where(present, present.cumsum(0) - 1, len(chosen))
    repeats = Repeats(len(chosen) + 1, len(absent))
    chosen = torch.cat([chosen, absent[:1]])
    return Computed(rows, sent(chosen, clips.device), sent(place, clips.device), repeats)


@dataclass(frozen=True)
class Together:
    """Which rows of several batches of R rows are computed, equally many (P) of each batch.

    `chosen` int64[G * P], `place` int64[G * R], and `counts` int64[G * P], for how many each computed row stands,
    are on the device.
    """

    chosen: Tensor
    place: Tensor
    counts: Tensor


def computed_together(batches: Sequence[Tensor], how: str, *, random: bool) -> Together | None:
    """Return the rows of batches of clips, of one shape, that a network has to compute; None for all.

    Where one batch has fewer bodies than another, some of its absent rows are computed one by one.
    """
    if how == "masked" or (random and how == "as-papers") or batches[0].shape[4] < 2:
        return None
    told = [_known(x) for x in batches]
    if any(each is None for each in told):
        return None
    # By numpy: these are no operations of a device.
    present = np.stack([each.numpy().reshape(-1) for each in told if each is not None])
    groups, rows = present.shape
    size = int(min(present.sum(1).max() + 1, rows))
    order = np.argsort(~present, axis=1, kind="stable")  # those present first, in their order
    counts = np.ones((groups, size), np.int64)
    counts[:, -1] = rows - size + 1
    place = np.empty((groups, rows), np.int64)
    np.put_along_axis(place, order, np.minimum(np.arange(rows), size - 1)[None].repeat(groups, 0), 1)
    first = np.arange(groups)[:, None]
    parts = [order[:, :size] + first * rows, place + first * size, counts]
    whole = sent(torch.from_numpy(np.concatenate([each.ravel() for each in parts])), batches[0].device)
    return Together(*whole.split([each.size for each in parts]))


def mean_of_present(encoder: Any, h: Tensor, clips: Tensor) -> Tensor:
    """Return h [N, D], a mean over all bodies, as the mean over those present where the encoder leaves out others.

    The rows of absent bodies are zeros then. A clip without any body has h = 0.
    """
    factor = present_factor(encoder, clips)
    return h if factor is None else h * factor.to(h.dtype)


def present_factor(encoder: Any, clips: Tensor) -> Tensor | None:
    """Return M / (number of bodies present), float32 [N, 1]; None where absent bodies count like others."""
    if not leaves_out_absent(encoder):
        return None
    return clips.shape[4] / present_bodies(clips).sum(1, keepdim=True).clamp(min=1).float()


def leaves_out_absent(encoder: Any) -> bool:
    """Say whether an encoder leaves absent bodies out: its setting `absent_bodies` is "masked"."""
    return getattr(encoder, "absent_bodies", "") == "masked"


def _known(clips: Tensor) -> Tensor | None:
    """Return which bodies are present, bool [N, M] on the CPU, where that is known without waiting."""
    if torch.compiler.is_compiling() or isinstance(clips, FakeTensor) or clips.requires_grad:
        return None
    if clips.device.type == "cpu":
        return present_bodies(clips)
    return _TOLD.get(clips)
