"""`skelpipe copy`."""

import json
from dataclasses import asdict

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import json_option, workers_option

__all__ = ["copy"]


@click.command(cls=Command, epilog="Example: skelpipe copy data/ntu60-xsub file:///mnt/big/ntu60-xsub")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace another dataset at DST; other files at DST stay.",
)
@workers_option
@json_option
def copy(*, source: str, target: str, overwrite: bool, workers: int, as_json: bool) -> None:
    """Copy a dataset between folders, file://, s3:// and gs://, and check every byte against its card.

    A URL takes options, as in "s3://bucket/ntu60-xsub?endpoint_override=127.0.0.1:9000&scheme=http" (also region,
    anonymous=true); credentials come from the environment. After an interruption, the same command continues where
    it stopped. The card of the dataset is written last; before that there is no dataset at DST.
    """
    from skelpipe.ownership import hold
    from skelpipe.prepare.copy import copy_dataset
    from skelpipe.storage import open_filesystem

    there = open_filesystem(target)
    if there.is_local:
        hold(there.local_path.absolute(), file=True)
    report = copy_dataset(
        open_filesystem(source),
        there,
        workers=workers,
        overwrite=overwrite,
        quiet=as_json,
        say=lambda line: click.echo(line, err=True),
    )
    if as_json:
        click.echo(json.dumps({**asdict(report), "was_complete": report.was_complete}))
        return
    if report.was_complete:
        click.echo(f"{report.target}: already complete, nothing to do")
    else:
        click.echo(
            f"{report.target}: {report.copied:,} files copied ({report.bytes:,} bytes),"
            f" {report.skipped:,} were there already"
        )
    click.echo(f"digest {report.digest}")
