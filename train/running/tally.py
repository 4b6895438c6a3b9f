"""What the batches of an epoch have come to so far, so that an epoch that was stopped goes on where it was."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from skelpipe.train.running.checkpoint import capture_rng, restore_rng
from skelpipe.train.running.ranks import ALONE, Ranks

__all__ = ["Tally"]


@dataclass
class Tally:
    """Loss and logs of this rank's share of each batch of an epoch, as scalars on the device."""

    losses: list[Tensor] = field(default_factory=list)
    logs: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, logs: Mapping[str, Tensor]) -> None:
        """Add the logs of one batch; its loss is added by the watch over losses."""
        for name, value in logs.items():
            self.logs.setdefault(name, []).append(value.detach())

    def means(self, team: Ranks, share: float, device: torch.device) -> dict[str, float]:
        """Return mean loss and logs of the batches, over all ranks, each weighted by its `share` of the clips."""
        values = {"loss": self.losses} | self.logs
        means = {name: float(torch.stack(each).double().mean()) for name, each in values.items()}
        if team.world == 1:
            return means
        weighted = torch.tensor(list(means.values()), dtype=torch.float64, device=device) * share
        return dict(zip(means, team.sum(weighted).tolist(), strict=True))

    def save(self, step: int, device: torch.device, team: Ranks = ALONE) -> dict[str, Any]:
        """Return the part of a checkpoint that is of an epoch's first `step` batches, and of all ranks.

        `losses` and each of `logs` are [ranks, n]; `rng` is the state of torch's generators of every rank.
        """
        rng = capture_rng(device)
        states = {kind: None if state is None else _of_all(state, team) for kind, state in rng.items()}
        logs = {name: _of_all(torch.stack(values), team) for name, values in self.logs.items()}
        return {"step": step, "losses": _of_all(torch.stack(self.losses), team), "logs": logs, "rng": states}

    @classmethod
    def restore(cls, within: Mapping[str, Any], device: torch.device, team: Ranks = ALONE) -> "Tally":
        """Return this rank's tally, and set torch's generators to its state.

        With another number of ranks than before, each takes the mean over all ranks, and the generators stay as
        they are.
        """
        same = len(within["losses"]) == team.world
        if same:
            states = within["rng"]
            own = {kind: None if state is None else state[team.rank].clone() for kind, state in states.items()}
            restore_rng({"cpu": own["cpu"], "cuda": own.get("cuda")}, device)

        def part(values: Tensor) -> list[Tensor]:
            row = values[team.rank] if same else values.double().mean(dim=0).to(values.dtype)
            return list(row.to(device).unbind())

        return cls(part(within["losses"]), {name: part(values) for name, values in within["logs"].items()})


def _of_all(values: Tensor, team: Ranks) -> Tensor:
    """Return all ranks' values, [ranks, n], on the CPU."""
    return team.gather(values.cpu()[None], [1] * team.world)
