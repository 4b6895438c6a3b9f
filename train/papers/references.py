"""Which row of the papers' tables a network is compared with."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from skelpipe.settings import flat
from skelpipe.train.papers.conditions import frames_of
from skelpipe.train.papers.tables import Paper, Table, TableRow, builtin_papers, load_paper
from skelpipe.train.recipes.reader import differences, load_recipe, recipe_from, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe, PretrainRecipe, Recipe
from skelpipe.yaml_reader import parse_yaml

__all__ = ["LINEAR_RECIPES", "SUPERVISED", "Reference"]

SUPERVISED = "supervised"  # the rows of networks that are trained from scratch
DISTINGUISHING = ("encoder.name", "aimclr.views")  # rows that differ in these are rows of different networks
IMPLIED_BY_STREAM = ("crosclr.views",)  # settings of a row that follow from its stream
SAID_APART = ("frames",)  # keys whose difference `conditions.remarks` says
LINEAR_RECIPES = {"skeattnclr": "linear-skeattnclr"}  # of methods whose paper has values of its own
NAMED = 3  # keys that a remark names
IMPLIED_BY_BACKBONE = {"bigru": ("head.hidden",)}  # settings of a row that belong to its backbone


@dataclass(frozen=True)
class Reference:
    """What identifies the row and column of the papers' tables that a network is compared with.

    `of` is the recipe that the rows name, or `supervised`; `settings` are the network's values that distinguish
    rows of one recipe. `protocol` is one of `tables.PROTOCOLS`; `stream` is a view, views joined with `+`, or
    `3s`; `labels` is the share of the training labels. `trained_on` is the dataset of pre-training and `dataset`
    the one that is evaluated on. `together` says that the classifiers of all streams learned together. `recipe`
    and `evaluation` are the contents of the recipes that trained the network and its classifier; they are empty
    where they are not known or there is none.
    """

    of: str
    settings: Mapping[str, Any]
    protocol: str
    dataset: str
    stream: str
    trained_on: str
    labels: float = 1.0
    together: bool = False
    recipe: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_recipe(cls, recipe: PretrainRecipe | FinetuneRecipe, protocol: str, **where: Any) -> "Reference | None":
        """Return the reference of a network of this recipe; None if no table has rows of the recipe."""
        content = recipe.content()
        values = flat(content)
        settings = {key: values[key] for key in DISTINGUISHING if key in values}
        return cls(recipe.reported, settings, protocol, recipe=content, **where) if recipe.reported else None

    def text(self) -> str:
        """Return the reference as JSON, for the metadata of scores."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of_text(cls, text: str) -> "Reference":
        """Return the reference that `text` wrote."""
        return cls(**json.loads(text))

    def with_stream(self, stream: str) -> "Reference":
        """Return the reference of a fusion of several streams of this network."""
        return replace(self, stream=stream)

    def figures(self) -> tuple[Mapping[str, float], str] | None:
        """Return the papers' figures by name and their source, or None if no table has any.

        Tables in the paper of the method itself come first, in the order of its file, then those of other papers.
        """
        found = self._row()
        return (
            None if found is None else (found[2].figures[self.dataset], _source(found[0], found[1], self.dataset))
        )

    def frames(self) -> int | None:
        """Return the frames of the clips that the figures are of; None if there are none."""
        found = self._row()
        return None if found is None else frames_of(*found[1:])

    def heads_together(self) -> bool:
        """Say whether the figures are of classifiers of all streams that were trained together."""
        found = self._row()
        return found is not None and found[2].heads

    def changed(self, beginnings: tuple[str, ...] = ("",)) -> list[str]:
        """Return in words which values of the run's recipes are not those of the row with the figures.

        `beginnings` are those of the keys that matter. Values that are not known are silent, and so are the
        frames, which are told apart by `frames`.
        """
        found = self._row()
        if found is None:
            return []
        _, table, row = found
        said: list[tuple[str, Recipe, Recipe]] = []
        if self.recipe:
            trained = _trained_by(row)
            ours = recipe_from(self.recipe, "the network's recipe", type(trained))
            said.append((f"trained by recipe {row.recipe or SUPERVISED}", trained, ours))
        if self.evaluation and row.recipe and (name := _evaluated_by(table, row)):
            kind = LinearRecipe if table.protocol_of(row) == "linear" else FinetuneRecipe
            evaluated: Recipe = with_overrides(load_recipe(name, kind), **_numbers(row))
            here: Recipe = recipe_from(self.evaluation, "the evaluation's recipe", kind)
            said.append((f"evaluated by recipe {name}", evaluated, here))
        remarks = []
        for words, as_reported, as_run in said:
            keys = [text.partition(":")[0] for text in differences(as_reported, as_run)]
            keys = [key for key in keys if key not in SAID_APART and key.startswith(beginnings)]
            if keys:
                more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
                remarks.append(f"{words}, here with other {', '.join(keys[:NAMED])}{more}")
        return remarks

    def _row(self) -> tuple[Paper, Table, TableRow] | None:
        """Return the row of the figures with its table and paper."""
        for paper, table, row in _rows(self.of):
            if row.figures.get(self.dataset) and row.stream == self.stream and self._matches(table, row):
                return paper, table, row
        return None

    def _matches(self, table: Table, row: TableRow) -> bool:
        trained_on = table.pretrained.get(self.dataset, self.dataset)
        if (table.protocol_of(row), table.labels, trained_on) != (self.protocol, self.labels, self.trained_on):
            return False
        given = dict(_parsed(text) for text in row.settings)
        implied = IMPLIED_BY_BACKBONE.get(str(given.get("encoder.name")), ())
        if set(given) - {*DISTINGUISHING, *IMPLIED_BY_STREAM, *implied}:
            return False  # an ablation, or a run repeated with other settings
        usual = flat(load_recipe(row.recipe).content()) if row.recipe else self.settings
        return all(given.get(key, usual.get(key)) == value for key, value in self.settings.items())


@cache
def _rows(of: str) -> tuple[tuple[Paper, Table, TableRow], ...]:
    """Return every row of a recipe with its table and paper; those of its own paper come first."""

    def found() -> Iterator[tuple[Paper, Table, TableRow]]:
        papers = [load_paper(name) for name in builtin_papers()]
        for paper in sorted(papers, key=lambda paper: of not in paper.recipes):
            for table in paper.tables.values():
                yield from ((paper, table, row) for row in table.rows if (row.recipe or SUPERVISED) == of)

    return tuple(found())


def _trained_by(row: TableRow) -> PretrainRecipe | FinetuneRecipe:
    """Return the recipe that trains the network of a row."""
    if row.recipe is None:
        return load_recipe(SUPERVISED, FinetuneRecipe)
    return with_overrides(load_recipe(row.recipe), row.settings)


def _evaluated_by(table: Table, row: TableRow) -> str | None:
    """Return the name of the recipe that a pre-trained network of a row is evaluated by; None without one."""
    method = load_recipe(row.recipe).method if row.recipe else ""
    linear = LINEAR_RECIPES.get(method, "linear")
    usual = {"linear": linear, "finetune": "finetune" if table.labels == 1 else "finetune-semi"}
    return _options(row).get("recipe", usual.get(table.protocol_of(row)))


def _numbers(row: TableRow) -> dict[str, Any]:
    """Return the values that the options of a row set in its evaluation's recipe."""
    given = {name.replace("-", "_"): text for name, text in _options(row).items()}
    return {name: parse_yaml(given[name], name) for name in ("epochs", "batch_size", "lr") if name in given}


def _options(row: TableRow) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in row.options)}


def _parsed(setting: str) -> tuple[str, Any]:
    key, _, text = setting.partition("=")
    return key.strip(), parse_yaml(text, setting)


def _source(paper: Paper, table: Table, dataset: str) -> str:
    """Return in a few words who reports a table's figures and, where it is not obvious, under which conditions."""
    name = paper.name if table.source == paper.cite else table.source
    before = f", pre-trained on {table.pretrained[dataset]}" if dataset in table.pretrained else ""
    return f"{name}, table {table.number}{before}" + (f"; {table.notes.rstrip('.')}" if table.notes else "")
