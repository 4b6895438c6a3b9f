"""`skelpipe export`."""

import json
from pathlib import Path

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import cache_options, json_option, resolve_shards, view_option
from skelpipe.front.descriptions import counted

__all__ = ["export"]

FORMATS = ("ctrgcn-npz", "stgcn-npy", "pyskl-pkl", "npy", "csv")


@click.command(cls=Command, epilog="Example: skelpipe export data/ntu60-xsub --to ctrgcn-npz --out exported")
@click.argument("shards", required=False, metavar="[DATASET]", envvar="SKELPIPE_SHARDS")
@click.option("--to", "format_name", type=click.Choice(FORMATS), required=True, help="What is to be written.")
@click.option(
    "--out", required=True, metavar="FOLDER", type=click.Path(path_type=Path), help="Folder to write into."
)
@view_option
@click.option("--no-scores", is_flag=True, help="Leave out the scores of the joints.")
@click.option(
    "--pad-to",
    type=click.IntRange(min=0),
    help="Zeros at the end fill each clip up to so many frames; 0 for none [default: 300, as their authors have"
    " it; ctrgcn-npz and stgcn-npy].",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="Type of the numbers [default: float32; pyskl-pkl and npy].",
)
@click.option("--gzip", "zipped", is_flag=True, help="Compress the table (csv).")
@click.option("--overwrite", is_flag=True, help="Replace files of these names.")
@cache_options
@json_option
def export(
    *,
    shards: str | None,
    format_name: str,
    out: Path,
    view: str,
    no_scores: bool,
    pad_to: int | None,
    dtype: str | None,
    zipped: bool,
    overwrite: bool,
    cache: Path | None,
    cache_size: int | None,
    as_json: bool,
) -> None:
    """Write the clips of a dataset, a folder or URL, as files that other programs read.

    What is written, and which program reads it: docs/exporting.md. skelpipe import reads all but csv back. Files
    appear when all are complete.
    """
    from skelpipe.dataset import Dataset
    from skelpipe.export import export as write
    from skelpipe.export.formats import Wishes

    dataset = Dataset.open(resolve_shards(shards), cache=cache, cache_size=cache_size)
    wishes = Wishes(pad_to, dtype, zipped)
    done = write(
        dataset,
        format_name,
        out,
        view=view,
        scores=not no_scores,
        wishes=wishes,
        overwrite=overwrite,
        quiet=as_json,
    )
    counts = {subset: dataset.count(subset) for subset in ("train", "test")}
    if as_json:
        content = {"out": str(out), "format": format_name, "view": view, "samples": counts, "bytes": done.bytes}
        click.echo(json.dumps({**content, "files": len(done.files), "lines": done.lines}))
        return
    click.echo(
        f"{out}: {counts['train']:,} training and {counted(counts['test'], 'test clip')}, "
        f"{counted(len(done.files), 'file')}, "
        f"{done.bytes / 1e6:,.1f} MB"
    )
    for line in done.lines:
        click.echo(f"  {line}")
