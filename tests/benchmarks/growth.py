"""Time and memory of each step from 1 thousand to 1 million clips, cards to 10 million, as one picture.

    python tests/benchmarks/growth.py --folder /tmp/growth
    python tests/benchmarks/growth.py --folder /tmp/growth --most 10000 --picture growth.svg

Every figure is of a process of its own: processor seconds of all its threads and children, and the most anonymous
memory that it held above what it had at the beginning (mapped files are not counted: the system takes them back).
Recordings are links to a few synthetic ones. Larger datasets than can be prepared here have a real card and sample
table, and shards of zeros that take no room on the disk; their features and scores are random. `--folder` keeps
what was made, so that a second run only measures.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from raw_files import few_recordings

VIEW, SHARD, FRAMES, BATCH, CLASSES, QUERIES, WIDTH = "joint", 1024, 8, 128, 60, 1000, 128
SIZES = [1_000, 10_000, 100_000, 1_000_000]
LARGEST = 10_000_000  # of cards
PREPARED = 100_000  # recordings at most
STEPS = {
    "prepare": "prepare, one worker",
    "open": "open, with labels",
    "first": "open to the first batch",
    "plan": "plan an epoch",
    "stream": "stream 25,600 clips",
    "knn": "kNN of 1,000 queries",
    "report": "report",
}


def made(folder: Path, step: str, count: int) -> Path:
    """Return the folder with what a step needs for so many clips; it is made if it is not there."""
    place = folder / ("raw" if step == "prepare" else "report" if step == "report" else "dataset") / str(count)
    if place.is_dir():
        return place
    part = place.with_name(f"{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    {"raw": make_raw, "report": make_evaluation, "dataset": make_dataset}[place.parent.name](part, count, folder)
    part.rename(place)
    return place


def make_raw(out: Path, count: int, folder: Path) -> None:
    """Link the synthetic recordings under many names of NTU RGB+D 120."""
    from skelpipe.manifest_file import load_manifest

    sources = few_recordings(folder / "synth")
    for number, (name, _) in zip(range(count), load_manifest("ntu120").expected(), strict=False):
        (out / f"{name}.skeleton").hardlink_to(sources[number % len(sources)])


def make_dataset(out: Path, count: int, folder: Path) -> None:
    """Write card, sample table and sparse shards of a training subset of so many clips."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from skelpipe.dataset.card import card_digest, read_card
    from skelpipe.dataset.tar_shard import Geometry, new_block
    from skelpipe.manifest_file import load_manifest
    from skelpipe.prepare import Options, prepare
    from skelpipe.prepare.sample_table import COLUMNS, PROVENANCE

    small = folder / "small"
    if not small.is_dir():
        few_recordings(folder / "synth")
        prepare(load_manifest("ntu60"), [folder / "synth"], small, Options("xsub", frames=FRAMES), quiet=True)
    card = read_card(small)
    kinds = {**COLUMNS, **PROVENANCE}
    hasher = hashlib.sha256()
    schema = pa.schema(list(kinds.items()))

    def digits(numbers: np.ndarray, width: int) -> Any:
        return pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0")

    def part_of(first: int, last: int) -> Any:
        row = np.arange(first, last)
        id_ = pc.binary_join_element_wise("S", digits(row // 100_000, 4), "C001P", digits(row % 100_000, 5), "")
        frames, nothing = (40 + row % 97).astype(np.int32), pa.nulls(len(row))
        columns = {name: nothing.cast(kind) for name, kind in kinds.items()} | {
            "id": id_,
            "label": pa.array((row % CLASSES).astype(np.int32)),
            "subject": pa.array((row % 40).astype(np.int32)),
            "frames": pa.array(frames),
            "bodies": pa.array(np.ones(len(row), np.int32)),
            "real_frames": pa.array(frames),
            "joints": pa.array(25 * frames),
            "real_joints": pa.array(25 * frames),
            "bodies_left_out": pa.array(np.zeros(len(row), np.int32)),
            "split": pa.array(["train"]).take(pa.array(np.zeros(len(row), np.int64))),
            "shard": digits(row // SHARD, 6),
            "row": pa.array((row % SHARD).astype(np.int32)),
            "raw_file": pc.binary_join_element_wise(id_, ".skeleton", ""),
            "raw_size": pa.array(100_000 + row % 99_991),
            "raw_xxh128": digits(row * 2_654_435_761 % (1 << 62), 32),
        }
        return pa.Table.from_arrays([columns[name] for name in kinds], schema=schema)

    with pq.ParquetWriter(out / "samples.parquet", schema, compression="zstd") as writer:
        for first in range(0, count, 1 << 18):
            part = part_of(first, min(first + (1 << 18), count))
            writer.write_table(part)
            for lines in part.select(list(COLUMNS)).to_batches(1 << 16):
                hasher.update(_lines(lines))
    names = [f"{number:06}" for number in range(-(-count // SHARD))]
    geometry = Geometry(VIEW, tuple(card["shape"]), card["dtype"])
    (out / "train" / VIEW).mkdir(parents=True)
    shards = []
    for number, name in enumerate(names):
        first, last = SHARD * number, min(SHARD * (number + 1), count)
        with open(out / "train" / VIEW / f"{name}.tar", "wb") as file:
            for row in {first, last - 1}:
                block = new_block(geometry, [f"S{row // 100_000:04}C001P{row % 100_000:05}"], [row % CLASSES])
                file.seek((row - first) * geometry.stride)
                file.write(block.data.cast("B"))
            file.truncate(geometry.shard_bytes(last - first))
        size = geometry.shard_bytes(last - first)
        facts = {"bytes": size, "sha256": "0" * 64, "idx_sha256": "0" * 64}
        shards.append({"name": name, "samples": last - first, "views": {VIEW: facts}})
    card |= {
        "views": {VIEW: card["views"][VIEW]},
        "splits": {"train": {"samples": count, "shards": shards}, "test": {"samples": 0, "shards": []}},
        "samples": {"rows": count, "sha256": hasher.hexdigest(), "columns": list(COLUMNS)},
        "samples_file": {"sha256": hashlib.sha256((out / "samples.parquet").read_bytes()).hexdigest()},
    }
    card["digest"] = card_digest(card)
    (out / "dataset.json").write_text(json.dumps(card))


def _lines(batch: Any) -> bytes:
    """The lines that a digest covers, by pyarrow's JSON-like texts of plain ids and numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [
        pc.binary_join_element_wise('"', column, '"', "")
        if pa.types.is_string(column.type)
        else column.cast("string")
        for column in batch.columns
    ]
    joined = pc.binary_join_element_wise(*(text.fill_null("null") for text in texts), ",")
    return "".join(f"[{row}]\n" for row in joined.to_pylist()).encode()


def make_evaluation(out: Path, count: int, _: Path) -> None:
    """Write the folder of an evaluation of so many clips, with random scores."""
    from skelpipe.train.evaluation.outcome import ABOUT, Scores, write_outcome

    rng = np.random.default_rng(0)
    names = [f"class {number}" for number in range(CLASSES)]
    about = {name: "synthetic" for name in ABOUT} | {"classes": json.dumps(names)}
    scores = Scores(
        [f"S{row:08}" for row in range(count)],
        rng.integers(0, CLASSES, count),
        rng.random((count, CLASSES), np.float32),
        about,
    )
    result = {"protocol": "linear", "dataset": "synthetic", "split": "test", "view": VIEW, "what": "synthetic"}
    write_outcome(out, scores, {**result, "digest": "0" * 64, "top1": 1.0})


def work_of(step: str, count: int, folder: Path) -> Callable[[], object]:
    """Return what is measured; what comes before it, such as imports, is done."""
    where = made(folder, step, count)
    if step == "prepare":
        from skelpipe.manifest_file import load_manifest
        from skelpipe.prepare import Options, prepare

        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        manifest, options = load_manifest("ntu120"), Options("xsub", frames=FRAMES)
        prepare(load_manifest("ntu60"), [folder / "synth"], out, Options("xsub", frames=FRAMES), quiet=True)
        shutil.rmtree(out)
        return lambda: prepare(manifest, [where], out, options, workers=1, quiet=True)
    if step == "report":
        from skelpipe.train.reporting.report import write_report

        return lambda: write_report(where)
    if step == "knn":
        import torch

        from skelpipe.train.evaluation.knn import knn_predict

        generator = torch.Generator().manual_seed(0)
        bank = torch.rand(count, WIDTH, generator=generator)
        labels = torch.randint(CLASSES, (count,), generator=generator)
        queries = torch.rand(QUERIES, WIDTH, generator=generator)
        knn_predict(bank[:QUERIES], labels[:QUERIES], queries[:9], (20,), classes=CLASSES)
        return lambda: knn_predict(bank, labels, queries, (20,), classes=CLASSES)
    from skelpipe.dataset import Dataset
    from skelpipe.loader.epoch_order import epoch_plan
    from skelpipe.loader.stream import Stream

    def opened() -> Stream:
        return Stream(Dataset.open(where, check_shards=False), "train", [VIEW], BATCH)

    def first() -> Stream:
        stream = opened()
        next(iter(stream))
        return stream

    made(folder, "open", SIZES[0])
    small = Dataset.open(folder / "dataset" / str(SIZES[0]), check_shards=False)
    next(iter(Stream(small, "train", [VIEW], BATCH)))  # imports, compiled code
    if step == "plan":
        sizes = Dataset.open(where).shard_sizes("train")
        return lambda: epoch_plan(0, 0, sizes)
    if step == "open":
        return opened
    if step == "first":
        first()  # rows are hashed once per file
        return first
    stream = first()
    steps = [step % (len(stream) - 1) for step in range(25_600 // BATCH)]
    return lambda: [stream.batch(0, step) for step in steps]


def measured(step: str, count: int, folder: Path) -> dict[str, Any]:
    """Run a step in this process; return its seconds and its memory in MB."""
    work = work_of(step, count, folder)
    before, most, ending = _anonymous(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ending.wait(0.002):
            most = max(most, _anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start, busy = time.perf_counter(), _busy()
    kept = work()
    seconds, processor = time.perf_counter() - start, _busy() - busy
    most = max(most, _anonymous())
    ending.set()
    del kept
    return {"step": step, "clips": count, "seconds": seconds, "cpu": processor, "mb": max(most - before, 0) / 1e6}


def _busy() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw seconds and memory over clips, as wide as a phone's page."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    with mpl.rc_context(
        {"font.size": 9, "svg.hashsalt": "growth", "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure, panels = pyplot.subplots(2, 1, figsize=(4, 7), sharex=True)
        for panel, key, name in ((panels[0], "cpu", "processor seconds"), (panels[1], "mb", "MB of memory more")):
            for number, (step, words) in enumerate(STEPS.items()):
                own = sorted((row["clips"], row[key]) for row in rows if row["step"] == step)
                if own:
                    clips, values = zip(*own, strict=True)
                    least = 0.01 if key == "cpu" else 1
                    marker = "osD^vP*"[number]
                    panel.plot(
                        clips, np.maximum(values, least), marker=marker, markersize=4, linewidth=1.3, label=words
                    )
            panel.set(xscale="log", yscale="log", ylabel=name)
            panel.grid(alpha=0.3)
        counts = np.array([3e4, 1e6])
        panels[0].plot(counts, 2e-7 * counts, "--", color="grey", linewidth=1, label="linear")
        panels[1].set_xlabel("clips")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False, fontsize=8
        )
        figure.tight_layout(rect=(0, 0.13, 1, 1))
        figure.savefig(path, metadata={"Date": None})


def counts_of(step: str, most: int) -> list[int]:
    largest = PREPARED if step == "prepare" else SIZES[-1]
    extra = [LARGEST] if step in ("open", "first", "plan") else []
    return (
        [count for count in SIZES if count <= largest] + extra
        if most >= LARGEST
        else [count for count in SIZES if count <= min(largest, most)]
    )


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Keeps what is made.")
@click.option("--most", type=int, default=LARGEST, show_default=True, help="Clips at most.")
@click.option("--picture", type=click.Path(path_type=Path), help="Write the picture, .svg or .png.")
@click.option("--step", "steps", multiple=True, type=click.Choice(list(STEPS)), help="Only these steps.")
@click.option("--make", is_flag=True, help="Only make what is measured.")
@click.option("--one", is_flag=True, hidden=True)
def main(folder: Path, most: int, picture: Path | None, steps: tuple[str, ...], make: bool, one: bool) -> None:
    """Measure each step in a process of its own; print a line each, and keep them in FOLDER/growth.json."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    if one:
        print(json.dumps(measured(steps[0], most, folder)))
        return
    kept = folder / "growth.json"
    rows = json.loads(kept.read_text()) if kept.is_file() else []
    for step in steps or STEPS:
        for count in counts_of(step, most):
            if make:
                made(folder, step, count)
                continue
            words = ["--folder", str(folder), "--step", step, "--most", str(count), "--one"]
            done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rows = [each for each in rows if (each["step"], each["clips"]) != (step, count)] + [row]
            print(
                f"{STEPS[step]:28} {count:>10,} {row['cpu']:8.2f} s {row['seconds']:8.2f} s {row['mb']:7.0f} MB",
                flush=True,
            )
            kept.write_text(json.dumps(rows))
    if picture is not None:
        draw(rows, picture)


if __name__ == "__main__":
    main()
