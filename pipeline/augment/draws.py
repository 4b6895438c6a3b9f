"""Random numbers that are a pure function of (seed, epoch, sample, slot, column), the same on every device."""

from typing import Final

import torch
from torch import Tensor

__all__ = ["Draws"]

MASK: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: the odd step of a Weyl sequence
SHARED: Final = MASK >> 1  # slots that no recipe or chain is long enough to reach
OF_EPOCH: Final = SHARED - 1
TOGETHER: Final = 8  # columns: as many as most augmentations draw


class Draws:
    """The random numbers of N samples at one epoch, from a counter-based hash; nothing is kept or advanced.

    A sample's numbers depend on `seed`, `epoch`, its own `index` and `slot` only: not on the batch it came
    in, the rank, or the device. Asking twice gives the same numbers; column j is the same however many
    columns are asked for. What needs numbers of its own takes a `child`, and what a whole batch has in common
    comes from `shared`.
    """

    __slots__ = ("_hashed", "_key", "_samples", "_step", "epoch")

    def __init__(self, seed: int, epoch: int, index: Tensor, slot: int = 0, step: Tensor | None = None) -> None:
        """Draw for the samples `index`, int64[N], on the device `index` lives on.

        `step`, int64[N], is the number in the epoch of the global batch that each sample comes in; without
        it, the samples are one batch that its first sample stands for.
        """
        key = 0
        for word in (seed, epoch, slot):
            key = _fold(key, word)
        self.epoch = epoch
        self._key = key
        self._samples = _mix((index + 1) * _signed(GOLDEN))
        self._step = step
        self._hashed: Tensor | None = None  # the first columns, where they were made together with others'

    def __len__(self) -> int:
        return len(self._samples)

    def child(self, slot: int) -> "Draws":
        """Return draws for the same samples, independent of these and of every other slot's."""
        return self._derived(slot, self._samples, self._step)

    def children(self, first: int, count: int) -> "list[Draws]":
        """Return the children `first` .. `first + count - 1`: on a host quicker than one by one."""
        made = [self.child(first + i) for i in range(count)]
        if self._samples.device.type == "cpu" and made:
            keys = torch.tensor([_signed(draws._key) for draws in made])
            columns = torch.arange(1, TOGETHER + 1).mul_(_signed(GOLDEN))
            hashed = _mix((self._samples ^ keys[:, None])[:, :, None] + columns)
            for draws, words in zip(made, hashed, strict=True):
                draws._hashed = words
        return made

    def of_epoch(self) -> "Draws":
        """Return draws of one row, on the host, that depend on `seed`, `epoch` and `slot` only."""
        return self._derived(OF_EPOCH, torch.zeros(1, dtype=torch.int64), None)

    def shared(self) -> "Draws":
        """Return draws whose N rows are equal within a batch, independent of these.

        They depend on `seed`, `epoch`, `slot` and `step` only, so every rank's share of a global batch gets
        the same numbers, however many ranks there are.
        """
        if self._step is None:
            return self._derived(SHARED, self._samples[:1].expand_as(self._samples), None)
        return self._derived(SHARED, _mix((self._step + 1) * _signed(GOLDEN)), self._step)

    def batches(self) -> tuple[Tensor, Tensor]:
        """Return each sample's place in its batch and the batch's size, int64[N] both: a batch has one step."""
        every = torch.arange(len(self), device=self._samples.device)
        if self._step is None:
            return every, torch.full_like(every, len(self))
        _, sizes = self._step.unique_consecutive(return_counts=True)
        starts = sizes.cumsum(0) - sizes
        return every - starts.repeat_interleave(sizes), sizes.repeat_interleave(sizes)

    def uniform(self, k: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return float32[N,k] from [low, high): 2^24 equidistant values, exact before scaling."""
        unit = (self._words(k) >> 40).bitwise_and_((1 << 24) - 1).to(torch.float32)
        return unit.mul_(2.0**-24 * (high - low)).add_(low)

    def integers(self, k: int, low: int, high: int) -> Tensor:
        """Return int64[N,k] from low..high-1 (a range of at most 2^31; the bias is below range / 2^31)."""
        if not 1 <= high - low <= 1 << 31:
            raise ValueError(f"cannot draw integers from {low} to {high}, exclusive")
        unit = (self._words(k) >> 33).bitwise_and_((1 << 31) - 1)
        return unit.mul_(high - low).bitwise_right_shift_(31).add_(low)

    def _derived(self, slot: int, samples: Tensor, step: Tensor | None) -> "Draws":
        draws = Draws.__new__(Draws)
        draws._key, draws._samples, draws._step = _fold(self._key, slot), samples, step
        draws.epoch, draws._hashed = self.epoch, None
        return draws

    def _words(self, k: int) -> Tensor:
        """Return int64[N,k], not to be changed: 31 hashed bits at the top, for each sample and column."""
        if self._hashed is not None and k <= TOGETHER:
            return self._hashed[:, :k]
        columns = torch.arange(1, k + 1, device=self._samples.device).mul_(_signed(GOLDEN))
        return _mix((self._samples ^ _signed(self._key))[:, None] + columns)


def _fold(key: int, word: int) -> int:
    """Take one more word into a 64-bit key."""
    z = (key + (word + 1) * GOLDEN) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def _mix(z: Tensor) -> Tensor:
    """Scramble 64-bit words one to one, in place: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA
    2014) but for its last step, which would only stir bits below the top 31.

    int64 products wrap as uint64's do; its shifts drag the sign along, which the masks cut off.
    """
    z ^= (z >> 30).bitwise_and_((1 << 34) - 1)
    z *= _signed(0xBF58476D1CE4E5B9)
    z ^= (z >> 27).bitwise_and_((1 << 37) - 1)
    z *= _signed(0x94D049BB133111EB)
    return z


def _signed(word: int) -> int:
    """Return the int64 with the bits of a 64-bit word."""
    return word - (1 << 64) if word >> 63 else word
