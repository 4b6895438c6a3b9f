"""The views of the methods that mix: which views there are, and that each is made from the right ones."""

from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe import views
from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.mats import carried
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.errors import UsageError
from skelpipe.loader import Batch, Loader, mixing_views
from skelpipe.loader.stream import Stream
from skelpipe.skeleton import layout

pytestmark = pytest.mark.usefixtures("threads")

KINECT = layout("kinect-v2-25")


def batches(dataset: Any, recipe: Any, view: str = "joint", epoch: int = 0) -> list[Batch]:
    stream = Stream(dataset, "train", ["joint"], 5, seed=3)
    stream.seek(epoch, 0)
    return list(Loader(stream, "cpu", recipe, view=view))


def moving(x: Tensor) -> Tensor:
    return (x[:, 0, ::4] > 0).float()


@pytest.mark.parametrize("repeats", [1, 3])
def test_skelemixclr_mixes_the_query_so_many_times(memory_dataset: Any, repeats: int) -> None:
    dataset = memory_dataset([20], shape=(3, 64, 25, 2))
    names = ["mixed"] if repeats == 1 else ["mixed1", "mixed2", "mixed3"]
    for batch in batches(dataset, mixing_views.skelemixclr(KINECT, repeats=repeats), "bone"):
        assert list(batch.views) == ["query", "key", *names]
        masks = [batch.extras[f"{name}_mask"] for name in names]
        assert all(not torch.equal(a, b) for i, a in enumerate(masks) for b in masks[:i])
        for name, mask in zip(names, masks, strict=True):
            inside = mask.repeat_interleave(4, 1)[:, None, :, :, None]
            donors = batch.query[batch.extras[f"{name}_donor"]]
            assert torch.equal(batch.views[name], torch.where(inside, donors, batch.query))
            assert 8 <= int(mask[0].any(0).sum()) <= 17
            assert 7 <= int(mask[0].any(1).sum()) <= 11
    with pytest.raises(UsageError, match="0 times"):
        mixing_views.skelemixclr(KINECT, repeats=0)


def test_skeattnclr_mixes_joints_and_then_derives(memory_dataset: Any) -> None:
    dataset = memory_dataset([40], shape=(3, 64, 25, 2))
    recipe = mixing_views.skeattnclr(KINECT)
    for joint, batch in zip(batches(dataset, recipe), batches(dataset, recipe, "motion"), strict=True):
        assert torch.equal(batch.mixed, views.motion(joint.mixed))
        mask = batch.mixed_mask[0]
        assert 13 <= int(mask.any(0).sum()) <= 21
        assert 4 <= int(mask.any(1).sum()) <= 7


@pytest.mark.parametrize("view", views.VIEWS)
def test_actclr_of_the_paper(memory_dataset: Any, view: str) -> None:
    dataset = memory_dataset([15], shape=(3, 50, 25, 2))
    act = chain("actclr-actionlet", layout=KINECT)
    noises = []
    for batch in batches(dataset, mixing_views.actclr(KINECT, view, moving), view):
        step = torch.full_like(batch.index, batch.step)
        raw = torch.from_numpy(dataset.clips["joint"][batch.index.numpy()])
        spread = views.derive(act(raw, Draws(3, 0, batch.index, 0, step)), view, KINECT)
        torch.testing.assert_close(batch.spread, spread, rtol=0, atol=1e-5)
        adain = SkeletonAdaIN(KINECT, view)
        drawn = adain.sample(Draws(3, 0, batch.index, 1, step), raw.shape)
        torch.testing.assert_close(batch.act, adain.apply(batch.spread, drawn), rtol=0, atol=1e-5)
        noises += [float(added.std()) for added in batch.noisy - batch.act]
        share = batch.non_mask[:, None, :, :, None]
        outside = (share == 0).expand(batch.non.shape)
        assert torch.equal(batch.non[outside], batch.noisy[outside])
        assert batch.query_mask.shape == (5, 50, 25, 2)
        hard = batch.query_mask[:, None]
        torch.testing.assert_close(batch.query, hard * batch.act + (1 - hard) * batch.non, rtol=0, atol=1e-4)
        found = to_frames(moving(views.derive(raw, view, KINECT)).movedim(3, 1), 50).movedim(1, 3)
        for name, op, slot in (("query", act, 0), ("key", chain("normal"), 5)):
            moves = op.sample(Draws(3, 0, batch.index, slot, step), raw.shape)
            assert torch.equal(batch.extras[f"{name}_mask"], carried(found, op, moves))
        assert not torch.equal(batch.key, batch.query)
    heard = [noise for noise in noises if noise > 0]
    assert 2 <= len(heard) <= 13  # of 15, each with probability 1/2
    assert all(abs(noise - 0.05) < 0.005 for noise in heard)


def test_actclr_with_the_actionlet_of_the_augmented_clip(memory_dataset: Any) -> None:
    dataset = memory_dataset([5], shape=(3, 50, 25, 2))
    (batch,) = batches(dataset, mixing_views.actclr(KINECT, "joint", moving, mask="recomputed"))
    assert torch.equal(batch.query_mask[:, 0], moving(batch.act)[:, 0])
    assert "key_mask" not in batch.extras


@pytest.mark.parametrize("mask", ["carried", "recomputed"])
@pytest.mark.parametrize(
    ("kinds", "made"), [([], "clip"), (["act"], "spread"), (["act", "adain"], "act"), (["adain"], "act")]
)
def test_actclr_without_some_transformations(memory_dataset: Any, kinds: list[str], made: str, mask: str) -> None:
    dataset = memory_dataset([5], shape=(3, 24, 25, 2))
    recipe = mixing_views.actclr(KINECT, "bone", moving, transformations=kinds, mask=mask)
    (batch,) = batches(dataset, recipe, "bone")
    clip = views.derive(torch.from_numpy(dataset.clips["joint"][batch.index.numpy()]), "bone", KINECT)
    assert torch.equal(batch.query, clip if made == "clip" else batch.views[made])
    assert torch.equal(batch.key, clip) == (not kinds)
    assert torch.equal(batch.spread, clip) == ("act" not in kinds)
    assert ("act" in batch.views) == ("adain" in kinds)
    if not kinds and mask == "carried":
        found = to_frames(moving(clip).movedim(3, 1), 24).movedim(1, 3)
        assert torch.equal(batch.query_mask, found)
        assert torch.equal(batch.key_mask, found)


def test_actclr_with_the_stronger_transformations_alone(memory_dataset: Any) -> None:
    dataset = memory_dataset([5], shape=(3, 24, 25, 2))
    (batch,) = batches(dataset, mixing_views.actclr(KINECT, "joint", moving, transformations=["non"]))
    inside = (batch.query_mask == 1)[:, None].expand(batch.query.shape)
    assert torch.equal(batch.query[inside], batch.spread[inside])
    assert not torch.equal(batch.query, batch.spread)


@pytest.mark.parametrize("mix", ["non-actionlet", "actionlet", "full"])
@pytest.mark.parametrize("noise", ["non-actionlet", "actionlet", "full"])
def test_noise_and_mix_of_actclr_act_in_their_area(memory_dataset: Any, noise: str, mix: str) -> None:
    dataset = memory_dataset([5], shape=(3, 24, 25, 2))
    recipe = mixing_views.actclr(KINECT, "joint", moving, noise_area=noise, mix_area=mix)
    for epoch in range(2):
        (batch,) = batches(dataset, recipe, epoch=epoch)
        share = batch.query_mask[:, None]
        inside = batch.act if noise == "non-actionlet" else batch.noisy
        outside = batch.act if noise == "actionlet" else batch.noisy
        if mix == "full":  # host and donor as they are with their noise
            inside = outside = share * inside + (1 - share) * outside
        base = inside if mix == "actionlet" else outside
        kept = (batch.non_mask == 0)[:, None, :, :, None].expand(base.shape)
        torch.testing.assert_close(batch.non[kept], base[kept], rtol=0, atol=1e-5)
        inside = inside if mix == "non-actionlet" else batch.non
        outside = outside if mix == "actionlet" else batch.non
        expected = share * inside + (1 - share) * outside
        torch.testing.assert_close(batch.query, expected, rtol=0, atol=1e-5)
        assert float(batch.non_mask.sum()) > 0


@pytest.mark.parametrize(("state", "view"), [("2023-12", "motion"), ("head", "joint"), ("head", "bone")])
def test_actclr_as_released(memory_dataset: Any, state: str, view: str) -> None:
    dataset = memory_dataset([15], shape=(3, 50, 25, 2))
    seen: list[Tensor] = []

    def watched(x: Tensor) -> Tensor:
        seen.append(x)
        return moving(x)

    recipe = mixing_views.actclr_released(KINECT, view, watched, state=state, begins=2)
    adain = SkeletonAdaIN(KINECT, view, state, begins=2)
    for batch in batches(dataset, recipe, view, epoch=2):
        assert seen.pop(0) is batch.act
        assert seen.pop(0) is batch.plain
        draws = Draws(3, 2, batch.index, 3, torch.full_like(batch.index, batch.step))
        assert torch.equal(batch.styled, adain.apply(batch.plain, adain.sample(draws, batch.plain.shape)))
        mixed_of = batch.plain if state == "head" and view != "joint" else batch.styled
        for name, of in (("blended", batch.styled), ("mixed", mixed_of)):
            share = batch.extras[f"{name}_mask"][:, None, :, :, None].expand(of.shape)
            assert torch.equal(batch.views[name][share == 0], of[share == 0])
        assert not torch.equal(batch.blended_mask, batch.mixed_mask)
        assert not hasattr(batch, "blended_taken")
        assert bool((batch.mixed_taken >= batch.mixed_mask).all())
        for name, inside, outside in (("query", "act", "non"), ("blend", "styled", "blended")):
            mask = batch.extras[f"{name}_mask"][:, None]
            expected = mask * batch.views[inside] + (1 - mask) * batch.views[outside]
            torch.testing.assert_close(batch.views[name], expected, rtol=0, atol=1e-4)
    late = batches(dataset, recipe, view, epoch=302)
    raw = torch.from_numpy(dataset.clips["joint"][late[0].index.numpy()])
    for name in ("act", "non", "plain", "key"):  # after the curriculum nothing is augmented
        torch.testing.assert_close(late[0].views[name], views.derive(raw, view, KINECT), rtol=0, atol=0)
    assert not torch.equal(late[0].styled, late[0].plain)
    lengths: dict[str, set[int]] = {"blended": set(), "mixed": set()}
    for batch in batches(dataset, recipe, view, epoch=202):
        for name in lengths:
            mask = batch.extras[f"{name}_mask"][0]
            lengths[name] |= {int(mask.any(1).sum()) // 4} if mask.max() == 1 else set()
    assert lengths["blended"] <= {1, 2, 3}  # the region shrinks, that of the third loss does not
    assert lengths["mixed"] <= {3, 4, 5}


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UsageError, match="'mine'"):
        mixing_views.actclr(KINECT, "joint", moving, chains=mixing_views.named(KINECT, "mine"))
