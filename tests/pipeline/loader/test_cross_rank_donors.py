"""Clips of a batch that several ranks share get the donors and views that they get on one rank."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.named_chains import Curriculum
from skelpipe.augment.shear import Shear
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.loader import Batch, Loader, mixing_views
from skelpipe.loader.cross_rank_donors import RankShares
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Mats, On, view_recipes
from skelpipe.skeleton import layout

pytestmark = pytest.mark.usefixtures("threads")

KINECT = layout("kinect-v2-25")
NORMAL = chain("normal")
MIX = SkeleMix(KINECT, blocks=(1, 1))
SWAP = SkeletonMix(KINECT, blocks=(1, 2))
SHAPE = (3, 64, 25, 2)


def moving(x: Tensor) -> Tensor:
    return (x[:, 0, ::4] > 0).float()


RECIPES: dict[str, Mapping[str, Any]] = {
    "skelemixclr+": mixing_views.skelemixclr(KINECT, repeats=3),
    "skeattnclr": mixing_views.skeattnclr(KINECT),
    "actclr": mixing_views.actclr(KINECT, "bone", moving),
    "actclr released": mixing_views.actclr_released(KINECT, "bone", moving),
    "a mix of a mix": {"query": NORMAL, "once": On("query", MIX), "twice": On("once", SWAP), "plain": None},
    "a mix in a chain": {"query": Chain([*NORMAL.ops, SkeletonAdaIN(KINECT)]), "key": NORMAL},  # type: ignore[list-item]
    "a mask carried": {
        "act": NORMAL,
        "non": On("act", MIX),
        "query": Mats("act", "non", moving, mask="carried"),
        "mixed": On("query", MIX),
    },
    "a mix of joined views": {
        "act": NORMAL,
        "non": chain("aimclr-extreme", layout=KINECT),
        "query": Mats("act", "non", moving),
        "mixed": On("query", MIX),
    },
}


def batches_of(
    dataset: Any, recipe: Mapping[str, Any], world: int, batch: int = 7, **options: Any
) -> list[list[Batch]]:
    def read(rank: int) -> list[Batch]:
        stream = Stream(dataset, "train", ["joint"], batch, seed=3, drop_last=False, rank=rank, world=world)
        return list(Loader(stream, "cpu", recipe, view="bone"))

    return [read(rank) for rank in range(world)]


def same(shares: tuple[Batch, ...], alone: Batch) -> None:
    assert torch.cat([share.index for share in shares]).tolist() == alone.index.tolist()
    assert torch.cat([share.label for share in shares]).tolist() == alone.label.tolist()
    for kind in ("views", "extras"):
        wanted = getattr(alone, kind)
        assert all(set(getattr(share, kind)) == set(wanted) for share in shares)
        for name, x in wanted.items():
            assert torch.equal(torch.cat([getattr(share, kind)[name] for share in shares]), x), name


@pytest.mark.parametrize("name", RECIPES)
def test_any_number_of_ranks_makes_the_batch_of_one(memory_dataset: Any, name: str) -> None:
    dataset = memory_dataset([17], shape=SHAPE)  # batches of 7, 7 and 3
    (alone,) = batches_of(dataset, RECIPES[name], 1)
    for world in (2, 3, 7):
        ranks = batches_of(dataset, RECIPES[name], world)
        for *parts, whole in zip(*ranks, alone, strict=True):
            same(tuple(parts), whole)


def test_a_rank_reads_no_more_than_its_own_and_their_donors(memory_dataset: Any) -> None:
    dataset = memory_dataset([64], shape=SHAPE)
    recipe = view_recipes({"query": NORMAL, "key": NORMAL, "mixed": On("query", MIX)})
    (alone,) = batches_of(dataset, mixing_views.skelemixclr(KINECT, blocks=(1, 1)), 1, batch=64)
    donor = alone[0].mixed_donor.numpy()
    for rank in range(4):
        stream = Stream(dataset, "train", ["joint"], 64, seed=3, rank=rank, world=4)
        shares = RankShares(stream, recipe)
        (share,), drawn = shares.draw(0, range(1))
        own = np.arange(16 * rank, 16 * rank + 16)
        assert share.own == 16
        assert share.positions is not None
        assert share.positions[:16].tolist() == own.tolist()
        assert sorted(share.positions) == sorted({*own.tolist(), *donor[own].tolist()})
        assert share.rows.tolist() == alone[0].index.numpy()[share.positions].tolist()
        assert share.rows.tolist() == shares.rows(0, 0).tolist()
        assert shares.views_of_donors(drawn) == {"query", "mixed"}


@pytest.mark.parametrize(
    ("name", "most"), [("skelemixclr+", 3), ("skeattnclr", 1), ("actclr", 3), ("actclr released", 5)]
)
def test_donors_are_at_most_one_per_clip_and_mix(memory_dataset: Any, name: str, most: int) -> None:
    stream = Stream(memory_dataset([96], shape=SHAPE), "train", ["joint"], 48, seed=1, rank=3, world=12)
    shares = RankShares(stream, view_recipes(RECIPES[name]))
    for epoch in range(5):
        for share in shares.draw(epoch, range(2))[0]:
            assert share.own == 4
            assert len(share.rows) <= (1 + most) * 4
            assert len(set(share.rows.tolist())) == len(share.rows)


def test_mixes_that_begin_in_a_later_epoch_are_the_same_on_all_ranks(memory_dataset: Any) -> None:
    ops = [Crop(), Shear(), SkeleMix(KINECT, blocks=(1, 1))]
    recipe = {"query": Chain(ops, Curriculum(((1, 0), (10, None)))), "key": NORMAL}  # type: ignore[list-item]
    dataset = memory_dataset([16], shape=SHAPE)

    def batches(rank: int, world: int) -> list[Batch]:
        loader = Loader(Stream(dataset, "train", ["joint"], 8, seed=3, rank=rank, world=world), "cpu", recipe)
        return [batch for _ in range(3) for batch in loader]

    for one, other, whole in zip(batches(0, 2), batches(1, 2), batches(0, 1), strict=True):
        same((one, other), whole)


@pytest.mark.parametrize(("world", "name"), [(1, "mix"), (2, "plain")])
def test_without_other_ranks_or_mixes_there_are_no_donors(memory_dataset: Any, world: int, name: str) -> None:
    dataset = memory_dataset([16], shape=SHAPE)
    recipe = {"query": NORMAL} if name == "plain" else {"query": NORMAL, "mixed": On("query", MIX)}
    stream = Stream(dataset, "train", ["joint"], 8, seed=3, rank=0, world=world)
    shares = RankShares(stream, view_recipes(recipe))
    (share, _), _ = shares.draw(0, range(2))
    assert share.positions is None
    assert share.rows.tolist() == stream.rows(0, 0).tolist() == shares.rows(0, 0).tolist()


def test_views_of_own_clips_alone_are_not_made_of_donors(memory_dataset: Any) -> None:
    seen: list[int] = []

    def counted(x: Tensor) -> Tensor:
        seen.append(len(x))
        return moving(x)

    dataset = memory_dataset([16], shape=SHAPE)
    recipe = {"act": NORMAL, "non": On("act", MIX), "query": Mats("act", "non", counted)}
    batches_of(dataset, recipe, 2, batch=8)
    assert seen == [4] * 4
