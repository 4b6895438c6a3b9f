"""Steps of the methods (forward, backward, optimiser, key network) against the same as they are usually written.

    OMP_NUM_THREADS=1 python tests/benchmarks/methods.py
    OMP_NUM_THREADS=1 python tests/benchmarks/methods.py aimclr actclr --seconds 20 --json

Both start from the same weights and give the same losses, which is checked before anything is measured. Each
method has its paper's network, queue and frames, and is in its last stage; clips have one body and are already
augmented.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click
import torch
from plain_methods import PLAIN, Plain
from targets import say
from torch import Tensor, nn

from skelpipe import skeleton
from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.mats import mats
from skelpipe.bench.timing import BenchRow, Way, compare, threads
from skelpipe.loader.view_recipes import On
from skelpipe.memory import keep_freed_memory
from skelpipe.models import build_method
from skelpipe.models.actclr import ActCLR
from skelpipe.models.method import Method, Progress
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.loop import build_optimiser

__all__ = ["RECIPES", "measure", "rows"]

RECIPES: Final = (
    "skeletonclr",
    "crosclr",
    "aimclr",
    "skelemixclr",
    "skelemixclr-plus",
    "actclr",
    "skeattnclr",
    "msmclr",
)
BATCH: Final = 8
SECONDS: Final = 12.0  # per method, at least: each way runs a dozen times
CPU: Final = torch.device("cpu")
LATE: Final = 0.9  # of a run: every method is in its last stage
STEPS, CLOSE = 3, 1e-6  # steps compared, and the largest relative difference of losses in float64


@dataclass(frozen=True)
class Clips:
    """A batch as methods see it."""

    views: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]


def rows(seconds: float = SECONDS, names: Sequence[str] = RECIPES) -> list[dict[str, Any]]:
    """Return `measure` of each recipe as JSON-ready values."""
    return [measure(name, seconds).to_plain() for name in names]


def measure(name: str, seconds: float = SECONDS) -> BenchRow:
    """Return samples/s of a recipe's step, ours and the plain one. Raises AssertionError if losses differ."""
    keep_freed_memory()
    # PyTorch's initial weights: with the papers' all embeddings are nearly equal, and losses show rounding errors.
    recipe = with_overrides(load_recipe(name), ["encoder.width=16", "init=default"])
    with threads(1):
        _check(name, recipe)
        ours, plain, batch = _pair(recipe, torch.float32)
        rates = compare(_ours(ours, recipe, batch), _plain(plain, recipe, batch), seconds, CPU)
    title = f"{name} step (h=16, T={recipe.frames}, one body)"
    return BenchRow(title, "as usually written, same loss", rates, BATCH)


def _pair(recipe: PretrainRecipe, dtype: torch.dtype) -> tuple[Method, Plain, Clips]:
    """Return a recipe's method, the plain one with the same weights, and a batch for both."""
    torch.manual_seed(0)
    ours = _method(recipe).to(dtype)
    plain = Plain(ours, PLAIN[recipe.method]).to(dtype)
    return ours, plain, _batch(ours, recipe.frames, dtype)


def _method(recipe: PretrainRecipe) -> Method:
    frames = recipe.frames
    layout = skeleton.layout("kinect-v2-25")
    method = build_method(recipe, layout, "joint", lambda: torch.randn(3, frames, len(layout), 1))
    method.train()
    method.advance(Progress(round(LATE * recipe.epochs), recipe.epochs, 0, 1))
    return method


def _batch(method: Method, frames: int, dtype: torch.dtype) -> Clips:
    """Return clips of noise for the method's views, with masks and donors of mixed ones."""
    views, extras = {}, {}
    for name, entry in method.views().items():
        views[name] = torch.randn(BATCH, 3, frames, 25, 1, dtype=dtype)
        if isinstance(entry, On):
            region = torch.zeros(BATCH, frames // 4, 25, dtype=torch.bool)
            region[:, 2:10, 4:14] = True
            extras |= {f"{name}_mask": region, f"{name}_donor": torch.arange(BATCH).roll(3)}
    return Clips(views, extras)


def _ours(method: Method, recipe: PretrainRecipe, batch: Clips) -> Way:
    optimiser = build_optimiser(method, recipe.optimiser)

    def work() -> int:
        seen = batch
        if isinstance(method, ActCLR):  # what the loader does when it yields a batch
            act, non = batch.views["act"], batch.views["non"]
            mask = method.actionlet(act).movedim(3, 1)
            query = mats(act, non, to_frames(mask, act.shape[2]).movedim(1, 3))
            seen = Clips({"query": query, "key": batch.views["key"]}, {})
        loss = method(seen).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        method.finish()
        work.loss = loss.detach()  # type: ignore[attr-defined]
        return BATCH

    return work


def _plain(plain: Plain, recipe: PretrainRecipe, batch: Clips) -> Way:
    optimiser = build_optimiser(plain, recipe.optimiser)

    def work() -> int:
        loss = plain(batch.views, batch.extras)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        work.loss = loss.item()  # type: ignore[attr-defined]
        return BATCH

    return work


def _check(name: str, recipe: PretrainRecipe) -> None:
    """Take a few steps of both ways in float64 and without dropout, whose masks differ, and compare the losses."""
    ours, plain, batch = _pair(recipe, torch.float64)
    for module in (*ours.modules(), *plain.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ways = _ours(ours, recipe, batch), _plain(plain, recipe, batch)
    for step in range(STEPS):
        for way in ways:
            way()
        mine, theirs = (float(way.loss) for way in ways)  # type: ignore[attr-defined]
        assert abs(mine - theirs) <= CLOSE * abs(theirs), f"{name}: losses of step {step}: {mine} and {theirs}"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(RECIPES))
@click.option("--seconds", type=float, default=SECONDS, show_default=True, help="For each method, at least.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(names: tuple[str, ...], seconds: float, as_json: bool) -> None:
    """Measure the steps of the methods named, or of all."""
    found = []
    for name in names or RECIPES:
        found.append(measure(name, seconds))
        if not as_json:
            print(say(found[-1:]), flush=True)
    if as_json:
        json.dump({"rows": [row.to_plain() for row in found]}, sys.stdout)


if __name__ == "__main__":
    main()
