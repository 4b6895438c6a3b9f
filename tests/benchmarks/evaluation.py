"""Seconds that evaluation takes on the features of a dataset as large as NTU-60 xsub, which are in memory.

    python tests/benchmarks/evaluation.py
    python tests/benchmarks/evaluation.py linear --threads 2 --json

Features are synthetic: 256 numbers per clip, 60 classes. `linear` trains 100 epochs on 56,578 clips, beside the
same training by torch's own modules, autograd and optimiser on one thread, from a tenth of an epoch. `knn` holds
16,487 queries against 40,091 clips, beside torch's bare matrix product of the two in float64. On a machine that
does other work as well, the processor's seconds and the ratio tell more than those of the clock.
"""

import json
import resource
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor

from skelpipe.train.evaluation.knn import knn_predict
from skelpipe.train.evaluation.linear_head import batches, fit_linear, linear_scores, one_thread

CLASSES, WIDTH = 60, 256
TRAIN, TEST = 40_091, 16_487
EPOCHS, BATCH, RATE = 100, 128, 3.0
TARGETS = {"linear": 120.0, "knn": 60.0}
RATIOS = {"linear": 1.5, "knn": 1.5}  # of the plain way's processor seconds to ours
PLAIN = {"linear": "torch.nn and torch.optim", "knn": "the bare product"}


def synthetic_features(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return features [count,256], as after a ReLU, around one centre per class, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    centres = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    return torch.relu(0.25 * centres[labels] + torch.randn(count, WIDTH, generator=generator)), labels


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the wall-clock seconds and the processor seconds (of all threads) that some work takes."""
    start, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - busy


def bench_linear() -> dict[str, float]:
    """Train with the code that evaluation uses, and with torch's own."""
    features, labels = synthetic_features(TRAIN + TEST, 1)

    def ours() -> None:
        weight, bias = fit_linear(features, labels, CLASSES, epochs=EPOCHS, batch_size=BATCH, lr=RATE)
        linear_scores(weight, bias, features)

    def torchs(steps: int) -> None:
        head = torch.nn.Linear(WIDTH, CLASSES)
        optimiser = torch.optim.SGD(head.parameters(), lr=RATE, momentum=0.9)
        for _, (x, y) in zip(range(steps), batches(features, labels, BATCH, 0, 1), strict=False):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(head(x), y).backward()
            optimiser.step()

    seconds, cpu = timed(ours)
    steps = len(features) // BATCH
    few = steps // 10
    with one_thread():
        torchs(few)
        plain = timed(lambda: torchs(few))[1] * EPOCHS * steps / few
    return {"seconds": seconds, "cpu_seconds": cpu, "plain_cpu_seconds": plain}


def bench_knn() -> dict[str, float]:
    """Classify with k of 1, 5 and 20, and only multiply."""
    bank, labels = synthetic_features(TRAIN, 1)
    queries, _ = synthetic_features(TEST, 2)
    seconds, cpu = timed(lambda: knn_predict(bank, labels, queries, (1, 5, 20), classes=CLASSES))
    few, double = queries[:1024].double(), bank.double()
    plain = timed(lambda: few @ double.T)[1] * TEST / len(few)
    return {"seconds": seconds, "cpu_seconds": cpu, "plain_cpu_seconds": plain}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(["knn", "linear"]))
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Threads of torch.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(names: tuple[str, ...], threads: int, as_json: bool) -> None:
    """Run the measurements named, or both."""
    torch.set_num_threads(threads)
    measured: dict[str, dict[str, float]] = {}
    for name in names or ("knn", "linear"):
        row = {"knn": bench_knn, "linear": bench_linear}[name]()
        row |= {"ratio": row["plain_cpu_seconds"] / row["cpu_seconds"], "target_seconds": TARGETS[name]}
        row["target_ratio"] = RATIOS[name]
        row["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # of the whole process so far
        measured[name] = {key: round(value, 2) for key, value in row.items()}
        if not as_json:
            click.echo(
                f"{name:7} {row['seconds']:6.1f} s (target {TARGETS[name]:.0f} s), "
                f"processor {row['cpu_seconds']:6.1f} s, {PLAIN[name]} {row['plain_cpu_seconds']:6.1f} s, "
                f"ratio {row['ratio']:.2f} ({'reaches' if row['ratio'] >= RATIOS[name] else 'misses'} "
                f"{RATIOS[name]}), memory {row['memory_mb']:,.0f} MB"
            )
    if as_json:
        click.echo(json.dumps({"threads": threads, "rows": measured}))


if __name__ == "__main__":
    main()
