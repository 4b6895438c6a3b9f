"""What has to be run for a table of a paper: pre-training, evaluation and fusion as parts that need each other."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.files import canonical_json
from skelpipe.train.papers.tables import Row, Table

__all__ = ["Choice", "Part", "Plan", "make_plan"]

RESERVED = ("checkpoint", "json", "labels", "out", "overwrite", "recipe", "resume", "shards", "view")
PRETRAIN, FUSE = "pretrain", "fuse"


@dataclass(frozen=True)
class Part:
    """One command: `module` of skelpipe.train with `arguments`, which leaves the run `name` behind.

    Arguments are texts, datasets to read and parts whose run is read. `key` says what the run is of: the
    arguments with digests of datasets and keys of parts in their place.
    """

    name: str
    module: str
    arguments: tuple["str | Dataset | Part", ...]

    @property
    def needs(self) -> tuple["Part", ...]:
        return tuple(each for each in self.arguments if isinstance(each, Part))

    @property
    def dataset(self) -> Dataset:
        """The dataset that is read, by this part itself or by those it needs."""
        own = [each for each in self.arguments if isinstance(each, Dataset)]
        return own[0] if own else self.needs[0].dataset

    @property
    def key(self) -> str:
        said = [
            each if isinstance(each, str) else each.digest if isinstance(each, Dataset) else each.key
            for each in self.arguments
        ]
        return hashlib.sha256(canonical_json([self.module, *said])).hexdigest()


@dataclass(frozen=True)
class Choice:
    """What of a table is run, and how: options are `name=value` or a flag's `name`, without the hyphens.

    `settings` are values of the recipes that are pre-trained, `pretraining` and `evaluation` options of scripts.
    """

    datasets: Mapping[str, Dataset]
    recipes: Sequence[str | None] | None = None  # those whose rows are run; None: all
    streams: Sequence[str] = ("joint", "bone", "motion")
    settings: Sequence[str] = ()
    pretraining: Sequence[str] = ()
    evaluation: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"


@dataclass
class Plan:
    """Parts, each after those it needs, and by row and dataset the part that has the figures."""

    parts: dict[str, Part] = field(default_factory=dict)
    cells: dict[tuple[int, str], Part] = field(default_factory=dict)

    def add(self, part: Part) -> Part:
        """Return the part of that name: the one that is there, or the new one."""
        return self.parts.setdefault(part.name, part)


def make_plan(table: Table, choice: Choice) -> Plan:
    """Return what has to be run for the rows and datasets chosen; a part that several rows need is there once.

    Rows that need another stream than those chosen are left out. Raises UsageError where nothing is left, and
    where a dataset that pre-training takes place on is missing.
    """
    plan = Plan()
    for number, row in enumerate(table.rows):
        if choice.recipes is not None and row.recipe not in choice.recipes:
            continue
        if not set(row.views) <= set(choice.streams):
            continue
        for dataset in choice.datasets:
            if dataset in row.figures:
                plan.cells[number, dataset] = _row(plan, table, row, dataset, choice)
    if not plan.parts:
        raise UsageError(f"nothing of table {table.key} is left with these streams, methods and datasets")
    return plan


def _row(plan: Plan, table: Table, row: Row, dataset: str, choice: Choice) -> Part:
    """Add what a row needs on a dataset and return the part that has its figures."""
    judged = {view: plan.add(_evaluation(plan, table, row, dataset, view, choice)) for view in row.views}
    if len(judged) == 1:
        return judged[row.stream]
    name = f"{FUSE}-{_protocol(table)}-{dataset}-{'-'.join(row.views)}-{_label(row)}{_source(table, dataset)}"
    weights = ",".join(f"{table.fusion[view]:g}" for view in row.views)
    return plan.add(Part(name, FUSE, (*judged.values(), "--weights", weights)))


def _evaluation(plan: Plan, table: Table, row: Row, dataset: str, view: str, choice: Choice) -> Part:
    arguments: list[str | Dataset | Part] = ["--shards", choice.datasets[dataset]]
    if row.recipe is None:
        arguments += ["--recipe", "supervised"]
    else:
        arguments += ["--checkpoint", _pretraining(plan, table, row, dataset, view, choice)]
        arguments += _words(row.options)
    arguments += ["--view", view]
    if table.protocol == "finetune" and table.labels < 1:
        arguments += ["--labels", f"{table.labels:g}"]
    if table.protocol == "knn":
        arguments += ["--k", "20"]
    arguments += _options(choice.evaluation, "--evaluation")
    name = f"{_protocol(table)}-{dataset}-{view}-{_label(row)}{_source(table, dataset)}"
    return Part(name, table.protocol, (*arguments, *_common(choice)))


def _pretraining(plan: Plan, table: Table, row: Row, dataset: str, view: str, choice: Choice) -> Part:
    """Add and return the run that trains a row's encoder; where all views train together there is one for them."""
    source = table.pretrained.get(dataset, dataset)
    if source not in choice.datasets:
        raise UsageError(f"{table.key} on {dataset} pre-trains on {source}, and that dataset is not there")
    shown = "joint" if row.together else view
    settings = [text for setting in (*row.settings, *choice.settings) for text in ("--set", setting)]
    arguments = ["--recipe", str(row.recipe), "--view", shown, *settings]
    arguments += [*_options(choice.pretraining, "--pretraining"), *_common(choice)]
    name = f"{PRETRAIN}-{_label(row)}-{source}-{'all' if row.together else view}"
    return plan.add(Part(name, PRETRAIN, ("--shards", choice.datasets[source], *arguments)))


def _label(row: Row) -> str:
    """Return the recipe's name, told from that of other settings by a few digits of their hash."""
    if row.recipe is None:
        return "supervised"
    if not row.settings:
        return row.recipe
    return f"{row.recipe}-{hashlib.sha256(canonical_json(list(row.settings))).hexdigest()[:6]}"


def _protocol(table: Table) -> str:
    return table.protocol if table.labels == 1 else f"{table.protocol}-{100 * table.labels:g}"


def _source(table: Table, dataset: str) -> str:
    return f"-from-{table.pretrained[dataset]}" if dataset in table.pretrained else ""


def _common(choice: Choice) -> list[str]:
    return ["--seed", str(choice.seed), "--device", choice.device]


def _options(given: Sequence[str], said: str) -> list[str]:
    """Return `name=value` texts as options of a script; UsageError for those that are the table's to choose."""
    for text in given:
        name = text.partition("=")[0]
        if not name or name.startswith("-"):
            raise UsageError(f"{said} {text}: expected NAME=VALUE or a flag's NAME, such as epochs=100")
        if name in RESERVED:
            raise UsageError(f"{said} {text}: what --{name} is follows from the table")
    return _words(given)


def _words(given: Sequence[str]) -> list[str]:
    pairs = (text.partition("=") for text in given)
    return [word for name, equals, value in pairs for word in ([f"--{name}", value] if equals else [f"--{name}"])]
