"""torch's optimisers without torch's compiler, which nobody needs to step them one by one."""

import inspect
from functools import cache
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

__all__ = ["uncompiled"]

O = TypeVar("O", bound=Optimizer)  # noqa: E741

KEPT_FROM_COMPILING = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


@cache
def uncompiled(kind: type[O]) -> type[O]:
    """Return a kind of optimiser that does the same and does not import `torch._dynamo`.

    torch wraps these functions, to keep them out of graphs that are compiled, in others that import its compiler
    when they are first called, compiled or not: seconds, as long as the import of torch takes. Here the functions
    that are wrapped are called directly; `step` without gradients, as its wrapper does unless the optimiser is
    `differentiable`. Never compile such a step.
    """
    own: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in KEPT_FROM_COMPILING}
    own["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), own)
