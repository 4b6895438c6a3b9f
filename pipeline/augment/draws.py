"""Random numbers that are a pure function of (seed, epoch, sample, slot, column), the same on every device."""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from skelpipe.kernels import njit

__all__ = ["Draws"]

MASK: Final = (1 << 64) - 1
GOLDEN: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: the odd step of a Weyl sequence
SHARED: Final = MASK >> 1  # a slot that no recipe or chain is long enough to use
OF_EPOCH: Final = SHARED - 1


class Draws:
    """The random numbers of N samples in one epoch, from a counter-based hash. There is no state.

    A sample's numbers depend only on `seed`, `epoch`, its own `index` and `slot`: not on its batch, the rank or
    the device. Drawing twice gives the same numbers, and column j is the same for any number of columns. Whatever
    needs numbers of its own takes a `child`; what a whole batch has in common comes from `shared`.
    """

    __slots__ = ("_key", "_runs", "_samples", "_step", "epoch")

    def __init__(self, seed: int, epoch: int, index: Tensor, slot: int = 0, step: Tensor | None = None) -> None:
        """Draw for the samples `index`, int64[N], on the device of `index`.

        `step`, int64[N], is the number, in the epoch, of the global batch that each sample is in. Without it the
        samples are one batch, identified by its first sample.
        """
        key = 0
        for word in (seed, epoch, slot):
            key = _fold(key, word)
        self.epoch = epoch
        self._key = key
        self._samples = _mix((index + 1) * _signed(GOLDEN))
        self._step = step
        self._runs: list[tuple[Tensor, Tensor, Tensor]] = []  # what `_batches` found, for children too

    def __len__(self) -> int:
        return len(self._samples)

    def child(self, slot: int) -> "Draws":
        """Return draws for the same samples, independent of these and of every other slot's."""
        return self._derived(slot, self._samples, self._step)

    def children(self, first: int, count: int) -> "list[Draws]":
        """Return the children `first` .. `first + count - 1`."""
        return [self.child(first + i) for i in range(count)]

    def of_epoch(self) -> "Draws":
        """Return draws of one row, on the CPU, that depend on `seed`, `epoch` and `slot` only."""
        return self._derived(OF_EPOCH, torch.zeros(1, dtype=torch.int64), None)

    def shared(self) -> "Draws":
        """Return draws whose N rows are equal within a batch, independent of these.

        They depend on `seed`, `epoch`, `slot` and `step` only, so that every rank's share of a global batch gets
        the same numbers, for any number of ranks.
        """
        if self._step is None:
            return self._derived(SHARED, self._samples[:1].expand_as(self._samples), None)
        return self._derived(SHARED, _mix((self._step + 1) * _signed(GOLDEN)), self._step)

    def shared_once(self) -> tuple["Draws", Tensor | None]:
        """Return the draws of `shared` with one row per batch, and the row of each sample, int64[N].

        On devices on which that would be no saving they are those of `shared`, and the row is None.
        """
        if self._samples.device.type != "cpu" or torch.compiler.is_compiling():
            return self.shared(), None
        if self._step is None:
            rows = torch.zeros(len(self), dtype=torch.int64)
            return self._derived(SHARED, self._samples[:1], None), rows
        steps, rows, _ = self._batches()
        return self._derived(SHARED, _mix((steps + 1) * _signed(GOLDEN)), steps), rows

    def batches(self) -> tuple[Tensor, Tensor]:
        """Return each sample's position in its batch and the size of that batch, int64[N] both."""
        every = torch.arange(len(self), device=self._samples.device)
        if self._step is None:
            return every, torch.full_like(every, len(self))
        _, rows, sizes = self._batches()
        starts = sizes.cumsum(0) - sizes
        return every - starts[rows], sizes[rows]

    def uniform(self, k: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return float32[N,k], uniform in [low, high): 2^24 equidistant values, exact before scaling."""
        if self._by_kernel:
            out = torch.empty(len(self), k, dtype=torch.float32)
            scale = np.float32(2.0**-24 * (high - low))
            _uniform(self._samples.contiguous().numpy(), np.uint64(self._key), scale, np.float32(low), out.numpy())
            return out
        unit = (self._words(k) >> 40).bitwise_and_((1 << 24) - 1).to(torch.float32)
        return unit.mul_(2.0**-24 * (high - low)).add_(low)

    def integers(self, k: int, low: int, high: int) -> Tensor:
        """Return int64[N,k] from low..high-1 (a range of at most 2^31; the bias is less than range / 2^31)."""
        if not 1 <= high - low <= 1 << 31:
            raise ValueError(f"cannot draw integers from {low} to {high}, exclusive")
        if self._by_kernel:
            whole = torch.empty(len(self), k, dtype=torch.int64)
            _integers(self._samples.contiguous().numpy(), np.uint64(self._key), low, high - low, whole.numpy())
            return whole
        unit = (self._words(k) >> 33).bitwise_and_((1 << 31) - 1)
        return unit.mul_(high - low).bitwise_right_shift_(31).add_(low)

    def _derived(self, slot: int, samples: Tensor, step: Tensor | None) -> "Draws":
        draws = Draws.__new__(Draws)
        draws._key, draws._samples, draws._step = _fold(self._key, slot), samples, step
        draws.epoch, draws._runs = self.epoch, self._runs if step is self._step else []
        return draws

    def _batches(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the steps of the batches, int64[B], the batch of each sample, int64[N], and sizes, int64[B]."""
        if not self._runs:
            assert self._step is not None
            found = self._step.unique_consecutive(return_inverse=True, return_counts=True)
            self._runs.append(found)
        return self._runs[0]

    @property
    def _by_kernel(self) -> bool:
        return (
            type(self._samples) is Tensor
            and self._samples.device.type == "cpu"
            and not torch.compiler.is_compiling()
        )

    def _words(self, k: int) -> Tensor:
        """Return int64[N,k], not to be changed: 31 hashed bits at the top for each sample and column."""
        columns = torch.arange(1, k + 1, device=self._samples.device).mul_(_signed(GOLDEN))
        return _mix((self._samples ^ _signed(self._key))[:, None] + columns)


def _fold(key: int, word: int) -> int:
    """Hash one more word into a 64-bit key."""
    z = (key + (word + 1) * GOLDEN) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def _mix(z: Tensor) -> Tensor:
    """Scramble 64-bit words one to one, in place: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA
    2014) without its last step, which would only change bits below the top 31.

    Products of int64 wrap as those of uint64 do; its shifts copy the sign bit, which the masks remove.
    """
    z ^= (z >> 30).bitwise_and_((1 << 34) - 1)
    z *= _signed(0xBF58476D1CE4E5B9)
    z ^= (z >> 27).bitwise_and_((1 << 37) - 1)
    z *= _signed(0x94D049BB133111EB)
    return z


# Products and sums are not fused: the numbers are those of other devices.
@njit(cache=True, nogil=True)
def _uniform(samples: np.ndarray, key: np.uint64, scale: np.float32, low: np.float32, out: np.ndarray) -> None:
    for n in range(out.shape[0]):
        word = np.uint64(samples[n]) ^ key
        for j in range(out.shape[1]):
            word += np.uint64(GOLDEN)
            out[n, j] = np.float32(np.int64(_scrambled(word) >> np.uint64(40))) * scale + low


@njit(cache=True, nogil=True)
def _integers(samples: np.ndarray, key: np.uint64, low: int, count: int, out: np.ndarray) -> None:
    for n in range(out.shape[0]):
        word = np.uint64(samples[n]) ^ key
        for j in range(out.shape[1]):
            word += np.uint64(GOLDEN)
            out[n, j] = (np.int64(_scrambled(word) >> np.uint64(33)) * count >> 31) + low


@njit(cache=True, nogil=True)
def _scrambled(z: np.uint64) -> np.uint64:
    """`_mix` of one word."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)


def _signed(word: int) -> int:
    """Return the int64 with the bits of a 64-bit word."""
    return word - (1 << 64) if word >> 63 else word
