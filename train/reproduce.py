"""Run what a table of a paper needs, and print the table with the paper's and the measured figures.

    python train/reproduce.py --paper aimclr --table linear --shards-root data --dry-run
    python train/reproduce.py --paper aimclr --table linear --shards-root data --dataset ntu60-xsub
    python train/reproduce.py --paper skelemixclr --table semi-1 --shards-root data --streams joint,bone,motion
    python train/reproduce.py --paper actclr --table transfer --shards-root data --method all

An installed skelpipe needs no checkout: `python -m skelpipe.train.reproduce --paper ...`.

Datasets are folders NAME-SPLIT (`ntu60-xsub`) in the root. Each part of the work is one command, with its run in
OUT/runs and its record in OUT/parts. Finished parts are not run again, and interrupted ones continue.
"""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import device_option, errors_as_messages, json_option, seed_option
from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError, UsageError
from skelpipe.files import replacing, write_json
from skelpipe.storage import child_url, open_filesystem, shown_url
from skelpipe.train.papers.tables import Cell, Paper, Table, builtin_papers, cells, load_paper, markdown
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import Selection, WorkPlan, plan_table
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.run_log import Console
from skelpipe.views import VIEWS

__all__ = ["find_datasets", "main", "reproduce"]


def find_datasets(
    root: str, table: Table, wanted: Sequence[str], say: Any
) -> tuple[list[str], dict[str, Dataset]]:
    """Return the names of the table's datasets to run, in its order, and by name all datasets that these need.

    Without `wanted` these are the ones that exist in the root; `say` gets a line for each that is left out. Raises
    UsageError if a wanted dataset is not in the table or does not exist, DatasetError if a folder holds another
    dataset than its name says.
    """
    if unknown := [name for name in wanted if name not in table.datasets]:
        raise UsageError(f"table {table.key} has no {unknown[0]}; it has: {', '.join(table.datasets)}")
    shown = str(open_filesystem(root))
    found: dict[str, Dataset] = {}
    run = []
    for name in (name for name in table.datasets if not wanted or name in wanted):
        needed = [name, table.pretrained.get(name, name)]
        opened = {each: found.get(each) or _open(root, each) for each in needed}
        missing = [each for each, dataset in opened.items() if dataset is None]
        if missing and wanted:
            raise UsageError(f"{shown}: there is no dataset {missing[0]}")
        if missing:
            say(f"{name} is left out: {shown} has no {missing[0]}")
            continue
        found |= {each: dataset for each, dataset in opened.items() if dataset is not None}
        run.append(name)
    if not run:
        raise UsageError(f"{shown}: holds none of the datasets of table {table.key}: {', '.join(table.datasets)}")
    return run, found


def _open(root: str, name: str) -> Dataset | None:
    url = child_url(root, name)
    if "://" not in url and not Path(url).is_dir():
        return None
    try:
        dataset = Dataset.open(url)
    except DatasetError:
        if "://" in url:
            return None
        raise
    if dataset_name(dataset) != name:
        raise DatasetError(f"{dataset.path}: holds {dataset_name(dataset)}, its folder's name says {name}")
    return dataset


def reproduce(
    table: Table, plan: WorkPlan, work: WorkFolder, console: Console
) -> dict[tuple[int, str], dict[str, float]]:
    """Run the commands of a plan and return the figures of its cells in %, by row and dataset."""
    results = {}
    for number, command in enumerate(plan.commands.values(), 1):
        console.say(f"part {number} of {len(plan.commands)}: {command.name} ({work.state(command)})")
        results[command.name] = work.run(command, console)
    return {cell: dict(results[command.name]["figures"]) for cell, command in plan.cells.items()}


def _remarks(table: Table, datasets: dict[str, Dataset], asked: dict[str, Any]) -> list[str]:
    """Return remarks on the differences between the paper's columns and the measured ones."""
    remarks = [table.notes] if table.notes else []
    for name, dataset in datasets.items():
        published = dataset.card["published"]
        counts = {subset: dataset.count(subset) for subset in ("train", "test")}
        if published and counts != dict(published):
            here = f"{counts['train']:,} + {counts['test']:,}"
            there = f"{published['train']:,} + {published['test']:,}"
            remarks.append(f"{name}: {here} clips here, {there} in the paper")
    for option in ("set", "pretraining", "evaluation"):
        if asked[option]:
            remarks.append(f"changed with --{option}: {', '.join(asked[option])}")
    if any(row.recipe for row in table.rows):
        remarks.append("papers report the best epoch on the test clips; here it is the last, the best in brackets")
    return remarks


def _choose(paper: Paper, table: Table, methods: Sequence[str]) -> Sequence[str | None] | None:
    """Return the recipes whose rows are run, None for all. `supervised` is training from scratch."""
    if "all" in methods:
        return None
    known = list(dict.fromkeys(row.recipe or "supervised" for row in table.rows))
    if unknown := [name for name in methods if name not in known]:
        raise UsageError(f"table {table.key} has no method {unknown[0]}; it has: {', '.join(known)}, all")
    chosen = [*methods] or [name for name in known if name in paper.recipes] or known
    return [None if name == "supervised" else name for name in chosen]


def _streams(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    streams = tuple(dict.fromkeys(text.strip() for text in value.split(",")))
    if unknown := [name for name in streams if name not in VIEWS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(VIEWS)}")
    return streams


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: python train/reproduce.py --paper aimclr --table linear --shards-root data --dry-run",
)
@click.option(
    "--paper", "name", metavar="NAME|FILE", required=True, help=f"{', '.join(builtin_papers())}, or a YAML file."
)
@click.option(
    "--table",
    "key",
    metavar="NAME",
    required=True,
    help="Such as linear, knn, finetune, semi-1, transfer.",
)
@click.option(
    "--shards-root",
    "root",
    metavar="URL",
    required=True,
    help="Folder or URL with the datasets, each named NAME-SPLIT. SKELPIPE_CACHE names a cache for a URL.",
)
@click.option(
    "--dataset", "wanted", multiple=True, metavar="NAME-SPLIT", help="Dataset to run [default: all found]."
)
@click.option(
    "--streams",
    default="joint,bone,motion",
    show_default=True,
    callback=_streams,
    help="Run rows of these views.",
)
@click.option(
    "--method", "methods", multiple=True, help="Run the rows of this recipe, or all [default: the paper's own]."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the recipes.")
@click.option(
    "--pretraining", multiple=True, metavar="NAME[=VALUE]", help="Option for train/pretrain.py, such as amp."
)
@click.option("--evaluation", multiple=True, metavar="NAME[=VALUE]", help="Option for the protocol's script.")
@click.option(
    "--ranks", type=click.IntRange(min=1), default=1, show_default=True, help="Number of processes, by torchrun."
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True, help="Folder."
)
@click.option("--overwrite", is_flag=True, help="Replace runs with other settings.")
@click.option("--dry-run", is_flag=True, help="Print the commands without running them.")
@device_option
@seed_option
@json_option
@errors_as_messages
def main(**asked: Any) -> None:
    """Run what a table of a paper needs, and print the table with the paper's and the measured figures.

    After an interruption, give the same command again: it continues, and what is finished is not run again.
    """
    console = Console()
    paper = load_paper(asked["name"])
    table = paper.table(asked["key"])
    columns, datasets = find_datasets(asked["root"], table, asked["wanted"], console.say)
    selection = Selection(
        datasets={name: datasets[name] for name in (*columns, *datasets)},
        recipes=_choose(paper, table, asked["methods"]),
        streams=asked["streams"],
        settings=asked["settings"],
        pretraining=asked["pretraining"],
        evaluation=asked["evaluation"],
        seed=asked["seed"],
        device=asked["device"],
    )
    plan = plan_table(table, selection)
    urls = {dataset.digest: child_url(asked["root"], name) for name, dataset in datasets.items()}
    work = WorkFolder(asked["out"], urls, overwrite=asked["overwrite"], ranks=asked["ranks"])
    if shown_url(asked["root"])[1]:
        console.say("the printed commands lack the secret of --shards-root: add it to run them by hand")
    if asked["dry_run"]:
        _show(plan, work, asked["as_json"])
        return
    found = cells(table, reproduce(table, plan, work, console), columns)
    remarks = _remarks(table, datasets, {"set": asked["settings"], **asked})
    text = f"{table.heading}\n\n{markdown(table, found)}" + "".join(f"\n- {remark}" for remark in remarks) + "\n"
    stem = work.out / "tables" / f"{Path(asked['name']).stem}-{table.key}"
    result = _result(paper, table, plan, work, found, datasets) | {"remarks": remarks, "markdown": text}
    with replacing(stem.with_suffix(".md")) as file:
        file.write(text.encode())
    write_json(stem.with_suffix(".json"), result)
    click.echo(json.dumps(result) if asked["as_json"] else text, nl=asked["as_json"])


def _show(plan: WorkPlan, work: WorkFolder, as_json: bool) -> None:
    """Print the commands of a plan in order, each with its state."""
    parts = [
        {"name": command.name, "state": work.state(command), "command": work.words(command, shown=True)}
        for command in plan.commands.values()
    ]
    if as_json:
        click.echo(json.dumps({"parts": parts}))
        return
    for part in parts:
        click.echo(f"# {part['name']}: {part['state']}\n{shlex.join(part['command'])}")


def _result(
    paper: Paper,
    table: Table,
    plan: WorkPlan,
    work: WorkFolder,
    found: Sequence[Cell],
    datasets: dict[str, Dataset],
) -> dict[str, Any]:
    """Return what --json prints, without the Markdown and the remarks."""
    return {
        "paper": paper.name,
        "table": table.key,
        "number": table.number,
        "section": table.section,
        "source": table.source,
        "cells": [vars(cell) for cell in found],
        "runs": {each.name: str(work.run_of(each)) for each in plan.commands.values()},
        "datasets": {name: {"digest": each.digest, "frames": each.frames} for name, each in datasets.items()},
    }


if __name__ == "__main__":
    main()
