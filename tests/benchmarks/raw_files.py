"""From raw files to datasets: parsing and `prepare`, against a plain reader and against itself."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skelpipe.bench.timing import BenchRow, Rates
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.pku import read_pku
from skelpipe.raw.source import TextBuffer

__all__ = ["bench_parse", "bench_pku", "bench_prepare", "bench_workers", "bench_zip"]

ROUNDS = 5
RECORDINGS = 40000  # enough that starting two workers counts for little
BUSY = """
import hashlib, time
block, count, end = bytes(1 << 16), 0, time.perf_counter() + 1
while time.perf_counter() < end:
    hashlib.sha256(block).digest()
    count += 1
print(count)
"""
PLAIN_FILES = 4  # the plain reader is slow


def few_recordings(folder: Path, dataset: str = "ntu60") -> list[Path]:
    """Return 240 synthetic recordings, to be linked or stored under many names; they are written unless they are
    there.
    """
    sizes = ["--subjects", "4", "--actions", "20", "--repeats", "1"]
    command = [sys.executable, "-m", "skelpipe", "synth", "--dataset", dataset, "--out", str(folder), *sizes]
    if not folder.is_dir():
        subprocess.run([*command, "--json"], check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob("*.skeleton"))


def read_line_by_line(path: Path) -> list[list[tuple[list[float], list[tuple[float, ...]]]]]:
    """Read a `.skeleton` file as research code does: line by line, with float() for every value."""
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


def bench_parse(raw: Path) -> BenchRow:
    """Strict parse of .skeleton text against a line-by-line reader, in files/s."""
    paths = sorted(raw.glob("*.skeleton"))[:40]
    buffer = TextBuffer()
    ours = _median(lambda: [read_skeleton(buffer.read(str(path)), path.name) for path in paths]) / len(paths)
    size = sum(path.stat().st_size for path in paths) / len(paths)
    what = f"parse a .skeleton file of {size / 1e3:.0f} kB ({1e3 * ours:.2f} ms, {size / ours / 1e6:.0f} MB/s)"
    return BenchRow(what, "line by line, float() per value", Rates(1 / ours, 1 / _plain(raw)), 1)


def bench_pku(raw: Path) -> BenchRow:
    """Strict parse of a PKU-MMD video's text against numpy's loadtxt, in videos/s."""
    path = raw / "0002-L.txt"
    rng = np.random.default_rng(0)
    np.savetxt(path, rng.normal(size=(5000, 150)), fmt="%.6f")
    buffer = TextBuffer()
    ours = _median(lambda: read_pku(buffer.read(str(path)), path.name))
    plain = _median(lambda: np.loadtxt(path), 2)
    size = path.stat().st_size
    path.unlink()
    what = f"parse a PKU-MMD video of {size / 1e6:.1f} MB ({1e3 * ours:.1f} ms, {size / ours / 1e6:.0f} MB/s)"
    return BenchRow(what, "numpy.loadtxt", Rates(1 / ours, 1 / plain), 1)


def bench_prepare(raw: Path) -> BenchRow:
    """`prepare`, end to end with three views from a folder, one process, in files/s."""
    return _bench_prepare(raw, raw, "a folder")


def bench_zip(raw: Path) -> BenchRow:
    """The same from a .zip archive, as the datasets are distributed."""
    with tempfile.TemporaryDirectory() as folder:
        archive = shutil.make_archive(f"{folder}/skeletons", "zip", raw)
        return _bench_prepare(raw, Path(archive), "a .zip archive")


def _bench_prepare(raw: Path, source: Path, kind: str) -> BenchRow:
    count = len(list(raw.glob("*.skeleton")))
    taken = statistics.median(_prepare(source) for _ in range(ROUNDS)) / count
    what = f"prepare {count} files from {kind} ({1e3 * taken:.2f} ms per file and core)"
    return BenchRow(what, "only reading the files line by line", Rates(1 / taken, 1 / _plain(raw)), 1)


def bench_workers(raw: Path) -> BenchRow:
    """`skelpipe prepare` with two workers against one, in turns, each a whole command, in files/s.

    The recordings are linked under many names, so that starting two processes counts for little, and are kept in
    memory where there is room, so that the disk does not limit two workers. The row also states how much faster
    two independent busy processes are than one in the same minutes: on a virtual machine seldom twice.
    """
    manifest = load_manifest("ntu60")
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 8 << 30
    with tempfile.TemporaryDirectory(dir=memory if roomy else raw.parent) as folder:
        sources = [Path(shutil.copy(path, folder)) for path in sorted(raw.glob("*.skeleton"))[::4]]
        many = Path(folder) / "many"
        many.mkdir()
        names = [name for name, _ in manifest.expected()][:RECORDINGS]
        for number, name in enumerate(names):
            (many / f"{name}.skeleton").hardlink_to(sources[number % len(sources)])
        taken: dict[int, list[float]] = {1: [], 2: []}
        possible = []
        for _ in range(3):
            for workers, times in taken.items():
                times.append(_command(many, workers))
                possible.append(_busy(2) / _busy(1))
    one, two = (len(names) / statistics.median(taken[workers]) for workers in (1, 2))
    what = (
        f"prepare {len(names):,} files with two workers (two busy loops: {statistics.median(possible):.2f} x one)"
    )
    ratios = [alone / together for alone, together in zip(taken[1], taken[2], strict=True)]
    return BenchRow(what, "one worker", Rates(two, one, (min(ratios), max(ratios))), 1)


def _busy(processes: int) -> int:
    """Return how many blocks so many processes hash per second, together."""
    command = [sys.executable, "-c", BUSY]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(int(process.communicate()[0]) for process in running)


def _command(source: Path, workers: int) -> float:
    words = ["prepare", "--dataset", "ntu60", "--split", "xsub", "--raw", str(source), "--shard-size", "256"]
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        target = ["--out", str(Path(out) / "ds"), "--workers", str(workers)]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "skelpipe", *words, *target], check=True, capture_output=True)
        return time.perf_counter() - start


def _prepare(source: Path) -> float:
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        start = time.perf_counter()
        prepare(load_manifest("ntu60"), [source], Path(out) / "ds", Options("xsub"), workers=1, quiet=True)
        return time.perf_counter() - start


def _plain(raw: Path) -> float:
    paths = sorted(raw.glob("*.skeleton"))[:PLAIN_FILES]
    return _median(lambda: [read_line_by_line(path) for path in paths], 2) / len(paths)


def _median(work, rounds: int = ROUNDS) -> float:
    times = []
    for counted in [False] + [True] * rounds:
        start = time.perf_counter()
        work()
        if counted:
            times.append(time.perf_counter() - start)
    return statistics.median(times)
