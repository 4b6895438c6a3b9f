"""Write a report of a run: one page for a browser, which needs no network.

    python train/report.py runs/linear-ntu60-xsub-joint-aimclr --shards data/ntu60-xsub
    python train/report.py runs/aimclr-ntu60-xsub-joint

An installed skelpipe needs no checkout: `python -m skelpipe.train.report RUN`.

RUN is the folder of an evaluation or of a pre-training, finished or not. With the dataset the page has drawings of
clips: clips of the hardest classes, and a clip before and after the recipe's augmentations.
"""

import json
from pathlib import Path

import click

from skelpipe.dataset import Dataset
from skelpipe.train.reporting.report import write_report

__all__ = ["run"]


def run(folder: Path, shards: str | None, cache: Path | None, cache_size: int | None, as_json: bool) -> None:
    """Do what the command asks for."""
    dataset = Dataset.open(shards, cache=cache, cache_size=cache_size) if shards else None
    path = write_report(folder, dataset)
    size = path.stat().st_size
    click.echo(json.dumps({"report": str(path), "bytes": size}) if as_json else f"{path}: {size / 1e3:,.0f} kB")
