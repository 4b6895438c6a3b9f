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
def remote(made, store) -> str:
    """The URL of the dataset, without credentials in it."""
    copy_dataset(open_filesystem(made.folder), store.place(), workers=4, quiet=True)
    return store.url()


def run(*words: str, exit_code: int = 0) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == exit_code, done.output
    return done


def test_verify_reads_every_file_where_it_lies(made, store, remote) -> None:
    assert f"digest {made.digest}" in run("verify", "--shards", remote).stdout
    place = store.place()
    tar = bytearray(place.read("train/bone/000000.tar"))
    tar[30_000] ^= 1
    place.write("train/bone/000000.tar", [bytes(tar)])
    place.write("test/joint/000000.tar", [bytes(tar[:-1])])
    place.remove("anchors/motion.npy")
    lines = sorted(run("verify", "--shards", remote, "--json", exit_code=1).stderr.splitlines())
    assert len(lines) == 3
    assert f"{place}/anchors/motion.npy: cannot be read: no such file" in lines[0]
    assert f"{place}/test/joint/000000.tar: {len(tar) - 1} bytes, the card says {len(tar)}" in lines[1]
    assert f"{place}/train/bone/000000.tar: damaged: its sha256 differs from the card" in lines[2]


def test_what_is_told_is_what_the_local_dataset_tells(made, remote, store, tmp_path) -> None:
    url = store.url(user="lab:reader")
    for words in (["info"], ["stats", "--average-motion"], ["stats", "--cache", str(tmp_path / "cache")]):
        far, near = (run(*words, "--shards", place, "--json").stdout for place in (url, str(made.folder)))
        assert json.loads(far) == {**json.loads(near), "shards": str(store.place())}
    drawn = [tmp_path / "far.html", tmp_path / "near.html"]
    for place, page in zip((url, str(made.folder)), drawn, strict=True):
        run("show", "--shards", place, "--out", str(page))
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


def batches(dataset: Dataset) -> list[tuple]:
    stream = Stream(dataset, "train", ["joint", "motion"], 3, seed=5)
    return [
        (batch.index.tolist(), batch.label.tolist(), [view.tobytes() for view in batch.views.values()])
        for _ in range(2)
        for batch in stream
    ]


def test_batches_are_the_local_ones_bit_for_bit(made, remote, tmp_path) -> None:
    expected = batches(Dataset.open(made.folder))
    assert expected
    assert batches(Dataset.open(remote)) == expected
    assert batches(Dataset.open(remote, cache=tmp_path / "cache")) == expected


def test_with_a_warm_cache_nothing_is_asked(made, remote, store, line, tmp_path) -> None:
    url = store.url(port=line.port)
    rows = np.arange(8)
    first = Dataset.open(url, cache=tmp_path).reader("train", "joint").gather(rows)
    line.clear()
    assert np.array_equal(Dataset.open(url, cache=tmp_path).reader("train", "joint").gather(rows), first)
    assert np.array_equal(Dataset.open(made.folder).reader("train", "joint").gather(rows), first)
    assert line.requests == []
