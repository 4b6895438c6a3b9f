"""Faults of network, server and disk: repaired if they pass, reported in one clear line if they stay."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.loader import Loader
from skelpipe.loader.epoch_order import epoch_order, shard_groups
from skelpipe.loader.stream import Stream

SECRET = "wJalrXUtnFEMI"
SHARDS = 8  # of the train subset


@pytest.mark.parametrize("kind", ["reset", "short", "cut", "wrong", "status"])
def test_faults_that_pass_change_nothing(url, server, fault, folder, tmp_path, kind, seen) -> None:
    local = Stream(Dataset.open(folder), "train", ["joint"], 4, window=2)
    for cache in (None, tmp_path / "cache"):
        for number in range(SHARDS):
            server.faults[server.shard(number)] = [fault(kind, 1 + number % 2)]
        stream = Stream(Dataset.open(url, cache=cache), "train", ["joint"], 4, window=2)
        assert [seen(batch) for batch in stream] == [seen(batch) for batch in local]
        local.seek(0, 0)


def test_faults_that_stay_are_one_line_with_bytes_got_and_expected(url, server, fault, folder, tmp_path) -> None:
    size = (folder / "train/joint/000001.tar").stat().st_size
    path = server.shard(1)
    said = {
        "status": rf"given up after 5 attempts \(0 of {size:,} bytes came\)$",
        "reset": rf"given up after 5 attempts \(\d[\d,]* of {size:,} bytes came\)$",
        "wrong": rf"damaged on the server: {size:,} of {size:,} bytes came 3 times, and their sha256",
    }
    for kind, message in said.items():
        server.faults = {path: [fault(kind, 1000)]}
        reader = Dataset.open(url, cache=tmp_path / kind).reader("train", "joint")
        with pytest.raises(SkelpipeError, match=message) as caught:
            reader.gather(np.arange(6))
        text = str(caught.value)
        assert f"bucket/ds/train/joint/{path[-10:]}" in text
        assert SECRET not in text
        assert "\n" not in text
        server.faults = {}
        assert len(reader.gather(np.arange(6))) == 6  # the next call tries again


def test_a_missing_shard_is_reported_at_once(url, server) -> None:
    dataset = Dataset.open(url)
    ids = dataset.ids("train")
    del server.files[server.shard(1)]
    with pytest.raises(SkelpipeError, match=r"train/joint/000001\.tar: cannot be read: no such file"):
        dataset.reader("train", "joint").gather(np.arange(len(ids)))
    asked = [path for _, path, _ in server.requests if path == server.shard(1)]
    assert len(asked) == 1


@pytest.mark.parametrize("damage", ["wrong", "gone", "cut"])
def test_a_shard_that_goes_bad_in_mid_epoch_ends_the_epoch_there(url, server, folder, damage) -> None:
    """After all batches before it, with the file's name, and the bytes that came and those expected."""
    stream = Stream(Dataset.open(url), "train", ["joint"], 3, window=1)
    last = int(shard_groups(0, 0, SHARDS, 1)[-1][0])
    path, size = server.shard(last), (folder / "train/joint/000000.tar").stat().st_size
    if damage == "gone":
        del server.files[path]
    else:
        server.files[path] = server.files[path][: -1 if damage == "wrong" else -512] + b"?" * (damage == "wrong")
    loader = Loader(stream, "cpu", {"clip": None})
    got = []
    with pytest.raises(SkelpipeError) as caught:
        got.extend(batch.index.tolist() for batch in loader)
    order = epoch_order(0, 0, stream.dataset.shard_sizes("train"), 1)
    assert [row for rows in got for row in rows] == order.tolist()[: len(got) * 3]
    assert len(got) == SHARDS - 1
    expected = {
        "wrong": f"{size:,} of {size:,} bytes came 3 times",
        "gone": "no such file",
        "cut": f"{size - 512:,} of {size:,}",
    }
    assert expected[damage] in str(caught.value)
    assert f"of {size:,} bytes" in str(caught.value)
    assert f"{stream.dataset.filesystem!s}/train/joint/{last:06d}.tar: " in str(caught.value)
    assert SECRET not in str(caught.value)


def test_wrong_credentials_are_reported_at_once(url, server) -> None:
    server.check = lambda _: 403
    with pytest.raises(SkelpipeError, match=r"/ds(/dataset\.json)?: cannot be read: access is refused") as caught:
        Dataset.open(url)
    assert SECRET not in str(caught.value)
    assert len(server.requests) <= 3


def test_a_full_disk_falls_back_to_memory_then_fails(web, folder, tmp_path) -> None:
    """A limit on the size of files stands for a disk without room. The memory is given back with the array."""
    code = """
import hashlib, resource, sys
from skelpipe.dataset import remote_files
from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for cache in (None, sys.argv[2]):
    for remote_files.MEMORY_BYTES in (500_000, 1000):
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
    for line, words in (
        (lines[3], "name a folder with room with --cache"),
        (lines[7], f"{tmp_path}/cache: "),
    ):
        assert "File too large" in line
        assert "1,000 bytes are held in memory already" in line
        assert words in line
