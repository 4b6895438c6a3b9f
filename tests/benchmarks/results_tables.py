"""The tables and pictures of RESULTS.md, from what is finished of the runs in `results_runs.py`."""

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from results_record import Record
from results_runs import (
    BEST,
    EPOCHS,
    EQUAL_TIME,
    FUSED_SEED,
    LONG,
    METHODS,
    SEEDS,
    TITLES,
    TRANSFERRED,
    VIEWS,
    Results,
    key,
)

from skelpipe.drawing.plot import new_figure, save_figure
from skelpipe.files import replacing
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import FUSE, PRETRAIN

__all__ = ["Tables"]

MISSING: Final = "…"
BASELINES: Final[Mapping[str, str]] = {
    "raw": "raw coordinates",
    "random-paper": "random encoder, N(0, 0.02)",
    "random-default": "random encoder, PyTorch's weights",
}
FROM_SCRATCH: Final[Mapping[str, str]] = {
    "supervised": "from scratch, augmented",
    "supervised-plain": "from scratch, not augmented",
    "supervised-wide": "from scratch, augmented, h=16",
}
Figure = tuple[str, str]  # the protocol of a command's name, and the figure of its result
MAIN: Final[Mapping[str, Figure]] = {
    "kNN-20 of z": ("knn-z", "knn@20"),
    "kNN-20 of h": ("knn-h", "knn@20"),
    "linear": ("linear", "top1"),
    "all labels": ("tune-1.0", "top1"),
    "10 %": ("tune-0.1", "top1"),
    "1 %": ("tune-0.01", "top1"),
}
NEIGHBOURS: Final[Mapping[str, Figure]] = {
    f"{kind}, k={k}": (f"knn-{kind}", f"knn@{k}") for kind in "zh" for k in (1, 5, 20)
}
FROZEN: Final = {name: MAIN[name] for name in ("kNN-20 of z", "kNN-20 of h", "linear")}
FUSED: Final = {name: figure for name, figure in MAIN.items() if name != "kNN-20 of h"}


@dataclass(frozen=True)
class Cell:
    """The figures of the seeds that are done, and how many seeds are planned."""

    values: Sequence[float]
    planned: int

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.values) if self.values else None

    def text(self, seeds: int) -> str:
        """Return the mean over seeds with the range, and their number where it is not that of the row."""
        if not self.values:
            return MISSING if self.planned else ""
        said = [f"{min(self.values):.1f} - {max(self.values):.1f}"] if len(self.values) > 1 else []
        if len(self.values) < min(seeds, self.planned):
            said.append(f"of {len(self.values)}")
        return f"{self.mean:.1f}" + (f" ({', '.join(said)})" if said else "")


@dataclass(frozen=True)
class Tables:
    """The figures of all recorded runs of a plan; pictures of embeddings are drawn from the folder `work`."""

    results: Results
    record: Record
    work: WorkFolder

    def write(self, into: Sequence[Path], pictures: Path) -> None:
        """Replace what stands between the marks of tables in Markdown files; draw the pictures."""
        tables = self.all()
        for path in into:
            text = path.read_text("utf-8")
            for name, lines in tables.items():
                begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
                if begin in text and end in text:
                    before, _, rest = text.partition(begin)
                    after = rest.partition(end)[2]
                    text = before + begin + "".join(f"{line}\n" for line in lines) + end + after
            with replacing(path) as file:
                file.write(text.encode())
        self.draw_curves(pictures / "results-curves.png")
        self.draw_embedding(pictures / "results-embedding.png")

    def all(self) -> Mapping[str, Sequence[str]]:
        """Return the lines of every table by name."""
        found = {"state": self.state()}
        for dataset in (each for each in TITLES if each in self.results.datasets):
            found[f"{dataset}-joint"] = self.joint(dataset)
            found[f"{dataset}-neighbours"] = self.neighbours(dataset)
        if "ucla" in self.results.datasets:
            found |= {"ucla-time": self.equal_time(), "ucla-streams": self.streams()}
        found["transfers"] = self.transfers()
        return found

    def state(self) -> list[str]:
        """Say how many of the runs are done, by which code, and which trainings are left."""
        commands = self.results.plan.commands
        known = {name: self.record.of(command) for name, command in commands.items()}
        left = [name for name, entry in known.items() if entry is None]
        code = sorted({entry["code"] for entry in known.values() if entry is not None})
        by = f", by the code of {', '.join(code)}" if code else ""
        if not left:
            return [f"All {len(commands)} runs are done{by}."]
        trainings = [name.removeprefix(f"{PRETRAIN}-") for name in left if name.startswith(PRETRAIN)]
        following = f", the next {trainings[0]}" if trainings else ""
        return [
            f"{len(commands) - len(left)} of {len(commands)} runs are done{by}.",
            f"{len(trainings)} trainings without labels are left{following}.",
            f"A cell of {MISSING} waits for its runs; rows of which none is done are left out.",
        ]

    def figure(self, figure: Figure, dataset: str, name: str, view: str, seed: int) -> float | None:
        """Return a figure of a recorded run in %, NaN where it is planned, None where there is none."""
        protocol, value = figure
        command = self.results.plan.commands.get(key(protocol, dataset, name, view, seed))
        if command is None:
            return None
        entry = self.record.of(command)
        return float("nan") if entry is None else float(entry["figures"][value])

    def cell(self, figure: Figure, dataset: str, name: str, view: str, seeds: Sequence[int] = SEEDS) -> Cell:
        """Return the figures of all seeds."""
        found = [self.figure(figure, dataset, name, view, seed) for seed in seeds]
        planned = [value for value in found if value is not None]
        return Cell([value for value in planned if not math.isnan(value)], len(planned))

    def _table(self, title: str, columns: Iterable[str], rows: Iterable[tuple[str, Sequence[Cell]]]) -> list[str]:
        """Return a table's lines; a column has the number of seeds, where more than one is planned."""
        found = [row for row in rows if any(cell.values for cell in row[1])]
        if not found:
            return ["None of these runs is done yet."]
        several = any(cell.planned > 1 for _, cells in found for cell in cells)
        shown = [*columns, *["seeds"] * several]
        lines = [f"| {title} | {' | '.join(shown)} |", "|---" * (1 + len(shown)) + "|"]
        for name, cells in found:
            seeds = max(len(cell.values) for cell in cells)
            texts = [cell.text(seeds) for cell in cells] + [str(seeds)] * several
            lines.append(f"| {name} | {' | '.join(texts)} |")
        return lines

    def _order(self, dataset: str, names: Iterable[str]) -> list[str]:
        """Sort methods by their first figure, the best first."""

        def place(name: str) -> float:
            return -(self.cell(MAIN["kNN-20 of z"], dataset, name, "joint").mean or 0)

        return sorted(names, key=place)

    def _titles(self, dataset: str) -> dict[str, str]:
        long = f"{BEST}@{LONG}"
        names = {name: each.title for name, each in METHODS.items()}
        titles = {**names, long: f"{METHODS[BEST].title}, {LONG} epochs"}
        planned = self.results.plan.commands
        there = [name for name in titles if key("knn-z", dataset, name, "joint", SEEDS[0]) in planned]
        return {name: titles[name] for name in self._order(dataset, there)}

    def joint(self, dataset: str) -> list[str]:
        """Every method and baseline on the joint stream, by every protocol."""

        def row(name: str) -> list[Cell]:
            return [self.cell(figure, dataset, name, "joint") for figure in MAIN.values()]

        methods = [(f"**{title}**", row(name)) for name, title in self._titles(dataset).items()]
        others = [(title, row(name)) for name, title in {**FROM_SCRATCH, **BASELINES}.items()]
        return self._table("joint stream", MAIN, [*methods, *others])

    def neighbours(self, dataset: str) -> list[str]:
        """Nearest neighbours of the joint stream, for each k."""
        names = {**self._titles(dataset), **BASELINES}
        rows = [
            (title, [self.cell(figure, dataset, name, "joint") for figure in NEIGHBOURS.values()])
            for name, title in names.items()
        ]
        return self._table("joint stream", NEIGHBOURS, rows)

    def equal_time(self) -> list[str]:
        """Every method for as long as 100 epochs of SkeletonCLR take."""
        epochs = {"skeletonclr": EPOCHS, **EQUAL_TIME}
        names = {name: name if name == "skeletonclr" else f"{name}@{n}" for name, n in epochs.items()}
        rows = [
            (
                f"{METHODS[name].title}, {epochs[name]} epochs",
                [self.cell(each, "ucla", run, "joint") for each in FROZEN.values()],
            )
            for name, run in names.items()
        ]
        return self._table("joint stream", FROZEN, rows)

    def streams(self) -> list[str]:
        """Joint, bone, motion and their fusion, of one seed."""
        names = {**{name: each.title for name, each in METHODS.items()}, **FROM_SCRATCH}
        seeds = (FUSED_SEED,)
        columns: dict[str, Callable[[str], Cell]] = {}
        for view in VIEWS:
            for name in ("kNN-20 of z", "linear"):
                columns[f"{view}: {name}"] = lambda method, view=view, name=name: self.cell(  # type: ignore[misc]
                    MAIN[name], "ucla", method, view, seeds
                )
        for name, (protocol, _) in FUSED.items():
            figure = (f"{FUSE}-{protocol}", "top1")
            columns[f"fused: {name}"] = lambda method, figure=figure: self.cell(  # type: ignore[misc]
                figure, "ucla", method, "3s", seeds
            )
        rows = [(title, [cell(name) for cell in columns.values()]) for name, title in names.items()]
        return self._table(
            f"seed {FUSED_SEED}", columns, [row for row in rows if any(cell.planned for cell in row[1])]
        )

    def transfers(self) -> list[str]:
        """Frozen encoders on clips of another dataset than they were trained on."""
        rows = {
            "AimCLR's authors: NTU RGB+D 60": ("released", "ucla-25-50", "msr-25-50"),
            "the same network, random": ("random-paper", "ucla-25-50", "msr-25-50"),
            "raw coordinates, 25 joints": ("raw", "ucla-25-50", "msr-25-50"),
        }
        for name in TRANSFERRED:
            title = METHODS[name].title
            rows[f"{title}: the dataset itself"] = (name, "ucla", "msr")
            rows[f"{title}: the other dataset, 20 joints"] = (name, "ucla", "msr-v1")
            rows[f"{title}: synthetic clips of NTU's form"] = (f"{name}-from-synthetic", "ucla-25", "msr-25")
        other = {"ucla": "msr-v1", "msr-v1": "ucla"}
        lines = []
        for title, (name, *datasets) in rows.items():
            cells = []
            for dataset in datasets:
                run = f"{name}-from-{other[dataset]}" if "the other" in title else name
                cells += [self.cell(figure, dataset, run, "joint") for figure in FROZEN.values()]
            lines.append((title, cells))
        columns = [f"{short}: {figure}" for short in ("N-UCLA", "MSR") for figure in FROZEN]
        return self._table("encoder trained on", columns, lines)

    def curve(self, dataset: str, name: str, seed: int) -> list[tuple[int, float]]:
        """Return epochs and accuracy of 20 neighbours of z during a training, of the test clips."""
        shown = "all" if METHODS[name].together else "joint"
        stages = [f"{name}-moco", name] if METHODS[name].moco_first else [name]
        commands = self.results.plan.commands
        return self.record.curve(commands.get(key(PRETRAIN, dataset, stage, shown, seed)) for stage in stages)

    def draw_curves(self, path: Path) -> None:
        """Draw the curves of all methods, with lines for what was not trained."""
        shown = [each for each in TITLES if any(self.curve(each, name, 0) for name in METHODS)]
        if not shown:
            return
        figure = new_figure(7.2 * len(shown), 4.2)
        for axes, dataset in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            for i, (name, method) in enumerate(METHODS.items()):
                runs = [run for seed in SEEDS if (run := self.curve(dataset, name, seed))]
                for run in runs:
                    axes.plot(*zip(*run, strict=True), color=f"C{i}", alpha=0.35, linewidth=0.8)
                if runs:
                    mean = _means(runs)
                    axes.plot(*zip(*mean, strict=True), color=f"C{i}", label=f"{method.title} ({len(runs)})")
            lines = {"raw": ("knn-h", "raw coordinates", "--"), "random-default": ("knn-z", "random encoder", ":")}
            for name, (protocol, title, style) in lines.items():
                height = self.cell((protocol, "knn@20"), dataset, name, "joint").mean
                if height is not None:
                    axes.axhline(height, color="black", linestyle=style, linewidth=1, label=title)
            axes.set_xlabel("epochs")
            axes.set_ylabel("20 neighbours of z, % of test clips")
            axes.set_title(f"{TITLES[dataset]}, joint stream", fontsize=9, loc="left")
            axes.set_ylim(0, 100)
            axes.grid(visible=True, color="#e6e6e6")
            axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))  # over no line
        save_figure(figure, path)

    def draw_embedding(self, path: Path) -> None:
        """Draw the test clips of Northwestern-UCLA by class: raw, by a random encoder and by the best method."""
        runs = {"raw": "raw coordinates", "random-default": "random encoder", BEST: METHODS[BEST].title}
        commands = {name: self.results.plan.commands.get(key("map", "ucla", name, "joint", 0)) for name in runs}
        if not all(command and self.work.state(command) == "done" for command in commands.values()):
            return
        tables = {
            name: _rows(self.work.run_of(command) / "embedding.csv")
            for name, command in commands.items()
            if command
        }
        figure = new_figure(4.0 * len(tables), 4.6)
        for axes, (name, rows) in zip(figure.subplots(1, len(tables)), tables.items(), strict=True):
            classes = sorted({(int(row["label"]), row["name"]) for row in rows})
            for label, title in classes:
                own = [(float(row["x"]), float(row["y"])) for row in rows if int(row["label"]) == label]
                axes.scatter(*zip(*own, strict=True), s=9, color=f"C{label % 10}", linewidths=0, label=title)
            axes.set_title(runs[name], fontsize=10, loc="left")
            axes.set_xticks([])
            axes.set_yticks([])
        handles, titles = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, titles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
        save_figure(figure, path)


def _means(runs: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """Return the mean of several curves where all of them have a point."""
    found = [dict(run) for run in runs]
    common = sorted(set.intersection(*(set(run) for run in found)))
    return [(epoch, statistics.mean(run[epoch] for run in found)) for epoch in common]


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
