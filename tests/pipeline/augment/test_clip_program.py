"""A chain as one program on a CPU: the same as its steps one after another, for any rows and from mapped clips."""

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.augment.axis_mask import AxisMask
from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.joint_noise import JointNoise
from skelpipe.augment.shear import Shear
from skelpipe.augment.time_rescale import TimeRescale
from skelpipe.loader.view_recipes import DrawnView
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
NAMES = ["normal", "aimclr-extreme", "msmclr-strong", "actclr-normal", "actclr-non-actionlet"]
ALL = [(name, variant) for name in NAMES for variant in ("paper", "released")]


def clips(n: int, bodies: int = 2) -> Tensor:
    x = torch.randn(n, 3, 30, 25, bodies, generator=torch.Generator().manual_seed(n))
    x[::3, ..., -1] = 0
    return x


def drawn(whole: Chain, x: Tensor, seed: int = 0) -> DrawnView:
    return DrawnView.of(whole, whole.sample(Draws(seed, 0, torch.arange(len(x))), x.shape), x.shape)


@pytest.mark.parametrize("bodies", [1, 2, 3])
@pytest.mark.parametrize(("name", "variant"), ALL)
def test_a_program_is_its_steps_one_after_another(name: str, variant: str, bodies: int) -> None:
    whole, x = chain(name, layout=KINECT, variant=variant), clips(40, bodies)
    steps = drawn(whole, x).steps
    made = whole.program(steps, x.shape)
    assert made.count == len(steps)
    before = x.clone()
    assert torch.equal(made.run(x), whole.finish(x, steps))
    assert torch.equal(x, before)


def test_rows_of_several_batches_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, x = chain("aimclr-extreme", layout=KINECT), clips(24)
    view = drawn(whole, x)
    every = view.apply(whole, x)
    calls = []
    monkeypatch.setattr(Chain, "program", lambda *given: calls.append(given))
    for rows in (slice(0, 8), slice(8, 16), slice(16, 24)):
        assert torch.equal(view.part(rows).apply(whole, x[rows]), every[rows])
    assert not calls  # the program was made once
    half = view.part(slice(8, 16)).apply(whole, x[8:16].double())  # no program can be used here
    torch.testing.assert_close(half.float(), every[8:16], rtol=0, atol=1e-5)


def test_what_ends_a_program_is_applied_after_it() -> None:
    x = clips(12)
    whole = Chain([Shear(), GaussianNoise(0.1), Shear(), GaussianBlur(), AxisMask(1.0), GaussianNoise(0.1, 1.0)])
    steps = drawn(whole, x).steps
    made = whole.program(steps, x.shape)
    assert 0 < made.count < len(steps)
    assert torch.equal(whole.run(x, steps), whole.finish(x, steps))


def test_a_masked_axis_has_the_noise_that_follows() -> None:
    x = clips(12)
    whole = Chain(
        [Shear(), GaussianNoise(0.1, 1.0), GaussianBlur(probability=1.0), AxisMask(1.0), GaussianNoise(0.1, 1.0)]
    )
    params = whole.sample(Draws(0, 0, torch.arange(12)), x.shape)
    y = whole.apply(x, params)
    masked = params[3]["keep"] == 0
    assert (masked.sum(1) == 1).all()
    assert torch.equal(y, whole.finish(x, whole.folded(params, x.shape)))
    assert (y[..., 0][masked] != 0).all()
    assert (y[..., 0][masked].abs() < 0.6).all()


def test_programs_refuse_what_does_not_fit() -> None:
    x, ops = clips(4), [Shear(), GaussianNoise(1.0, 1.0), TimeRescale(probability=1.0), JointNoise(2)]
    whole = Chain(ops)
    params = whole.sample(Draws(0, 0, torch.arange(4)), x.shape)
    for number, key, wrong in ((1, "start", -1), (1, "start", 1 << 20), (3, "joints", 25), (3, "joints", -1)):
        other = [dict(each) for each in params]
        other[number][key] = torch.full_like(params[number][key], wrong)
        with pytest.raises(IndexError, match="was chosen that clips"):
            whole.apply(x, tuple(other))
    made = whole.program(whole.folded(params, x.shape), x.shape)
    with pytest.raises(ValueError, match="does not fit"):
        made.run(x, 1)
    with pytest.raises(ValueError, match="do not fit"):
        whole.program(whole.folded(params, x.shape), (5, *x.shape[1:]))
    assert Chain([GaussianNoise()]).program((((0, params[1])),), x.shape) is None
    assert np.isfinite(made.run(x).numpy()).all()
