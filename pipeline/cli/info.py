"""`skelpipe info`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from skelpipe.cli.options import errors_as_messages, json_option, shards_option

__all__ = ["info"]


@click.command(epilog="Example: skelpipe info --shards data/ntu60-xsub --json")
@shards_option
@json_option
@errors_as_messages
def info(*, shards: str, as_json: bool) -> None:
    """Print what a dataset is: its source, split, shape, counts and digest."""
    from skelpipe.dataset import Dataset
    from skelpipe.manifest import SIDES

    dataset = Dataset.open(shards)
    card = dataset.card
    sides = {
        side: {
            "samples": dataset.count(side),
            "shards": len(dataset.shards(side)),
            "bytes": _bytes(dataset.shards(side)),
        }
        for side in SIDES
    }
    content = {
        "shards": shards,
        "name": dataset.name,
        "title": card["title"],
        "split": dataset.split_name,
        "profile": card["profile"],
        "shape": list(dataset.shape),
        "dtype": card["dtype"],
        "layout": dataset.layout.name,
        "classes": len(dataset.classes),
        "views": list(dataset.views),
        "sides": sides,
        "published": card["published"],
        "dropped": card["dropped"],
        "anchors": "absent" not in card["anchors"],
        "digest": dataset.digest,
    }
    if as_json:
        click.echo(json.dumps(content))
        return
    channels, frames, joints, bodies = dataset.shape
    click.echo(f"{card['title']}, split {dataset.split_name}, {len(dataset.classes)} classes")
    click.echo(f"profile   {card['profile']['name']} version {card['profile']['version']}")
    click.echo(
        f"clips     [C,T,V,M] = [{channels},{frames},{joints},{bodies}] {card['dtype']}, {dataset.layout.name}"
    )
    click.echo(f"views     {', '.join(dataset.views)}")
    for side, facts in sides.items():
        click.echo(
            f"{side:<9} {facts['samples']:,} clips in {facts['shards']:,} shards a view,"
            f" {facts['bytes'] / 1e6:,.1f} MB ({card['published'][side]:,} published)"
        )
    for reason, count in card["dropped"].items():
        click.echo(f"dropped   {count:,}: {reason}")
    if reason := card["anchors"].get("absent"):
        click.echo(f"anchors   none: {reason}")
    click.echo(f"digest    {dataset.digest}")


def _bytes(shards: Sequence[Mapping[str, Any]]) -> int:
    return sum(facts["bytes"] for shard in shards for facts in shard["views"].values())
