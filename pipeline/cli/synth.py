"""`skelpipe synth`."""

import json
from dataclasses import astuple
from pathlib import Path

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import json_option, seed_option, workers_option
from skelpipe.front.descriptions import counted

__all__ = ["synth"]


@click.command(
    cls=Command,
    epilog="Example: skelpipe synth --dataset ntu60 --out raw/ntu60 --subjects 8 --actions 10 --seed 0",
)
@click.option(
    "--dataset",
    type=click.Choice(["ntu60", "ntu120", "pkummd1", "pkummd2", "msr-action3d", "nw-ucla"]),
    default="ntu60",
    show_default=True,
    help="Dataset whose names, ranges and file format are used.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Folder to write, without other recordings [default: raw/DATASET].",
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
    help="Strength of all variation (viewpoint, pace, style, timing, noise, faults), 0 (none) to 3.",
)
@click.option(
    "--frames",
    type=int,
    default=80,
    show_default=True,
    help="Mean length of a performance, at 30 frames per second.",
)
@workers_option
@json_option
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

    There are SUBJECTS x ACTIONS x REPEATS performances. Each is one file per camera: three for ntu60, ntu120 and
    nw-ucla, one for msr-action3d. For pkummd1 and pkummd2 about six performances by one subject are an untrimmed
    video, with three skeleton files and three label files; the split files of the dataset are written too. Equal
    arguments give equal bytes; a rerun completes an interrupted run.
    """
    from skelpipe.progress import progress
    from skelpipe.synth.options import SynthOptions
    from skelpipe.synth.plan import plan_dataset
    from skelpipe.synth.store import write_recordings

    folder = out if out is not None else Path("raw") / dataset
    plan = plan_dataset(SynthOptions(dataset, seed, difficulty, frames), subjects, actions, repeats)
    written = write_recordings(folder, plan.jobs, workers=workers)
    tallies = list(progress(written, f"synth {folder}", len(plan.jobs), quiet=as_json))
    recordings, clips, frames_written, size = map(sum, zip(*map(astuple, tallies), strict=True))
    summary = {"dataset": dataset, "out": str(folder), "recordings": recordings, "bytes": size, **plan.numbers}
    if plan.splits:
        summary["splits"] = plan.splits
    else:
        summary |= {"clips": clips, "frames": frames_written}
    if as_json:
        click.echo(json.dumps(summary))
        return
    click.echo(f"{folder}: {counted(recordings, 'recording')} of {dataset}, {size / 1e6:.0f} MB")
    if not plan.splits:
        click.echo(f"  {counted(clips, 'labelled clip')}, {counted(frames_written, 'frame')}")
    for name, subsets in plan.splits.items():
        click.echo(f"  {name}: {subsets['train']} train, {subsets['test']} test")
