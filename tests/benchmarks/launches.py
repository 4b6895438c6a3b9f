"""What work asks of a GPU, counted without one: kernels that are launched, and bytes that they read and write.

`Launches` watches every operation that reaches a device, on torch's meta device too, where nothing is computed:

- Operations that only describe memory in another way (views, shapes, allocations) cost nothing.
- Every other operation is one kernel that reads each of its inputs once and writes each of its outputs once. A
  gather reads only the rows that it takes, and a row that is expanded is read once. This is the least that the
  work can take: a library may read its inputs twice or launch several kernels, as for batch normalisation.
- An operation on many tensors at once (`_foreach_...`, `_fused_...`) is as many kernels as torch packs it into:
  at most so many tensors, and so many chunks of 65,536 elements, per launch (ATen's MultiTensorApply.cuh).
"""

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from on_meta import is_of_host, made_on_meta
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Launches", "Work", "paper_ms"]

BANDWIDTH = 4e12  # bytes per second of the card on paper
LAUNCH = 4e-6  # seconds per launch there

aten = torch.ops.aten
ALLOCATING = {
    aten.empty,
    aten.empty_like,
    aten.empty_strided,
    aten.new_empty,
    aten.new_empty_strided,
    aten._unsafe_view,
    aten.lift_fresh,
    aten.set_,
    aten.resize_,
}
GATHERING = {aten.index_select, aten.gather, aten.index, aten.embedding}  # from their first input
SCATTERING = {aten.index_copy_, aten.index_put_, aten.scatter_, aten.index_add_}  # into it

CHUNK = 65_536  # elements that a block of a kernel over many tensors handles
TENSORS = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}  # per launch, by the number of lists
BLOCKS = 320  # chunks per launch


@dataclass(frozen=True)
class Work:
    """Kernels and the bytes that they move."""

    kernels: int = 0
    moved: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.kernels + other.kernels, self.moved + other.moved)


def paper_ms(work: Work) -> float:
    """Return milliseconds on a card of 4 TB/s that takes 4 us per launch, where nothing overlaps."""
    return 1e3 * (work.kernels * LAUNCH + work.moved / BANDWIDTH)


class Launches(TorchDispatchMode):
    """Counts the work inside the context, by part; `by_name` has the kernels of each operation.

    Operations on tensors of the host alone are left out, unless `host` stands for the device.
    """

    def __init__(self, *, host: bool = False) -> None:
        super().__init__()
        self._host = host
        self.parts: dict[str, Work] = {}
        self.by_name: Counter[str] = Counter()
        self.bytes_by_name: Counter[str] = Counter()
        self._part = "all"

    @property
    def total(self) -> Work:
        return sum(self.parts.values(), Work())

    @contextmanager
    def of(self, part: str) -> Iterator["Launches"]:
        """Count what happens inside the context as `part`; an inner part is not counted in the outer one."""
        before, self._part = self._part, part
        try:
            if before == "all":
                with self:
                    yield self
            else:
                yield self
        finally:
            self._part = before

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = made_on_meta(func, args, kwargs)
        if (
            func._overloadpacket not in ALLOCATING
            and not _is_view(func)
            and (self._host or not is_of_host(func, args, kwargs))
        ):
            work = _work(func, args, kwargs, result)
            self.parts[self._part] = self.parts.get(self._part, Work()) + work
            self.by_name[str(func)] += work.kernels
            self.bytes_by_name[str(func)] += work.moved
        return result


# torch would import its compiler at the first operation, and keep it out at each: none is at work here.
Launches.__torch_dispatch__ = inspect.unwrap(Launches.__torch_dispatch__)  # type: ignore[method-assign]


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(each.alias_info and not each.alias_info.is_write for each in returns)


def _work(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Work:
    packet, name = func._overloadpacket, func._schema.name
    given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    if "_foreach_" in name or "_fused_" in name:
        lists = [each for each in args if isinstance(each, list | tuple) and each and isinstance(each[0], Tensor)]
        written = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        written = written or [each for found in _changed(func, args) for each in found]
        return Work(_packed(lists), sum(map(_bytes, [*given, *written])))
    made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
    if not made:  # a question about types
        return Work()
    read, written = sum(map(_bytes, given)), sum(map(_bytes, made))
    if packet in GATHERING:
        read = written + sum(map(_bytes, given[1:]))
    elif packet in SCATTERING:
        read = sum(map(_bytes, given[1:]))
        written = _bytes(given[-1])
    elif packet is aten.copy_:
        read = _bytes(given[1])
    elif packet in (aten.fill_, aten.zero_, aten.bernoulli_, aten.uniform_, aten.normal_):
        read = 0
    return Work(1, read + written)


def _changed(func: Any, args: tuple[Any, ...]) -> list[Any]:
    schema = zip(func._schema.arguments, args, strict=False)
    return [value for argument, value in schema if argument.alias_info and argument.alias_info.is_write]


def _bytes(x: Tensor) -> int:
    """Return the bytes of a tensor's distinct elements."""
    distinct = [size for size, stride in zip(x.shape, x.stride(), strict=True) if stride]
    return int(prod(distinct)) * x.element_size() if x.numel() else 0


def _packed(lists: Sequence[Sequence[Tensor]]) -> int:
    """Return the launches of a kernel over lists of tensors of equal length."""
    length = len(lists[0])
    depth = min(max(sum(len(each) == length for each in lists), 1), max(TENSORS))
    launches = tensors = blocks = 0
    for each in lists[0]:
        tensors += 1
        for _ in range(-(-each.numel() // CHUNK)):
            blocks += 1
            if blocks == BLOCKS:
                launches, tensors, blocks = launches + 1, 1, 0
        if tensors == TENSORS[depth] and blocks:
            launches, tensors, blocks = launches + 1, 0, 0
    return launches + (blocks > 0)
