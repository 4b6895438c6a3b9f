"""Datasets elsewhere: the same bytes as of the folder they were copied from, whatever happens on the way."""

import faulthandler
import hashlib
import itertools
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelpipe import readahead, remote, window
from skelpipe.card import card_digest
from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.order import epoch_order, shard_groups
from skelpipe.stream import Stream

SECRET = "wJalrXUtnFEMI"
SHARDS, ROWS = 8, 24  # of the train side


@pytest.fixture(params=["http", "s3"])
def url(request: pytest.FixtureRequest, server: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The dataset by way of the web and of the S3 protocol, which ask for files and their parts alike."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.serve_folder(folder, "bucket/ds")
    if request.param == "http":
        return f"{server.url}/bucket/ds?sig={SECRET}"
    return f"s3://bucket/ds?endpoint_override=127.0.0.1:{server.server_port}&scheme=http"


@pytest.fixture
def web(server: Any, folder: Path) -> str:
    server.serve_folder(folder, "bucket/ds")
    return f"{server.url}/bucket/ds"


def shard_path(number: int, view: str = "joint", side: str = "train") -> str:
    return f"/bucket/ds/{side}/{view}/{number:06d}.tar"


def tars(server: Any) -> list[str]:
    """The shards asked for, each once, in the order in which they were."""
    return list(dict.fromkeys(path for path in server.gets(".tar")))


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to that in 20 s")


def seen(batch: Any) -> tuple[Any, ...]:
    return (
        batch.epoch,
        batch.step,
        batch.index.tolist(),
        {name: clips.tobytes() for name, clips in batch.views.items()},
    )


def test_everything_is_as_in_the_folder(url, server, folder, tmp_path) -> None:
    local = Dataset.open(folder)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        dataset = Dataset.open(url, cache=cache)
        assert (dataset.digest, dataset.shape, dataset.layout) == (local.digest, local.shape, local.layout)
        for side in ("train", "test"):
            assert dataset.ids(side) == local.ids(side)
            assert np.array_equal(dataset.labels(side), local.labels(side))
            for view in local.views:
                rows = np.random.default_rng(1).permutation(local.count(side))
                got = dataset.reader(side, view).gather(rows)
                assert np.array_equal(got, local.reader(side, view).gather(rows))
        for view in local.views:
            assert np.array_equal(dataset.anchor(view), local.anchor(view))
        assert dataset.table().equals(local.table())
        with pytest.raises(UsageError, match="a local folder is needed here"):
            _ = dataset.place.local_path
        assert SECRET not in f"{dataset.path} {dataset.place}"


def test_batches_are_those_of_the_folder_with_and_without_a_cache(url, folder, tmp_path) -> None:
    """By default, where all fits, and with any window; over ranks; without shuffling."""
    local = Dataset.open(folder)
    settings: list[dict[str, Any]] = [{}, {"window": 2}, {"window": 1, "rank": 1, "world": 2}, {"shuffle": False}]
    for cache, options in itertools.product((None, tmp_path / "cache"), settings):
        one = Stream(local, "train", ["joint", "motion"], 4, seed=3, **options)
        two = Stream(Dataset.open(url, cache=cache), "train", ["joint", "motion"], 4, seed=3, **options)
        assert one.state() == two.state()
        for _ in range(2):
            assert [seen(batch) for batch in two] == [seen(batch) for batch in one]


def test_without_a_cache_each_shard_comes_once_an_epoch(web, server) -> None:
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    for epoch in range(2):
        list(stream)
        wait_until(lambda epoch=epoch: len(server.gets("train/joint")) >= (epoch + 1) * SHARDS)
    assert max(server.count()[shard_path(n)] for n in range(SHARDS)) <= 3  # the third is ahead of epoch 2


def test_with_a_warm_cache_no_request_is_made(url, server, folder, tmp_path) -> None:
    cache = tmp_path / "cache"
    list(Stream(Dataset.open(url, cache=cache), "train", ["joint"], 3))
    assert max(server.count()[shard_path(n)] for n in range(SHARDS)) <= 1
    server.requests.clear()
    warm = Stream(Dataset.open(url, cache=cache), "train", ["joint"], 3)
    local = Stream(Dataset.open(folder), "train", ["joint"], 3)
    for _ in range(2):
        assert [seen(batch) for batch in warm] == [seen(batch) for batch in local]
    assert server.requests == []


def _after(seed: int, epoch: int) -> list[list[int]]:
    return [group.tolist() for group in shard_groups(seed, epoch, SHARDS, 2)]


def test_the_next_window_is_fetched_while_one_is_read(web, server) -> None:
    """After the first batch, without another: the shards come in the order in which they will be read."""
    seed = next(n for n in range(99) if not set(_after(n, 1)[0]) & {*_after(n, 0)[2], *_after(n, 0)[3]})
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=2, seed=seed)
    stream.batch(0, 0)
    groups = _after(seed, 0)
    wait_until(lambda: len(server.gets("train/joint")) >= 4)
    time.sleep(0.1)
    asked = {path for path in tars(server) if "train/joint" in path}
    assert asked == {shard_path(n) for group in groups[:2] for n in group}
    stream.batch(0, 2)
    wait_until(lambda: len(server.gets("train/joint")) >= 6)
    stream.batch(0, 4)
    wait_until(lambda: len(server.gets("train/joint")) >= 8)
    stream.batch(0, 6)  # the last window: the next epoch's first one is fetched, which is not here any more
    wait_until(lambda: all(server.count()[shard_path(n)] == 2 for n in _after(seed, 1)[0]))


def test_a_run_that_goes_on_reads_nothing_of_what_went_before(web, server) -> None:
    """Its first batch needs one window; neither the epochs before nor the windows before are asked for."""
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1, seed=5)
    stream.load_state({**stream.state(), "epoch": 7, "step": 4})
    next(iter(stream))
    order = [int(group[0]) for group in shard_groups(5, 7, SHARDS, 1)]
    wait_until(lambda: len(tars(server)) == 2)
    assert set(tars(server)) == {shard_path(order[4]), shard_path(order[5])}


def test_a_shard_that_could_not_be_fetched_ahead_is_fetched_when_it_is_needed(web, server, fault) -> None:
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    second = int(shard_groups(0, 0, SHARDS, 1)[1][0])
    server.faults[shard_path(second)] = [fault("status", 5)]
    batches = iter(stream)
    next(batches)
    wait_until(lambda: server.faults[shard_path(second)][0].times == 0)
    time.sleep(0.1)
    next(batches)


@pytest.mark.parametrize("options", [{}, {"window": 2}, {"window": 1}, {"window": 2, "world": 2, "rank": 1}])
def test_the_law_of_resuming(web, tmp_path, resumes_exactly, options) -> None:
    for cache, cut in ((None, 0), (tmp_path / "cache", 5), (tmp_path / "cache", 8)):
        resumes_exactly(
            lambda cache=cache: Stream(Dataset.open(web, cache=cache), "train", ["joint"], 4, seed=2, **options),
            seen,
            cut,
        )


def test_the_default_window_is_what_can_be_held_twice(web, folder) -> None:
    local = Dataset.open(folder)
    tar = local.shards("train")[0]["views"]["joint"]["bytes"]
    for room, expected in ((tar * SHARDS, None), (tar * 5, 2), (tar * 2, 1)):
        stream = Stream(Dataset.open(web, cache_size=room), "train", ["joint"], 3)
        assert stream.window == expected
        order = epoch_order(0, 0, local.shard_sizes("train"), expected)
        assert np.array_equal(np.concatenate([batch.index for batch in stream]), order)
    two = Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint", "bone"], 3)
    assert two.window == 1
    with pytest.raises(UsageError, match=r"cannot hold two shards: at least"):
        Stream(Dataset.open(web, cache_size=tar), "train", ["joint"], 3)
    with pytest.raises(UsageError, match=r"a shuffle window of 3 shards needs [\d,]+ bytes here"):
        Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint"], 3, window=3)


def test_a_state_brings_its_window(web, folder) -> None:
    """A run that began here goes on there and the other way round, where there is room for its window."""
    local = Dataset.open(folder)
    tar = local.shards("train")[0]["views"]["joint"]["bytes"]
    there = Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint"], 4)
    next(iter(there))
    here = Stream(local, "train", ["joint"], 4)
    here.load_state(there.state())
    assert [seen(batch) for batch in here] == [seen(batch) for batch in there]
    small = Stream(Dataset.open(web, cache_size=tar * 5), "train", ["joint"], 4)
    before = small.state()
    with pytest.raises(UsageError, match="a shuffle window of all shards needs"):
        small.load_state(Stream(local, "train", ["joint"], 4).state())
    assert small.state() == before
    with pytest.raises(UsageError, match="window 2, here 1"):
        Stream(local, "train", ["joint"], 4, window=1).load_state(there.state())


def test_reading_in_row_order_holds_a_few_shards_only(web, server, folder, monkeypatch) -> None:
    monkeypatch.setattr(readahead, "AHEAD", 1)
    held, most = 0, 0
    real = remote.RemoteFiles.map

    def counted(self: Any, name: str) -> np.ndarray:
        nonlocal held, most
        array = real(self, name)
        held += 1
        most = max(most, held)

        def gone() -> None:
            nonlocal held
            held -= 1

        import weakref

        weakref.finalize(array.base, gone)
        return array

    monkeypatch.setattr(remote.RemoteFiles, "map", counted)
    reader = Dataset.open(web).reader("train", "joint")
    local = Dataset.open(folder).reader("train", "joint")
    for start in range(0, len(reader), 2):
        rows = np.arange(start, min(start + 2, len(reader)))
        assert np.array_equal(reader.gather(rows), local.gather(rows))
    assert {path for path in tars(server) if "joint" in path} == {shard_path(n) for n in range(SHARDS)}
    assert max(server.count().values()) == 1
    assert most <= 4


def test_rows_of_more_shards_than_there_is_room_for(web, folder) -> None:
    tar = Dataset.open(folder).shards("train")[0]["views"]["joint"]["bytes"]
    rows = np.random.default_rng(3).integers(0, ROWS, 50)
    got = Dataset.open(web, cache_size=2 * tar).reader("train", "joint").gather(rows)
    assert np.array_equal(got, Dataset.open(folder).reader("train", "joint").gather(rows))


@pytest.mark.parametrize("kind", ["reset", "short", "cut", "wrong", "status"])
def test_faults_that_pass_change_nothing(url, server, fault, folder, tmp_path, kind) -> None:
    local = Stream(Dataset.open(folder), "train", ["joint"], 4, window=2)
    for cache in (None, tmp_path / "cache"):
        for number in range(SHARDS):
            server.faults[shard_path(number)] = [fault(kind, 1 + number % 2)]
        stream = Stream(Dataset.open(url, cache=cache), "train", ["joint"], 4, window=2)
        assert [seen(batch) for batch in stream] == [seen(batch) for batch in local]
        local.seek(0, 0)


def test_faults_that_stay_are_one_line_with_bytes_got_and_expected(url, server, fault, folder, tmp_path) -> None:
    size = (folder / "train/joint/000001.tar").stat().st_size
    path = shard_path(1)
    said = {
        "status": rf"given up after 5 attempts \(0 of {size:,} bytes came\)$",
        "reset": rf"given up after 5 attempts \(\d[\d,]* of {size:,} bytes came\)$",
        "wrong": rf"damaged at its place: {size:,} of {size:,} bytes came 3 times, and their sha256",
    }
    cache = tmp_path / "cache"
    for kind, message in said.items():
        server.faults = {path: [fault(kind, 1000)]}
        reader = Dataset.open(url, cache=cache).reader("train", "joint")
        with pytest.raises(SkelpipeError, match=message) as caught:
            reader.gather(np.arange(6))
        text = str(caught.value)
        assert f"bucket/ds/train/joint/{path[-10:]}" in text
        assert SECRET not in text
        assert "\n" not in text
        server.faults = {}
        assert len(reader.gather(np.arange(6))) == 6  # who asks again gets another try
        shutil.rmtree(cache)


def test_a_missing_shard_is_told_at_once(url, server) -> None:
    dataset = Dataset.open(url)
    ids = dataset.ids("train")
    del server.files[shard_path(1)]
    with pytest.raises(SkelpipeError, match=r"train/joint/000001\.tar: cannot be read: no such file"):
        dataset.reader("train", "joint").gather(np.arange(len(ids)))
    asked = [path for _, path, _ in server.requests if path == shard_path(1)]
    assert len(asked) == 1


def test_wrong_credentials_are_told_at_once(url, server) -> None:
    server.check = lambda _: 403
    with pytest.raises(SkelpipeError, match=r"/ds(/dataset\.json)?: cannot be read: access is refused") as caught:
        Dataset.open(url)
    assert SECRET not in str(caught.value)
    assert len(server.requests) <= 3


def replaced(folder: Path, name: str = "another") -> bytes:
    """The card of a dataset that differs in the `name` of a class."""
    card = json.loads((folder / "dataset.json").read_text())
    card["classes"][0] = name
    return json.dumps({**card, "digest": card_digest(card)}).encode()


def test_a_dataset_that_is_replaced_while_it_is_read_stops_the_run(url, server, folder, monkeypatch) -> None:
    """Whether its shards differ or not, and while the new one is written and has no card yet."""
    monkeypatch.setattr(remote, "CARD_SECONDS", 0.0)
    for card in (replaced(folder), None):
        server.serve_folder(folder, "bucket/ds")
        stream = Stream(Dataset.open(url), "train", ["joint"], 3, window=1)
        next(iter(stream))
        if card is None:
            del server.files["/bucket/ds/dataset.json"]
        else:
            server.files["/bucket/ds/dataset.json"] = card
        with pytest.raises(DatasetError, match="the dataset was replaced while it was read: it had digest"):
            list(itertools.chain(stream, stream, stream))


@pytest.mark.parametrize("name", ["shorter", "longer" * 1000])
def test_a_card_that_is_replaced_between_two_requests_for_it_is_told_as_that(url, server, folder, name) -> None:
    """The size that a bucket told first is then that of the old card."""
    path, card = "/bucket/ds/dataset.json", replaced(folder, name)
    files = Dataset.open(url).remote

    def swap(handler) -> int:
        if handler.command == "GET" and handler.path.startswith(path):
            server.files[path] = card
        return 200

    server.check = swap
    with pytest.raises(DatasetError, match="the dataset was replaced while it was read: it had digest"):
        files.confirm(now=True)


def test_a_shard_that_differs_is_told_as_a_replaced_dataset(web, server, folder) -> None:
    """Also where the card was looked at a moment ago."""
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    server.files["/bucket/ds/dataset.json"] = replaced(folder)
    for number in range(SHARDS):
        server.files[shard_path(number)] += b"?"
    with pytest.raises(DatasetError, match="the dataset was replaced"):
        list(stream)


def test_a_kept_card_that_is_damaged_is_asked_for_again(web, server, tmp_path) -> None:
    digest = Dataset.open(web, cache=tmp_path).digest
    (card,) = (tmp_path / "cards").iterdir()
    card.write_bytes(card.read_bytes()[:-20])
    server.requests.clear()
    assert Dataset.open(web, cache=tmp_path).digest == digest
    assert len(server.requests) == 1


def test_two_jobs_that_fill_one_cache_fetch_each_file_once(web, server, tmp_path) -> None:
    server.rate = 400_000.0
    code = """
import sys
from skelpipe.dataset import Dataset
files = Dataset.open(sys.argv[1], cache=sys.argv[2]).remote
for shard in [files.crew.submit(lambda n=n: files.map(f"train/joint/{n:06d}.tar")) for n in range(8)]:
    shard.result()
"""
    command = [sys.executable, "-c", code, web, str(tmp_path / "cache")]
    jobs = [subprocess.Popen(command) for _ in range(2)]
    assert [job.wait(120) for job in jobs] == [0, 0]
    assert [server.count()[shard_path(n)] for n in range(SHARDS)] == [1] * SHARDS


def test_a_full_disk_makes_way_for_memory_and_then_for_an_error(web, folder, tmp_path) -> None:
    """A limit on the size of files stands for a disk without room. The memory is given back with the array."""
    code = """
import hashlib, resource, sys
from skelpipe import remote
from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for cache in (None, sys.argv[2]):
    for remote.MEMORY_BYTES in (500_000, 1000):
        files = Dataset.open(sys.argv[1], cache=cache).remote
        try:
            for _ in range(3):
                shard = files.map("train/joint/000000.tar")
                print(hashlib.sha256(shard).hexdigest())
                del shard
        except SkelpipeError as error:
            print(error)
"""
    command = [sys.executable, "-c", code, web, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    wanted = hashlib.sha256((folder / "train/joint/000000.tar").read_bytes()).hexdigest()
    assert (folder / "train/joint/000000.tar").stat().st_size < 500_000 < 3 * 200_000
    assert lines[:3] == lines[4:7] == [wanted] * 3
    for line, place in ((lines[3], "name a folder with room with --cache"), (lines[7], f"{tmp_path}/cache: ")):
        assert "File too large" in line
        assert "1,000 bytes are held in memory already" in line
        assert place in line


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
            faulthandler.dump_traceback_later(60, exit=True)
            os._exit(0 if reader.gather(np.arange(ROWS)).tobytes() == wanted else 1)
        assert reader.gather(np.arange(ROWS)).tobytes() == wanted
        assert os.waitpid(child, 0)[1] == 0


def test_a_spawned_process_reads_what_it_is_given(url, folder, tmp_path) -> None:
    dataset = Dataset.open(url, cache=tmp_path / "cache")
    dataset.reader("train", "joint").gather(np.arange(2))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(methodcaller("anchor", "joint"), dataset).result(timeout=120)
    assert np.array_equal(found, Dataset.open(folder).anchor("joint"))


def test_nothing_that_is_kept_holds_a_secret(server, folder, tmp_path) -> None:
    server.serve_folder(folder, "ds")
    url = f"{server.url.replace('://', f'://me:{SECRET}@')}/ds?X-Amz-Signature={SECRET}"
    stream = Stream(Dataset.open(url, cache=tmp_path / "cache"), "train", ["joint"], 3)
    list(stream)
    for path in (tmp_path / "cache").rglob("*"):
        assert SECRET not in path.name
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()
    assert SECRET not in json.dumps(stream.state())


def test_clips_in_hdf5_only_are_refused_clearly(web, server, folder) -> None:
    card = json.loads((folder / "dataset.json").read_text())
    server.files["/bucket/ds/dataset.json"] = json.dumps({**card, "formats": ["hdf5"]}).encode()
    with pytest.raises(UsageError, match="HDF5 files only, which are read from a local disk: copy"):
        Dataset.open(web).reader("train", "joint")


def test_what_is_no_dataset_is_told(url, server, tmp_path) -> None:
    del server.files["/bucket/ds/dataset.json"]
    with pytest.raises(DatasetError, match=r"bucket/ds: no dataset\.json here"):
        Dataset.open(url)
    server.files["/bucket/ds/dataset.json"] = b"{}"
    with pytest.raises(DatasetError, match="is no card"):
        Dataset.open(url, cache=tmp_path)
    assert list((tmp_path / "cards").iterdir()) == []
    with pytest.raises(UsageError, match="--cache-size"):
        Dataset.open(url, cache_size=0)


def test_a_dataset_goes_through_pickle(web, folder) -> None:
    again = pickle.loads(pickle.dumps(Dataset.open(web)))
    assert again.ids("test") == Dataset.open(folder).ids("test")


def test_every_thread_ends_when_its_work_is_done(web) -> None:
    import threading

    list(Stream(Dataset.open(web), "train", ["joint"], 3))
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "skelpipe-fetch"])


def test_only_what_a_window_needs_is_kept(web) -> None:
    """Three windows in turn: shards read and left are not held on to."""
    assert window.HELD_BYTES >= 10**9
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    for batch in stream:
        rows = stream._readers["joint"].remote
        assert len(rows._coming) <= 2, batch.step
