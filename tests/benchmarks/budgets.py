"""What a training step of each method asks of a GPU, counted without one: kernels, bytes, and time on paper.

    python tests/benchmarks/budgets.py
    python tests/benchmarks/budgets.py aimclr --kernels

A step is that of `train_epoch` on 128 clips at the paper's sizes, two bodies, in the method's last stage.
`launches.py` says how it is counted. Time on paper is 4 us per kernel and 4 TB/s, where nothing overlaps.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import click
from launches import Launches, Work, paper_ms
from on_meta import MetaRun, as_on_a_gpu

from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.dataset import Dataset
from skelpipe.train.recipes.reader import load_recipe, with_overrides

__all__ = ["BATCH", "RECIPES", "asked", "row"]

RECIPES: Final = (
    "skeletonclr",
    "crosclr",
    "aimclr",
    "skelemixclr",
    "skelemixclr-plus",
    "skeattnclr",
    "msmclr",
    "actclr",
)
BATCH: Final = 128
LAST: Final = 0.9  # of a run: every method is in its last stage


def asked(name: str, dataset: Callable[[int], Dataset], settings: Sequence[str] = (), *, amp: bool) -> Launches:
    """Count a step of a recipe; `dataset` returns one of `BATCH` clips or more, with so many frames."""
    recipe = with_overrides(load_recipe(name), list(settings))
    counted = Launches()
    with as_on_a_gpu(amp=amp):
        MetaRun(recipe, dataset(recipe.frames), LAST, BATCH).step(counted.of)
    return counted


def row(counted: Launches) -> dict[str, Any]:
    """Return a method's figures, JSON-ready: those of forward and backward, of views, and of the whole step."""
    parts = counted.parts
    ms = paper_ms(counted.total)
    return {
        "network": _plain(parts["forward"] + parts["backward"]),
        **{name: _plain(parts.get(name, Work())) for name in ("views", "optimiser", "logs")},
        "total": _plain(counted.total),
        "ms_on_paper": ms,
        "clips_per_s_on_paper": 1e3 * BATCH / ms,
    }


def markdown(name: str, full: dict[str, Any], half: dict[str, Any]) -> str:
    """Return a method's line of the table in BENCHMARKS.md, of figures in float32 and in bfloat16."""
    cells = [name]
    for figures in (full, half):
        network, total = figures["network"], figures["total"]
        cells += [f"{network['kernels']:,} / {network['gb']:.1f}", f"{total['kernels']:,} / {total['gb']:.1f}"]
        cells += [f"{figures['ms_on_paper']:.1f}", f"{figures['clips_per_s_on_paper'] / 1e3:.1f}"]
    return f"| {' | '.join(cells)} |"


def _plain(work: Work) -> dict[str, float]:
    return {"kernels": work.kernels, "gb": work.moved / 1e9}


def _print(name: str, figures: dict[str, Any], kernels: Launches | None) -> None:
    parts = ", ".join(
        f"{part} {figures[part]['kernels']:,} / {figures[part]['gb']:.2f}"
        for part in ("network", "views", "optimiser", "logs", "total")
    )
    print(f"{name:17} {parts} (kernels / GB); {figures['ms_on_paper']:.1f} ms on paper", flush=True)
    for each, count in kernels.by_name.most_common() if kernels else ():
        print(f"    {each:50} {count:6,} {kernels.bytes_by_name[each] / 1e9:9.3f} GB")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(RECIPES))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipes.")
@click.option("--amp", is_flag=True, help="Compute in bfloat16, as pretrain --amp.")
@click.option("--kernels", is_flag=True, help="List each operation's kernels and bytes.")
@click.option("--markdown", "as_lines", is_flag=True, help="Print the rows of BENCHMARKS.md.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(
    names: tuple[str, ...], settings: tuple[str, ...], amp: bool, kernels: bool, as_lines: bool, as_json: bool
) -> None:
    """Count what a step of the methods named, or of all, asks of a GPU."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = cache(lambda frames: synthetic_clips(Path(folder) / str(frames), frames, BATCH))
        for name in names or RECIPES:
            if as_lines:
                both = (row(asked(name, dataset, settings, amp=low)) for low in (False, True))
                print(markdown(", ".join([name, *settings]), *both), flush=True)
                continue
            counted = asked(name, dataset, settings, amp=amp)
            figures = found[name] = row(counted)
            if not as_json:
                _print(name, figures, counted if kernels else None)
    if as_json:
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
