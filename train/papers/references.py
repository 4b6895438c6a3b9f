"""Which figures of the papers' tables a network is held against."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import yaml

from skelpipe.models.settings import flat
from skelpipe.train.papers.tables import Paper, Row, Table, builtin_papers, load_paper
from skelpipe.train.recipes.reader import load_recipe
from skelpipe.train.recipes.schema import FinetuneRecipe, PretrainRecipe

__all__ = ["SUPERVISED", "Reference"]

SUPERVISED = "supervised"  # the rows of networks that are trained from scratch
TOLD_APART = ("encoder.name", "aimclr.views")  # settings with which a row's network is another one
TOLD_BY_STREAM = ("crosclr.views",)  # settings of a row that its stream says as well


@dataclass(frozen=True)
class Reference:
    """Where in the papers' tables a network stands.

    `of` is the recipe that its rows name, or `supervised`; `settings` are those of the network that tell rows of
    one recipe apart. `protocol` is one of `published.PROTOCOLS`, `stream` a view, views with `+`, or `3s`,
    `labels` the share of the training labels, `trained_on` the dataset of pre-training, `dataset` the one that is
    tested on.
    """

    of: str
    settings: Mapping[str, Any]
    protocol: str
    dataset: str
    stream: str
    trained_on: str
    labels: float = 1.0

    @classmethod
    def to(cls, recipe: PretrainRecipe | FinetuneRecipe, protocol: str, **where: Any) -> "Reference | None":
        """Return where a network of this recipe stands; None where the recipe names no rows."""
        values = flat(recipe.content())
        settings = {key: values[key] for key in TOLD_APART if key in values}
        return cls(recipe.reported, settings, protocol, **where) if recipe.reported else None

    def text(self) -> str:
        """Return it as JSON, for the scores that fusion reads."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of_text(cls, text: str) -> "Reference":
        """Read back what `text` wrote."""
        return cls(**json.loads(text))

    def with_stream(self, stream: str) -> "Reference":
        """Return where the fusion of several streams of this network stands."""
        return replace(self, stream=stream)

    def figures(self) -> tuple[Mapping[str, float], str] | None:
        """Return the papers' figures in % by name and their source, or None where no table has any.

        The tables of the method's own paper come first, in the order of its file, then those of other papers.
        """
        for paper, table, row in _rows(self.of):
            if self.dataset in row.figures and row.stream == self.stream and self._fits(table, row):
                return row.figures[self.dataset], _source(paper, table, self.dataset)
        return None

    def _fits(self, table: Table, row: Row) -> bool:
        trained_on = table.pretrained.get(self.dataset, self.dataset)
        if (table.protocol, table.labels, trained_on) != (self.protocol, self.labels, self.trained_on):
            return False
        given = dict(_parsed(text) for text in row.settings)
        if set(given) - {*TOLD_APART, *TOLD_BY_STREAM}:
            return False  # an ablation, or a rerun with other settings
        usual = flat(load_recipe(row.recipe).content()) if row.recipe else self.settings
        return all(given.get(key, usual.get(key)) == value for key, value in self.settings.items())


@cache
def _rows(of: str) -> tuple[tuple[Paper, Table, Row], ...]:
    """Return every row of a recipe with its table and paper, the method's own paper first."""

    def found() -> Iterator[tuple[Paper, Table, Row]]:
        papers = [load_paper(name) for name in builtin_papers()]
        for paper in sorted(papers, key=lambda paper: of not in paper.recipes):
            for table in paper.tables.values():
                yield from ((paper, table, row) for row in table.rows if (row.recipe or SUPERVISED) == of)

    return tuple(found())


def _parsed(setting: str) -> tuple[str, Any]:
    key, _, text = setting.partition("=")
    return key.strip(), yaml.safe_load(text)


def _source(paper: Paper, table: Table, dataset: str) -> str:
    """Return who reports a table's figures, in a few words, and what they are of where that is not plain."""
    name = paper.name if table.source == paper.cite else table.source
    before = f", pre-trained on {table.pretrained[dataset]}" if dataset in table.pretrained else ""
    return f"{name}, table {table.number}{before}" + (f"; {table.notes.rstrip('.')}" if table.notes else "")
