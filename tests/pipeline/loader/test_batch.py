"""Batches in the hands of torch, Lightning and accelerate: moved, pinned, taken apart and put together again."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.utils.operations import (
    concatenate,
    find_batch_size,
    get_data_structure,
    initialize_tensors,
    send_to_device,
    slice_tensors,
)
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.pytorch.utilities.data import extract_batch_size
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils.data import default_convert

from skelpipe.loader import Batch
from skelpipe.loader.batch import StreamBatch


def made(clips: int = 4, step: int = 3) -> Batch:
    """A batch whose numbers tell its clips apart."""
    rows = 10 * step + torch.arange(clips)
    views = {"query": rows.float().reshape(-1, 1, 1, 1, 1).expand(-1, 3, 4, 5, 2), "mixed": torch.rand(clips, 3)}
    return Batch(views, rows % 3, rows, epoch=7, step=step, extras={"mixed_mask": torch.rand(clips, 2) > 0.5})


def same(one: Any, two: Any) -> bool:
    held = [(b.views, b.extras, {"label": b.label, "index": b.index}) for b in (one, two)]
    pairs = [(a, b) for a, b in zip(*held, strict=True)]
    return (one.epoch, one.step) == (two.epoch, two.step) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs
    )


def test_it_moves() -> None:
    batch = made()
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert (moved.epoch, moved.step, moved.query.shape) == (7, 3, batch.query.shape)
    held = [*moved.views.values(), *moved.extras.values(), moved.label, moved.index]
    assert len(held) == 5
    assert all(x.device.type == "meta" for x in held)
    assert same(batch.to("cpu", non_blocking=True), batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_pins() -> None:
    assert all(x.is_pinned() for x in made().pin_memory().views.values())


def test_a_streams_batch_becomes_tensors_that_share_its_memory() -> None:
    clips = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1, 1)
    batch = StreamBatch({"joint": clips}, np.array([0, 1]), np.array([5, 9]), epoch=2, step=4)
    assert batch.joint is clips
    converted, moved = default_convert(batch), batch.to("cpu")
    assert type(converted) is StreamBatch
    assert type(moved) is Batch
    for each in (converted, moved):
        assert (each.epoch, each.step, len(each)) == (2, 4, 2)
        assert each.joint.data_ptr() == clips.ctypes.data
        assert each.index.tolist() == [5, 9]


def test_it_is_pickled_and_copied() -> None:
    batch = made()
    assert same(pickle.loads(pickle.dumps(batch)), batch)
    assert same(copy.deepcopy(batch), batch)
    assert same(Batch(batch), batch)


def test_it_tells_what_it_holds() -> None:
    assert {"query", "mixed_mask", "to", "label"} <= set(dir(made()))
    assert "4 clips of epoch 7, step 3: query [4, 3, 4, 5, 2]" in repr(made())
    assert ": 1 clip of epoch 0, step 0:" in repr(Batch({}, torch.zeros(1), torch.zeros(1), 0, 0))


def test_lightning_moves_it_and_applies_functions_to_it() -> None:
    batch = made()
    assert same(move_data_to_device(batch, torch.device("cpu")), batch)
    doubled = apply_to_collection(batch, Tensor, lambda x: x.double() if x.is_floating_point() else x)
    assert isinstance(doubled, Batch)
    assert doubled.query.dtype == torch.float64
    assert torch.equal(doubled.query.float(), batch.query)
    assert (doubled.epoch, doubled.step, doubled.index.tolist()) == (7, 3, batch.index.tolist())
    assert batch.query.dtype == torch.float32
    assert extract_batch_size(batch) == 4


def test_accelerate_puts_batches_together_and_divides_them() -> None:
    """What accelerate does where one process reads for all: with the numbers of each clip."""
    both = concatenate([made(), made(step=4)])
    assert isinstance(both, Batch)
    assert both.index.tolist() == [*range(30, 34), *range(40, 44)]
    assert find_batch_size(both) == 8
    structure = pickle.loads(pickle.dumps(get_data_structure(both)))  # as it is sent to the other processes
    room = initialize_tensors(structure)
    assert isinstance(room, Batch)
    assert room.query.shape == both.query.shape
    for number, whole in enumerate((made(), made(step=4))):
        half = slice_tensors(both, slice(4 * number, 4 * number + 4))
        assert (half.epoch, half.step, half.index.tolist()) == (7, whole.step, whole.index.tolist())
        assert torch.equal(half.query, whole.query)
    assert send_to_device(both, torch.device("cpu"))["step"].tolist() == [3] * 4 + [4] * 4
