"""`prepare --engine dask` on a real cluster of this machine; one worker is killed while it works."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.plugins import load, require, unload
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.engines import run_jobs, run_on_dask, start_method

OPTIONS = ["--dataset", "ntu60", "--split", "xsub", "--frames", "16", "--shard-size", "3", "--engine", "dask"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from distributed import LocalCluster  # here, as it takes seconds to import

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as running:
        yield running


def on_dask(raw: Path, out: Path, scheduler: str, *extra: str) -> subprocess.Popen[bytes]:
    paths = ["--raw", str(raw), "--out", str(out), "--scheduler", scheduler]
    command = [sys.executable, "-m", "skelpipe", "prepare", *OPTIONS, *paths, *extra]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_lost_worker_changes_nothing(raw_folder, ntu_names, tmp_path, cluster) -> None:
    """The bytes equal those of one process, although a worker is killed as soon as shards appear."""
    raw = raw_folder(ntu_names(actions=15), frames=100)
    prepare(load_manifest("ntu60"), [raw], tmp_path / "one", Options("xsub", frames=16, shard_size=3), quiet=True)
    process = on_dask(raw, tmp_path / "dask", cluster.scheduler_address)
    victim = cluster.workers[0].pid
    while process.poll() is None and not list((tmp_path / "dask").glob("*/joint/*.tar")):
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()
    assert sorted(files_of(tmp_path / "dask")) == sorted(files_of(tmp_path / "one"))
    assert files_of(tmp_path / "dask") == files_of(tmp_path / "one")
    assert damages(Dataset.open(tmp_path / "dask"), quiet=True) == []


def test_a_damaged_recording_is_reported_through_the_cluster(raw_folder, ntu_names, tmp_path, cluster) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    (raw / f"{names[3]}.skeleton").write_text("")
    process = on_dask(raw, tmp_path / "ds", cluster.scheduler_address)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert f"{names[3]}.skeleton: the file is empty" in errors.decode()
    assert "Traceback" not in errors.decode()
    process = on_dask(raw, tmp_path / "ds", cluster.scheduler_address, "--on-error", "skip")
    assert process.wait(240) == 0
    assert Dataset.open(tmp_path / "ds").count("train") + Dataset.open(tmp_path / "ds").count("test") == 23


def test_workers_of_a_cluster_load_plugins(tmp_path, cluster, monkeypatch) -> None:
    (tmp_path / "dask_plugin.py").write_text("def register(registry):\n    registry.reader('dasked', pow)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with cluster.get_client() as client:
        client.run(lambda: sys.path.append(str(tmp_path)))
    load("dask_plugin")
    try:
        jobs = [partial(require, ["dask_plugin"], "a worker")] * 3  # raises where it is not loaded
        assert len(list(run_on_dask(jobs, cluster.scheduler_address))) == 3
    finally:
        unload("dask_plugin")


def test_a_missing_scheduler_or_extra_is_reported(raw_folder, ntu_names, tmp_path, monkeypatch) -> None:
    raw = raw_folder(ntu_names())
    monkeypatch.setattr("skelpipe.prepare.engines.CONNECT_SECONDS", 1)
    options = Options("xsub", frames=16)
    with pytest.raises(UsageError, match=r"--scheduler tcp://127.0.0.1:9: no dask scheduler answers there"):
        prepare(load_manifest("ntu60"), [raw], tmp_path / "ds", options, scheduler="tcp://127.0.0.1:9", quiet=True)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'skelpipe\[dask\]'"):
        prepare(load_manifest("ntu60"), [raw], tmp_path / "ds", options, scheduler="tcp://127.0.0.1:9", quiet=True)


def test_the_start_method_of_workers_can_be_chosen(monkeypatch) -> None:
    monkeypatch.delenv("SKELPIPE_START_METHOD", raising=False)
    assert start_method() == "forkserver"
    monkeypatch.setenv("SKELPIPE_START_METHOD", "spawn")
    assert start_method() == "spawn"
    monkeypatch.setenv("SKELPIPE_START_METHOD", "fork")  # copies the locks of threads
    with pytest.raises(UsageError, match=r"SKELPIPE_START_METHOD=fork: .* can be forkserver or spawn"):
        start_method()
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.delenv("SKELPIPE_START_METHOD")
    assert start_method() == "spawn"


class Noting(Executor):
    """Notes what a process that is started now would be told of the script that runs."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def submit(self, *_: Any, **__: Any) -> Any:
        self.told.append(get_preparation_data("worker"))
        raise RuntimeError("full")


def test_workers_do_not_run_the_users_script(monkeypatch: pytest.MonkeyPatch) -> None:
    script = ModuleType("__main__")
    script.__file__ = "/home/me/script.py"
    monkeypatch.setitem(sys.modules, "__main__", script)
    before = dict(vars(script))
    pool = Noting()
    with pytest.raises(RuntimeError, match="full"):
        list(run_jobs([print, print], pool))
    assert vars(script) == before
    assert "init_main_from_path" in get_preparation_data("worker")
    assert not [key for told in pool.told for key in told if key.startswith("init_main")]
    assert pool.told


ENDED_EARLY = """
import os, signal, sys, time
from functools import partial
from skelpipe.prepare import engines
from skelpipe.door.answer import program

def wait(deaf):
    if deaf:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(120)

def main():
    engines.PRELOADED = [sys.argv[1]]
    engines.PATIENCE_SECONDS = 1.0
    with engines.workers_ready(2) as pool:
        print("ready", flush=True)
        if sys.argv[1] == "slow_to_load":
            time.sleep(120)
        for _ in engines.run_jobs([partial(wait, sys.argv[2] == "deaf"), partial(wait, False)], pool):
            pass

program(lambda: main)
"""


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("slow_to_load", signal.SIGTERM),
        ("slow_to_load", signal.SIGINT),
        ("hearing", signal.SIGTERM),
        ("deaf", signal.SIGTERM),
    ],
)
def test_a_signal_ends_workers_in_any_state(tmp_path: Path, state: str, number: int) -> None:
    """While the process that they are forked from still loads, as where it compiles kernels, and in mid-job."""
    (tmp_path / "slow_to_load.py").write_text("import time\ntime.sleep(120)\n")
    (tmp_path / "nothing_to_load.py").write_text("")
    (tmp_path / "jobs.py").write_text(ENDED_EARLY.partition("def main")[0])
    main = ENDED_EARLY.replace("def wait(deaf):", "from jobs import wait\ndef unused(deaf):")
    loads = "slow_to_load" if state == "slow_to_load" else "nothing_to_load"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "SKELPIPE_START_METHOD": "forkserver"}
    with subprocess.Popen(
        [sys.executable, "-c", main, loads, state],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(1.0)  # until the jobs run
        started = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode == 128 + number
    assert len(errors.decode().splitlines()) == 1, errors.decode()
    for _ in range(100):  # until no worker and no fork server is left
        if not is_running(process.pid):
            return
        time.sleep(0.05)
    raise AssertionError("a process is left")


def is_running(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
