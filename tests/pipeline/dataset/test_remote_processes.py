"""A remote dataset in several processes: side by side, forked, spawned, killed."""

import faulthandler
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from operator import methodcaller

import numpy as np

from skelpipe.dataset import Dataset

SHARDS, ROWS = 8, 24  # of the train subset


def test_two_jobs_that_fill_one_cache_fetch_each_file_once(web, server, tmp_path) -> None:
    server.rate = 400_000.0
    code = """
import sys
from skelpipe.dataset import Dataset
files = Dataset.open(sys.argv[1], cache=sys.argv[2]).remote
for shard in [files.threads.submit(lambda n=n: files.map(f"train/joint/{n:06d}.tar")) for n in range(8)]:
    shard.result()
"""
    command = [sys.executable, "-c", code, web, str(tmp_path / "cache")]
    jobs = [subprocess.Popen(command) for _ in range(2)]
    assert [job.wait(120) for job in jobs] == [0, 0]
    assert [server.count()[server.shard(n)] for n in range(SHARDS)] == [1] * SHARDS


def test_a_killed_process_leaves_no_temporary_files(web, tmp_path) -> None:
    code = """
import os, sys
from skelpipe.dataset import Dataset
shard = Dataset.open(sys.argv[1]).remote.map("train/joint/000000.tar")
os.kill(os.getpid(), 9)
"""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, web], env=env, timeout=120, check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_a_forked_process_reads_on(url, folder, tmp_path) -> None:
    """With a reader in use: the threads that fetch, and the connections, stay with the parent."""
    wanted = Dataset.open(folder).reader("train", "joint").gather(np.arange(ROWS)).tobytes()
    for cache in (None, tmp_path / "cache"):
        reader = Dataset.open(url, cache=cache).reader("train", "joint")
        reader.gather(np.arange(2))  # more is being fetched now
        child = os.fork()
        if child == 0:
            faulthandler.dump_traceback_later(300, exit=True)
            os._exit(0 if reader.gather(np.arange(ROWS)).tobytes() == wanted else 1)
        assert reader.gather(np.arange(ROWS)).tobytes() == wanted
        assert os.waitpid(child, 0)[1] == 0


def test_a_spawned_process_reads_what_it_is_given(url, folder, tmp_path) -> None:
    dataset = Dataset.open(url, cache=tmp_path / "cache")
    dataset.reader("train", "joint").gather(np.arange(2))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(methodcaller("anchor", "joint"), dataset).result(timeout=120)
    assert np.array_equal(found, Dataset.open(folder).anchor("joint"))


def test_a_dataset_goes_through_pickle(web, folder) -> None:
    again = pickle.loads(pickle.dumps(Dataset.open(web)))
    assert again.ids("test") == Dataset.open(folder).ids("test")
