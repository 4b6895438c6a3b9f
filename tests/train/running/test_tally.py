"""Losses and logs of an epoch that was stopped, for the same and for another number of ranks."""

from dataclasses import dataclass, replace

import pytest
import torch

from skelpipe.train.running.ranks import ALONE, Ranks
from skelpipe.train.running.tally import Tally

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Two(Ranks):
    """Two ranks whose other one has twice the losses and the same generator."""

    world: int = 2

    def gather(self, x: torch.Tensor, counts: object = None) -> torch.Tensor:
        return torch.cat([x, 2 * x if x.is_floating_point() else x])


def tally() -> Tally:
    made = Tally()
    for value in (1.0, 0.1, 7.0):
        made.losses.append(torch.tensor(value))
        made.add({"std": torch.tensor(value / 3)})
    return made


@pytest.mark.parametrize("team", [ALONE, Two()])
def test_it_goes_on_with_the_same_numbers(team: Ranks) -> None:
    torch.manual_seed(3)
    within = tally().save(3, CPU, team)
    drawn = torch.rand(5)
    restored = Tally.restore(within, CPU, team)
    assert torch.equal(torch.rand(5), drawn)
    assert within["step"] == 3
    assert torch.equal(torch.stack(restored.losses), torch.stack(tally().losses))
    assert torch.equal(torch.stack(restored.logs["std"]), torch.stack(tally().logs["std"]))


def test_each_rank_has_its_own() -> None:
    within = tally().save(3, CPU, Two())
    second = Tally.restore(within, CPU, replace(Two(), rank=1))
    assert torch.equal(torch.stack(second.losses), 2 * torch.stack(tally().losses))


def test_another_number_of_ranks_takes_the_mean() -> None:
    within = tally().save(3, CPU, Two())
    before = torch.get_rng_state()
    alone = Tally.restore(within, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(torch.stack(alone.losses), 1.5 * torch.stack(tally().losses))
