"""Reading a dataset from an S3 server on loopback: cold, with a warm cache, and over a slow link.

    make .venv-swift/.installed && OMP_NUM_THREADS=1 python tests/benchmarks/streaming.py

The server is OpenStack Swift, which is not fast: compare with its own rate in the same run.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import torch
from raw_files import few_recordings
from targets import say

from skelpipe.bench.timing import BenchRow, Rates, compare, threads
from skelpipe.dataset import Dataset
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage import open_filesystem

sys.path.append(str(Path(__file__).parents[1] / "swift"))

BATCH = 64
SECONDS = 20.0  # per row
AT_ONCE = 4  # simultaneous requests, as many files as ours
RECORDINGS = 4000
CPU = torch.device("cpu")
LINK = 2.0  # rate of the link, in multiples of what training needs


def joints(dataset: Dataset) -> Stream:
    return Stream(dataset, "train", ["joint"], BATCH, drop_last=False)


def read(stream: Stream) -> int:
    """Read the rest of an epoch; return the number of clips."""
    return sum(len(batch.index) for batch in stream)


def whole_objects(url: str, names: list[str], clips: int) -> Callable[[], int]:
    """The server's own rate: each shard in one request, several at a time, and the bytes are not used."""
    filesystem = open_filesystem(url)

    def fetch(name: str) -> int:
        return sum(map(len, filesystem.stream(name, 1 << 30)))

    def work() -> int:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            assert all(pool.map(fetch, names))
        return clips

    return work


def bench_cold(url: str, seconds: float) -> BenchRow:
    dataset = Dataset.open(url)
    names = [f"train/joint/{shard['name']}.tar" for shard in dataset.shards("train")]
    plain = whole_objects(url, names, dataset.count("train"))
    rates = compare(lambda: read(joints(Dataset.open(url))), plain, seconds, CPU)
    return BenchRow("epoch from the bucket, nothing kept", "its objects, whole", rates, BATCH)


def bench_warm(url: str, local: Path, cache: Path, seconds: float) -> BenchRow:
    ours, near = joints(Dataset.open(url, cache=cache)), joints(Dataset.open(local))
    rates = compare(lambda: read(ours), lambda: read(near), seconds, CPU)
    return BenchRow("epoch from the bucket, warm cache", "the local dataset", rates, BATCH)


def bench_link(server: Any, path: str, seconds: float) -> BenchRow:
    """Steps of a fixed duration over a link of twice the rate they need: does any step wait for its data?

    A window is one of eight shards; the next one is read while it is trained on. The first step is not counted, as
    nothing can be done while its window is read.
    """
    from proxy import FaultProxy

    local = Dataset.open(server.url(path))
    clips = local.count("train")
    step = seconds * BATCH / clips
    needed = sum(shard["views"]["joint"]["bytes"] for shard in local.shards("train")) / seconds
    with FaultProxy(server.port, rate=LINK * needed) as line:
        dataset = Dataset.open(server.url(path, port=line.port))
        stream = Stream(dataset, "train", ["joint"], BATCH, drop_last=False, window=1)
        loader = Loader(stream, CPU, {"clip": None})
        try:
            waits = list(_waits(loader, step))
        finally:
            loader.close()
    trained = len(waits) * step
    rates = Rates(clips / (trained + sum(waits[1:])), clips / trained)
    what = f"steps over a link of {LINK:g} times their rate (longest wait {1e3 * max(waits[1:]):.0f} ms)"
    return BenchRow(what, "steps that read nothing", rates, BATCH)


def _waits(loader: Loader, step: float) -> Iterator[float]:
    """Take the steps of an epoch; yield how long each waited for its batch, in seconds."""
    batches = iter(loader)
    while True:
        start = time.perf_counter()
        if next(batches, None) is None:
            return
        yield time.perf_counter() - start
        time.sleep(step)


def recordings(raw: Path, sources: Path) -> None:
    """Link a few synthetic recordings under many names: an epoch has to last longer than opening its dataset."""
    found = few_recordings(sources)
    raw.mkdir()
    for number, (name, _) in zip(range(RECORDINGS), load_manifest("ntu60").expected(), strict=False):
        (raw / f"{name}.skeleton").hardlink_to(found[number % len(found)])


@click.command()
@click.option("--seconds", type=float, default=SECONDS, show_default=True, help="Seconds per row.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def main(seconds: float, as_json: bool) -> None:
    """Start a server, copy a dataset to it and read it in every way."""
    import server

    with tempfile.TemporaryDirectory() as folder, threads(1):
        raw, local, cache = (Path(folder) / name for name in ("raw", "ds", "cache"))
        recordings(raw, Path(folder) / "synth")
        prepare(load_manifest("ntu60"), [raw], local, Options("xsub", shard_size=128), workers=2, quiet=True)
        with server.running(Path(folder) / "swift") as swift:
            os.environ.update(swift.environment)
            swift.make_bucket("lab")
            url = swift.url("lab/ds")
            copy_dataset(open_filesystem(local), open_filesystem(url), workers=2, quiet=True)
            rows = [
                bench_cold(url, seconds),
                bench_warm(url, local, cache, seconds),
                bench_link(swift, "lab/ds", seconds),
            ]
    if as_json:
        json.dump({"rows": [row.to_plain() for row in rows]}, sys.stdout)
    else:
        print(say(rows))


if __name__ == "__main__":
    main()
