"""`skelpipe info`."""

import json
from collections.abc import Mapping
from typing import Any

import click

from skelpipe.cli.options import errors_as_messages, json_option, shards_option

__all__ = ["info"]


@click.command(epilog="Example: skelpipe info --shards data/ntu60-xsub --json")
@shards_option
@json_option
@errors_as_messages
def info(*, shards: str, as_json: bool) -> None:
    """Print the description of a dataset: source, split, shape, counts and digest."""
    from skelpipe.dataset import Dataset
    from skelpipe.dataset.card import why_no_anchors
    from skelpipe.manifest import SUBSETS

    dataset = Dataset.open(shards)
    card = dataset.card
    subsets = {
        subset: {
            "samples": dataset.count(subset),
            "shards": len(dataset.shards(subset)),
            "bytes": _bytes(card, subset),
        }
        for subset in SUBSETS
    }
    content = {
        "shards": str(dataset.filesystem),  # the URL without secrets
        "name": dataset.name,
        "title": card["title"],
        "split": dataset.split,
        "profile": card["profile"],
        "shape": list(dataset.shape),
        "dtype": card["dtype"],
        "layout": dataset.layout.name,
        "classes": len(dataset.classes),
        "views": list(dataset.views),
        "formats": card["formats"],
        "sides": subsets,
        "published": card["published"],
        "dropped": card["dropped"],
        "anchors": "absent" not in card["anchors"],
        "digest": dataset.digest,
    }
    if as_json:
        click.echo(json.dumps(content))
        return
    channels, frames, joints, bodies = dataset.shape
    click.echo(f"{card['title']}, split {dataset.split}, {len(dataset.classes)} classes")
    click.echo(f"profile   {card['profile']['name']} version {card['profile']['version']}")
    click.echo(
        f"clips     [C,T,V,M] = [{channels},{frames},{joints},{bodies}] {card['dtype']}, {dataset.layout.name}"
    )
    click.echo(f"views     {', '.join(dataset.views)}")
    click.echo(f"formats   {', '.join(card['formats'])}")
    for subset, facts in subsets.items():
        published = f" ({card['published'][subset]:,} published)" if card["published"] else ""
        click.echo(
            f"{subset:<9} {facts['samples']:,} clips in {facts['shards']:,} shards per view,"
            f" {facts['bytes'] / 1e6:,.1f} MB{published}"
        )
    for reason, count in card["dropped"].items():
        click.echo(f"dropped   {count:,}: {reason}")
    if "untrimmed" in card:
        for subset in SUBSETS:
            facts = card["untrimmed"][subset]
            click.echo(f"untrimmed {subset}: {facts['videos']:,} videos, {facts['frames']:,} frames")
    if reason := why_no_anchors(card):
        click.echo(f"anchors   none: {reason}")
    click.echo(f"digest    {dataset.digest}")


def _bytes(card: Mapping[str, Any], subset: str) -> int:
    """Return the bytes of a subset's clips and videos in all containers."""
    tars = (facts["bytes"] for shard in card["splits"][subset]["shards"] for facts in shard["views"].values())
    shards = sum(tars) if "shards" in card["formats"] else 0
    hdf5 = card.get("hdf5", {}).get(subset, {"bytes": 0})["bytes"]
    videos = sum(tar["bytes"] for tar in card.get("untrimmed", {}).get(subset, {}).get("shards", ()))
    return int(shards + hdf5 + videos)
