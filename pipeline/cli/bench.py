"""`skelpipe bench`."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import (
    device_option,
    json_option,
    plugin_option,
    resolve_shards,
    unresolved_shards_option,
)

if TYPE_CHECKING:
    from skelpipe.dataset import Dataset

__all__ = ["bench"]

FRAMES = 50
CLIPS = 2048  # in the synthetic dataset


@click.command(cls=Command, epilog="Example: skelpipe bench --what augment --frames 50 --seconds 1")
@click.option(
    "--what",
    type=click.Choice(["augment", "stream", "loader", "all"]),
    default="all",
    show_default=True,
    help="Augmentation of clips in memory (augment), reading of batches (stream), or both (loader).",
)
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="Measure the views of this recipe, built in or a .yaml, and nothing else; for --what augment.",
)
@unresolved_shards_option
@click.option(
    "--frames",
    type=click.IntRange(min=8),
    help=f"Use synthetic clips of so many frames and no dataset [default, if no dataset is found: {FRAMES}].",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Clips per batch.")
@device_option
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads that torch uses.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Measuring time per row."
)
@plugin_option
@json_option
def bench(
    *,
    what: str,
    recipe: str | None,
    shards: str | None,
    frames: int | None,
    batch_size: int,
    device: str,
    threads: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Measure augmentation and reading on this machine, each against a simple reference.

    Both are measured in turns, and the medians are printed. On a busy machine only the ratios are reliable. The
    clips are those of a dataset or, if none is found, synthetic ones in a temporary folder that is removed at the
    end.
    """
    from skelpipe.bench.augmentations import augment_rows, graph_rows
    from skelpipe.bench.streams import loader_rows, stream_rows
    from skelpipe.bench.table import machine, machine_lines, table
    from skelpipe.bench.timing import BenchRow
    from skelpipe.bench.timing import threads as on_threads
    from skelpipe.bench.workload import Workload
    from skelpipe.devices import resolve_device
    from skelpipe.errors import UsageError
    from skelpipe.progress import progress

    on = resolve_device(device)
    if recipe is not None:
        from skelpipe.loader.recipe_views import read_recipe_views

        if what not in ("augment", "all"):
            raise UsageError(f"--recipe measures the augmentation of its views, not --what {what}")
        views, what = read_recipe_views(recipe), "recipe"
    makers: list[tuple[str, Callable[[Workload], Sequence[Callable[[], BenchRow | None]]]]] = [
        ("recipe", lambda workload: augment_rows(workload, recipe=views)),
        ("augment", augment_rows),
        ("stream", stream_rows),
        ("loader", loader_rows),
        ("augment", graph_rows),
    ]
    with _clips(shards, frames, max(CLIPS, batch_size)) as (dataset, name), on_threads(threads):
        workload = Workload(dataset, batch_size, on, seconds)
        chosen = [rows_of for kind, rows_of in makers if what == kind or (what == "all" and kind != "recipe")]
        waiting = [measure for rows_of in chosen for measure in rows_of(workload)]
        facts = machine(workload)
        measured = [measure() for measure in progress(waiting, "bench: rows", len(waiting), quiet=as_json)]
    rows = [row for row in measured if row is not None]
    if as_json:
        click.echo(json.dumps({"machine": facts, "rows": [row.to_plain() for row in rows]}))
        return
    click.echo(machine_lines(facts, name))
    click.echo(table(rows))


@contextmanager
def _clips(shards: str | None, frames: int | None, count: int) -> Iterator[tuple["Dataset", str]]:
    """Open the dataset for the measurement; yield it and its name."""
    from skelpipe.bench.synthetic_clips import synthetic_clips
    from skelpipe.dataset import Dataset
    from skelpipe.errors import UsageError

    if shards is not None and frames is not None:
        raise UsageError(
            "--frames means synthetic clips, --shards (or SKELPIPE_SHARDS) a dataset to read: give one of them"
        )
    found = None
    if frames is None:
        try:
            found = resolve_shards(shards)
        except UsageError:
            found = None
    if found is not None:
        dataset = Dataset.open(found)
        yield dataset, str(dataset.path)  # the URL as given may hold secrets
        return
    with tempfile.TemporaryDirectory(prefix="skelpipe-bench-") as folder:
        yield synthetic_clips(Path(folder), frames or FRAMES, count), "a synthetic dataset"
