"""`skelpipe prepare` of an archive as large as NTU RGB+D 120, made by replication, with one worker and with two.

    python tests/benchmarks/archive.py --folder /tmp/archive
    python tests/benchmarks/archive.py --folder /tmp/archive --files 28620 --turns 3

Beside it: reading and inflating every member of the archive by Python's zipfile, on one core. The archive of
114,480 files has 11 GB and the dataset 10, which the folder must have room for.
"""

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from raw_files import few_recordings

from skelpipe.manifest_file import load_manifest

FILES = 114_480
FRAMES = 50
HEADER = struct.Struct("<4s5H3L2H")
INFLATE = "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); [z.read(each) for each in z.infolist()]"
TARGETS = {"seconds": 75.0, "workers": 1.85}  # of the whole archive with two workers; of two workers over one


def archive(folder: Path, files: int) -> Path:
    """Return an archive of so many recordings: a few synthetic ones, stored many times under valid names."""
    whole = folder / f"{files}.zip"
    if whole.is_file():
        return whole
    few = folder / "few.zip"
    with zipfile.ZipFile(few, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in few_recordings(folder / "synth", "ntu120"):
            packed.write(path, path.name)
    members = list(stored(few))
    names = [name for name, _ in load_manifest("ntu120").expected()]
    part = whole.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(files):
            info, content = members[7 * number % len(members)]
            name = f"nturgb+d_skeletons/{names[number * len(names) // files]}.skeleton"
            copy = zipfile.ZipInfo(name, info.date_time)
            copy.compress_type, copy.CRC = info.compress_type, info.CRC
            copy.compress_size, copy.file_size = info.compress_size, info.file_size
            copy.header_offset = packed.fp.tell()
            packed.fp.write(copy.FileHeader(zip64=False) + content)
            packed.filelist.append(copy)
            packed.start_dir, packed._didModify = packed.fp.tell(), True
    part.rename(whole)
    return whole


def stored(path: Path) -> Any:
    """Yield each member of an archive with its bytes as they are stored."""
    with open(path, "rb") as file, zipfile.ZipFile(path) as packed:
        for info in packed.infolist():
            file.seek(info.header_offset)
            *_, name, extra = HEADER.unpack(file.read(HEADER.size))
            file.seek(info.header_offset + HEADER.size + name + extra)
            yield info, file.read(info.compress_size)


def seconds(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and the most memory, in MB, of it and its processes together."""
    begun, most = perf_counter(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while True:
        try:
            process.wait(0.2)
            break
        except subprocess.TimeoutExpired:
            most = max(most, memory_of(process.pid))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return perf_counter() - begun, most


def memory_of(pid: int) -> float:
    """Return the anonymous memory, in MB, of a process and all below it."""
    total, waiting = 0.0, [pid]
    while waiting:
        each = waiting.pop()
        try:
            for line in Path(f"/proc/{each}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    total += int(line.split()[1]) / 1e3
            for task in Path(f"/proc/{each}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:  # it ended
            continue
    return total


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Keeps the archive.")
@click.option("--files", type=click.IntRange(1, FILES), default=FILES, show_default=True, help="Recordings.")
@click.option("--turns", type=click.IntRange(1), default=1, show_default=True, help="Times each is measured.")
def main(folder: Path, files: int, turns: int) -> None:
    """Print a JSON line per measurement, and one on the targets."""
    folder.mkdir(parents=True, exist_ok=True)
    source, out = archive(folder, files), folder / "out"
    common = [sys.executable, "-m", "skelpipe", "prepare", "--dataset", "ntu120", "--split", "xsub", "--json"]
    common += ["--raw", str(source), "--out", str(out), "--frames", str(FRAMES), "--workers"]
    ways = {"inflate": [sys.executable, "-c", INFLATE, str(source)], "two": [*common, "2"], "one": [*common, "1"]}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(turns):
        for way, command in ways.items():
            shutil.rmtree(out, ignore_errors=True)
            os.sync()  # what the last one wrote is not written while the next one is measured
            wall, memory = seconds(command)
            taken[way].append(wall)
            print(json.dumps({"way": way, "files": files, "seconds": wall, "mb": memory}), flush=True)
    shutil.rmtree(out, ignore_errors=True)
    best = {way: sorted(walls)[len(walls) // 2] for way, walls in taken.items()}
    figures = {
        "files_per_second": files / best["two"],
        "seconds_of_114480": best["two"] * FILES / files,
        "two_workers_over_one": best["one"] / best["two"],
        "inflate_over_prepare": best["inflate"] / best["two"],
        "targets": TARGETS,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
