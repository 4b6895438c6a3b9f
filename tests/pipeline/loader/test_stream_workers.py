"""Streams in worker processes: of torch's DataLoader, forked or spawned, and through pickle."""

import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, IterableDataset

from skelpipe.augment.chain import Chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.shear import Shear
from skelpipe.dataset import Dataset, JoinedDataset
from skelpipe.errors import UsageError
from skelpipe.loader import Loader, Stream
from skelpipe.loader.stream import StreamBatch

BATCH = 5  # of the 24 training clips: four whole batches per epoch


def plain(batch: StreamBatch) -> tuple[Any, ...]:
    assert isinstance(batch, StreamBatch)
    clips = np.asarray(batch.joint).tobytes()  # an array of a stream, or a tensor of a DataLoader
    return batch.epoch, batch.step, batch.index.tolist(), batch.label.tolist(), clips


@pytest.fixture(scope="module")
def make(folder: Path) -> Callable[..., Stream]:
    """A maker of streams over a small dataset."""

    def stream(**options: Any) -> Stream:
        return Stream(Dataset.open(folder), "train", ["joint"], options.pop("size", BATCH), seed=3, **options)

    return stream


def epochs(stream: Stream, count: int) -> list[list[tuple[Any, ...]]]:
    return [[plain(batch) for batch in stream] for _ in range(count)]


def test_a_stream_is_an_iterable_dataset(make: Callable[..., Stream]) -> None:
    stream = make()
    assert isinstance(stream, IterableDataset)
    assert len(DataLoader(stream, batch_size=None)) == len(stream) == 4
    loader = DataLoader(stream, batch_size=None)
    assert [[plain(batch) for batch in loader] for _ in range(2)] == epochs(make(), 2)
    assert (stream.epoch, stream.step) == (2, 0)


@pytest.mark.parametrize(
    ("method", "workers", "persistent"),
    [("fork", 2, True), ("fork", 5, False), ("spawn", 2, True), ("forkserver", 2, False)],
)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_share_every_epoch(
    make: Callable[..., Stream], method: str, workers: int, persistent: bool
) -> None:
    """Every batch once, in order, epoch after epoch, also with more workers than batches."""
    stream = make()
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        persistent_workers=persistent,
        multiprocessing_context=method,
    )
    count = 2 if method != "fork" else 3
    assert [[plain(batch) for batch in loader] for _ in range(count)] == epochs(make(), count)
    assert (stream.epoch, stream.step) == (count, 0)


def test_each_rank_gets_its_share(make: Callable[..., Stream]) -> None:
    whole = epochs(make(), 1)[0]
    ranks = [
        [plain(batch) for batch in DataLoader(make(rank=rank, world=2), batch_size=None, num_workers=2)]
        for rank in range(2)
    ]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert batch[:2] == first[:2] == second[:2]
        assert batch[2] == [*first[2], *second[2]]


@pytest.mark.parametrize("persistent", [False, True])
def test_after_an_iteration_that_was_left_early_comes_the_next_epoch(
    make: Callable[..., Stream], persistent: bool
) -> None:
    loader = DataLoader(make(), batch_size=None, num_workers=2, persistent_workers=persistent)
    expected = epochs(make(), 3)
    for number in range(2):
        assert plain(next(iter(loader))) == expected[number][0]
    assert [plain(batch) for batch in loader] == expected[2]


@pytest.mark.parametrize("persistent", [False, True])
def test_the_middle_of_an_epoch_is_resumed_exactly(make: Callable[..., Stream], persistent: bool) -> None:
    expected = epochs(make(), 2)
    first = make()
    batches = iter(DataLoader(first, batch_size=None, num_workers=2))
    next(batches)
    state = first.state(after=next(batches))
    assert (state["epoch"], state["step"]) == (0, 2)
    stream = make()
    stream.load_state(state)
    loader = DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=persistent)
    assert [plain(batch) for batch in loader] == expected[0][2:]
    assert [plain(batch) for batch in loader] == expected[1]
    stream.seek(0, 3)
    assert [plain(batch) for batch in loader] == expected[0][3:]


def test_a_remote_dataset_is_read_by_workers(make: Callable[..., Stream], web: str, tmp_path: Path) -> None:
    stream = Stream(Dataset.open(web, cache=tmp_path / "cache"), "train", ["joint"], BATCH, seed=3)
    found = [plain(batch) for batch in DataLoader(stream, batch_size=None, num_workers=2)]
    assert found == epochs(make(), 1)[0]


def test_batches_of_batches_are_refused(make: Callable[..., Stream]) -> None:
    for workers in (0, 1):
        with pytest.raises(UsageError, match="batch_size=None"):
            next(iter(DataLoader(make(), num_workers=workers)))


@pytest.mark.parametrize(
    "options", [{}, {"balanced": True}, {"shuffle": False, "drop_last": False}, {"window": 2}]
)
def test_a_pickled_stream_goes_on_where_it_stands(make: Callable[..., Stream], options: dict[str, Any]) -> None:
    stream = make(**options)
    next(iter(stream))
    copy = pickle.loads(pickle.dumps(stream))
    assert copy.state() == stream.state()
    assert [plain(batch) for batch in copy] == [plain(batch) for batch in stream]
    assert copy.state() == stream.state()


def test_a_pickled_loader_goes_on_where_it_stands(make: Callable[..., Stream]) -> None:
    recipe = {"query": Chain([Crop(3), Shear(0.5)]), "plain": None}

    def seen(loader: Loader) -> list[tuple[Any, ...]]:
        return [(b.epoch, b.step, b.index.tolist(), b.query.numpy().tobytes()) for b in loader]

    loader = Loader(make(), "cpu", recipe, view="bone")
    next(iter(loader))
    copy = pickle.loads(pickle.dumps(loader))
    assert seen(copy) == seen(loader)
    copy.close()
    loader.close()


def test_several_datasets_with_weights_are_shared_by_workers(folder: Path, other_folder: Path) -> None:
    def stream() -> Stream:
        parts = [Dataset.open(folder), Dataset.open(other_folder)]
        return Stream(JoinedDataset(parts, [1, 0.5]), "train", ["joint"], 4, seed=1)

    loader = DataLoader(stream(), batch_size=None, num_workers=2)
    assert [plain(batch) for batch in loader] == epochs(stream(), 1)[0]


def test_occurrences_of_a_clip_are_augmented_differently(folder: Path) -> None:
    """The only clip of a class comes several times in a balanced epoch, each time with draws of its own."""
    dataset = Dataset.open(folder)
    labels = np.zeros(dataset.count("train"), np.int64)
    labels[5] = 1
    dataset._samples = lambda _: (Dataset.open(folder).ids("train"), labels)  # type: ignore[assignment]
    stream = Stream(dataset, "train", ["joint"], 24, balanced=True)
    loader = Loader(stream, "cpu", {"query": Chain([Shear(0.5)]), "plain": None})
    (batch,) = list(loader)
    loader.close()
    rare = batch.index == 5
    assert int(rare.sum()) == 12
    assert len({clip.numpy().tobytes() for clip in batch.plain[rare]}) == 1
    assert len({clip.numpy().tobytes() for clip in batch.query[rare]}) == 12


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("taken", [0, 1, 3, 4])
def test_a_stateful_dataloader_resumes_exactly(make: Callable[..., Stream], workers: int, taken: int) -> None:
    """Its state holds that of the stream in each worker; `taken` 4 is a whole epoch."""
    reason = "torchdata had no release since February 2025, so nothing here installs it"
    module = pytest.importorskip("torchdata.stateful_dataloader", reason=reason)

    def opened() -> Any:
        return module.StatefulDataLoader(make(), batch_size=None, num_workers=workers)

    expected = epochs(make(), 4)
    first = opened()
    assert [plain(batch) for batch in first] == expected[0]
    batches = iter(first)
    seen = [plain(batch) for batch in (batches if taken == 4 else islice(batches, taken))]
    resumed = opened()
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
    seen += [plain(batch) for _ in range(1 if taken == 4 else 2) for batch in resumed]
    assert seen == [*expected[1], *expected[2]]


def test_a_worker_goes_on_from_its_own_state(make: Callable[..., Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two workers: it reads every second batch, and its state is not that of the stream."""
    worker = SimpleNamespace(id=1, num_workers=2, seed=8)
    stream, other = make(), make()
    whole = epochs(make(), 2)
    monkeypatch.setattr("skelpipe.loader.stream.get_worker_info", lambda: worker)
    assert plain(next(iter(stream))) == whole[0][1]
    state = stream.state_dict()
    assert (state["epoch"], state["step"]) == (0, 3)
    other.load_state_dict(state)
    assert [plain(batch) for batch in other] == [whole[0][3]]
    assert other.state_dict()["step"] == 5  # nothing is left: another worker may still have batches
    worker.seed = 9
    assert [plain(batch) for batch in other] == [whole[1][1], whole[1][3]]
