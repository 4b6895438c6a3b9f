"""The learning rate of each epoch or step, as a function of their numbers: nothing of it has to be saved."""

import math
from collections.abc import Sequence

from skelpipe.train.recipes.schema import LearningRates

__all__ = ["learning_rate", "rate_at"]


def learning_rate(base: float, milestones: Sequence[int], epoch: int, warmup: int = 0) -> float:
    """Return the learning rate of an epoch, counted from 1: milestone e divides it by 10 from epoch e+1 on.

    In the first `warmup` epochs it rises linearly: base * epoch / warmup.
    """
    rise = epoch / warmup if epoch < warmup else 1.0
    return base * rise / 10 ** sum(epoch > milestone for milestone in milestones)


def rate_at(
    settings: LearningRates, epoch: int, epochs: int, step: int = 0, steps: int = 1, base: float | None = None
) -> float:
    """Return the learning rate of a step, counted from 0, of the `steps` of an epoch, counted from 1.

    `base` is what a plateau has left of the settings' `lr`.

    With "cosine" a run is w units of warm-up and c further ones; a unit is an epoch, or with `per` "step" a step.
    Unit t, from 0, has the rate lr (t + 1) / w, then min_lr + (lr - min_lr) (1 + cos(pi (t - w) / c)) / 2. These
    are PyTorch's LinearLR from lr / w over w - 1 units, then CosineAnnealingLR with T_max = c.
    """
    lr = settings.lr if base is None else base
    apart = steps if settings.per == "step" else 1
    done = (epoch - 1) * apart + (step if settings.per == "step" else 0)
    warmup = settings.warmup * apart
    if settings.schedule != "cosine":
        rise = (done + 1) / warmup if done + 1 < warmup else 1.0
        return learning_rate(lr * rise, settings.milestones, epoch)
    if done < warmup:
        return lr * ((done + 1) / warmup)
    fallen = (done - warmup) / (epochs * apart - warmup)
    return settings.min_lr + (lr - settings.min_lr) * (1 + math.cos(math.pi * fallen)) / 2
