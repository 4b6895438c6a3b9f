"""Whether each method learns: encoders before and after a small pre-training, judged on made recordings.

    OMP_NUM_THREADS=1 python tests/benchmarks/learning.py --out learning
    OMP_NUM_THREADS=1 python tests/benchmarks/learning.py --out learning aimclr --seeds 1

Makes the recordings, trains every method with every seed and judges the encoder that each run began with, the one
it ended with, one with the papers' first weights, and raw coordinates: by nearest neighbours and by a linear
classifier. Every run is printed as the command it is; one that is done already is not trained again. The result is
`learning.json` and the table of RESULTS.md.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
import torch
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.files import replacing
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.linear_head import fit_linear, linear_scores
from skelpipe.train.pretrain import main as pretrain
from skelpipe.train.running.networks import Networks, find_weights, initialised, load_networks, read_identity
from skelpipe.train.training.knn_monitor import knn_figures

__all__ = ["FIGURES", "METHODS", "SMALL", "judge", "main"]

# The values below were found on recordings of seed 0; judged are others.
SUBJECTS, ACTIONS, REPEATS, SEED, FRAMES = 8, 8, 2, 1, 16
CPU: Final = torch.device("cpu")
# What suits 192 clips and a CPU; where a key is missing a method's recipe holds.
SMALL: Final[Mapping[str, object]] = {
    "epochs": 40,
    "batch_size": 16,
    "init": "default",
    "optimiser.name": "adam",
    "optimiser.lr": 0.003,
    "optimiser.milestones": [34],
    "temperature": 0.1,
    "momentum": 0.99,
    "queue": 128,
    "encoder.width": 8,
    "encoder.out_channels": 64,
    "encoder.dropout": 0.0,
    "head.hidden": 64,
    "head.dim": 32,
}
# Second stages begin in the middle, mixed regions are of the papers' share of the clip. ActCLR's second stage has
# no term that keeps embeddings apart: at the first stage's rate it collapses on a set this small. In a batch of 16
# a normalisation in the head tells key and query apart from the others by the batch: SkeAttnCLR, whose query also
# lends the key its mask, then learns little else.
METHODS: Final[Mapping[str, Mapping[str, object]]] = {
    "skeletonclr": {},
    "crosclr": {"crosclr.mining_epoch": 20},
    "aimclr": {"aimclr.mining_epoch": 20},
    "skelemixclr": {"skelemixclr.blocks": [2, 3]},
    "actclr": {"actclr.moco_epochs": 20, "actclr.blocks": [1, 2], "optimiser.milestones": [20, 34]},
    "skeattnclr": {
        "skeattnclr.blocks": [1, 2],
        "skeattnclr.heads": 4,
        "skeattnclr.predictors": "none",
        "head.batch_norm": False,
    },
    "msmclr": {},
}
FIGURES: Final[Mapping[str, str]] = {
    "knn-z": "kNN-20 of z",
    "knn-h": "kNN-20 of h",
    "linear": "linear, h standardised",
    "linear-raw": "linear, h as it is",
}
STAGES: Final[Mapping[str, str]] = {
    "papers": "random, N(0, 0.02)",
    "start": "random, as it starts",
    "trained": "**trained**",
}
Judged = dict[str, float]


def judge(networks: Mapping[str, nn.Module], dataset: Dataset, seed: int = 0) -> Judged:
    """Return `FIGURES` in % of the maps from joint clips to `h` and to `z`."""
    found: Judged = {}
    classes = len(dataset.classes)
    for kind, network in networks.items():
        bank, queries = (embed(network, dataset, split, "joint", device=CPU) for split in ("train", "test"))
        found[f"knn-{kind}"] = knn_figures(bank, queries, (20,), 0.1, classes, CPU)["knn@20"]
        if kind == "h":
            found["linear-raw"] = _linear(bank, queries, classes, seed)
            found["linear"] = _linear(*_standardised(bank, queries), classes, seed)
    return {name: found[name] for name in FIGURES}


def _linear(bank: Embedded, queries: Embedded, classes: int, seed: int) -> float:
    """Return the accuracy in % of a linear classifier trained as in the papers (spec E2)."""
    scores = linear_scores(*fit_linear(bank.features, bank.labels, classes, seed=seed), queries.features)
    return 100.0 * float((scores.argmax(dim=1) == queries.labels).double().mean())


def _standardised(bank: Embedded, queries: Embedded) -> tuple[Embedded, Embedded]:
    """Return features with mean 0, variance 1 / D over the training clips: random networks' hardly vary."""
    mean, width = bank.features.mean(dim=0), bank.features.shape[1]
    deviation = bank.features.std(dim=0).clamp(min=1e-6) * width**0.5
    first, second = (Embedded((e.features - mean) / deviation, e.labels, e.ids) for e in (bank, queries))
    return first, second


def _maps(networks: Networks) -> dict[str, nn.Module]:
    return {kind: networks.embedder(kind) for kind in ("h", "z")}


def _say(command: Sequence[str]) -> None:
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)


def _prepared(out: Path) -> Dataset:
    raw, shards = out / "raw", out / "ds"
    sizes = {"subjects": SUBJECTS, "actions": ACTIONS, "repeats": REPEATS, "seed": SEED}
    synth = ["synth", "--dataset", "ntu60", "--out", str(raw)]
    synth += [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    shape = ["--frames", str(FRAMES), "--bodies", "1"]
    prepare = ["prepare", "--dataset", "ntu60", "--split", "xsub", "--raw", str(raw), "--out", str(shards), *shape]
    for command in (synth, prepare):
        _say(["skelpipe", *command])
        if not (shards / "dataset.json").exists():
            subprocess.run([sys.executable, "-m", "skelpipe", *command], check=True, stdout=subprocess.DEVNULL)
    return Dataset.open(shards)


def _train(method: str, seed: int, dataset: Dataset, out: Path, epochs: int | None) -> Path:
    """Train where that was not done; return the run's folder."""
    run = out / f"{method}-{seed}"
    settings = {**SMALL, **METHODS[method], **({"epochs": epochs} if epochs else {})}
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    arguments = ["--shards", str(dataset.path), "--method", method, "--seed", str(seed), "--out", str(run)]
    arguments += ["--device", "cpu", "--knn-every", "0", *given]
    _say(["python", "train/pretrain.py", *arguments])
    if not (run / "encoder.safetensors").exists():
        pretrain([*arguments, *(["--resume"] if run.exists() else [])], standalone_mode=False)
    return run


def _of_run(run: Path, dataset: Dataset) -> dict[str, Judged]:
    """Judge a run's encoder as it began and as it ended, and one with the papers' first weights."""
    weights = find_weights(str(run))
    identity, _ = read_identity(weights)
    recipe, seed = identity.recipe, identity.seed
    papers = type(recipe)({**recipe.values, "init": "paper"})
    made = {
        "start": Networks.of(initialised(recipe, dataset.layout, seed), "joint"),
        "papers": Networks.of(initialised(papers, dataset.layout, seed), "joint"),
        "trained": load_networks(weights, identity, dataset.layout, "joint"),
    }
    return {name: judge(_maps(networks), dataset, seed) for name, networks in made.items()}


def _lines(results: Mapping[str, Mapping[str, Mapping[str, Judged]]], raw: Judged) -> list[str]:
    """Return the table: mean and range over the seeds, of results[method][seed][when]."""
    lines = ["| | " + " | ".join(FIGURES.values()) + " |", "|---" * (1 + len(FIGURES)) + "|"]

    def add(name: str, cells: Sequence[Judged]) -> None:
        spans = []
        for figure in FIGURES:
            values = [cell[figure] for cell in cells]
            span = f" ({min(values):.0f} - {max(values):.0f})" if len(values) > 1 else ""
            spans.append(f"{statistics.mean(values):.1f}{span}")
        lines.append(f"| {name} | " + " | ".join(spans) + " |")

    add("raw coordinates", [raw])
    for method, runs in results.items():
        for when, name in STAGES.items():
            add(f"{method}: {name}", [run[when] for run in runs.values()])
    return lines


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("methods", nargs=-1, type=click.Choice(list(METHODS)))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for data, runs and results.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each method.")
@click.option("--epochs", type=click.IntRange(min=1), help="Another number of epochs.")
def main(methods: tuple[str, ...], out: Path, seeds: int, epochs: int | None) -> None:
    """Train the methods named, or all, and judge what they learned."""
    torch.set_num_threads(1)
    dataset = _prepared(out)
    flat = judge({"h": nn.Flatten(), "z": nn.Flatten()}, dataset)
    results: dict[str, dict[str, dict[str, Judged]]] = {}
    for seed in range(seeds):
        for method in methods or METHODS:
            run = _train(method, seed, dataset, out / "runs", epochs)
            results.setdefault(method, {})[str(seed)] = _of_run(run, dataset)
            with replacing(out / "learning.json") as file:
                file.write(json.dumps({"raw": flat, "methods": results}, indent=1).encode())
            print(f"{method} {seed}: {results[method][str(seed)]}", file=sys.stderr, flush=True)
    print("\n".join(_lines(results, flat)))


if __name__ == "__main__":
    main()
