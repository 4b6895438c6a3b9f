"""The work of `train/reproduce.py`, where it is described, once the options are checked."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from skelpipe.errors import UsageError
from skelpipe.files import replacing, write_json
from skelpipe.ownership import hold
from skelpipe.storage import shown_url
from skelpipe.train.papers.conditions import facts_of, frames_of, remarks
from skelpipe.train.papers.tables import (
    PERCENT,
    Cell,
    Paper,
    Table,
    cells,
    chosen_recipes,
    latex,
    load_paper,
    markdown,
)
from skelpipe.train.reproduction.estimate import estimate
from skelpipe.train.reproduction.shelf import Shelf, open_shelf
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import Selection, WorkPlan, plan_table
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.run_folder import BEST
from skelpipe.train.running.run_log import Console

__all__ = ["find_columns", "reproduce", "run", "table_remarks"]


def find_columns(shelf: Shelf, table: Table, wanted: Sequence[str], say: Callable[[str], None]) -> tuple[str, ...]:
    """Return the names of the table's datasets to run, in its order.

    Without `wanted` these are the ones that exist, of any length; `say` gets a line for each that is left out.
    Raises UsageError if a wanted dataset is not in the table, or if there is none at all.
    """
    if unknown := [name for name in wanted if name not in table.datasets]:
        raise UsageError(f"table {table.key} has no {unknown[0]}; it has: {', '.join(table.datasets)}")
    if wanted:
        return tuple(name for name in table.datasets if name in wanted)
    there = {name for name, _ in shelf.datasets}
    found = []
    for name in table.datasets:
        missing = [each for each in (name, table.pretrained.get(name, name)) if each not in there]
        if missing:
            say(f"{name} is left out: {shelf.root} has no {missing[0]}")
        else:
            found.append(name)
    if not found:
        raise UsageError(
            f"{shelf.root}: holds none of the datasets of table {table.key}: {', '.join(table.datasets)}"
        )
    return tuple(found)


def reproduce(
    table: Table, plan: WorkPlan, work: WorkFolder, console: Console
) -> dict[tuple[int, str], dict[str, float]]:
    """Run the commands of a plan and return the figures of its cells in %, by row and dataset."""
    results = {}
    for number, command in enumerate(plan.commands.values(), 1):
        console.say(f"part {number} of {len(plan.commands)}: {command.name} ({work.state(command)})")
        results[command.name] = work.run(command, console)
    return {cell: dict(results[command.name]["figures"]) for cell, command in plan.cells.items()}


def table_remarks(table: Table, plan: WorkPlan, asked: Mapping[str, Any]) -> list[str]:
    """Return remarks on the differences between the paper's columns and the measured ones."""
    said = [table.notes] if table.notes else []
    said += plan.left_out
    conditions: dict[str, list[str]] = {}
    for (number, name), command in plan.cells.items():
        row = table.rows[number]
        for remark in remarks(facts_of(command.dataset), frames_of(table, row)):
            conditions.setdefault(f"{name}: the paper's figures are {remark}", []).append(row.name)
    rows = {table.rows[number].name for number, _ in plan.cells}
    for text, names in conditions.items():
        all_rows = set(names) == {table.rows[n].name for n, name in plan.cells if text.startswith(f"{name}:")}
        said.append(text if all_rows else f"{text} ({', '.join(dict.fromkeys(names))})")
    fused = [table.rows[number] for number, _ in plan.cells if len(table.rows[number].views) > 1]
    if any(table.protocol_of(row) not in ("nmi", "cost") and not row.heads for row in fused):
        weights = ", ".join(f"{view} {table.fusion[view]:g}" for view in table.fusion)
        said.append(f"streams are fused with the weights of {table.weights_of}: {weights}")
    if together := {table.rows[number].name for number, _ in plan.cells if table.rows[number].heads}:
        said.append(f"{', '.join(sorted(together))}: one classifier per stream, all trained together")
    for option in ("set", "pretraining", "evaluation"):
        if asked[option]:
            said.append(f"changed with --{option}: {', '.join(asked[option])}")
    if rows and any(table.rows[number].checkpoint == BEST for number, _ in plan.cells):
        said.append("the weights are those with the best kNN figure on the test clips, as the paper chooses them")
    if any(row.recipe for row in table.rows) and set(PERCENT) - {"knn"} & {*map(table.protocol_of, table.rows)}:
        said.append("papers report the best epoch on the test clips; here it is the last, the best in brackets")
    return said


def _others(table: Table, recipes: Sequence[str | None] | None) -> list[str]:
    """Return what to say of the rows of other methods, which are not run unless they are asked for."""
    names = dict.fromkeys(row.name for row in table.rows if recipes is not None and row.recipe not in recipes)
    return [f"left out: {', '.join(names)}: of other methods; --method all runs them too"] if names else []


def run(**asked: Any) -> None:
    """Do what the command asks for."""
    console = Console()
    paper = load_paper(asked["name"])
    table = paper.table(asked["key"])
    names = dict.fromkeys(name for each in table.datasets for name in (each, table.pretrained.get(each, each)))
    lengths = sorted({asked["frames"] or frames_of(table, row) for row in table.rows})
    shelf = open_shelf(asked["root"], list(names), lengths, console.say)
    selection = Selection(
        columns=find_columns(shelf, table, asked["wanted"], console.say),
        shelf=shelf,
        asked=bool(asked["wanted"]),
        frames=asked["frames"],
        recipes=chosen_recipes(paper, table, asked["methods"]),
        streams=asked["streams"],
        settings=asked["settings"],
        pretraining=asked["pretraining"],
        evaluation=asked["evaluation"],
        seed=asked["seed"],
        device=asked["device"],
    )
    plan = plan_table(table, selection)
    if not asked["methods"]:
        plan.left_out += _others(table, selection.recipes)
    for text in plan.left_out:
        console.say(text)
    work = WorkFolder(asked["out"], shelf.urls, overwrite=asked["overwrite"], ranks=asked["ranks"])
    stem = work.out / "tables" / f"{Path(asked['name']).stem}-{table.key}"
    if not asked["dry_run"]:
        hold(stem, file=True)  # of the table; each part holds its own run
    for text in work.without_best(plan):
        console.say(text)
    if shown_url(asked["root"])[1]:
        console.say("the printed commands lack the secret of --shards-root: add it to run them by hand")
    if asked["estimated"] or (asked["estimated"] is None and not asked["dry_run"]):
        for line in estimate(plan, work, asked["device"]).lines():
            console.say(line)
    if asked["dry_run"]:
        _show(plan, work, asked["as_json"])
        return
    found = cells(table, reproduce(table, plan, work, console), selection.columns)
    said = table_remarks(table, plan, {"set": asked["settings"], **asked})
    text = f"{table.heading}\n\n{markdown(table, found)}" + "".join(f"\n- {remark}" for remark in said) + "\n"
    result = _result(paper, table, plan, work, found) | {"remarks": said, "markdown": text}
    for suffix, content in ((".md", text), (".tex", latex(table, found, said))):
        with replacing(stem.with_suffix(suffix)) as file:
            file.write(content.encode())
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


def _result(paper: Paper, table: Table, plan: WorkPlan, work: WorkFolder, found: Sequence[Cell]) -> dict[str, Any]:
    """Return what --json prints, without the Markdown and the remarks."""
    read = {each.dataset.digest: each.dataset for each in plan.commands.values()}
    names = [dataset_name(each) for each in read.values()]
    return {
        "paper": paper.name,
        "table": table.key,
        "number": table.number,
        "section": table.section,
        "source": table.source,
        "cells": [vars(cell) for cell in found],
        "runs": {each.name: str(work.run_of(each)) for each in plan.commands.values()},
        "datasets": {
            name if names.count(name) == 1 else f"{name}-{each.frames}": {
                "digest": each.digest,
                "frames": each.frames,
            }
            for name, each in zip(names, read.values(), strict=True)
        },
    }
