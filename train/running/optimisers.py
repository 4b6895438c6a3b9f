"""torch's optimisers without torch's compiler, which nobody needs to step them one by one.

On a GPU a step is one kernel over many parameters at once (`fused`): one by one they would be hundreds.
"""

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["fused_where_possible", "uncompiled"]

O = TypeVar("O", bound=Optimizer)  # noqa: E741

FUSED_ON: Final = ("cuda",)  # devices
HOW: Final = ("capturable", "foreach", "fused")  # settings of a machine rather than of a run
KEPT_FROM_COMPILING = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


@cache
def uncompiled(kind: type[O]) -> type[O]:
    """Return a kind of optimiser that does the same and does not import `torch._dynamo`.

    torch wraps these functions, to keep them out of graphs that are compiled, in others that import its compiler
    when they are first called, compiled or not: seconds, as long as the import of torch takes. Here the functions
    that are wrapped are called directly; `step` without gradients, as its wrapper does unless the optimiser is
    `differentiable`. Never compile such a step.

    A loaded state keeps this optimiser's own way to compute a step, which that of another device may not know.
    """
    own: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in KEPT_FROM_COMPILING}
    own["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    load = own["load_state_dict"]

    def load_state_dict(self: Optimizer, state_dict: Mapping[str, Any]) -> None:
        groups = [
            {**saved, **{name: group[name] for name in HOW if name in group}}
            for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=False)
        ]
        same = len(groups) == len(state_dict["param_groups"])
        load(self, {**state_dict, "param_groups": groups} if same else dict(state_dict))

    own["load_state_dict"] = load_state_dict
    return type(kind.__name__, (kind,), own)


def fused_where_possible(learned: Sequence[Tensor]) -> dict[str, bool]:
    """Return the arguments by which an optimiser of these parameters takes few kernels: none on a CPU."""
    possible = bool(learned) and all(each.device.type in FUSED_ON for each in learned)
    return {"fused": True} if possible else {}
