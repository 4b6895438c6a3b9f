"""The commands that a table of a paper needs: pre-training, evaluation and fusion, in their order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.files import canonical_json
from skelpipe.train.papers.conditions import frames_of
from skelpipe.train.papers.tables import Table, TableRow
from skelpipe.train.reproduction.shelf import Shelf
from skelpipe.train.running.run_folder import BEST

__all__ = ["FUSE", "MAP", "PRETRAIN", "Command", "Read", "Selection", "WorkPlan", "plan_table"]

# Options whose values follow from the table.
RESERVED = (
    "checkpoint",
    "join",
    "heads",
    "json",
    "labels",
    "out",
    "overwrite",
    "recipe",
    "resume",
    "shards",
    "view",
)
PRETRAIN, FUSE, MAP = "pretrain", "fuse", "map"
EARLIER = {MAP: "embed"}  # what versions before 0.3 called a command: their finished parts still count
USUAL_FRAMES = 50  # of clips in most papers: their supervised networks need no further name
USUAL_WEIGHTS = {"joint": "0.6", "bone": "0.6", "motion": "0.4"}  # of streams, likewise


@dataclass(frozen=True)
class Read:
    """The run of a command as an argument: its folder between texts, such as `bone=FOLDER` or `FOLDER/best`."""

    command: "Command"
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Command:
    """One command: `module` of skelpipe.train with `arguments`, which writes the run `name`.

    Arguments are texts, datasets to read, and commands whose runs are read. `key` identifies what the run depends
    on: it is a hash of the arguments, with the digests of datasets and the keys of commands in their place.
    """

    name: str
    module: str
    arguments: tuple["str | Dataset | Command | Read", ...]

    @property
    def needs(self) -> tuple["Command", ...]:
        found = (each.command if isinstance(each, Read) else each for each in self.arguments)
        return tuple(each for each in found if isinstance(each, Command))

    @property
    def dataset(self) -> Dataset:
        """The dataset that this command reads, or else that of the first command it needs."""
        own = [each for each in self.arguments if isinstance(each, Dataset)]
        return own[0] if own else self.needs[0].dataset

    @property
    def key(self) -> str:
        parts = [_part(each) for each in self.arguments]
        return hashlib.sha256(canonical_json([EARLIER.get(self.module, self.module), *parts])).hexdigest()


def _part(argument: "str | Dataset | Command | Read") -> str:
    if isinstance(argument, Read):
        return f"{argument.before}{argument.command.key}{argument.after}"
    if isinstance(argument, str):
        return argument
    return argument.digest if isinstance(argument, Dataset) else argument.key


@dataclass(frozen=True)
class Selection:
    """Which parts of a table are run, and with which values.

    `columns` are the names of the datasets to run, found on the `shelf`; with `asked` it is an error where one is
    missing, otherwise its rows are left out. `frames` are those of all clips, if they are not to be the paper's.
    `recipes` are those whose rows are run, with None for training from scratch; all rows if it is None. `settings`
    are values of the recipes of pre-training. `pretraining` and `evaluation` are options of the scripts:
    `name=value`, or the `name` of a flag, without the hyphens. In a table of several protocols each script is
    given those options of `evaluation` that it has.
    """

    columns: Sequence[str]
    shelf: Shelf
    asked: bool = False
    frames: int | None = None
    recipes: Sequence[str | None] | None = None
    streams: Sequence[str] = ("joint", "bone", "motion")
    settings: Sequence[str] = ()
    pretraining: Sequence[str] = ()
    evaluation: Sequence[str] = ()
    seed: int = 0
    device: str = "auto"

    def dataset(self, table: Table, row: TableRow, name: str) -> Dataset:
        """Return the dataset of a row's clips; MissingDatasetError if the shelf has none of that length."""
        frames = self.frames or frames_of(table, row)
        found = self.shelf.find(name, frames)
        if found is None:
            raise MissingDatasetError(self.shelf.missing(name, frames))
        return found


class MissingDatasetError(UsageError):
    """A dataset that a row needs is not there."""


@dataclass
class WorkPlan:
    """Commands by name, each after those it needs, and by row and dataset the command that has the figures.

    `left_out` says what is not run, and why.
    """

    commands: dict[str, Command] = field(default_factory=dict)
    cells: dict[tuple[int, str], Command] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(self, command: Command) -> Command:
        """Return the command of that name that is in the plan; if there is none, add this one.

        Raises UsageError where the one in the plan is another: its figures would be shown for both.
        """
        known = self.commands.setdefault(command.name, command)
        if known.key != command.key:
            raise UsageError(f"two rows have a run {command.name!r} each, of different settings: run them apart")
        return known


def plan_table(table: Table, selection: Selection) -> WorkPlan:
    """Return the commands for the selected rows and datasets; one that several rows need is in the plan once.

    Rows that need a stream which is not selected are left out. Raises UsageError if nothing is left, or if a
    dataset that was asked for is missing.
    """
    _check_evaluation(table, selection.evaluation)
    plan, missing = WorkPlan(), dict[str, list[str]]()
    for number, row in enumerate(table.rows):
        if selection.recipes is not None and row.recipe not in selection.recipes:
            continue
        if not set(row.views) <= set(selection.streams):
            continue
        for dataset in selection.columns:
            if dataset not in row.figures:
                continue
            try:
                needed = [selection.dataset(table, row, name) for name in _needed(table, dataset)]
            except MissingDatasetError as error:
                if selection.asked:
                    raise UsageError(f"{row.name} on {dataset}: {error}") from None
                missing.setdefault(str(error), []).append(f"{row.name} ({row.stream})")
                continue
            plan.cells[number, dataset] = _row(plan, table, row, dataset, needed, selection)
    plan.left_out = [f"left out: {', '.join(dict.fromkeys(rows))}: {text}" for text, rows in missing.items()]
    if not plan.commands:
        why = f": {'; '.join(missing)}" if missing else ""
        raise UsageError(f"nothing of table {table.key} is left with these streams, methods and datasets{why}")
    return plan


def _needed(table: Table, dataset: str) -> tuple[str, str]:
    """Return the names of the dataset to evaluate on and of that to pre-train on."""
    return dataset, table.pretrained.get(dataset, dataset)


@dataclass(frozen=True)
class _Cell:
    """A row of a table on one dataset, `here`, and the dataset that its network is pre-trained on."""

    plan: WorkPlan
    table: Table
    row: TableRow
    dataset: str
    here: Dataset
    there: Dataset
    selection: Selection

    @property
    def protocol(self) -> str:
        return self.table.protocol_of(self.row)

    @property
    def name(self) -> str:
        """What ends the names of the commands of the row."""
        options = f"-{_digits(self.row.options)}" if self.row.options and self.row.recipe else ""
        best = f"-{self.row.checkpoint}" if self.row.checkpoint != "last" and self.row.recipe else ""
        source = f"-from-{self.table.pretrained[self.dataset]}" if self.dataset in self.table.pretrained else ""
        return f"{_label(self.table, self.row)}{options}{best}{source}"

    @property
    def prefix(self) -> str:
        """What begins the names of the commands of the row: the protocol and the dataset."""
        share = "" if self.table.labels == 1 else f"-{100 * self.table.labels:g}"
        return f"{self.protocol}{share}-{self.dataset}"


def _row(
    plan: WorkPlan, table: Table, row: TableRow, dataset: str, needed: Sequence[Dataset], selection: Selection
) -> Command:
    """Add the commands that a row needs on a dataset and return the one that has its figures."""
    here, there = needed
    cell = _Cell(plan, table, row, dataset, here, there, selection)
    if cell.protocol == "cost":
        return plan.add(_cost(cell))
    if cell.protocol == "nmi":
        return plan.add(_embedding(cell))
    if row.heads and cell.protocol == "linear":
        return plan.add(_evaluation(cell, *row.views))
    evaluated = {view: plan.add(_evaluation(cell, view)) for view in row.views}
    if len(evaluated) == 1:
        return evaluated[row.stream]
    weights = [f"{table.fusion[view]:g}" for view in row.views]
    usual = weights == [USUAL_WEIGHTS[view] for view in row.views]
    ending = "" if usual else f"-{'-'.join(weights)}"
    name = f"{FUSE}-{cell.prefix}-{'-'.join(row.views)}-{cell.name}{ending}"
    return plan.add(Command(name, FUSE, (*evaluated.values(), "--weights", ",".join(weights))))


def _evaluation(cell: _Cell, *views: str) -> Command:
    """Return the command that evaluates the network of a view, or those of several by classifiers together."""
    row, selection = cell.row, cell.selection
    arguments: list[str | Dataset | Command | Read] = ["--shards", cell.here]
    if row.recipe is None:
        arguments += ["--recipe", "supervised"]
    else:
        arguments += ["--checkpoint", _weights(cell, views[0]), *_words(row.options)]
    arguments += ["--view", *views] if len(views) == 1 else ["--heads", ",".join(views)]
    if cell.protocol == "finetune" and cell.table.labels < 1:
        arguments += ["--labels", f"{cell.table.labels:g}"]
    if cell.protocol == "knn":
        arguments += ["--k", "20"]
    arguments += _words(_known(selection.evaluation, cell.protocol))
    name = f"{cell.prefix}-{'-'.join(views)}-{cell.name}"
    return Command(name, cell.protocol, (*arguments, *_common(selection)))


def _embedding(cell: _Cell) -> Command:
    """Return the command that embeds clips by the networks of all streams of a row together."""
    row, selection = cell.row, cell.selection
    first, *others = row.views
    arguments: list[str | Dataset | Command | Read] = ["--shards", cell.here]
    arguments += ["--checkpoint", _weights(cell, first), *_words(row.options), "--view", first]
    for view in others:
        weights = _weights(cell, view)
        read = replace(weights, before=f"{view}=") if isinstance(weights, Read) else Read(weights, f"{view}=")
        arguments += ["--join", read]
    arguments += _words(_known(selection.evaluation, MAP))
    return Command(f"{cell.prefix}-{'-'.join(row.views)}-{cell.name}", MAP, (*arguments, *_common(selection)))


def _cost(cell: _Cell) -> Command:
    """Return the command that counts the weights and operations of a row's networks; nothing is trained."""
    settings = _settings(cell)
    words = ["--recipe", str(cell.row.recipe), "--view", cell.row.views[0], *settings]
    return Command(f"{cell.prefix}-{cell.name}", "cost", ("--shards", cell.here, *words))


def _weights(cell: _Cell, view: str) -> Command | Read:
    """Add the pre-training of a row and return the weights that are evaluated: its run's, or the best in it."""
    trained = _pretraining(cell, view)
    return trained if cell.row.checkpoint == "last" else Read(trained, after=f"/{BEST}")


def _pretraining(cell: _Cell, view: str) -> Command:
    """Add and return the command that trains a row's encoder; views that train together share it."""
    row, selection = cell.row, cell.selection
    if row.checkpoint == BEST and "knn-every=0" in selection.pretraining:
        raise UsageError(
            f"{row.name} takes the weights with the best kNN figure, which --pretraining knn-every=0 omits"
        )
    arguments = ["--recipe", str(row.recipe), "--view", "joint" if row.together else view, *_settings(cell)]
    arguments += [*_options(selection.pretraining, "--pretraining"), *_common(selection)]
    source = cell.table.pretrained.get(cell.dataset, cell.dataset)
    name = f"{PRETRAIN}-{_label(cell.table, row)}-{source}-{'all' if row.together else view}"
    return cell.plan.add(Command(name, PRETRAIN, ("--shards", cell.there, *arguments)))


def _settings(cell: _Cell) -> list[str]:
    return [text for each in (*cell.row.settings, *cell.selection.settings) for text in ("--set", each)]


def _label(table: Table, row: TableRow) -> str:
    """Return the recipe's name, and the row's own frames and a few digits of its settings' hash, if any."""
    if row.recipe is None:
        frames = frames_of(table, row)
        return "supervised" if frames == USUAL_FRAMES else f"supervised-{frames}"
    frames_too = "" if row.frames is None else f"-{row.frames}"
    return f"{row.recipe}{frames_too}" + (f"-{_digits(row.settings)}" if row.settings else "")


def _digits(texts: Sequence[str]) -> str:
    """Return a few digits that tell these texts from others."""
    return hashlib.sha256(canonical_json(list(texts))).hexdigest()[:6]


def _common(selection: Selection) -> list[str]:
    return ["--seed", str(selection.seed), "--device", selection.device]


def _check_evaluation(table: Table, given: Sequence[str]) -> None:
    """Raise UsageError for an option that follows from the table, or that no script of the table has."""
    _options(given, "--evaluation")
    modules = sorted({MAP if each == "nmi" else each for each in map(table.protocol_of, table.rows)} - {"cost"})
    known = [text for module in modules for text in _known(given, module)]
    if modules and (unknown := [text for text in given if text not in known]):
        name, scripts = unknown[0].partition("=")[0], " and ".join(modules)
        raise UsageError(f"--evaluation {unknown[0]}: {scripts} of table {table.key} have no --{name}")


def _known(given: Sequence[str], module: str) -> list[str]:
    """Return the options that a script has."""
    return [text for text in given if f"--{text.partition('=')[0]}" in _options_of(module)]


@cache
def _options_of(module: str) -> frozenset[str]:
    command = import_module(f"skelpipe.train.{module}").main
    return frozenset(name for each in command.params for name in (*each.opts, *each.secondary_opts))


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
