"""Two ways of doing the same, timed in turn so that a busy machine slows both alike; rows of the table."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import torch

__all__ = ["BenchRow", "Rates", "Way", "compare", "threads"]

Way: TypeAlias = Callable[[], int]  # does some work and returns the number of samples

TURNS: Final = 11


class Rates(NamedTuple):
    """Medians in samples/s of two ways; half of the ratios of their turns lie within `spread`, if it is known."""

    ours: float
    reference: float
    spread: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class BenchRow:
    """Two rates in samples/s: ours of `what`, and that of the reference, which `against` describes."""

    what: str
    against: str
    rates: Rates
    batch_size: int

    @property
    def ours(self) -> float:
        return self.rates.ours

    @property
    def reference(self) -> float:
        return self.rates.reference

    @property
    def ratio(self) -> float:
        return self.ours / self.reference

    def to_plain(self) -> dict[str, Any]:
        """Return JSON-ready values; `batch_ms` is the time of one of our batches, in milliseconds."""
        return {
            "what": self.what,
            "ours": self.ours,
            "reference": self.reference,
            "ratio": self.ratio,
            "spread": self.rates.spread,
            "against": self.against,
            "batch_size": self.batch_size,
            "batch_ms": 1e3 * self.batch_size / self.ours,
        }


def compare(ours: Way, reference: Way, seconds: float, device: torch.device, skip: int = 0) -> Rates:
    """Return the samples/s of both: medians over alternating turns that take about `seconds` in all.

    Each way first runs once uncounted. A turn repeats its way until its share of the time is over: `seconds`
    bounds the turns, but not a single run. The first `skip` runs of a turn are not counted, since they use what
    was prefetched during the other way's turn. On a CUDA device a turn lasts until the device has finished, so
    that the time to launch the work is counted, as in training.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    for way in (ours, reference):
        way()
    for _ in range(TURNS):
        for way, measured in zip((ours, reference), rates, strict=True):
            for _ in range(skip):
                way()
            measured.append(_rate(way, seconds / (2 * TURNS), device))
    ratios = [one / other for one, other in zip(*rates, strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else None
    spread = (quartiles[0], quartiles[2]) if quartiles else None
    return Rates(statistics.median(rates[0]), statistics.median(rates[1]), spread)


def _rate(way: Way, seconds: float, device: torch.device) -> float:
    samples = 0
    _wait_for(device)
    start = time.perf_counter()
    while not samples or time.perf_counter() - start < seconds:
        samples += way()
    _wait_for(device)
    return samples / (time.perf_counter() - start)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute on `count` threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
