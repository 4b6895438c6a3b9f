"""Number mask: each number is zero by itself, the others stay as they are."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from skelpipe.augment import number_mask
from skelpipe.augment.draws import Draws
from skelpipe.augment.number_mask import NumberMask
from skelpipe.errors import UsageError


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_numbers_is_zero(channels: int, share: float) -> None:
    x = torch.randn(40, channels, 20, 25, 2)
    before, op = x.clone(), NumberMask(share)
    params = op.sample(Draws(0, 0, torch.arange(40)), x.shape)
    y = op.apply(x, params)
    assert torch.equal(x, before)
    assert torch.equal(y[:, 3:], x[:, 3:])
    masked = (y != x)[:, :3]
    assert not y[:, :3][masked].any()
    shares = masked.double().mean((1, 2, 3, 4))
    hit = shares[shares > 0]
    assert (hit - share).abs().max() < 0.05 if share else not len(hit)  # of 3000 numbers: 6 standard deviations
    assert 8 <= len(hit) <= 32 or not share
    for axes in ((1,), (3,), (4,)):  # by itself: no axis, joint or body is zero as a whole
        assert share == 1 or not masked.all(axes).all()


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(UsageError, match=r"1\.5"):
        NumberMask(1.5)
    with pytest.raises(UsageError, match="-1"):
        NumberMask(probability=-1)


def test_it_is_the_authors(
    recording: Callable[[str], Any], float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = recording("augment-dropout-2023")
    clips, keep = recorded["x"], recorded["param/keep"]
    monkeypatch.setattr(number_mask, "window", lambda kind, start, length: keep.reshape(-1, length) * 0.9)
    params = {"share": torch.full((len(clips),), 0.5), "start": torch.zeros(len(clips), dtype=torch.long)}
    assert torch.equal(NumberMask().apply(clips, params), recorded["y"])
    assert 0.4 < float(keep.double().mean()) < 0.6
    assert not recorded.unread
