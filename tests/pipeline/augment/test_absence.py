"""Augmentations that are said to keep bodies absent do, and the others need not."""

import pytest
import torch

from skelpipe.augment.absence import KEEPING, keeps_absent
from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.named_chains import CHAINS
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("name", CHAINS)
def test_absent_bodies_stay_absent_where_that_is_said(name: str, variant: str) -> None:
    built = chain(name, layout=KINECT, variant=variant)
    torch.manual_seed(0)
    clips = torch.randn(6, 3, 32, 25, 2)
    clips[:4, ..., 1] = 0
    for epoch in range(4):
        draws = Draws(5, epoch, torch.arange(6))
        for op in built.ops:
            if keeps_absent(op):
                found = op.apply(clips.clone(), op.sample(draws, clips.shape))
                assert not found[:4, ..., 1].any(), op
    assert keeps_absent(built) is all(map(keeps_absent, built.ops))


def test_what_may_make_a_body_present() -> None:
    assert keeps_absent(None)
    assert keeps_absent(GaussianNoise())
    assert not keeps_absent(GaussianNoise(empty=True))
    assert not keeps_absent(Chain([GaussianNoise(), JointNoise()]))  # what is not known to
    assert all(isinstance(kind, type) for kind in KEEPING)
