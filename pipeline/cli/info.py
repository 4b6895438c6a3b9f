"""`skelpipe info`."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import (
    json_option,
    plugin_option,
    resolve_shards,
    unresolved_shards_option,
)
from skelpipe.door.visible import visible, visible_in
from skelpipe.front.descriptions import counted

if TYPE_CHECKING:
    from skelpipe.skeleton import Layout

__all__ = ["info"]


@click.command(cls=Command, epilog="Example: skelpipe info --shards data/ntu60-xsub --json")
@unresolved_shards_option
@click.option(
    "--layout",
    "layout_name",
    metavar="NAME|YAML",
    help="Instead of a dataset, print the joints of a built-in layout, or of the layout in the .yaml of your own"
    " dataset: index, parent, mirror and part of each.",
)
@click.option(
    "--id",
    "identity",
    metavar="CLIP",
    help="Instead of the dataset, print where one clip is, and its raw file with hash and time.",
)
@plugin_option
@json_option
def info(*, shards: str | None, layout_name: str | None, identity: str | None, as_json: bool) -> None:
    """Print the description of a dataset: source, split, shape, counts and digest."""
    if layout_name is not None:
        _show_layout(layout_name, as_json)
        return
    if identity is not None:
        _show_clip(resolve_shards(shards), identity, as_json)
        return
    _show_dataset(resolve_shards(shards), as_json)


def _show_dataset(shards: str, as_json: bool) -> None:
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
    card = {**card, **visible_in({key: card[key] for key in ("title", "split", "profile", "dropped")})}
    classes = counted(len(dataset.classes), "class") if dataset.classes else "no classes"
    click.echo(f"{card['title']}, split {card['split']}, {classes}")
    click.echo(f"profile   {card['profile']['name']} version {card['profile']['version']}")
    click.echo(
        f"clips     [C,T,V,M] = [{channels},{frames},{joints},{bodies}] {card['dtype']}, {dataset.layout.name}"
    )
    click.echo(f"views     {', '.join(dataset.views)}")
    click.echo(f"formats   {', '.join(card['formats'])}")
    for subset, facts in subsets.items():
        shards = counted(facts["shards"], "shard")
        published = f" ({card['published'][subset]:,} published)" if card["published"] else ""
        click.echo(
            f"{subset:<9} {counted(facts['samples'], 'clip')} in {shards} per view,"
            f" {facts['bytes'] / 1e6:,.1f} MB{published}"
        )
    for reason, count in card["dropped"].items():
        click.echo(f"dropped   {count:,}: {reason}")
    if "untrimmed" in card:
        for subset in SUBSETS:
            facts = card["untrimmed"][subset]
            click.echo(
                f"untrimmed {subset}: {counted(facts['videos'], 'video')}, {counted(facts['frames'], 'frame')}"
            )
    if reason := why_no_anchors(card):
        click.echo(f"anchors   none: {reason}")
    click.echo(f"digest    {dataset.digest}")


def _show_clip(shards: str, identity: str, as_json: bool) -> None:
    from skelpipe.dataset import Dataset
    from skelpipe.dataset.traced import traced

    found = traced(Dataset.open(shards), identity)
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        if value is not None:
            click.echo(f"{name.replace('_', ' '):<15} {visible(str(value))}")


def _show_layout(name: str, as_json: bool) -> None:
    from skelpipe.manifest_file import load_manifest
    from skelpipe.skeleton import layout

    body = load_manifest(name).layout if name.endswith((".yaml", ".yml")) else layout(name)
    if as_json:
        click.echo(json.dumps({**body.to_plain(), "source": body.source}))
        return
    click.echo(f"{body.name}: {len(body)} joints, centre {body.joints[body.centre]}")
    if body.source:
        click.echo(f"source {body.source}")
    rows = [("index", "joint", "parent", "mirror", "part"), *_rows(body)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def _rows(body: "Layout") -> list[tuple[str, str, str, str, str]]:
    part_of = {v: part for part, group in body.parts.items() for v in group}
    return [
        (
            str(v),
            joint,
            "" if v == body.centre else body.joints[body.parents[v]],
            "" if v == body.mirror[v] else body.joints[body.mirror[v]],
            part_of[v],
        )
        for v, joint in enumerate(body.joints)
    ]


def _bytes(card: Mapping[str, Any], subset: str) -> int:
    """Return the bytes of a subset's clips and videos in all containers."""
    tars = (facts["bytes"] for shard in card["splits"][subset]["shards"] for facts in shard["views"].values())
    shards = sum(tars) if "shards" in card["formats"] else 0
    hdf5 = card.get("hdf5", {}).get(subset, {"bytes": 0})["bytes"]
    videos = sum(tar["bytes"] for tar in card.get("untrimmed", {}).get(subset, {}).get("shards", ()))
    return int(shards + hdf5 + videos)
