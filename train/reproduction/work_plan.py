"""The commands that a table of a paper needs: pre-training, evaluation and fusion, in their order."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.files import canonical_json
from skelpipe.train.papers.tables import Table, TableRow

__all__ = ["Command", "Selection", "WorkPlan", "plan_table"]

# Options whose values follow from the table.
RESERVED = ("checkpoint", "json", "labels", "out", "overwrite", "recipe", "resume", "shards", "view")
PRETRAIN, FUSE = "pretrain", "fuse"


@dataclass(frozen=True)
class Command:
    """One command: `module` of skelpipe.train with `arguments`, which writes the run `name`.

    Arguments are texts, datasets to read, and commands whose runs are read. `key` identifies what the run depends
    on: it is a hash of the arguments, with the digests of datasets and the keys of commands in their place.
    """

    name: str
    module: str
    arguments: tuple["str | Dataset | Command", ...]

    @property
    def needs(self) -> tuple["Command", ...]:
        return tuple(each for each in self.arguments if isinstance(each, Command))

    @property
    def dataset(self) -> Dataset:
        """The dataset that this command reads, or else that of the first command it needs."""
        own = [each for each in self.arguments if isinstance(each, Dataset)]
        return own[0] if own else self.needs[0].dataset

    @property
    def key(self) -> str:
        parts = [
            each if isinstance(each, str) else each.digest if isinstance(each, Dataset) else each.key
            for each in self.arguments
        ]
        return hashlib.sha256(canonical_json([self.module, *parts])).hexdigest()


@dataclass(frozen=True)
class Selection:
    """Which parts of a table are run, and with which values.

    `recipes` are those whose rows are run, with None for training from scratch; all rows if it is None. `settings`
    are values of the recipes of pre-training. `pretraining` and `evaluation` are options of the scripts:
    `name=value`, or the `name` of a flag, without the hyphens.
    """

    datasets: Mapping[str, Dataset]
    recipes: Sequence[str | None] | None = None
    streams: Sequence[str] = ("joint", "bone", "motion")
    settings: Sequence[str] = ()
    pretraining: Sequence[str] = ()
    evaluation: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"


@dataclass
class WorkPlan:
    """Commands by name, each after those it needs, and by row and dataset the command that has the figures."""

    commands: dict[str, Command] = field(default_factory=dict)
    cells: dict[tuple[int, str], Command] = field(default_factory=dict)

    def add(self, command: Command) -> Command:
        """Return the command of that name that is in the plan; if there is none, add this one."""
        return self.commands.setdefault(command.name, command)


def plan_table(table: Table, selection: Selection) -> WorkPlan:
    """Return the commands for the selected rows and datasets; one that several rows need is in the plan once.

    Rows that need a stream which is not selected are left out. Raises UsageError if nothing is left, or if a
    dataset for pre-training is missing.
    """
    plan = WorkPlan()
    for number, row in enumerate(table.rows):
        if selection.recipes is not None and row.recipe not in selection.recipes:
            continue
        if not set(row.views) <= set(selection.streams):
            continue
        for dataset in selection.datasets:
            if dataset in row.figures:
                plan.cells[number, dataset] = _row(plan, table, row, dataset, selection)
    if not plan.commands:
        raise UsageError(f"nothing of table {table.key} is left with these streams, methods and datasets")
    return plan


def _row(plan: WorkPlan, table: Table, row: TableRow, dataset: str, selection: Selection) -> Command:
    """Add the commands that a row needs on a dataset and return the one that has its figures."""
    evaluated = {view: plan.add(_evaluation(plan, table, row, dataset, view, selection)) for view in row.views}
    if len(evaluated) == 1:
        return evaluated[row.stream]
    name = f"{FUSE}-{_protocol(table, row)}-{dataset}-{'-'.join(row.views)}-{_label(row)}{_source(table, dataset)}"
    weights = ",".join(f"{table.fusion[view]:g}" for view in row.views)
    return plan.add(Command(name, FUSE, (*evaluated.values(), "--weights", weights)))


def _evaluation(
    plan: WorkPlan, table: Table, row: TableRow, dataset: str, view: str, selection: Selection
) -> Command:
    arguments: list[str | Dataset | Command] = ["--shards", selection.datasets[dataset]]
    if row.recipe is None:
        arguments += ["--recipe", "supervised"]
    else:
        arguments += ["--checkpoint", _pretraining(plan, table, row, dataset, view, selection)]
        arguments += _words(row.options)
    arguments += ["--view", view]
    protocol = table.protocol_of(row)
    if protocol == "finetune" and table.labels < 1:
        arguments += ["--labels", f"{table.labels:g}"]
    if protocol == "knn":
        arguments += ["--k", "20"]
    arguments += _options(selection.evaluation, "--evaluation")
    name = f"{_protocol(table, row)}-{dataset}-{view}-{_label(row)}{_source(table, dataset)}"
    return Command(name, protocol, (*arguments, *_common(selection)))


def _pretraining(
    plan: WorkPlan, table: Table, row: TableRow, dataset: str, view: str, selection: Selection
) -> Command:
    """Add and return the command that trains a row's encoder; views that train together share it."""
    source = table.pretrained.get(dataset, dataset)
    if source not in selection.datasets:
        raise UsageError(f"{table.key} on {dataset} needs pre-training on {source}, and there is no such dataset")
    trained = "joint" if row.together else view
    settings = [text for setting in (*row.settings, *selection.settings) for text in ("--set", setting)]
    arguments = ["--recipe", str(row.recipe), "--view", trained, *settings]
    arguments += [*_options(selection.pretraining, "--pretraining"), *_common(selection)]
    name = f"{PRETRAIN}-{_label(row)}-{source}-{'all' if row.together else view}"
    return plan.add(Command(name, PRETRAIN, ("--shards", selection.datasets[source], *arguments)))


def _label(row: TableRow) -> str:
    """Return the recipe's name; if the row changes settings, with a few digits of their hash."""
    if row.recipe is None:
        return "supervised"
    if not row.settings:
        return row.recipe
    return f"{row.recipe}-{hashlib.sha256(canonical_json(list(row.settings))).hexdigest()[:6]}"


def _protocol(table: Table, row: TableRow) -> str:
    protocol = table.protocol_of(row)
    return protocol if table.labels == 1 else f"{protocol}-{100 * table.labels:g}"


def _source(table: Table, dataset: str) -> str:
    return f"-from-{table.pretrained[dataset]}" if dataset in table.pretrained else ""


def _common(selection: Selection) -> list[str]:
    return ["--seed", str(selection.seed), "--device", selection.device]


def _options(given: Sequence[str], option: str) -> list[str]:
    """Return `name=value` texts as options of a script; UsageError for options that follow from the table."""
    for text in given:
        name = text.partition("=")[0]
        if not name or name.startswith("-"):
            raise UsageError(f"{option} {text}: expected NAME=VALUE or a flag's NAME, such as epochs=100")
        if name in RESERVED:
            raise UsageError(f"{option} {text}: --{name} follows from the table")
    return _words(given)


def _words(given: Sequence[str]) -> list[str]:
    pairs = (text.partition("=") for text in given)
    return [word for name, equals, value in pairs for word in ([f"--{name}", value] if equals else [f"--{name}"])]
