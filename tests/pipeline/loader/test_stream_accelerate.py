"""Streams, loaders and samples under accelerate on two processes: no clip twice, and none left out."""

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, debug_launcher
from accelerate.state import AcceleratorState, GradientState
from torch.utils.data import DataLoader

from skelpipe.augment.chain import chain
from skelpipe.dataset import Dataset
from skelpipe.loader import Loader, Stream

pytestmark = pytest.mark.filterwarnings("ignore")
CLIPS, BATCH, STEPS, EPOCHS = 24, 4, 6, 2
Seen = list[list[list[int]]]  # rows of each batch of each epoch


@pytest.fixture(scope="module")
def seen(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Seen]]:
    """What each of two processes sees in two epochs, by the way in which they share the clips."""
    importlib.import_module("datasets")  # accelerate would import it in both processes
    out = tmp_path_factory.mktemp("accelerate")
    debug_launcher(_read, (folder, out), num_processes=2)
    ranks = [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]
    return {name: [rank[name] for rank in ranks] for name in WAYS}


def _read(folder: Path, out: Path) -> None:
    accelerator = Accelerator(cpu=True)
    seen: dict[str, Seen] = {}
    for name, make in WAYS.items():
        loader = make(folder, accelerator)
        seen[name] = []
        for _ in range(EPOCHS):
            seen[name].append([])
            for batch in loader:
                clips = batch["clip"] if isinstance(batch, dict) else next(iter(batch.views.values()))
                assert isinstance(clips, torch.Tensor)
                assert len(clips) == len(batch["index"])
                seen[name][-1].append(batch["index"].tolist())
    (out / f"{accelerator.process_index}.json").write_text(json.dumps(seen))


def own_share(folder: Path, accelerator: Accelerator) -> Loader:
    """Each process reads its share of each batch."""
    rank, world = accelerator.process_index, accelerator.num_processes
    stream = Stream(Dataset.open(folder), "train", ["joint"], BATCH, seed=3, rank=rank, world=world)
    loader: Loader = accelerator.prepare(Loader(stream, accelerator.device, {"query": chain("normal")}))
    return loader


def dispatched(folder: Path, accelerator: Accelerator) -> Any:
    """One process reads for all, as accelerate does with every IterableDataset."""
    stream = Stream(Dataset.open(folder), "train", ["joint"], BATCH, seed=3)
    return accelerator.prepare(DataLoader(stream, batch_size=None))


def divided(folder: Path, accelerator: Accelerator) -> Any:
    samples = Dataset.open(folder).samples("train")
    return accelerator.prepare(DataLoader(samples, batch_size=2, shuffle=True))


WAYS: dict[str, Callable[[Path, Accelerator], Any]] = {
    "own share": own_share,
    "dispatched": dispatched,
    "divided": divided,
}


def batches(folder: Path) -> Seen:
    """The global batches of our own loop."""
    stream = Stream(Dataset.open(folder), "train", ["joint"], BATCH, seed=3)
    return [[batch.index.tolist() for batch in stream] for _ in range(EPOCHS)]


def test_each_process_reads_its_share(folder: Path, seen: dict[str, list[Seen]]) -> None:
    one, two = seen["own share"]
    found = [[a + b for a, b in zip(*epoch, strict=True)] for epoch in zip(one, two, strict=True)]
    assert found == batches(folder)


def test_one_process_reads_for_all(folder: Path, seen: dict[str, list[Seen]]) -> None:
    """Two global batches at a time, one for each process."""
    one, two = seen["dispatched"]
    found = [[rows for both in zip(*epoch, strict=True) for rows in both] for epoch in zip(one, two, strict=True)]
    assert found == batches(folder)


def test_clips_are_divided(seen: dict[str, list[Seen]]) -> None:
    one, two = seen["divided"]
    for epoch in zip(one, two, strict=True):
        assert sorted(row for rank in epoch for rows in rank for row in rows) == list(range(CLIPS))
        assert [len(rank) for rank in epoch] == [STEPS, STEPS]


@pytest.fixture
def alone() -> Iterator[None]:
    """What accelerate keeps of this process is forgotten again: processes forked later are others."""
    yield
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.mark.usefixtures("alone")
def test_a_batch_tells_where_to_go_on_though_accelerate_reads_ahead(folder: Path) -> None:
    def made() -> tuple[Stream, Any]:
        stream = Stream(Dataset.open(folder), "train", ["joint"], BATCH, seed=3)
        return stream, Accelerator(cpu=True).prepare(DataLoader(stream, batch_size=None))

    stream, loader = made()
    batch = next(iter(loader))
    state = stream.state(after=batch)
    assert (state["epoch"], state["step"], stream.step) == (0, 1, 2)
    resumed, rest = made()
    resumed.load_state_dict(state)
    assert [batch.index.tolist() for batch in rest] == batches(folder)[0][1:]
