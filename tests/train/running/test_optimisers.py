"""Optimisers without torch's compiler: torch's own, to the last bit, in steps, states and groups."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from skelpipe.train.running.optimisers import uncompiled


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
        (torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.01}),
        (torch.optim.AdamW, {"lr": 0.1}),
    ],
)
def test_it_is_torchs_own_to_the_last_bit(kind: type[torch.optim.Optimizer], settings: dict[str, float]) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    theirs = deepcopy(ours)
    mine, plain = uncompiled(kind)(ours.parameters(), **settings), kind(theirs.parameters(), **settings)
    assert isinstance(mine, kind)
    scheduler = torch.optim.lr_scheduler.StepLR(mine, 2)
    reference = torch.optim.lr_scheduler.StepLR(plain, 2)
    for _ in range(4):
        x = torch.randn(6, 5)
        for net, optimiser, schedule in ((ours, mine, scheduler), (theirs, plain, reference)):
            optimiser.zero_grad()
            net(x).square().mean().backward()
            optimiser.step()
            schedule.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)
    assert str(mine.state_dict()) == str(plain.state_dict())
    mine.load_state_dict(plain.state_dict())  # either reads the state of the other
    plain.load_state_dict(mine.state_dict())
    called: list[object] = []
    mine.register_step_post_hook(lambda *given: called.append(given))
    mine.step()
    assert len(called) == 1
    assert all(parameter.grad is None for parameter in ours.parameters()) is False
    mine.zero_grad()
    assert all(parameter.grad is None for parameter in ours.parameters())


def test_a_loaded_state_keeps_the_way_in_which_this_optimiser_computes() -> None:
    """A run that began on a GPU goes on where steps are computed otherwise, and the other way round."""
    parameter = nn.Parameter(torch.ones(3))
    there = uncompiled(torch.optim.Adam)([parameter], lr=0.1, fused=True)
    parameter.grad = torch.ones(3)
    there.step()
    here = uncompiled(torch.optim.Adam)([nn.Parameter(torch.ones(3))], lr=0.2)
    here.load_state_dict(there.state_dict())
    assert [here.param_groups[0][name] for name in ("fused", "lr")] == [None, 0.1]
    assert float(next(iter(here.state.values()))["step"]) == 1
    with pytest.raises(ValueError, match="parameter groups"):
        here.load_state_dict({"state": {}, "param_groups": []})


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_fused_step_is_the_same_step(kind: type[torch.optim.Optimizer]) -> None:
    """In float64, on a CPU, whose fused kernels compute what those of a GPU do."""
    torch.manual_seed(0)
    start, gradients = torch.randn(40, dtype=torch.float64), torch.randn(5, 40, dtype=torch.float64)
    found = []
    for how in ({}, {"fused": True}):
        parameter = nn.Parameter(start.clone())
        momentum = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        optimiser = uncompiled(kind)([parameter], lr=0.1, weight_decay=0.01, **momentum, **how)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimiser.step()
        found.append(parameter.detach())
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
