"""The work of `train/browse.py`, where it is described, once the options are checked."""

import json
from pathlib import Path

import click

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD
from skelpipe.errors import UsageError
from skelpipe.ownership import hold
from skelpipe.train.browsing.workbench import write_workbench
from skelpipe.train.reporting.record import Record, read_record

__all__ = ["run"]


def run(
    sources: tuple[str, ...],
    out: Path,
    limit: int,
    seed: int,
    cache: Path | None,
    cache_size: int | None,
    as_json: bool,
) -> None:
    """Do what the command asks for."""
    if not out.is_dir():
        hold(out, file=True)
    datasets: list[Dataset] = []
    records: list[Record] = []
    for source in sources:
        if _is_dataset(source):
            datasets.append(Dataset.open(source, cache=cache, cache_size=cache_size))
        else:
            records.append(_run(source))
    page = write_workbench(out, datasets, records, limit=limit, seed=seed)
    size = out.stat().st_size
    if as_json:
        content = {"out": str(out), "bytes": size, "shown": page.shown, "clips": page.clips, "runs": len(records)}
        click.echo(json.dumps(content))
        return
    for remark in page.remarks:
        click.echo(remark)
    click.echo(f"{out}: {size / 1e3:,.0f} kB; open it in a browser")


def _is_dataset(source: str) -> bool:
    return "://" in source or (Path(source) / CARD).is_file()


def _run(source: str) -> Record:
    try:
        return read_record(Path(source))
    except UsageError:
        raise UsageError(
            f"{source}: is neither a dataset (it has no {CARD}) nor a run (no result.json and no recipe.yaml)"
        ) from None
