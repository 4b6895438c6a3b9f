"""Figures of speed as ratios, each against a plain way of doing the same, in one run on one core.

    make bench
    OMP_NUM_THREADS=1 python tests/benchmarks/run.py parse stream --json

Machines are noisy: what counts is the ratio, the median over rounds in which both ways take turns.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
import webdataset
from plain_stgcn import PlainSTGCN

from skelpipe import skeleton
from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.dataset import Dataset
from skelpipe.models.graph import adjacency
from skelpipe.models.stgcn import STGCN
from skelpipe.prepare import Options, prepare
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.source import TextBuffer
from skelpipe.schema import load_manifest
from skelpipe.stream import Stream

ROUNDS = 7
BATCH = 128


def take_turns(ours: Callable[[], object], reference: Callable[[], object]) -> tuple[float, float]:
    """Return the median seconds of both, run in turn, once each uncounted first."""
    times: tuple[list[float], list[float]] = ([], [])
    for counted in [False] + [True] * ROUNDS:
        for way, taken in zip((ours, reference), times, strict=True):
            start = time.perf_counter()
            way()
            if counted:
                taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def read_line_by_line(path: Path) -> list[list[list[tuple[float, ...]]]]:
    """Read a `.skeleton` file as research code does: line by line, every value through float()."""
    with open(path) as file:
        frames = []
        for _ in range(int(file.readline())):
            bodies = []
            for _ in range(int(file.readline())):
                info = [float(value) for value in file.readline().split()]
                joints = []
                for _ in range(int(file.readline())):
                    joints.append(tuple(float(value) for value in file.readline().split()))
                bodies.append((info, joints))
            frames.append(bodies)
    return frames


def bench_parse(raw: Path, _shards: Path) -> dict[str, object]:
    """Strict parse of .skeleton text against a line-by-line reader."""
    paths = sorted(raw.glob("*.skeleton"))[:40]
    buffer = TextBuffer()
    ours, plain = take_turns(
        lambda: [read_skeleton(buffer.read(str(path)), path.name) for path in paths],
        lambda: [read_line_by_line(path) for path in paths[:4]],
    )
    a, b = ours / len(paths), plain / 4
    size = sum(path.stat().st_size for path in paths) / len(paths)
    what = f"parse, ms a file of {size / 1e3:.0f} kB ({size / a / 1e6:.0f} MB/s)"
    return {"what": what, "ours": 1e3 * a, "reference": 1e3 * b, "ratio": b / a, "target": ">= 35"}


def bench_prepare(raw: Path, _shards: Path) -> dict[str, object]:
    """Prepare, end to end with three views from a folder, one process."""
    return _bench_prepare(raw, raw, "a folder", "<= 1.5 ms")


def bench_zip(raw: Path, _shards: Path) -> dict[str, object]:
    """The same from a .zip archive, as the datasets are distributed."""
    with tempfile.TemporaryDirectory() as folder:
        archive = shutil.make_archive(f"{folder}/skeletons", "zip", raw)
        return _bench_prepare(raw, Path(archive), "a .zip archive", "<= 1.6 ms")


def _bench_prepare(raw: Path, source: Path, kind: str, target: str) -> dict[str, object]:
    count = len(list(raw.glob("*.skeleton")))
    manifest = load_manifest("ntu60")
    taken = []
    for _ in range(4):
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            prepare(manifest, [source], Path(out) / "ds", Options("xsub"), quiet=True)
            taken.append((time.perf_counter() - start) / count)
    paths = sorted(raw.glob("*.skeleton"))[:4]
    start = time.perf_counter()
    for path in paths:
        read_line_by_line(path)
    plain = (time.perf_counter() - start) / len(paths)
    ours = statistics.median(taken[1:])
    what = f"prepare end to end from {kind}, ms a file ({count} files), against only reading it line by line"
    return {"what": what, "ours": 1e3 * ours, "reference": 1e3 * plain, "ratio": plain / ours, "target": target}


def bench_stream(_raw: Path, shards: Path) -> dict[str, object]:
    """Shuffled batches of a local dataset against webdataset's own loop over the same shards."""
    dataset = Dataset.open(shards)
    stream = Stream(dataset, "train", ["joint"], BATCH)
    tars = sorted(str(path) for path in (shards / "train" / "joint").glob("*.tar"))
    count = len(stream) * BATCH

    def ours() -> None:
        for _ in range(10):
            for _batch in stream:
                pass

    def reference() -> None:
        loader = (
            webdataset.WebDataset(tars, shardshuffle=False).shuffle(1000).decode().to_tuple("joint.npy", "cls")
        )
        for _batch in loader.batched(BATCH):
            pass

    a, b = take_turns(ours, reference)
    mine, theirs = 10 * count / a, dataset.count("train") / b
    what = "stream, samples/s of [3,64,25,2], against webdataset's loop"
    return {
        "what": what,
        "ours": mine,
        "reference": theirs,
        "ratio": mine / theirs,
        "target": ">= 15, >= 80,000/s",
    }


def bench_augment(_raw: Path, shards: Path) -> dict[str, object]:
    """Two normally augmented views of a batch against numpy, one sample at a time."""
    clips = torch.from_numpy(
        Dataset.open(shards).reader("train", "joint").gather(np.arange(BATCH))[:, :, :50].copy()
    )
    normal = chain("normal")
    rng = np.random.default_rng(0)
    index = torch.arange(BATCH)

    def ours() -> None:
        for slot in (0, 1):
            normal(clips, Draws(0, 0, index, slot))

    def reference() -> None:
        for clip in clips.numpy()[:32]:
            for _ in range(2):
                p = clip.shape[1] // 6
                padded = np.concatenate([clip[:, :p][:, ::-1], clip, clip[:, -p:][:, ::-1]], axis=1)
                start = rng.integers(0, 2 * p + 1)
                cropped = padded[:, start : start + clip.shape[1]]
                shear = np.eye(3) + rng.uniform(-0.5, 0.5, (3, 3)) * (1 - np.eye(3))
                np.dot(cropped.transpose(1, 2, 3, 0), shear.T).transpose(3, 0, 1, 2)

    torch.set_num_threads(1)
    a, b = take_turns(ours, reference)
    mine, theirs = BATCH / a, 32 / b
    what = "two normal views (crop, shear), samples/s at T=50, against numpy a sample at a time"
    return {"what": what, "ours": mine, "reference": theirs, "ratio": mine / theirs, "target": ">= 12"}


def bench_step(_raw: Path, _shards: Path) -> dict[str, object]:
    """Forward and backward of ST-GCN (h=16, T=50, one person) against the usual formulation."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layout = skeleton.layout("kinect-v2-25")
    clips = torch.randn(16, 3, 50, 25, 1)
    ways = STGCN(layout), PlainSTGCN(adjacency(layout, "stgcn_capped"))
    ours, plain = ((lambda net=net: net(clips).square().mean().backward()) for net in ways)
    a, b = take_turns(ours, plain)
    what = "ST-GCN forward and backward, samples/s at T=50, h=16, against the usual formulation"
    return {"what": what, "ours": 16 / a, "reference": 16 / b, "ratio": b / a, "target": ">= 1.3"}


BENCHMARKS = {
    "parse": bench_parse,
    "prepare": bench_prepare,
    "zip": bench_zip,
    "stream": bench_stream,
    "augment": bench_augment,
    "step": bench_step,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(names: tuple[str, ...], as_json: bool) -> None:
    """Run the benchmarks named, or all."""
    with tempfile.TemporaryDirectory() as folder:
        raw, shards = Path(folder) / "raw", Path(folder) / "ds"
        sizes = ["--subjects", "8", "--actions", "20", "--repeats", "3"]
        command = [sys.executable, "-m", "skelpipe", "synth", "--out", str(raw), *sizes, "--json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        prepare(load_manifest("ntu60"), [raw], shards, Options("xsub", shard_size=128), workers=2, quiet=True)
        rows = []
        for name in names or BENCHMARKS:
            row = BENCHMARKS[name](raw, shards)
            rows.append(row)
            if not as_json:
                print(
                    f"{row['what']}: ours {row['ours']:,.2f}, reference {row['reference']:,.2f},"
                    f" ratio {row['ratio']:.1f} (target {row['target']})"
                )
    if as_json:
        json.dump({"rows": rows}, sys.stdout)


if __name__ == "__main__":
    main()
