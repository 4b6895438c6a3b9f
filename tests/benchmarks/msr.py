"""Every protocol on MSR-Action3D, which is real and small: the tables of RESULTS.md.

    OMP_NUM_THREADS=1 python tests/benchmarks/msr.py --raw ../shared/data/msr_action3d --out msr --at-once 2

Pre-trains SkeletonCLR, AimCLR and SkeleMixCLR on each stream and evaluates them by nearest neighbours, a linear
classifier, fine-tuning with all and with a tenth of the labels, and fusion. Beside them stand supervised training,
raw coordinates and untrained networks. Every run is printed as a command; a finished run is not repeated. No
setting was chosen on test clips: those of pre-training are the ones of learning.py, those of training with labels
were chosen by leaving out a subject.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

__all__ = ["METHODS", "Runs", "main"]

FRAMES, VIEWS, SEEDS = 32, ("joint", "bone", "motion"), 3
EPOCHS, TUNING_EPOCHS, FEW_EPOCHS = 40, 20, 100
# For 291 clips: the queue holds at most a quarter of them. For all other keys the method's recipe holds.
SMALL: Final[Mapping[str, object]] = {
    "epochs": EPOCHS,
    "batch_size": 16,
    "init": "default",
    "optimiser.name": "adam",
    "optimiser.lr": 0.001,
    "optimiser.milestones": [34],
    "temperature": 0.1,
    "momentum": 0.99,
    "queue": 64,
    "encoder.dropout": 0.0,
}
NETWORK: Final[Mapping[str, object]] = {"encoder.width": 8, "encoder.out_channels": 128}
# Second stages begin in the middle; mixed regions cover the same share of the clip as in the papers.
METHODS: Final[Mapping[str, Mapping[str, object]]] = {
    "skeletonclr": {},
    "aimclr": {"aimclr.mining_epoch": 20},
    "skelemixclr": {"skelemixclr.blocks": [3, 6]},
}
LEARNED = (*METHODS, "supervised")
FIGURES: Final[Mapping[str, str]] = {
    "knn-h": "kNN-20 of h",
    "knn-z": "kNN-20 of z",
    "linear": "linear",
    "tune-1.0": "all labels",
    "tune-0.1": "10 % of labels",
}
FUSED = ("linear", "tune-1.0", "tune-0.1")


@dataclass(frozen=True)
class Runs:
    """The folder of all runs, and the commands that produce them."""

    out: Path
    raw: Path

    def folder(self, *names: object) -> Path:
        return self.out / "runs" / "-".join(map(str, names))

    def script(self, name: str, out: Path, *arguments: object) -> None:
        """Run a script of train/ unless its result is there."""
        finished = "encoder.safetensors" if name == "pretrain" else "result.json"
        if not (out / finished).exists():
            again = ["--resume"] if name in ("pretrain", "finetune") else ["--overwrite"]
            self.command(f"train.{name}", *arguments, "--out", out, *(again if out.exists() else []))

    def command(self, module: str, *arguments: object) -> None:
        """Run a module and print the command; print its errors and raise CalledProcessError if it fails."""
        given = list(map(str, arguments))
        shown = f"python {module.replace('.', '/')}.py" if "." in module else module
        print(f"$ {shown} {shlex.join(given)}", file=sys.stderr, flush=True)
        name = f"skelpipe.{module}" if "." in module else module
        done = subprocess.run(
            [sys.executable, "-m", name, *given], check=False, capture_output=True, text=True, env={**os.environ}
        )
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr, flush=True)
            done.check_returncode()

    def result(self, *names: object) -> Mapping[str, float]:
        """Return the figures of a run, empty where there is none."""
        path = self.folder(*names) / "result.json"
        return json.loads(path.read_text())["figures"] if path.exists() else {}

    @property
    def shards(self) -> list[object]:
        return ["--shards", self.out / "ds"]


def prepare(runs: Runs) -> None:
    if not (runs.out / "ds" / "dataset.json").exists():
        where = ["--raw", runs.raw, "--out", runs.out / "ds", "--frames", FRAMES]
        runs.command("skelpipe", "prepare", "--dataset", "msr-action3d", "--split", "xsub", *where)


def options(values: Mapping[str, object], name: str = "--set") -> list[object]:
    return [part for key, value in values.items() for part in (name, f"{key}={value}")]


def evaluate(runs: Runs, name: str, subject: Sequence[object], view: str, seed: int) -> None:
    """Evaluate what the options `subject` name by nearest neighbours and by a linear classifier."""
    common = [*runs.shards, *subject, "--view", view, "--seed", seed, "--device", "cpu"]
    for features in ("h",) if name == "raw" else ("h", "z"):
        folder = runs.folder("knn", features, name, view, seed)
        runs.script("knn", folder, *common, "--features", features)
    runs.script("linear", runs.folder("linear", name, view, seed), *common)


def tune(runs: Runs, name: str, start: Sequence[object], view: str, seed: int) -> None:
    """Train with all labels and with a tenth of them."""
    for labels, epochs in ((1.0, TUNING_EPOCHS), (0.1, FEW_EPOCHS)):
        folder = runs.folder(f"tune-{labels}", name, view, seed)
        values = {"optimiser.milestones": [epochs * 3 // 4], **({} if start else NETWORK)}
        which = ["--labels", labels, "--recipe", "supervised-small", *options(values), "--epochs", epochs]
        common = ["--view", view, "--seed", seed, "--device", "cpu", "--save-every", 50, "--test-every", 0]
        runs.script("finetune", folder, *runs.shards, *start, *which, *common)


def learn(runs: Runs, method: str, view: str, seed: int) -> None:
    """Train a method on a stream and evaluate it by every protocol."""
    folder = runs.folder(method, view, seed)
    given = options({**SMALL, **NETWORK, **METHODS[method]})
    which = ["--method", method, "--view", view, "--seed", seed, "--device", "cpu", "--knn-every", 0]
    runs.script("pretrain", folder, *runs.shards, *which, *given)
    evaluate(runs, method, ["--checkpoint", folder], view, seed)
    tune(runs, method, ["--checkpoint", folder], view, seed)


def baselines(runs: Runs, view: str, seed: int) -> None:
    """Evaluate raw coordinates and random networks, with the initial weights of PyTorch and of the papers."""
    if seed == 0:
        evaluate(runs, "raw", ["--baseline", "raw"], view, seed)
    for init in ("default", "paper"):
        name = f"random-{init}"
        common = [*runs.shards, "--baseline", "random", "--view", view, "--seed", seed, "--device", "cpu"]
        for features in ("h", "z"):
            folder = runs.folder("knn", features, name, view, seed)
            runs.script("knn", folder, *common, *options({**NETWORK, "init": init}), "--features", features)
        folder = runs.folder("linear", name, view, seed)
        runs.script("linear", folder, *common, *options({**NETWORK, "init": init}, "--network-set"))


def fuse(runs: Runs, name: str, seed: int) -> None:
    """Fuse the three streams of one seed."""
    for protocol in FUSED:
        streams = [runs.folder(protocol, name, view, seed) for view in VIEWS]
        if all((stream / "result.json").exists() for stream in streams):
            runs.script("fuse", runs.folder(f"{protocol}-3s", name, seed), *streams)


def _found(runs: Runs, figure: str, name: str, view: str) -> list[float]:
    protocol, key = figure, "top1"
    if figure.startswith("knn"):
        key = "knn@20"
        if name == "raw":
            protocol = "knn-h"
    results = (runs.result(protocol, name, view, seed) for seed in range(SEEDS))
    return [result[key] for result in results if result]


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    span = f" ({min(values):.1f} - {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{span}"


def tables(runs: Runs) -> Iterable[str]:
    """Yield the lines of one table per stream: the mean over seeds, with the range where there are several."""
    names = {"raw": "raw coordinates", "random-default": "random, PyTorch's weights"}
    names |= {"random-paper": "random, N(0, 0.02)", **{name: f"**{name}**" for name in LEARNED}}
    for view in VIEWS:
        yield f"\n| {view} | " + " | ".join(FIGURES.values()) + " |"
        yield "|---" * (1 + len(FIGURES)) + "|"
        for name, shown in names.items():
            yield f"| {shown} | " + " | ".join(_cell(_found(runs, key, name, view)) for key in FIGURES) + " |"
    yield "\n| fused | " + " | ".join(FIGURES[key] for key in FUSED) + " |"
    yield "|---" * (1 + len(FUSED)) + "|"
    for name in LEARNED:
        results = [[runs.result(f"{key}-3s", name, seed) for seed in range(SEEDS)] for key in FUSED]
        cells = [_cell([result["top1"] for result in seeds if result]) for seeds in results]
        yield f"| {names[name]} | " + " | ".join(cells) + " |"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--raw", type=click.Path(path_type=Path, exists=True), required=True, help="Folder of recordings.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for dataset and runs.")
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at the same time.")
@click.option("--seeds", type=click.IntRange(min=1), default=SEEDS, show_default=True, help="Of every stream.")
@click.option("--table-only", is_flag=True, help="Run nothing, print what is there.")
def main(raw: Path, out: Path, at_once: int, seeds: int, table_only: bool) -> None:
    """Train and evaluate everything, the first seed of all streams first."""
    runs = Runs(out, raw)
    chains = [(view, seed) for seed in range(seeds) for view in VIEWS]

    def work(view: str, seed: int, name: str) -> None:
        if name == "baselines":
            baselines(runs, view, seed)
        elif name == "supervised":
            tune(runs, name, [], view, seed)
        else:
            learn(runs, name, view, seed)

    if not table_only:
        prepare(runs)
        with ThreadPoolExecutor(at_once) as pool:
            done = [pool.submit(work, *chain, name) for chain in chains for name in ("baselines", *LEARNED)]
            for future in done:
                future.result()
        for name in LEARNED:
            for seed in range(seeds):
                fuse(runs, name, seed)
    print("\n".join(tables(runs)))


if __name__ == "__main__":
    main()
