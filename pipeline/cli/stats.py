"""`skelpipe stats`."""

import json
from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import cache_options, json_option, shards_option
from skelpipe.front.descriptions import counted

__all__ = ["stats"]

AGREEMENT = 1e-6  # metres


@click.command(
    cls=Command, epilog="Example: skelpipe stats --average-motion --shards data/ntu60-xsub --plot anchor.png"
)
@shards_option
@click.option(
    "--average-motion",
    is_flag=True,
    help="Compute the mean training clip of every view from the shards and compare it with the stored anchor.",
)
@click.option("--plot", metavar="PNG", help="Draw the average motion into this file (needs skelpipe[plot]).")
@cache_options
@json_option
def stats(
    *,
    shards: str,
    average_motion: bool,
    plot: str | None,
    cache: Path | None,
    cache_size: int | None,
    as_json: bool,
) -> None:
    """Print clips per class and subset; with --average-motion, check and draw the mean training clip."""
    import numpy as np

    from skelpipe.dataset import Dataset
    from skelpipe.dataset.stats import average_motion as average
    from skelpipe.dataset.stats import label_counts
    from skelpipe.errors import DatasetError
    from skelpipe.manifest import SUBSETS

    dataset = Dataset.open(shards, cache=cache, cache_size=cache_size)
    url = str(dataset.filesystem)  # without secrets
    content: dict[str, Any] = {"shards": url, "digest": dataset.digest, "sides": {}}
    for subset in SUBSETS:
        labels = dataset.stored_labels(subset)
        counts = label_counts(labels, len(dataset.classes)) if dataset.labelled else np.array([], np.int64)
        present = counts[counts > 0]
        content["sides"][subset] = {
            "samples": len(labels),
            "classes": len(present),
            "fewest": int(present.min()) if len(present) else 0,
            "most": int(present.max()) if len(present) else 0,
        }
        if not as_json:
            found = content["sides"][subset]
            of = f"of {counted(found['classes'], 'class')}, {found['fewest']} to {found['most']} per class"
            clips = counted(found["samples"], "clip")
            click.echo(f"{subset}: {clips} {of if dataset.labelled else 'without labels'}")
    if average_motion:
        means = {view: average(dataset, view, quiet=as_json) for view in dataset.views}
        content["average_motion"] = {
            view: float(np.abs(mean - dataset.anchor(view)).max()) for view, mean in means.items()
        }
        for view, difference in content["average_motion"].items():
            if not as_json:
                click.echo(
                    f"average {view}: recomputed from the shards, within {difference:.1e} of the stored anchor"
                )
            if difference > AGREEMENT * max(1.0, float(np.abs(means[view]).max())):  # pixels are large numbers
                raise DatasetError(f"{url}: the stored anchor of view {view} is off by {difference:.1e}")
    if plot:
        from skelpipe.drawing.plot import draw_average_motion

        draw_average_motion(dataset, plot)
        content["plot"] = plot
        if not as_json:
            click.echo(f"drawn: {plot}")
    if as_json:
        click.echo(json.dumps(content))
