"""What `skelpipe embed` does: embeddings by `skelpipe.Encoder`, as a file."""

import json
from dataclasses import replace
from pathlib import Path

import click

from skelpipe.dataset import Dataset
from skelpipe.front.descriptions import counted
from skelpipe.ownership import hold
from skelpipe.train.inference.encoder import Encoder

__all__ = ["run"]


def run(
    recordings: tuple[str, ...],
    checkpoint: str,
    out: Path,
    shards: str | None,
    subset: str | None,
    dataset: str | None,
    view: str | None,
    features: str,
    skip_bad: bool,
    overwrite: bool,
    cache: Path | None,
    cache_size: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Embed recordings or a dataset, write the file and say what is in it."""
    hold(out, file=True)
    encoder = Encoder.load(checkpoint, view=view, features=features, dataset=dataset, device=device)
    if shards is None:
        found = encoder.embed(
            recordings[0] if len(recordings) == 1 else recordings, skip_bad=skip_bad, quiet=as_json
        )
    else:
        found = encoder.embed(Dataset.open(shards, cache=cache, cache_size=cache_size), subset, quiet=as_json)
    replace(found, labels=None).write(out)
    count, width = found.features.shape
    if as_json:
        damaged = [{"file": file, "why": why} for file, why in found.damaged]
        click.echo(json.dumps({"out": str(out), "clips": count, "dim": width, **found.about, "damaged": damaged}))
        return
    for file, why in found.damaged:
        click.echo(f"{file}: left out: {why}", err=True)
    click.echo(f"{out}: {encoder.name}, {counted(count, 'clip')}, {width} {encoder.features} features each")
