"""Views made from other views: mixed before or after deriving, joined by an actionlet; donors, masks and draws."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe import views
from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.augment.spatial_flip import SpatialFlip
from skelpipe.errors import UsageError
from skelpipe.loader import Batch, Loader
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Marked, Mats, On
from skelpipe.skeleton import layout
from skelpipe.views import bone

pytestmark = pytest.mark.usefixtures("threads")

KINECT = layout("kinect-v2-25")
NORMAL = chain("normal")
MIX = SkeleMix(KINECT, blocks=(1, 1))
SWAP = SkeletonMix(KINECT, blocks=(1, 2))


def opened(dataset: Any, batch: int = 6, reads: Sequence[str] = ("joint",), **options: Any) -> Stream:
    return Stream(dataset, "train", reads, batch, **{"seed": 3, **options})


def draws(batch: Batch, slot: int) -> Draws:
    step = torch.full_like(batch.index, batch.step)
    return Draws(3, batch.epoch, batch.index, slot, step)


@pytest.mark.parametrize("view", views.VIEWS)
def test_skelemix_derives_first_then_mixes(memory_dataset: Any, view: str) -> None:
    recipe = {"query": NORMAL, "key": NORMAL, "mixed": On("query", MIX)}
    batches = list(Loader(opened(memory_dataset([40])), "cpu", recipe, view=view))
    assert len(batches) == 6
    for batch in batches:
        expected = MIX.mix(batch.query, MIX.sample(draws(batch, 2), batch.query.shape))
        assert torch.equal(batch.mixed, expected.clip)
        assert torch.equal(batch.mixed_donor, expected.donor)
        assert torch.equal(batch.mixed_mask, expected.mask)
        assert batch.mixed_mask.shape == (6, 2, 25)
        assert set(batch.views) == {"query", "key", "mixed"}
        assert not torch.equal(batch.mixed, batch.query)
    assert len({tuple(batch.mixed_mask[0].flatten().tolist()) for batch in batches}) > 1


@pytest.mark.parametrize("view", ["bone", "motion"])
def test_mixing_joints_first_joins_two_people_at_the_border(memory_dataset: Any, view: str) -> None:
    dataset = memory_dataset([40])
    recipe = {"query": NORMAL, "mixed": On("query", MIX, stage="joint")}
    joints = list(Loader(opened(dataset), "cpu", recipe))
    for first, batch in zip(joints, Loader(opened(dataset), "cpu", recipe, view=view), strict=True):
        assert torch.equal(batch.mixed, views.derive(first.mixed, view, KINECT))
        assert torch.equal(batch.mixed_mask, first.mixed_mask)
        later = MIX.apply(batch.query, MIX.sample(draws(batch, 1), batch.query.shape))
        differ = (batch.mixed != later).any(1).any(3).any(0)
        inside = batch.mixed_mask[0].repeat_interleave(4, 0)
        if view == "bone":  # the only bones whose child and parent are of different people
            border = inside != inside[:, list(KINECT.parents)]
        else:  # the only motion between frames of different people
            border = torch.zeros_like(inside)
            border[:-1] = inside[:-1] != inside[1:]
        assert torch.equal(differ, border)


def test_several_mixes_and_mixes_of_mixes(memory_dataset: Any) -> None:
    recipe = {
        "query": NORMAL,
        "a": On("query", MIX),
        "b": On("query", MIX),
        "c": On("b", SWAP),
        "d": On("c", Chain([])),
    }
    for batch in Loader(opened(memory_dataset([12])), "cpu", recipe):
        assert not torch.equal(batch.a, batch.b)
        expected = SWAP.mix(batch.b, SWAP.sample(draws(batch, 3), batch.b.shape))
        assert torch.equal(batch.c, expected.clip)
        assert torch.equal(batch.c_mask, expected.mask)
        assert torch.equal(batch.d, batch.c)
        assert set(batch.extras) == {f"{name}_{extra}" for name in "abc" for extra in ("mask", "donor")}


def moving(x: Tensor) -> Tensor:
    """A stand-in for an encoder's actionlet: where the first axis is positive, in steps of two frames."""
    return (x[:, 0, ::2] > 0).float()


def test_mats_joins_two_views_by_the_actionlet_of_the_first(memory_dataset: Any) -> None:
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x)
        return moving(x)

    styled = SkeletonAdaIN(KINECT, "bone")
    recipe = {
        "plain": NORMAL,
        "act": On("plain", styled),
        "non": On("act", SWAP),
        "query": Mats("act", "non", watched, stretch="nearest"),
        "key": NORMAL,
    }
    for batch in Loader(opened(memory_dataset([12])), "cpu", recipe, view="bone"):
        assert torch.equal(batch.act, styled.apply(batch.plain, styled.sample(draws(batch, 1), batch.plain.shape)))
        assert seen.pop() is batch.act
        mask = moving(batch.act).repeat_interleave(2, 1)
        assert torch.equal(batch.query_mask, mask)
        assert torch.equal(batch.query, torch.where(mask[:, None] > 0, batch.act, batch.non))
        assert torch.equal(
            batch.non_donor, SWAP.mix(batch.act, SWAP.sample(draws(batch, 2), batch.act.shape)).donor
        )
    assert seen == []


def test_a_carried_mask_is_of_the_clip_as_read_and_moves_with_it(memory_dataset: Any) -> None:
    dataset = memory_dataset([12])
    crop = Chain([Crop(4), Shear(0)])
    recipe = {
        "crop": crop,
        "act": On("crop", Chain([Shear(0)])),
        "non": On("act", SWAP),
        "query": Mats("act", "non", lambda x: (x[:, 0] > 0).float(), mask="carried"),
    }
    for batch in Loader(opened(dataset), "cpu", recipe):
        raw = torch.from_numpy(dataset.clips["joint"][batch.index.numpy()])
        starts = crop.sample(draws(batch, 0), raw.shape)[0]["start"].tolist()
        padded = torch.cat([raw[:, :, :2].flip(2), raw, raw[:, :, -2:].flip(2)], 2)
        moved = torch.stack([clip[:, s : s + 8] for clip, s in zip(padded, starts, strict=True)])
        assert torch.equal(batch.query_mask, (moved[:, 0] > 0).float())
        assert torch.equal(batch.query, torch.where(batch.query_mask[:, None] > 0, batch.act, batch.non))


def test_query_and_key_share_the_actionlet_of_the_clip_as_read(memory_dataset: Any) -> None:
    """It is found once per batch, and each view has it where its own crop and flips moved it."""
    dataset, seen = memory_dataset([12]), []

    def found(x: Tensor) -> Tensor:
        seen.append(x)
        return (x[:, 0] > 0).float()

    moves = Chain([Crop(4), SpatialFlip(KINECT)])
    recipe = {
        "act": moves,
        "query": Mats("act", "act", found, mask="carried"),
        "key": Marked(moves, found),
        "still": Marked(None, found),
    }
    for batch in Loader(opened(dataset), "cpu", recipe, view="bone"):
        raw = bone(torch.from_numpy(dataset.clips["joint"][batch.index.numpy()]), KINECT)
        (clip,) = seen
        seen.clear()
        assert torch.equal(clip, raw)
        for name in ("query", "key", "still"):  # bones move as their joints do
            assert torch.equal(batch.extras[f"{name}_mask"], (batch.views[name][:, 0] > 0).float())
        assert not torch.equal(batch.query_mask, batch.key_mask)


def test_masks_without_bodies_are_shared_by_them(memory_dataset: Any) -> None:
    recipe = {"act": NORMAL, "non": NORMAL, "query": Mats("act", "non", lambda x: torch.ones(len(x), 2, 25))}
    for batch in Loader(opened(memory_dataset([12])), "cpu", recipe):
        assert torch.equal(batch.query, batch.act)
        assert batch.query_mask.shape == (6, 8, 25, 1)


def look(batch: Batch) -> tuple[Any, ...]:
    held = {**batch.views, **batch.extras}
    return batch.epoch, batch.step, {name: x.numpy().tobytes() for name, x in held.items()}


def test_resume_is_exact_and_epochs_differ(memory_dataset: Any, resumes_exactly: Callable[..., None]) -> None:
    dataset = memory_dataset([40], shape=(3, 8, 25, 1))
    recipe = {
        "query": NORMAL,
        "mixed": On("query", MIX),
        "non": On("query", SWAP),
        "trans": Mats("query", "non", moving),
    }

    def make() -> Loader:
        return Loader(opened(dataset, 2), "cpu", recipe)

    for cut in (1, 15, 17, 25):
        resumes_exactly(make, look, cut)
    loader = make()
    epochs = [[batch.mixed_mask[0].flatten().tolist() for batch in loader] for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_prefetch_changes_nothing(memory_dataset: Any) -> None:
    recipe = {"query": NORMAL, "mixed": On("query", MIX)}
    dataset = memory_dataset([40])
    one, many = (
        [look(batch) for batch in Loader(opened(dataset), "cpu", recipe, prefetch=ahead)] for ahead in (1, 6)
    )
    assert one == many


def test_an_empty_share_of_a_batch_is_mixed_to_none(memory_dataset: Any) -> None:
    recipe = {"query": NORMAL, "mixed": On("query", MIX), "non": On("query", SWAP)}
    recipe["trans"] = Mats("query", "non", moving)
    dataset = memory_dataset([10])
    ranks = [Loader(opened(dataset, 9, drop_last=False, rank=r, world=3), "cpu", recipe) for r in range(3)]
    last = [list(rank)[-1] for rank in ranks]
    assert sorted(len(batch) for batch in last) == [0, 0, 1]
    for batch in last:
        assert batch.trans.shape == batch.mixed.shape == (len(batch), *dataset.shape)
        assert batch.mixed_donor.tolist() == [0] * len(batch)


def test_clips_kept_by_the_consumer_are_not_overwritten(memory_dataset: Any) -> None:
    dataset = memory_dataset([60])
    kept = list(Loader(opened(dataset), "cpu", {"clip": None, "same": On("clip", Chain([]))}))
    for batch in kept:
        assert torch.equal(batch.same, torch.from_numpy(dataset.clips["joint"][batch.index.numpy()]))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"mixed": On("query", MIX), "query": NORMAL}, ["'mixed'", "'query'", "before it"]),
        ({"query": NORMAL, "trans": Mats("query", "non", moving)}, ["'trans'", "'non'"]),
        ({"query": NORMAL, "mixed": On("query", MIX), "mixed_mask": None}, ["'mixed_mask'"]),
        ({"query": NORMAL, "extras": NORMAL}, ["'extras'"]),
        ({"query": NORMAL, "a": On("query", MIX), "b": On("a", MIX, stage="joint")}, ["'b'", "'a'", "no joints"]),
        ({"query": NORMAL, "m": Mats("query", "query", moving), "b": On("m", MIX, stage="joint")}, ["no joints"]),
    ],
)
def test_recipes_that_cannot_be_made_are_refused(memory_dataset: Any, recipe: Any, words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        Loader(opened(memory_dataset([12])), "cpu", recipe)
    assert all(word in str(caught.value) for word in words)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(UsageError, match="'bone'"):
        On("query", MIX, stage="bone")
    with pytest.raises(UsageError, match="'kept'"):
        Mats("act", "non", moving, mask="kept")
    with pytest.raises(UsageError, match="as read"):
        Mats("act", "non", moving, mask="carried", sees="query")


def test_frames_that_do_not_fit_are_refused_before_the_first_batch(memory_dataset: Any) -> None:
    dataset = memory_dataset([12], shape=(3, 10, 25, 2))
    with pytest.raises(UsageError, match=r"multiple of 4 frames.*10: .*8 or 12"):
        Loader(opened(dataset), "cpu", {"query": NORMAL, "mixed": On("query", MIX)})
