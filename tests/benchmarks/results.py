"""Which method learns most from the same clips: the runs behind RESULTS.md, on real recordings.

    skelpipe prepare --dataset nw-ucla --split xview --raw all_sqe.zip --out data/ucla --frames 48
    skelpipe prepare --dataset msr-action3d --split xsub --raw MSRAction3D --out data/msr --frames 48
    python tests/benchmarks/results.py --shards-root data --out results --jobs 2

What needs a dataset that is not there is left out; docs/learning-from-few-clips.md has the commands for those of
the transfers. Every method and baseline of `results_runs.py`, each run an ordinary command that is printed; the
most telling come first. Killed or interrupted, the same command continues: what is done is not repeated.
`--dry-run` prints all commands with their state. All of it takes some 25 hours of one core. From what is done,

    python tests/benchmarks/results.py --shards-root data --out results --tables RESULTS.md --tables README.md

adds the figures to docs/results.jsonl beside these files, writes the tables between their marks, and draws the
pictures in docs/. With `--recorded docs/results.jsonl` the runs of that record are not repeated, but for those
that others need.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from results_record import Record, Versions
from results_runs import DATASETS, Results
from results_tables import Tables

import skelpipe
from skelpipe.door.signals import saying_what_ended
from skelpipe.errors import SkelpipeError
from skelpipe.train.reproduction.shelf import open_shelf
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import Command
from skelpipe.train.reproduction.work_queue import run_plan
from skelpipe.train.running.run_log import Console

RECORD = "results.jsonl"
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--shards-root", required=True, help="Folder of the prepared datasets, whatever their names.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for runs, tables and pictures."
)
@click.option("--released", metavar="FILE", help="Checkpoint of AimCLR's authors, to be evaluated too.")
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at once, a thread each."
)
@click.option(
    "--only", multiple=True, metavar="TEXT", help="Only commands whose name contains this, and their needs."
)
@click.option("--quick", is_flag=True, help="Train everything for two epochs: whether each command works.")
@click.option("--overwrite", is_flag=True, help="Replace runs that have other settings.")
@click.option(
    "--tables",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Run nothing; add what is done to the record and write the tables of this Markdown file.",
)
@click.option(
    "--recorded",
    type=click.Path(path_type=Path, exists=True),
    help="Do not repeat the runs of this record, unless others need them.",
)
@click.option("--dry-run", is_flag=True, help="Only print the commands, each with its state.")
def main(
    shards_root: str,
    out: Path,
    released: str | None,
    jobs: int,
    only: tuple[str, ...],
    quick: bool,
    overwrite: bool,
    tables: tuple[Path, ...],
    recorded: Path | None,
    dry_run: bool,
) -> None:
    """Run everything that is not done."""
    if quick and tables:
        raise click.UsageError("--tables: the figures of --quick are not to be kept")
    console = Console()
    names, lengths = (sorted(set(each)) for each in zip(*DATASETS.values(), strict=True))
    shelf = open_shelf(shards_root, names, lengths, console.say)
    found = {short: shelf.find(*which) for short, which in DATASETS.items()}
    for short, dataset in found.items():
        if dataset is None:
            console.say(f"left out: {shelf.missing(*DATASETS[short])}")
    if released is None:
        console.say("left out: the encoder of AimCLR's authors: no --released FILE")
    results = Results({short: dataset for short, dataset in found.items() if dataset}, quick, released or "")
    plan = results.plan
    if only:
        plan.commands = {name: plan.commands[name] for name in _chosen(plan.commands, only)}
    work = WorkFolder(out, shelf.urls, overwrite=overwrite)
    if tables:
        docs = tables[0].parent / "docs"
        record = Record.read(docs / RECORD, results.released)
        record.collect(plan, work)
        record.write(docs / RECORD)
        Tables(results, record, work).write(tables, docs)
        return
    if recorded:
        plan = Record.read(recorded, results.released).left(plan)
    if dry_run:
        for command in plan.commands.values():
            click.echo(f"# {command.name}: {work.state(command)}\n{shlex.join(work.words(command, shown=True))}")
        return
    out.mkdir(parents=True, exist_ok=True)
    Versions(out).begin(_version())
    os.environ.update(dict.fromkeys(THREADS, "1"))
    os.nice(19)
    with saying_what_ended("the same command continues"):
        failed = run_plan(plan, work, jobs, console)
    for name, why in failed.items():
        console.say(f"failed: {name}: {why}")
    sys.exit(1 if failed else 0)


def _version() -> str:
    """Return the commit of this checkout, or the version of the package where there is none."""
    here = Path(__file__).resolve().parent
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return git.stdout.strip() or skelpipe.__version__


def _chosen(commands: Mapping[str, Command], only: Sequence[str]) -> list[str]:
    """Return the names that contain one of the texts, and those of what they need, in the plan's order."""
    kept: set[str] = set()
    for name in reversed(list(commands)):
        if name in kept or any(text in name for text in only):
            kept |= {name, *(each.name for each in commands[name].needs)}
    return [name for name in commands if name in kept]


if __name__ == "__main__":
    try:
        main()
    except SkelpipeError as error:
        sys.exit(f"Error: {error}")
