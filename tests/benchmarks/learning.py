"""Whether each method learns: encoders before and after a small pre-training, evaluated on synthetic recordings.

    OMP_NUM_THREADS=1 python tests/benchmarks/learning.py --out learning
    OMP_NUM_THREADS=1 python tests/benchmarks/learning.py --out learning aimclr --seeds 1

Synthesises the recordings, trains every method with every seed and evaluates four features by nearest neighbours
and by a linear classifier: those of the encoder at the start of a run and at its end, of one with the papers'
initial weights, and raw coordinates. Every run is printed as a command; a finished run is not repeated. The result
is `learning.json` and the table of RESULTS.md.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from skelpipe.train.running.networks import Networks, find_weights, initialised, load_networks, read_provenance
from skelpipe.train.training.knn_monitor import knn_figures

__all__ = ["FIGURES", "METHODS", "SMALL", "evaluate", "main"]

# The values below were found on recordings of seed 0; others are evaluated.
SUBJECTS, ACTIONS, REPEATS, SEED, FRAMES = 8, 8, 2, 1, 16
CPU: Final = torch.device("cpu")
# Settings for 192 clips and a CPU; for all other keys the method's recipe holds.
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
# Second stages begin in the middle; mixed regions cover the same share of the clip as in the papers. ActCLR's
# second stage has no term that keeps embeddings apart: with the learning rate of the first it collapses on
# a set this small. With batches of 16, batch normalisation in the head makes key and query recognisable by their
# batch; SkeAttnCLR, which uses the query's mask for the key too, then learns little else.
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
Result = dict[str, float]


def evaluate(networks: Mapping[str, nn.Module], dataset: Dataset, seed: int = 0) -> Result:
    """Return `FIGURES` in % of the maps from joint clips to `h` and to `z`."""
    found: Result = {}
    classes = len(dataset.classes)
    for kind, network in networks.items():
        bank, queries = (embed(network, dataset, subset, "joint", device=CPU) for subset in ("train", "test"))
        found[f"knn-{kind}"] = knn_figures(bank, queries, (20,), 0.1, classes, CPU)["knn@20"]
        if kind == "h":
            found["linear-raw"] = _linear(bank, queries, classes, seed)
            found["linear"] = _linear(*_standardised(bank, queries), classes, seed)
    return {name: found[name] for name in FIGURES}


def _linear(bank: Embedded, queries: Embedded, classes: int, seed: int) -> float:
    """Return the accuracy in % of a linear classifier trained as in the papers (docs/methods.md)."""
    scores = linear_scores(*fit_linear(bank.features, bank.labels, classes, seed=seed), queries.features)
    return 100.0 * float((scores.argmax(dim=1) == queries.labels).double().mean())


def _standardised(bank: Embedded, queries: Embedded) -> tuple[Embedded, Embedded]:
    """Return features with mean 0, variance 1 / D over training clips: those of random networks hardly vary."""
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
    """Train unless the run is finished; return its folder."""
    run = out / f"{method}-{seed}"
    settings = {**SMALL, **METHODS[method], **({"epochs": epochs} if epochs else {})}
    given = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    arguments = ["--shards", str(dataset.path), "--method", method, "--seed", str(seed), "--out", str(run)]
    arguments += ["--device", "cpu", "--knn-every", "0", *given]
    _say(["python", "train/pretrain.py", *arguments])
    if not (run / "encoder.safetensors").exists():
        pretrain([*arguments, *(["--resume"] if run.exists() else [])], standalone_mode=False)
    return run


def _of_run(run: Path, dataset: Dataset) -> dict[str, Result]:
    """Evaluate a run's encoder at its start and at its end, and one with the papers' initial weights."""
    weights = find_weights(str(run))
    provenance, _ = read_provenance(weights)
    recipe, seed = provenance.pretraining, provenance.seed
    papers = replace(recipe, init="paper")
    stages = {
        "start": Networks.of(initialised(recipe, dataset.layout, seed), "joint"),
        "papers": Networks.of(initialised(papers, dataset.layout, seed), "joint"),
        "trained": load_networks(weights, provenance, dataset.layout, "joint"),
    }
    return {name: evaluate(_maps(networks), dataset, seed) for name, networks in stages.items()}


def _lines(results: Mapping[str, Mapping[str, Mapping[str, Result]]], raw: Result) -> list[str]:
    """Return the table: mean and range over the seeds, of results[method][seed][when]."""
    lines = ["| | " + " | ".join(FIGURES.values()) + " |", "|---" * (1 + len(FIGURES)) + "|"]

    def add(name: str, cells: Sequence[Result]) -> None:
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
    """Train the methods named, or all, and evaluate what they learned."""
    torch.set_num_threads(1)
    dataset = _prepared(out)
    flat = evaluate({"h": nn.Flatten(), "z": nn.Flatten()}, dataset)
    results: dict[str, dict[str, dict[str, Result]]] = {}
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
