"""Figures of speed as ratios, each against a plain way of doing the same, in one run on one core.

    make bench
    OMP_NUM_THREADS=1 python tests/benchmarks/run.py parse stream --json

Machines are noisy: what counts is the ratio. The rows of augmentation, stream and loader are those of
`skelpipe bench`.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import raw_files
import torch
from plain_stgcn import PlainSTGCN

from skelpipe import skeleton
from skelpipe.bench.augmentations import augment_rows
from skelpipe.bench.clips import made_up
from skelpipe.bench.setting import Setting
from skelpipe.bench.streams import loader_rows, stream_rows
from skelpipe.bench.table import table
from skelpipe.bench.timing import Row, compare, threads
from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.memory import keep_freed_memory
from skelpipe.models.graph import adjacency
from skelpipe.models.stgcn import STGCN
from skelpipe.prepare import Options, prepare

BATCH = 128
SECONDS = 6.0  # a row
CPU = torch.device("cpu")
RAW = {
    "parse": raw_files.bench_parse,
    "pku": raw_files.bench_pku,
    "prepare": raw_files.bench_prepare,
    "zip": raw_files.bench_zip,
    "workers": raw_files.bench_workers,
}


def bench_step() -> Row:
    """Forward and backward of ST-GCN (h=16, T=50, one person) against the usual formulation, samples a second."""
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
    return Row("ST-GCN (h=16, T=50) forward and backward", "the usual formulation", *rates, 16)


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*RAW, "stream", "augment", "loader", "step"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Run the benchmarks named, or all."""
    wanted = set(names) or {*RAW, "stream", "augment", "loader", "step"}
    rows: list[Row] = []

    def add(found: Sequence[Row]) -> None:
        rows.extend(found)
        if not as_json:
            print(table(found), flush=True)

    with tempfile.TemporaryDirectory() as folder, threads(1):
        raw, shards, clips = (Path(folder) / name for name in ("raw", "ds", "clips"))
        if wanted & {*RAW, "stream"}:
            sizes = ["--subjects", "8", "--actions", "20", "--repeats", "3"]
            command = [sys.executable, "-m", "skelpipe", "synth", "--out", str(raw), *sizes, "--json"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            prepare(load_manifest("ntu60"), [raw], shards, Options("xsub", shard_size=128), workers=2, quiet=True)
        for name, measure in RAW.items():
            if name in wanted:
                add([measure(raw)])
        if "stream" in wanted:
            add([work() for work in stream_rows(Setting(Dataset.open(shards), BATCH, CPU, SECONDS))])
        if wanted & {"augment", "loader"}:
            setting = Setting(made_up(clips, 50, 8192), BATCH, CPU, SECONDS)
            for name, rows_of in (("augment", augment_rows), ("loader", loader_rows)):
                if name in wanted:
                    add([row for work in rows_of(setting) if (row := work()) is not None])
        if "step" in wanted:
            add([bench_step()])
    if as_json:
        json.dump({"rows": [row.to_plain() for row in rows]}, sys.stdout)


if __name__ == "__main__":
    main()
