"""`skelpipe verify`."""

import json
import sys

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import json_option, shards_option, workers_option
from skelpipe.door.visible import visible

__all__ = ["verify"]


@click.command(cls=Command, epilog="Example: skelpipe verify --shards data/ntu60-xsub --part train/joint")
@shards_option
@click.option(
    "--part",
    "parts",
    multiple=True,
    metavar="NAME",
    help="Verify a part only, such as train, train/joint, train/joint/000000, samples, anchors/bone or test.h5;"
    " may be given more than once [default: everything].",
)
@click.option(
    "--deep",
    is_flag=True,
    help="Also compare the dataset with itself: shards with HDF5 files and with the sample table, bone and motion"
    " with the joints, anchors with the mean of the clips.",
)
@workers_option
@json_option
def verify(*, shards: str, parts: tuple[str, ...], deep: bool, workers: int, as_json: bool) -> None:
    """Compute a dataset's digest from its content, compare it with the card's, and print it.

    Two datasets with one digest have the same clips and labels, in whatever container. A dataset at a URL is read
    from there; caches are not used.
    """
    from skelpipe.dataset import Dataset
    from skelpipe.dataset.verify import verify

    dataset = Dataset.open(shards)
    url = str(dataset.filesystem)  # without secrets
    found = verify(dataset, parts, deep=deep, workers=workers, quiet=as_json)
    if as_json:
        content = {"shards": url, "digest": dataset.digest, "computed": found.digest, "damages": found.damages}
        click.echo(json.dumps({**content, "parts": found.parts, "deep": deep}))
    elif not found.damages:
        what = ", ".join(parts) if parts else "every file"
        agrees = ", and its files agree with each other" if deep else ""
        click.echo(f"{url}: {what} is as the digest says{agrees}")
        for part, hashed in found.parts.items():
            click.echo(f"part {part} {hashed}")
        click.echo(f"digest {dataset.digest}")
    for damage in found.damages:
        click.echo(f"Error: {visible(damage)}", err=True)
    sys.exit(1 if found.damages else 0)
