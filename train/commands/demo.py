"""The work of `train/demo.py`, where it is described, once the options are checked."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.drawing.plot import draw_strips, new_figure, save_figure
from skelpipe.errors import SkelpipeError
from skelpipe.ownership import hold
from skelpipe.train.running.named_paths import DEMO_MARK, check_demo
from skelpipe.train.running.run_log import read_log

__all__ = ["draw_curve", "run"]

SUBJECTS, ACTIONS, REPEATS, FRAMES = 8, 10, 3, 32
NEIGHBOURS = (1, 5, 20)


def step(command: Sequence[str]) -> str:
    """Print a command as a user types it, run it and return its output; SkelpipeError if it fails."""
    name, *rest = command
    shown = (
        ["python", f"train/{name}.py"] if (Path(__file__).parent / f"{name}.py").exists() else ["skelpipe", name]
    )
    click.echo(f"$ {shlex.join([*shown, *rest])}")
    module = ["skelpipe"] if shown[0] == "skelpipe" else [f"skelpipe.train.{name}"]
    arguments = [*([name] if shown[0] == "skelpipe" else []), *rest]
    done = subprocess.run(
        [sys.executable, "-m", *module, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SkelpipeError(f"the step failed with exit code {done.returncode}: {shlex.join([*shown, *rest])}")
    if "--json" not in rest:
        click.echo(done.stdout, nl=False)
    return done.stdout


def draw_curve(records: Sequence[Mapping[str, Any]], start: float, chance: float, path: Path) -> None:
    """Draw loss and kNN accuracy by epoch; `start` is the accuracy in % before training."""
    figure = new_figure(8, 4)
    left = figure.subplots()
    left.plot([r["epoch"] for r in records], [r["loss"] for r in records], color="#444444", label="loss (left)")
    left.set(xlabel="epoch", ylabel="contrastive loss")
    right = left.twinx()
    name = next(key for key in records[-1] if key.startswith("knn"))
    measured = [(0, start), *((r["epoch"], r[name]) for r in records if name in r)]
    right.plot(*zip(*measured, strict=True), color="#2e86ab", marker="o", markersize=3, label=f"{name} (right)")
    right.axhline(chance, color="#d1495b", linestyle="--", linewidth=1, label=f"chance {chance:.0f} % (right)")
    right.set(ylabel="top-1 on test clips, %", ylim=(0, 100))
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    handles = [line for axes in (left, right) for line in axes.get_lines()]
    left.legend(handles, [line.get_label() for line in handles], fontsize=8, frameon=False, loc="upper right")
    save_figure(figure, path)


def draw_clips(dataset: Dataset, path: Path) -> None:
    """Draw the first training clip of the first three classes."""
    labels = dataset.labels("train")
    rows = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)[:3]]
    ids = dataset.ids("train")
    titles = [f"{ids[row]}: {dataset.classes[labels[row]]}" for row in rows]
    draw_strips(list(dataset.reader("train", "joint").gather(np.array(rows))), titles, dataset.layout, path)


def empty_folder(out: Path) -> None:
    """Remove what an earlier demo wrote; UsageError if the folder has other files."""
    check_demo(out)
    if out.exists() and any(out.iterdir()):
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / DEMO_MARK).touch()


def run(out: Path, epochs: int | None, seed: int) -> None:
    """Do what the command asks for."""
    start = time.monotonic()
    hold(out.absolute(), file=True)
    empty_folder(out)
    # A second thread gains little for a network this small, and on a busy machine the two wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    raw, shards, trained = str(out / "raw"), str(out / "ntu60-xsub"), str(out / "run")
    sizes = ["--subjects", str(SUBJECTS), "--actions", str(ACTIONS), "--repeats", str(REPEATS)]
    step(["synth", "--dataset", "ntu60", "--out", raw, *sizes, "--seed", str(seed)])
    shape = ["--frames", str(FRAMES), "--bodies", "1"]
    step(["prepare", "--dataset", "ntu60", "--split", "xsub", "--raw", raw, "--out", shards, *shape])
    step(["verify", "--shards", shards])
    average = out / "average-motion.png"
    step(["stats", "--average-motion", "--shards", shards, "--plot", str(average)])
    training = ["pretrain", "--shards", shards, "--recipe", "demo", "--out", trained]
    step([*training, "--seed", str(seed), "--knn-every", "5", *(["--epochs", str(epochs)] if epochs else [])])

    evaluate = ["knn", "--shards", shards, "--features", "h", "--k", ",".join(map(str, NEIGHBOURS))]
    evaluate += ["--seed", str(seed), "--json"]
    random = ["--checkpoint", trained, "--baseline", "random"]
    networks = {
        "raw coordinates": ["--baseline", "raw"],
        "random encoder, PyTorch's weights": random,
        "random encoder, the papers' weights": [*random, "--network-set", "init=paper"],
        "trained encoder": ["--checkpoint", trained],
    }
    results = {name: json.loads(step([*evaluate, *options])) for name, options in networks.items()}
    # Where the training's own curve begins, which is of the projections z: the run's first weights.
    first = json.loads(step(["knn", "--shards", shards, "--k", "20", "--seed", str(seed), "--json", *random]))
    chance = results["trained encoder"]["chance"]

    curve, clips = out / "curve.png", out / "clips.png"
    draw_curve(read_log(Path(trained) / "log.jsonl"), first["figures"]["knn@20"], chance, curve)
    draw_clips(Dataset.open(shards), clips)
    test = results["trained encoder"]["clips"]["test"]
    click.echo(
        f"\nNearest-neighbour accuracy, %, of the pooled features h on {test} test clips of people who are not in "
        "the training clips:"
    )
    click.echo(f"  {'neighbours':<36}" + "".join(f"{k:>8}" for k in NEIGHBOURS))
    for name, result in results.items():
        click.echo(f"  {name:<36}" + "".join(f"{result['figures'][f'knn@{k}']:8.1f}" for k in NEIGHBOURS))
    click.echo(f"  {'chance':<36}" + f"{chance:8.1f}" * len(NEIGHBOURS))
    click.echo("\nOne recording, named by the starter weights (without --checkpoint):")
    step(["predict", str(sorted(Path(raw).rglob("*.skeleton"))[0])])
    click.echo("\nPictures:")
    for path in (clips, average, curve):
        click.echo(f"  {path}")
    click.echo(f"\nDone in {time.monotonic() - start:.0f} s.")
