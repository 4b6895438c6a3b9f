"""Remote datasets: the same bytes as in the folder they were copied from, and what is refused."""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError, UsageError
from skelpipe.loader.stream import Stream

SECRET = "wJalrXUtnFEMI"
SHARDS, ROWS = 8, 24  # of the train subset


def test_everything_is_as_in_the_folder(url, server, folder, tmp_path) -> None:
    local = Dataset.open(folder)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        dataset = Dataset.open(url, cache=cache)
        assert (dataset.digest, dataset.shape, dataset.layout) == (local.digest, local.shape, local.layout)
        for subset in ("train", "test"):
            assert dataset.ids(subset) == local.ids(subset)
            assert np.array_equal(dataset.labels(subset), local.labels(subset))
            for view in local.views:
                rows = np.random.default_rng(1).permutation(local.count(subset))
                got = dataset.reader(subset, view).gather(rows)
                assert np.array_equal(got, local.reader(subset, view).gather(rows))
        for view in local.views:
            assert np.array_equal(dataset.anchor(view), local.anchor(view))
        assert dataset.table().equals(local.table())
        with pytest.raises(UsageError, match="a local folder is needed here"):
            _ = dataset.filesystem.local_path
        assert SECRET not in f"{dataset.path} {dataset.filesystem}"


def test_batches_are_those_of_the_folder_with_and_without_a_cache(url, folder, tmp_path, seen) -> None:
    """By default, where all fits, and with any window; over ranks; without shuffling."""
    local = Dataset.open(folder)
    settings: list[dict[str, Any]] = [{}, {"window": 2}, {"window": 1, "rank": 1, "world": 2}, {"shuffle": False}]
    for cache, options in itertools.product((None, tmp_path / "cache"), settings):
        one = Stream(local, "train", ["joint", "motion"], 4, seed=3, **options)
        two = Stream(Dataset.open(url, cache=cache), "train", ["joint", "motion"], 4, seed=3, **options)
        assert one.state() == two.state()
        for _ in range(2):
            assert [seen(batch) for batch in two] == [seen(batch) for batch in one]


def test_with_a_warm_cache_no_request_is_made(url, server, folder, tmp_path, seen) -> None:
    cache = tmp_path / "cache"
    list(Stream(Dataset.open(url, cache=cache), "train", ["joint"], 3))
    assert max(server.count()[server.shard(n)] for n in range(SHARDS)) <= 1
    server.requests.clear()
    warm = Stream(Dataset.open(url, cache=cache), "train", ["joint"], 3)
    local = Stream(Dataset.open(folder), "train", ["joint"], 3)
    for _ in range(2):
        assert [seen(batch) for batch in warm] == [seen(batch) for batch in local]
    assert server.requests == []


@pytest.mark.parametrize("options", [{}, {"window": 2}, {"window": 1}, {"window": 2, "world": 2, "rank": 1}])
def test_exact_resume(web, tmp_path, resumes_exactly, options, seen) -> None:
    for cache, cut in ((None, 0), (tmp_path / "cache", 5), (tmp_path / "cache", 8)):
        resumes_exactly(
            lambda cache=cache: Stream(Dataset.open(web, cache=cache), "train", ["joint"], 4, seed=2, **options),
            seen,
            cut,
        )


def test_rows_of_more_shards_than_there_is_room_for(web, folder) -> None:
    tar = Dataset.open(folder).shards("train")[0]["views"]["joint"]["bytes"]
    rows = np.random.default_rng(3).integers(0, ROWS, 50)
    got = Dataset.open(web, cache_size=2 * tar).reader("train", "joint").gather(rows)
    assert np.array_equal(got, Dataset.open(folder).reader("train", "joint").gather(rows))


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
    files = {subset: {"file": f"{subset}.h5", "sha256": "0" * 64, "bytes": 1} for subset in ("train", "test")}
    server.files["/bucket/ds/dataset.json"] = json.dumps({**card, "formats": ["hdf5"], "hdf5": files}).encode()
    with pytest.raises(UsageError, match="HDF5 files only, which are read from a local disk: copy"):
        Dataset.open(web).reader("train", "joint")


def test_what_is_no_dataset_is_refused(url, server, tmp_path) -> None:
    del server.files["/bucket/ds/dataset.json"]
    with pytest.raises(DatasetError, match=r"bucket/ds: no dataset\.json here"):
        Dataset.open(url)
    server.files["/bucket/ds/dataset.json"] = b"{}"
    with pytest.raises(DatasetError, match="is not the card"):
        Dataset.open(url, cache=tmp_path)
    assert list((tmp_path / "cards").iterdir()) == []
    with pytest.raises(UsageError, match="--cache-size"):
        Dataset.open(url, cache_size=0)


def test_a_cached_card_that_is_damaged_is_fetched_again(web, server, tmp_path) -> None:
    digest = Dataset.open(web, cache=tmp_path).digest
    (card,) = (tmp_path / "cards").iterdir()
    card.write_bytes(card.read_bytes()[:-20])
    server.requests.clear()
    assert Dataset.open(web, cache=tmp_path).digest == digest
    assert len(server.requests) == 1
