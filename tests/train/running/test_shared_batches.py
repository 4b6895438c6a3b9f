"""A batch shared by ranks trains a method as the same batch on one rank does: weights, keys, queue, statistics.

The ranks are threads here, so that all methods are tried in a moment; `test_ranks.py` has processes.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Marked, Mats
from skelpipe.models.method import Method, Progress
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.global_norm import use_global_batch
from skelpipe.train.running.loop import LossWatch, build_optimiser, train_epoch
from skelpipe.train.running.networks import initialised
from skelpipe.train.running.rank_sync import check_equal
from skelpipe.train.running.ranks import Ranks

CPU = torch.device("cpu")
SMALL = [
    "encoder.width=2",
    "encoder.out_channels=8",
    "encoder.dropout=0",
    "head.hidden=8",
    "head.dim=4",
    "queue=20",
]
EPOCH = 4  # of six: every second stage has begun

# Methods whose arithmetic has no other mean over a batch than losses and batch normalisation: all of the papers'.
EQUAL = {
    "skeletonclr": [],
    "crosclr": ["crosclr.mining_epoch=1"],
    "aimclr": ["aimclr.mining_epoch=1", "aimclr.views=2"],
    "msmclr": [],
    "skelemixclr": ["skelemixclr.repeats=2"],
    "skeattnclr": ["variant=released"],
    "actclr": ["actclr.moco_epochs=1"],
    "actclr-released": ["actclr.moco_epochs=1", "head.dim=9"],  # as many as clips: mixed keys weigh channels
}
# Every rank has the whole batch's mean clip: its values are counted as often, which Bessel's correction notices.
ONCE_A_RANK = {"actclr-released": "running_var"}


class Hub:
    """Where threads meet: each hands in a value and gets everyone's."""

    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=600)
        self.values: list[Any] = [None] * world

    def swap(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        values = list(self.values)
        self.barrier.wait()
        return values


@dataclass(frozen=True)
class Thread(Ranks):
    """A rank that is a thread."""

    hub: Any = field(default=None, repr=False)

    def sum(self, x: Tensor) -> Tensor:
        return x.copy_(torch.stack(self.hub.swap(self.rank, x.clone())).sum(0))

    def send(self, content: bytes, source: int = 0) -> bytes:
        return self.hub.swap(self.rank, content)[source]

    def _all(self, x: Tensor) -> Tensor:
        return torch.stack(self.hub.swap(self.rank, x))


def on_threads(world: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Return what `work` returns on each rank; the first error of any is raised."""
    hub = Hub(world)
    results: list[Any] = [None] * world
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(Thread(rank, world, hub=hub))
        except BaseException as error:  # whatever it is, the test fails by it
            errors.append(error)
            hub.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


class Recorded:
    """A loader's batches in float64 or as they are, kept as they pass."""

    def __init__(self, loader: Loader, dtype: torch.dtype) -> None:
        self.loader, self.stream, self.dtype = loader, loader.stream, dtype
        self.passed: list[Any] = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            views = {name: view.to(self.dtype, copy=True) for name, view in batch.views.items()}
            extras = {name: extra.clone() for name, extra in batch.extras.items()}
            known = SimpleNamespace(
                views=views, extras=extras, index=batch.index, epoch=batch.epoch, step=batch.step
            )
            self.passed.append(known)
            yield known


class Joined:
    """The batches whose shares these are: rows one after another."""

    def __init__(self, shares: list[list[Any]]) -> None:
        self.batches = [self._join(parts) for parts in zip(*shares, strict=True)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def _join(self, parts: tuple[Any, ...]) -> Any:
        views = {name: torch.cat([part.views[name] for part in parts]) for name in parts[0].views}
        extras = {name: torch.cat([part.extras[name] for part in parts]) for name in parts[0].extras}
        index = torch.cat([part.index for part in parts])
        return SimpleNamespace(views=views, extras=extras, index=index, epoch=parts[0].epoch, step=parts[0].step)


def train(method: Method, recipe: PretrainRecipe, loader: Any, **more: Any) -> dict[str, float]:
    start = Progress(EPOCH, 6, 0, len(loader))
    method.advance(start)
    optimiser = build_optimiser(method, recipe.optimiser)
    given = {"device": CPU, "amp": False, "accumulate": 1, "ids": ["a"] * 100, "working": lambda step, rate: None}
    return train_epoch(method, optimiser, cast(Loader, loader), start, **given, **more).learned


def in_float64(views: Any) -> Any:
    """Have networks in float64 find the actionlets of clips in float32."""

    def found(view: Mats | Marked) -> Callable[[Tensor], Tensor]:
        return lambda clips: view.actionlet(clips.double()).float()

    return {n: replace(v, actionlet=found(v)) if isinstance(v, Mats | Marked) else v for n, v in views.items()}


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    return make_dataset(ntu_names(actions=3, subjects=(1, 2, 3, 6)), frames=44)


@pytest.mark.parametrize("method", EQUAL)
def test_ranks_train_as_one(dataset: Dataset, method: str) -> None:
    recipe = with_overrides(load_recipe(method), [*SMALL, "init=default", *EQUAL[method]], lr=0.05)

    def make() -> Method:
        def anchor() -> Tensor:
            return torch.from_numpy(dataset.anchor("joint"))

        return initialised(recipe, dataset.layout, 0, anchor=anchor).double()

    methods = [make() for _ in range(2)]

    def work(team: Ranks) -> tuple[dict[str, float], Recorded]:
        mine = methods[team.rank]
        mine.advance(Progress(EPOCH, 6, 0, 2))
        use_global_batch(mine, team.sum)
        stream = Stream(dataset, "train", ["joint"], 9, rank=team.rank, world=2)  # two steps of 4 and 5 clips
        loader = Recorded(Loader(stream, CPU, in_float64(mine.views())), torch.float64)
        return train(mine, recipe, loader, team=team), loader

    results = on_threads(2, work)
    logs = [learned for learned, _ in results]
    alone = make()
    alone.advance(Progress(EPOCH, 6, 0, 2))
    loader = Loader(Stream(dataset, "train", ["joint"], 9), CPU, in_float64(alone.views()))
    wanted = train(alone, recipe, Recorded(loader, torch.float64))

    states = [each.state_dict() for each in methods]
    for name, value in alone.state_dict().items():
        assert torch.equal(states[0][name], states[1][name]), f"{name} differs between ranks"
        often = method in ONCE_A_RANK and "key_encoder" in name and name.endswith(ONCE_A_RANK[method])
        near = 1e-3 if often else 1e-8
        torch.testing.assert_close(states[0][name], value, rtol=near, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    before = make().state_dict()
    queues = [name for name in before if name.endswith("queue")]
    assert queues
    assert not any(torch.equal(before[name], states[0][name]) for name in queues)
    assert all(log == logs[0] for log in logs)
    means = {name for name in wanted if not name.startswith(("std", "mask_std"))}
    assert {name: logs[0][name] for name in means} == pytest.approx({name: wanted[name] for name in means})


@pytest.mark.parametrize("method", ["aimclr", "skelemixclr", "skeattnclr"])
def test_the_shares_of_any_number_of_ranks_are_one_batch(dataset: Dataset, method: str) -> None:
    recipe = load_recipe(method)
    views = initialised(with_overrides(recipe, SMALL), dataset.layout, 0).views()

    def batches(rank: int, world: int) -> list[Any]:
        stream = Stream(dataset, "train", ["joint"], 8, rank=rank, world=world)
        loader = Recorded(Loader(stream, CPU, views), torch.float32)
        return list(loader)

    whole = batches(0, 1)
    for world in (2, 3, 4, 8):
        joined = Joined([batches(rank, world) for rank in range(world)])
        for found, wanted in zip(joined, whole, strict=True):
            assert torch.equal(found.index, wanted.index)
            assert all(torch.equal(found.views[name], view) for name, view in wanted.views.items())
            assert all(torch.equal(found.extras[name], extra) for name, extra in wanted.extras.items())


@pytest.mark.parametrize("every", [1, 3, 50])
def test_a_loss_that_is_not_finite_on_one_rank_is_the_same_error_on_all(every: int) -> None:
    def work(team: Ranks) -> str:
        watch = LossWatch([f"S{i:03}" for i in range(40)], every, team)
        try:
            for step in range(4):
                bad = step == 2 and team.rank == 1
                loss = torch.tensor(float("inf") if bad else 1.0)
                watch.add(7, step + 1, loss, torch.arange(2) + 10 * team.rank + 2 * step)
            watch.finish()
        except SkelpipeError as error:
            return str(error)
        return ""

    said = on_threads(3, work)
    assert said[0].startswith("the loss is inf in epoch 7, step 3, on S014, S015;")
    assert said == [said[0]] * 3


def test_one_rank_that_differs_is_named() -> None:
    def work(team: Ranks) -> str:
        network = torch.nn.Linear(2, 2)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(1.0)
            if team.rank == 2:
                network.bias[1] += 1e-7 * 2
        try:
            check_equal(network, team)
            team.check_equal_text("another option", "a")
            team.check_equal_text("another option", "b" if team.rank == 1 else "a")
        except SkelpipeError as error:
            return str(error)
        return ""

    assert on_threads(2, work) == ["rank 1 has another option than rank 0"] * 2
    said = on_threads(3, work)
    assert said == [said[0]] * 3
    assert "rank 2 has other numbers than rank 0 in bias" in said[0]
