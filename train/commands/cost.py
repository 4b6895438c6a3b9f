"""The work of `train/cost.py`, where it is described, once the options are checked."""

import json
from pathlib import Path
from typing import Any

import click

from skelpipe.dataset import Dataset
from skelpipe.door.visible import visible_lines
from skelpipe.files import write_json
from skelpipe.train.evaluation.cost import cost_of
from skelpipe.train.evaluation.outcome import RESULT, open_folder
from skelpipe.train.papers.references import Reference
from skelpipe.train.papers.reported import reported_text
from skelpipe.train.papers.tables import PROTOCOLS
from skelpipe.train.recipes.reader import builtin_recipes, load_recipe, with_overrides
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.provenance import dataset_name

__all__ = ["run"]

PROTOCOL = "cost"
UNITS = {"parameters": "M", "gflops": "G"}


def count(name: str, recipe: PretrainRecipe, view: str, dataset: Dataset | None) -> dict[str, Any]:
    """Return the cost of one recipe as --json prints it."""
    cost = cost_of(recipe, view)
    held = None
    where = {"dataset": "ntu60-xsub", "digest": ""}
    if dataset is not None:
        where = {"dataset": dataset_name(dataset), "digest": dataset.digest}
    streams = {1: view, 2: "joint+motion", 3: "3s"}[_views(recipe)]
    held = Reference.of_recipe(
        recipe, PROTOCOL, dataset=where["dataset"], stream=streams, trained_on=where["dataset"]
    )
    figures = held.figures() if held else None
    changed = held.changed(("encoder.", "head.", "batch_size", "variant", f"{recipe.method}.")) if held else []
    return {
        "protocol": PROTOCOL,
        "what": name,
        **(where if dataset is not None else {}),
        "view": view,
        "frames": recipe.frames,
        "batch_size": recipe.batch_size,
        "encoder_parameters": cost.encoder,
        "method_parameters": cost.parameters,
        "multiply_adds_per_clip": cost.multiply_adds,
        "figures": cost.figures(recipe.batch_size),
        "reported": {**figures[0], "source": figures[1], "remarks": changed} if figures else None,
    }


def _views(recipe: PretrainRecipe) -> int:
    return int(getattr(recipe.settings, "views", 1))


def lines(results: list[dict[str, Any]]) -> list[str]:
    """Return the costs as lines for people."""
    text = [f"{'recipe':24}{'weights':>10}{'encoder':>10}{'G per step':>12}{'batch':>7}{'frames':>8}"]
    for each in results:
        figures = each["figures"]
        text.append(
            f"{each['what']:24}{figures['parameters']:9.2f}M{each['encoder_parameters'] / 1e6:9.2f}M"
            f"{figures['gflops']:12.1f}{each['batch_size']:7}{each['frames']:8}"
        )
        for name in PROTOCOLS[PROTOCOL]:
            if said := reported_text(each, name).strip():
                text.append(f"  {name}: {said.replace(' %', f' {UNITS[name]}')}")
    return text


def run(
    recipe: str | None,
    settings: tuple[str, ...],
    view: str,
    shards: str | None,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Do what the command asks for."""
    names = [recipe] if recipe else builtin_recipes()
    recipes = {name: with_overrides(load_recipe(name), settings) for name in names}
    dataset = Dataset.open(shards) if shards else None
    if out is not None:
        open_folder(out, overwrite=overwrite)
    results = [count(name, each, view, dataset) for name, each in recipes.items()]
    found = results[0] if recipe else {"recipes": results}
    if out is not None:
        write_json(out / RESULT, found)
    click.echo(json.dumps(found) if as_json else visible_lines(lines(results)))
