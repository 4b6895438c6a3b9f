"""Loader: the content of a batch, draws that depend on the sample only, exact resume, bounded reading."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe import views
from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.shear import Shear
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.loader import CLIP_READERS, Batch, Loader
from skelpipe.loader.stream import Stream

pytestmark = pytest.mark.usefixtures("threads")

NORMAL = chain("normal")
PAIR = {"query": NORMAL, "key": NORMAL}


def opened(dataset: Any, batch: int = 4, reads: Sequence[str] = ("joint",), **options: Any) -> Stream:
    return Stream(dataset, "train", reads, batch, **{"seed": 3, **options})


def test_views_are_the_clips_augmented_by_the_samples_own_draws(memory_dataset: Any) -> None:
    dataset = memory_dataset([5, 0, 6])
    loader = Loader(opened(dataset, drop_last=False), "cpu", {**PAIR, "plain": None})
    steps = []
    for batch in loader:
        index = batch.index.numpy()
        raw = torch.from_numpy(dataset.clips["joint"][index])
        for slot, name in enumerate(("query", "key")):
            expected = NORMAL(raw, Draws(3, 0, batch.index, slot))
            torch.testing.assert_close(batch.views[name], expected, rtol=0, atol=1e-6)
        assert torch.equal(batch.plain, raw)
        assert batch.label.tolist() == dataset.labels("train")[index].tolist()
        assert not torch.equal(batch.query, batch.key)
        assert batch.epoch == 0
        assert len(batch) == len(index)
        steps.append(batch.step)
    assert steps == [0, 1, 2]


def seen(loader: Loader, name: str = "query") -> dict[tuple[int, int], Tensor]:
    """Map (epoch, row) to the clip handed out, over two epochs."""
    epochs = [batch for _ in range(2) for batch in loader]
    return {(b.epoch, int(i)): x for b in epochs for i, x in zip(b.index, b.views[name], strict=True)}


def test_draws_do_not_depend_on_batch_ranks_prefetch_or_order(memory_dataset: Any) -> None:
    dataset = memory_dataset([13, 8])
    reference = seen(Loader(opened(dataset, 4, drop_last=False), "cpu", PAIR))
    assert len(reference) == 42
    others = [
        seen(Loader(opened(dataset, 7, drop_last=False), "cpu", PAIR, prefetch=1)),
        seen(Loader(opened(dataset, 4, drop_last=False, shuffle=False), "cpu", PAIR, prefetch=9)),
        seen(Loader(opened(dataset, 4, drop_last=False, window=1), "cpu", {"query": NORMAL})),
        seen(Loader(opened(dataset, 6, drop_last=False, rank=0, world=2), "cpu", PAIR))
        | seen(Loader(opened(dataset, 6, drop_last=False, rank=1, world=2), "cpu", PAIR)),
    ]
    for other in others:
        assert other.keys() == reference.keys()
        for key, clip in reference.items():
            torch.testing.assert_close(other[key], clip, rtol=0, atol=1e-6)


def test_draws_differ_between_epochs_views_and_seeds(memory_dataset: Any) -> None:
    dataset = memory_dataset([8])
    query, key = seen(Loader(opened(dataset), "cpu", PAIR)), seen(Loader(opened(dataset), "cpu", PAIR), "key")
    other = seen(Loader(opened(dataset, seed=4), "cpu", PAIR))
    for row in range(8):
        clips = [query[0, row], query[1, row], key[0, row], other[0, row]]
        assert not any(torch.equal(a, b) for i, a in enumerate(clips) for b in clips[:i])


@pytest.mark.parametrize("view", views.VIEWS)
def test_after_derives_from_the_augmented_joints(memory_dataset: Any, view: str) -> None:
    dataset = memory_dataset([8])
    joints = seen(Loader(opened(dataset), "cpu", PAIR))
    derived = seen(Loader(opened(dataset), "cpu", PAIR, view=view))
    for key, clip in joints.items():
        x, parents = clip.double().numpy(), dataset.layout.parents
        expected = {
            "joint": x,
            "bone": np.stack([x[:, :, v] - x[:, :, parents[v]] for v in range(25)], axis=2),
            "motion": np.stack([*(x[:, t + 1] - x[:, t] for t in range(7)), 0 * x[:, 0]], axis=1),
        }
        np.testing.assert_allclose(derived[key].numpy(), expected[view], rtol=0, atol=1e-5)


def test_stored_reads_and_augments_the_views_own_stream(memory_dataset: Any) -> None:
    dataset = memory_dataset([8])
    stream = opened(dataset, reads=("joint", "motion"))
    for batch in Loader(stream, "cpu", {"clip": None, "query": NORMAL}, derive="stored", view="motion"):
        raw = torch.from_numpy(dataset.clips["motion"][batch.index.numpy()])
        assert torch.equal(batch.clip, raw)
        expected = NORMAL(raw, Draws(3, 0, batch.index, 1))
        torch.testing.assert_close(batch.query, expected, rtol=0, atol=1e-6)
    assert dataset.readers["joint"].gathers == 0


@pytest.mark.parametrize(("op", "agree"), [(Shear(), True), (Crop(), False)])
def test_after_and_stored_agree_on_shears_but_not_on_crops(memory_dataset: Any, op: Any, agree: bool) -> None:
    dataset = memory_dataset([8])
    dataset.clips["motion"] = views.motion(dataset.clips["joint"])
    recipe = {"query": Chain([op])}
    after = seen(Loader(opened(dataset), "cpu", recipe, view="motion"))
    stored = seen(Loader(opened(dataset, reads=["motion"]), "cpu", recipe, view="motion", derive="stored"))
    gaps = [float((after[key] - stored[key]).abs().max()) for key in after]
    # A crop runs backwards through the reflected frames, so its own motion has the other sign there.
    assert max(gaps) < 1e-5 if agree else max(gaps) > 0.1


@pytest.mark.parametrize("recipe", [{"clip": None}, {"clip": Chain([])}, {"clip": NORMAL}])
def test_batches_kept_by_the_consumer_are_not_overwritten(memory_dataset: Any, recipe: dict[str, Any]) -> None:
    dataset = memory_dataset([50])
    kept = list(Loader(opened(dataset), "cpu", recipe))
    for batch in kept:
        raw = torch.from_numpy(dataset.clips["joint"][batch.index.numpy()])
        expected = raw if recipe["clip"] is not NORMAL else NORMAL(raw, Draws(3, 0, batch.index))
        torch.testing.assert_close(batch.clip, expected, rtol=0, atol=1e-6)


def test_buffers_are_used_again_when_nothing_refers_to_them(memory_dataset: Any) -> None:
    addresses: set[int] = set()

    class Noting:
        def sample(self, draws: Draws, shape: torch.Size) -> dict[str, Tensor]:
            return {}

        def apply(self, x: Tensor, params: Any) -> Tensor:
            addresses.add(x.data_ptr())
            return x + 1

    assert len(list(Loader(opened(memory_dataset([200])), "cpu", {"x": Noting()}, prefetch=2))) == 50
    assert len(addresses) <= 4  # two ready, one being filled, one being augmented


def look(batch: Batch) -> tuple[Any, ...]:
    clips = {name: x.numpy().tobytes() for name, x in batch.views.items()}
    return batch.epoch, batch.step, batch.index.tolist(), batch.label.tolist(), clips


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    st.none() | st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.data(),
)
def test_resume_is_exact(
    memory_dataset: Any,
    resumes_exactly: Callable[..., None],
    sizes: list[int],
    window: int | None,
    batch: int,
    world: int,
    prefetch: int,
    data: st.DataObject,
) -> None:
    dataset = memory_dataset(sizes, shape=(3, 6, 2, 1))
    batch = max(world, min(batch, sum(sizes)))
    drop = batch <= sum(sizes) and data.draw(st.booleans())
    rank = data.draw(st.integers(0, world - 1))

    def make() -> Loader:
        stream = opened(dataset, batch, drop_last=drop, window=window, rank=rank, world=world)
        return Loader(stream, "cpu", PAIR, prefetch=prefetch)

    resumes_exactly(make, look, cut=data.draw(st.integers(0, 2 * len(make()))))


def test_resume_is_exact_where_blocks_of_draws_are_cut(
    memory_dataset: Any, resumes_exactly: Callable[..., None]
) -> None:
    dataset = memory_dataset([40, 41], shape=(3, 6, 2, 1))

    def make() -> Loader:
        return Loader(opened(dataset, 2), "cpu", PAIR)

    for cut in (15, 17, 40):
        resumes_exactly(make, look, cut)


def test_an_empty_share_of_a_batch_is_a_batch_of_none(memory_dataset: Any) -> None:
    dataset = memory_dataset([10])
    ranks = [
        Loader(opened(dataset, 4, drop_last=False, rank=r, world=3), "cpu", PAIR, view="motion") for r in range(3)
    ]
    last = [list(rank)[-1] for rank in ranks]
    assert sum(len(batch) for batch in last) == 2
    assert min(len(batch) for batch in last) == 0
    assert all(batch.query.shape == (len(batch), *dataset.shape) for batch in last)


def test_names_of_views_are_attributes_and_nothing_else_is(memory_dataset: Any) -> None:
    batch = next(iter(Loader(opened(memory_dataset([8])), "cpu", {"anchor": None})))
    assert batch.anchor is batch.views["anchor"]
    with pytest.raises(AttributeError, match="'query'"):
        _ = batch.query


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"derive": "before"}, ["'before'", "'after'", "'stored'"]),
        ({"view": "angle"}, ["'angle'", "joint, bone, motion"]),
        ({"derive": "stored", "view": "motion"}, ["'motion'", "only joint"]),
        ({"prefetch": 0}, ["prefetch is 0"]),
        ({"recipe": {"label": None}}, ["'label'"]),
        ({"recipe": {"items": None}}, ["'items'"]),
        ({"recipe": {"my view": None}}, ["'my view'"]),
        ({"recipe": {"class": None}}, ["'class'"]),
    ],
)
def test_what_cannot_be_loaded_is_refused(memory_dataset: Any, options: dict[str, Any], words: list[str]) -> None:
    arguments: dict[str, Any] = {"device": "cpu", "recipe": PAIR, **options}
    with pytest.raises(UsageError) as caught:
        Loader(opened(memory_dataset([8])), **arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused(memory_dataset: Any) -> None:
    with pytest.raises(UsageError, match="cuda"):
        Loader(opened(memory_dataset([8])), "cuda", PAIR)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", [PAIR, {"clip": None}])
def test_the_gpu_gives_what_the_cpu_gives(memory_dataset: Any, recipe: dict[str, Any]) -> None:
    dataset = memory_dataset([500])
    here = list(Loader(opened(dataset, 8), "cpu", recipe, view="bone"))
    there = list(Loader(opened(dataset, 8), "cuda", recipe, view="bone"))
    for a, b in zip(here, there, strict=True):
        assert b.label.is_cuda
        assert (a.index.tolist(), a.label.tolist()) == (b.index.tolist(), b.label.tolist())
        for name in recipe:
            torch.testing.assert_close(b.views[name].cpu(), a.views[name], rtol=0, atol=1e-5)


def test_load_state_ends_a_running_iteration(memory_dataset: Any, threads: Any) -> None:
    loader = Loader(opened(memory_dataset([40])), "cpu", PAIR)
    state = loader.state()
    batches = iter(loader)
    first = look(next(batches))
    loader.load_state(state)
    assert threads() == []
    assert look(next(iter(loader))) == first


@pytest.mark.parametrize("reader", CLIP_READERS)
def test_after_the_last_batch_it_stands_at_the_next_epoch(folder: Path, reader: str) -> None:
    """Whoever stops to ask, also while the iterators of the epochs before are still alive."""

    def made() -> Loader:
        return Loader(Stream(Dataset.open(folder), "train", ["joint"], 5, seed=3), "cpu", PAIR, reader=reader)

    whole, cut = made(), made()
    alive = []
    for epoch in range(4):
        alive.append(iter(cut))
        seen = [look(next(alive[-1])) for _ in range(len(cut))]
        assert seen == [look(batch) for batch in whole]
        assert {batch[0] for batch in seen} == {epoch}
        assert cut.state_dict() == cut.state() == whole.state()
        assert (cut.state()["epoch"], cut.state()["step"]) == (epoch + 1, 0)
    del alive
    for _ in range(2):  # in the middle of an epoch
        one, two = look(next(iter(cut))), next(iter(whole))
        assert one == look(two)
    resumed = made()
    resumed.load_state_dict(cut.state_dict())
    assert [look(batch) for batch in resumed] == [look(batch) for batch in cut]
    for loader in (whole, cut, resumed):
        loader.close()


@pytest.mark.parametrize("empty", [False, True], ids=["absent stay", "noise on absent"])
def test_on_another_device_views_come_with_the_bodies_that_are_present(memory_dataset: Any, empty: bool) -> None:
    dataset = memory_dataset([6])
    clips = dataset.clips["joint"]
    clips[:3, ..., 1], clips[2] = 0, 0  # the third clip shows nobody
    clips[4, :, 0] = 0  # a body that comes in later is present
    (rows,) = (batch.index for batch in opened(dataset, 6))
    wanted = torch.from_numpy((clips[rows] != 0).any((1, 2, 3)))
    told: list[tuple[Tensor, Tensor]] = []
    recipe = {"query": NORMAL, "noisy": Chain([Crop(), GaussianNoise(probability=1.0, empty=empty)])}
    (batch,) = Loader(opened(dataset, 6), "meta", recipe, tell=lambda view, present: told.append((view, present)))
    expected = [batch.query] if empty else [batch.query, batch.noisy]
    assert len(told) == len(expected)
    for (view, present), each in zip(told, expected, strict=True):
        assert view is each
        assert torch.equal(present, wanted)
