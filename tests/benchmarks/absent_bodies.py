"""What is gained where absent bodies are computed once, and where a block takes one pass over memory.

    OMP_NUM_THREADS=1 python tests/benchmarks/absent_bodies.py
    OMP_NUM_THREADS=1 python tests/benchmarks/absent_bodies.py features once --seconds 20 --json

Clips are like those of NTU RGB+D: two slots for bodies, and in four of five clips the second body is zeros. The
reference is the same code, which is made to compute every row, or to take a pass for each operation. Both ways
alternate in one process.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import click
import torch
from targets import say
from torch import Tensor

from skelpipe import skeleton
from skelpipe.bench.timing import BenchRow, Way, compare, threads
from skelpipe.memory import keep_freed_memory
from skelpipe.models import absent_bodies, build_method, stgcn
from skelpipe.models.method import Method

SECONDS: Final = 30.0  # per row
CLIPS, SINGLE = 32, 0.8  # clips of a batch; the share with one body
CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """A batch as methods see it."""

    views: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]


def ntu_like(clips: int, frames: int = 50) -> Tensor:
    """Return clips [N,3,T,25,2] of smooth noise, of which so many as `SINGLE` says have one body."""
    x = torch.randn(clips, 3, frames, 25, 2).cumsum(2) / 20
    x[: round(SINGLE * clips), ..., 1] = 0
    return x


def every_row(work: Way) -> Way:
    """Return work that computes every row."""

    def plainly() -> int:
        with mock.patch.object(absent_bodies, "_known", return_value=None):
            return work()

    return plainly


def separate_passes(work: Way) -> Way:
    """Return work whose blocks take a pass over memory for each operation."""

    def plainly() -> int:
        with mock.patch.object(stgcn, "in_one_pass", return_value=False):
            return work()

    return plainly


def features() -> Way:
    network = stgcn.STGCN(skeleton.layout("kinect-v2-25")).eval()
    clips = ntu_like(CLIPS)

    def work() -> int:
        with torch.no_grad():
            return len(network(clips))

    return work


def step(clips: Tensor, width: int = 16, layout: str = "kinect-v2-25", **encoder: Any) -> Way:
    """Return a training step of SkeletonCLR."""
    section = {"name": "stgcn", "width": width, **encoder}
    method: Method = build_method({"method": "skeletonclr", "encoder": section}, skeleton.layout(layout)).train()
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.01, momentum=0.9)
    batch = Batch({"query": clips, "key": clips.flip(2)}, {})

    def work() -> int:
        loss = method(batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return len(clips)

    return work


def rows() -> dict[str, tuple[str, str, Callable[[], tuple[Way, Way]], int]]:
    """Return title, reference, both ways and batch size of each row."""

    def against(reference: Callable[[Way], Way], make: Callable[[], Way]) -> Callable[[], tuple[Way, Way]]:
        def both() -> tuple[Way, Way]:
            work = make()
            return work, reference(work)

        return both

    def once() -> tuple[Way, Way]:
        clips = ntu_like(CLIPS)
        return step(clips, absent_bodies="once"), step(clips)

    def small() -> Way:
        return step(torch.randn(32, 3, 48, 20, 1).cumsum(2) / 20, 8, "kinect-v1-20")

    exact = against(every_row, lambda: step(ntu_like(CLIPS), dropout=0.0))
    return {
        "features": ("features of NTU-like clips", "every row", against(every_row, features), CLIPS),
        "exact": ("step without dropout, NTU-like clips", "every row", exact, CLIPS),
        "once": ("step with `once`, NTU-like clips", "`as-papers`", once, CLIPS),
        "one-pass": ("step, h=8, T=48, V=20, batch 32", "a pass each", against(separate_passes, small), 32),
    }


NAMES: Final = tuple(rows())


def measure(name: str, seconds: float) -> BenchRow:
    """Return the rates of a row, in clips/s."""
    keep_freed_memory()
    torch.manual_seed(0)
    title, reference, make, batch = rows()[name]
    with threads(1):
        return BenchRow(title, reference, compare(*make(), seconds, CPU), batch)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--seconds", type=float, default=SECONDS, show_default=True, help="For each row, at least.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(names: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """Measure the rows named, or all."""
    found = []
    for name in names or NAMES:
        found.append(measure(name, seconds))
        if not as_json:
            print(say(found[-1:]), flush=True)
    if as_json:
        json.dump({"rows": [row.to_plain() for row in found]}, sys.stdout)


if __name__ == "__main__":
    main()
