"""A remote dataset that is replaced while a run reads it ends that run."""

import itertools
import json
from pathlib import Path

import pytest

from skelpipe.dataset import Dataset, remote_files
from skelpipe.dataset.card import card_digest
from skelpipe.errors import DatasetError
from skelpipe.loader.stream import Stream

SHARDS = 8  # of the train subset


def replaced(folder: Path, name: str = "another") -> bytes:
    """The card of a dataset that differs in the `name` of a class."""
    card = json.loads((folder / "dataset.json").read_text())
    card["classes"][0] = name
    return json.dumps({**card, "digest": card_digest(card)}).encode()


def test_a_dataset_that_is_replaced_while_it_is_read_stops_the_run(url, server, folder, monkeypatch) -> None:
    """Whether its shards differ or not, and while the new one is written and has no card yet."""
    monkeypatch.setattr(remote_files, "CARD_SECONDS", 0.0)
    for card in (replaced(folder), None):
        server.serve_folder(folder, "bucket/ds")
        stream = Stream(Dataset.open(url), "train", ["joint"], 3, window=1)
        next(iter(stream))
        if card is None:
            del server.files["/bucket/ds/dataset.json"]
        else:
            server.files["/bucket/ds/dataset.json"] = card
        with pytest.raises(DatasetError, match="the dataset was replaced since its card was read: it had digest"):
            list(itertools.chain(stream, stream, stream))


@pytest.mark.parametrize("name", ["shorter", "longer" * 1000])
def test_a_card_that_is_replaced_between_two_requests_is_reported_as_such(url, server, folder, name) -> None:
    """The size that the bucket returned first is then that of the old card."""
    path, card = "/bucket/ds/dataset.json", replaced(folder, name)
    files = Dataset.open(url).remote

    def swap(handler) -> int:
        if handler.command == "GET" and handler.path.startswith(path):
            server.files[path] = card
        return 200

    server.check = swap
    with pytest.raises(DatasetError, match="the dataset was replaced since its card was read: it had digest"):
        files.confirm(now=True)


def test_a_shard_that_differs_is_reported_as_a_replaced_dataset(web, server, folder) -> None:
    """Even if the card was checked a moment ago."""
    stream = Stream(Dataset.open(web), "train", ["joint"], 3, window=1)
    server.files["/bucket/ds/dataset.json"] = replaced(folder)
    for number in range(SHARDS):
        server.files[server.shard(number)] += b"?"
    with pytest.raises(DatasetError, match="the dataset was replaced"):
        list(stream)


def test_after_a_replacement_the_next_start_reads_the_new_dataset(url, server, folder, tmp_path) -> None:
    """The cache removes the old card as soon as the difference is found, whoever has stored it."""
    old = Dataset.open(url, cache=tmp_path / "cache")
    server.files["/bucket/ds/dataset.json"] = replaced(folder)
    server.files[server.shard(0)] += b"?"
    kept = Dataset.open(url, cache=tmp_path / "cache")
    assert kept.digest == old.digest
    with pytest.raises(DatasetError, match="the dataset was replaced since its card was read"):
        kept.remote.map("train/joint/000000.tar")
    assert Dataset.open(url, cache=tmp_path / "cache").digest == json.loads(replaced(folder))["digest"]
