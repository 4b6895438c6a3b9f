"""`skelpipe prepare`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from skelpipe.cli.options import errors_as_messages, json_option, workers_option

__all__ = ["prepare"]


@click.command(
    epilog="Example: skelpipe prepare --dataset ntu60 --split xsub --raw raw/ntu60 --out data/ntu60-xsub"
)
@click.option("--dataset", "name", required=True, metavar="NAME", help="Dataset: ntu60, ntu120 or msr-action3d.")
@click.option("--split", required=True, metavar="SPLIT", help="Protocol: xsub; also xview (ntu60), xset (ntu120).")
@click.option(
    "--raw",
    multiple=True,
    metavar="DIR|ZIP",
    help="Folder of raw recordings, at any nesting, or .zip archive as downloaded; may be given more than once"
    " [default: raw/DATASET].",
)
@click.option("--out", metavar="DIR", help="Folder of the dataset [default: data/DATASET-SPLIT].")
@click.option("--frames", type=click.IntRange(min=2), default=64, show_default=True, help="Frames of a clip.")
@click.option("--bodies", type=click.IntRange(1, 6), help="Bodies of a clip [default: the dataset's].")
@click.option(
    "--shard-size", type=click.IntRange(min=1), default=1024, show_default=True, help="Samples in a shard."
)
@click.option(
    "--profile", type=click.Choice(["crosclr"]), default="crosclr", show_default=True, help="Preprocessing."
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What a damaged recording does: end the work, or become a row with its reason.",
)
@click.option("--dry-run", is_flag=True, help="Only report what would be prepared, from the file names.")
@click.option("--overwrite", is_flag=True, help="Replace a dataset in --out that was made otherwise.")
@workers_option
@json_option
@errors_as_messages
def prepare(
    *,
    name: str,
    split: str,
    raw: tuple[str, ...],
    out: str | None,
    frames: int,
    bodies: int | None,
    shard_size: int,
    profile: str,
    on_error: str,
    dry_run: bool,
    overwrite: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Turn raw recordings into a dataset of shards, once.

    Cut off or interrupted, the same command goes on where it stopped.
    """
    from skelpipe.manifest import load_manifest
    from skelpipe.prepare import Options, prepare, survey
    from skelpipe.report import plan_report, preparation_report

    manifest = load_manifest(name)
    manifest.split(split)
    target = Path(out or f"data/{name}-{split}")
    places = raw or (f"raw/{name}",)
    if dry_run:
        plan = survey(manifest, places, split, skip_bad=on_error == "skip")
        _show(plan_report(manifest, split, target, plan), as_json)
        return
    options = Options(split, frames, bodies or manifest.bodies, shard_size, profile)
    outcome = prepare(
        manifest,
        places,
        target,
        options,
        workers=workers,
        skip_bad=on_error == "skip",
        overwrite=overwrite,
        quiet=as_json,
    )
    _show(preparation_report(manifest, target, outcome), as_json)


def _show(report: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report))
        return
    if report.get("dry_run"):
        click.echo("dry run: nothing is read or written")
    if report.get("was_complete"):
        click.echo(f"{report['out']}: already complete, nothing to do")
    click.echo(f"{report['out']}: {report['train']:,} training and {report['test']:,} test clips")
    for reason, count in report["dropped"].items():
        click.echo(f"dropped {count:,}: {reason}")
    for reason, count in report["outside"].items():
        click.echo(f"left aside {count:,}: {reason}")
    published = report["published"]
    expected = f"{published['train']:,} training and {published['test']:,} test clips are published"
    if report["absent"]:
        first = f", first {report['first_absent']}" if report["first_absent"] else ""
        click.echo(f"{expected}; {report['absent']:,} recordings are not here{first}")
    else:
        click.echo(f"{expected}: complete")
    for side in ("train", "test"):
        if not report[side]:
            click.echo(f"Warning: the {side} side of split {report['split']} is empty", err=True)
    if "digest" in report:
        click.echo(f"digest {report['digest']}")
