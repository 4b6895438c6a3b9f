"""`skelpipe verify`."""

import json
import sys

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import json_option, shards_option, workers_option

__all__ = ["verify"]


@click.command(cls=Command, epilog="Example: skelpipe verify --shards data/ntu60-xsub")
@shards_option
@workers_option
@json_option
def verify(*, shards: str, workers: int, as_json: bool) -> None:
    """Check every file of a dataset against its card and print its digest, to compare it with others.

    A dataset at a URL is read from there; caches are not used.
    """
    from skelpipe.dataset import Dataset
    from skelpipe.dataset.verify import damages

    dataset = Dataset.open(shards)
    url = str(dataset.filesystem)  # without secrets
    found = damages(dataset, workers=workers, quiet=as_json)
    if as_json:
        click.echo(json.dumps({"shards": url, "digest": dataset.digest, "damages": found}))
    elif not found:
        click.echo(f"{url}: every file is as the card says")
        click.echo(f"digest {dataset.digest}")
    for damage in found:
        click.echo(f"Error: {damage}", err=True)
    sys.exit(1 if found else 0)
