"""Commands and streams on a dataset in a bucket: what they do is what they do with the local one."""

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.loader.stream import Stream
from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage import open_filesystem


@pytest.fixture
def remote(prepared, store) -> str:
    """The URL of the dataset, without credentials in it."""
    copy_dataset(open_filesystem(prepared.folder), store.filesystem(), workers=4, quiet=True)
    return store.url()


def run(*words: str, exit_code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == exit_code, done.output
    return done


def test_verify_reads_every_file_on_the_server(prepared, store, remote) -> None:
    assert f"digest {prepared.digest}" in run("verify", "--shards", remote).stdout
    filesystem = store.filesystem()
    tar = bytearray(filesystem.read("train/bone/000000.tar"))
    tar[30_000] ^= 1
    filesystem.write("train/bone/000000.tar", [bytes(tar)])
    filesystem.write("test/joint/000000.tar", [bytes(tar[:-1])])
    filesystem.remove("anchors/motion.npy")
    lines = sorted(run("verify", "--shards", remote, "--json", exit_code=1).stderr.splitlines())
    assert len(lines) == 3
    assert f"{filesystem}/anchors/motion.npy: cannot be read: no such file" in lines[0]
    assert f"{filesystem}/test/joint/000000.tar: {len(tar) - 1:,} bytes, the card says {len(tar):,}" in lines[1]
    assert f"{filesystem}/train/bone/000000.tar: damaged: its sha256 differs from the card" in lines[2]


def test_commands_print_what_they_print_of_the_local_dataset(prepared, remote, store, tmp_path) -> None:
    url = store.url(user="lab:reader")
    for words in (["info"], ["stats", "--average-motion"], ["stats", "--cache", str(tmp_path / "cache")]):
        far, near = (run(*words, "--shards", where, "--json").stdout for where in (url, str(prepared.folder)))
        assert json.loads(far) == {**json.loads(near), "shards": str(store.filesystem())}
    drawn = [tmp_path / "far.html", tmp_path / "near.html"]
    for where, page in zip((url, str(prepared.folder)), drawn, strict=True):
        run("show", "--shards", where, "--out", str(page))
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


def batches(dataset: Dataset) -> list[tuple]:
    stream = Stream(dataset, "train", ["joint", "motion"], 3, seed=5)
    return [
        (batch.index.tolist(), batch.label.tolist(), [view.tobytes() for view in batch.views.values()])
        for _ in range(2)
        for batch in stream
    ]


def test_batches_are_the_local_ones_bit_for_bit(prepared, remote, tmp_path) -> None:
    expected = batches(Dataset.open(prepared.folder))
    assert expected
    assert batches(Dataset.open(remote)) == expected
    assert batches(Dataset.open(remote, cache=tmp_path / "cache")) == expected


def test_with_a_warm_cache_nothing_is_asked(prepared, remote, store, proxy, tmp_path) -> None:
    url = store.url(port=proxy.port)
    rows = np.arange(8)
    first = Dataset.open(url, cache=tmp_path).reader("train", "joint").gather(rows)
    proxy.clear()
    assert np.array_equal(Dataset.open(url, cache=tmp_path).reader("train", "joint").gather(rows), first)
    assert np.array_equal(Dataset.open(prepared.folder).reader("train", "joint").gather(rows), first)
    assert proxy.requests == []
