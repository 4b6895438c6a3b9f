"""`skelpipe synth`: make raw recordings."""

import json
from pathlib import Path

import click

from skelpipe.cli.options import errors_as_messages, json_option, seed_option, workers_option

__all__ = ["synth"]


@click.command(epilog="Example: skelpipe synth --dataset ntu60 --out raw/ntu60 --subjects 8 --actions 10 --seed 0")
@click.option(
    "--dataset",
    type=click.Choice(["ntu60", "ntu120"]),
    default="ntu60",
    show_default=True,
    help="Dataset whose names, ranges and file format the recordings have.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Folder to write, without other recordings in it [default: raw/DATASET].",
)
@click.option("--subjects", type=click.IntRange(min=1), default=8, show_default=True, help="Number of people.")
@click.option(
    "--actions", type=click.IntRange(min=1), default=10, show_default=True, help="Number of action classes."
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Performances of each action by each subject.",
)
@seed_option
@click.option(
    "--difficulty",
    type=float,
    default=1.0,
    show_default=True,
    help="Strength of what varies (viewpoint, tempo, style, timing, noise, faults), 0 (clean, aligned) to 3.",
)
@click.option(
    "--frames",
    type=int,
    default=80,
    show_default=True,
    help="Mean length of a recording, at 30 frames a second.",
)
@workers_option
@json_option
@errors_as_messages
def synth(
    dataset: str,
    out: Path | None,
    subjects: int,
    actions: int,
    repeats: int,
    seed: int,
    difficulty: float,
    frames: int,
    workers: int,
    as_json: bool,
) -> None:
    """Write synthetic raw recordings in a dataset's real format.

    Every performance is recorded by three cameras: SUBJECTS x ACTIONS x REPEATS x 3 files. Same arguments, same
    bytes; a rerun completes what was cut off.
    """
    from skelpipe.progress import progress
    from skelpipe.synth.generate import Options
    from skelpipe.synth.names import plan_performances, split_counts
    from skelpipe.synth.store import write_recordings

    folder = out if out is not None else Path("raw") / dataset
    options = Options(dataset, seed, difficulty, frames)
    performances = plan_performances(dataset, subjects, actions, repeats)
    written = write_recordings(folder, options, performances, workers=workers)
    sizes = list(progress(written, f"synth {folder}", len(performances), quiet=as_json))
    summary = {
        "dataset": dataset,
        "out": str(folder),
        "recordings": 3 * len(performances),
        "bytes": sum(sizes),
        "actions": sorted({performance.action for performance in performances}),
        "subjects": sorted({performance.subject for performance in performances}),
        "setups": sorted({performance.setup for performance in performances}),
        "splits": split_counts(dataset, performances),
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(f"{folder}: {summary['recordings']} recordings of {dataset}, {sum(sizes) / 1e6:.0f} MB")
    for name, sides in split_counts(dataset, performances).items():
        click.echo(f"  {name}: {sides['train']} train, {sides['test']} test")
