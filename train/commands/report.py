"""The work of `train/report.py`, where it is described, once the options are checked."""

import json
from pathlib import Path

import click

from skelpipe.dataset import Dataset
from skelpipe.ownership import hold
from skelpipe.train.evaluation.outcome import REPORT
from skelpipe.train.reporting.report import write_report

__all__ = ["run"]


def run(folder: Path, shards: str | None, cache: Path | None, cache_size: int | None, as_json: bool) -> None:
    """Do what the command asks for."""
    dataset = Dataset.open(shards, cache=cache, cache_size=cache_size) if shards else None
    if folder.is_dir():
        hold(folder / REPORT, file=True)
    path = write_report(folder, dataset)
    size = path.stat().st_size
    click.echo(json.dumps({"report": str(path), "bytes": size}) if as_json else f"{path}: {size / 1e3:,.0f} kB")
