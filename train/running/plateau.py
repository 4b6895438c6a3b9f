"""A learning rate that is lowered when the loss stalls, by the rules of PyTorch's ReduceLROnPlateau.

Its state is kept in the optimiser's first group, and so in every checkpoint: a resumed run goes on with it.
"""

import math
from typing import Any

import torch

from skelpipe.train.recipes.schema import Optimiser

__all__ = ["base_rate", "look"]

STATE = "plateau"  # the key in the group
LEAST = 1e-8  # a smaller change of the rate is none, as in PyTorch


def base_rate(optimiser: torch.optim.Optimizer, settings: Optimiser) -> float:
    """Return the learning rate before warm-up and milestones: `lr`, or what stalls have left of it."""
    return float(_state(optimiser, settings)["rate"]) if settings.schedule == "plateau" else settings.lr


def look(optimiser: torch.optim.Optimizer, settings: Optimiser, loss: float) -> None:
    """Take the mean loss of a finished epoch, the same on all ranks, and lower the rate if it has stalled."""
    if settings.schedule != "plateau":
        return
    state = _state(optimiser, settings)
    if loss < state["best"] * (1 - settings.threshold):
        state |= {"best": loss, "bad": 0}
    else:
        state["bad"] += 1
    if state["cooldown"] > 0:
        state |= {"cooldown": state["cooldown"] - 1, "bad": 0}
    if state["bad"] > settings.patience:
        lower = max(state["rate"] * settings.factor, settings.min_lr)
        if state["rate"] - lower > LEAST:
            state["rate"] = lower
        state |= {"cooldown": settings.cooldown, "bad": 0}


def _state(optimiser: torch.optim.Optimizer, settings: Optimiser) -> dict[str, Any]:
    """Return the state: rate, lowest loss, epochs without a lower one, epochs that do not count yet."""
    group = optimiser.param_groups[0]
    state: dict[str, Any] = group.setdefault(
        STATE, {"rate": settings.lr, "best": math.inf, "bad": 0, "cooldown": 0}
    )
    return state
