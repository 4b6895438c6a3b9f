"""Figures of speed as ratios, each against a plain way of doing the same, in one run on one core.

    make bench
    OMP_NUM_THREADS=1 python tests/benchmarks/run.py parse stream --json

Machines are noisy: compare the ratios. The rows of augmentation, stream and loader are those of `skelpipe bench`;
here, the reference of augmentation is the same in numpy, one clip at a time.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
import raw_files
import torch
from plain_augmentations import plain_views
from plain_stgcn import PlainSTGCN
from targets import say, target_of

from skelpipe import skeleton
from skelpipe.bench.augmentations import augment_rows
from skelpipe.bench.streams import loader_rows, stream_rows
from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.bench.timing import BenchRow, Way, compare, threads
from skelpipe.bench.view_sets import ViewSet
from skelpipe.bench.workload import Workload
from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.memory import keep_freed_memory
from skelpipe.models.graph import adjacency
from skelpipe.models.stgcn import STGCN
from skelpipe.prepare import Options, prepare

BATCH = 128
SECONDS = 6.0  # per row
PLAIN = 16  # clips per run of the numpy reference, which is slow
CPU = torch.device("cpu")
RAW = {
    "parse": raw_files.bench_parse,
    "pku": raw_files.bench_pku,
    "prepare": raw_files.bench_prepare,
    "zip": raw_files.bench_zip,
    "workers": raw_files.bench_workers,
}


def one_by_one(workload: Workload, views: ViewSet) -> tuple[str, Way]:
    """Return the numpy reference of a view set: the same views, one clip at a time."""
    (clips, _), *_ = workload.batches(1, views.multiple)
    few, rng = clips[:PLAIN].numpy(), np.random.default_rng(0)

    def work() -> int:
        plain_views(views.recipe, few, rng)
        return len(few)

    return "numpy, one clip at a time, one core", work


def bench_copy(workload: Workload) -> BenchRow:
    """The stream against a bare copy of as many rows, in random order, from one array in memory into another."""
    reader, stream = workload.dataset.reader(workload.subset, "joint"), workload.stream()
    memory, rng = reader.gather(np.arange(len(reader))), np.random.default_rng(0)
    out = np.empty((workload.batch, *memory.shape[1:]), np.float32)
    batches = (batch for _ in iter(int, 1) for batch in stream)

    def copy() -> int:
        np.take(memory, rng.integers(0, len(memory), len(out)), axis=0, out=out, mode="clip")
        return len(out)

    rates = compare(lambda: len(next(batches).index), copy, workload.seconds, CPU)
    return BenchRow("stream (joint clips, shuffled)", "a bare copy of rows", rates, workload.batch)


def bench_step() -> BenchRow:
    """Forward and backward of ST-GCN (h=16, T=50, one body) against the usual formulation, in samples/s."""
    torch.manual_seed(0)
    layout = skeleton.layout("kinect-v2-25")
    clips = torch.randn(16, 3, 50, 25, 1)

    def steps(network: torch.nn.Module) -> Callable[[], int]:
        def work() -> int:
            network(clips).square().mean().backward()
            return len(clips)

        return work

    keep_freed_memory()
    ours, plain = steps(STGCN(layout)), steps(PlainSTGCN(adjacency(layout, "stgcn_capped")))
    rates = compare(ours, plain, 2 * SECONDS, CPU)
    return BenchRow("ST-GCN (h=16, T=50) forward and backward", "the usual formulation", rates, 16)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice([*RAW, "stream", "augment", "loader", "step"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Run the benchmarks named, or all."""
    chosen = set(names) or {*RAW, "stream", "augment", "loader", "step"}
    rows: list[BenchRow] = []

    def add(found: Sequence[BenchRow]) -> None:
        rows.extend(found)
        if not as_json:
            print(say(found), flush=True)

    with tempfile.TemporaryDirectory() as folder, threads(1):
        raw, shards, clips = (Path(folder) / name for name in ("raw", "ds", "clips"))
        if chosen & {*RAW, "stream"}:
            sizes = ["--subjects", "8", "--actions", "20", "--repeats", "3"]
            command = [sys.executable, "-m", "skelpipe", "synth", "--out", str(raw), *sizes, "--json"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            prepare(load_manifest("ntu60"), [raw], shards, Options("xsub", shard_size=128), workers=2, quiet=True)
        for name, measure in RAW.items():
            if name in chosen:
                add([measure(raw)])
        if "stream" in chosen:
            workload = Workload(Dataset.open(shards), BATCH, CPU, SECONDS)
            add([*(work() for work in stream_rows(workload)), bench_copy(workload)])
        if chosen & {"augment", "loader"}:
            workload = Workload(synthetic_clips(clips, 50, 8192), BATCH, CPU, SECONDS)
            sets = {"augment": partial(augment_rows, reference=one_by_one), "loader": loader_rows}
            for name, rows_of in sets.items():
                if name in chosen:
                    add([work() for work in rows_of(workload)])
        if "step" in chosen:
            add([bench_step()])
    if as_json:
        json.dump({"rows": [row.to_plain() | {"target": target_of(row)} for row in rows]}, sys.stdout)


if __name__ == "__main__":
    main()
