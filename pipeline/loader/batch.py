"""A batch of clips as programs for torch take it: it moves, pins, and is a mapping as well as a dataclass."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelpipe.front.descriptions import counted
from skelpipe.loader.nested import map_tensors

__all__ = ["NOT_VIEWS", "Batch", "StreamBatch"]

Array = TypeVar("Array", NDArray[Any], Tensor)


@dataclass(init=False, eq=False, repr=False)
class _Batch(Mapping[str, Any], Generic[Array]):
    """What both kinds of batches have in common.

    As a mapping a batch has its fields. Programs that take batches apart and put them together again, such as
    accelerate where it dispatches, know no numbers that belong to no clip: in a batch of tensors the items `epoch`
    and `step` are int64[n], one for each clip; the attributes are numbers, of the first clip.
    """

    views: dict[str, Array]
    label: Array
    index: Array
    epoch: int
    step: int
    extras: dict[str, Array]

    def __init__(
        self,
        views: Mapping[str, Any],
        label: Array | None = None,
        index: Array | None = None,
        epoch: Any = 0,
        step: Any = 0,
        extras: Mapping[str, Array] | None = None,
    ) -> None:
        """Make a batch of its fields, or of one mapping that has them all."""
        if label is None:
            views, label, index, epoch, step, extras = (views[name] for name in FIELDS)
        self.views, self.extras = dict(views), dict(extras or {})
        self.label, self.index = cast(Array, label), cast(Array, index)
        self._columns: dict[str, Any] = {}
        if isinstance(epoch, int) and isinstance(step, int):
            self.epoch, self.step = epoch, step
        else:
            self.epoch, self.step = _number(epoch), _number(step)
            given = {"epoch": epoch, "step": step}
            self._columns = {name: value for name, value in given.items() if not isinstance(value, int)}

    def __getattr__(self, name: str) -> Array:
        for kind in ("views", "extras"):
            if name in (held := self.__dict__.get(kind, {})):
                array: Array = held[name]
                return array
        held = [*self.__dict__.get("views", ()), *self.__dict__.get("extras", ())]
        raise AttributeError(f"the batch has no view {name!r}; it has: {', '.join(held)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.views, *self.extras]

    def __repr__(self) -> str:
        shapes = {name: list(getattr(x, "shape", ())) for name, x in {**self.views, **self.extras}.items()}
        held = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        clips = counted(len(self), "clip")
        return f"<{type(self).__name__}: {clips} of epoch {self.epoch}, step {self.step}: {held}>"

    def __len__(self) -> int:
        return len(self.label)

    def __iter__(self) -> Iterator[str]:
        return iter(FIELDS)

    def __contains__(self, name: object) -> bool:
        return name in FIELDS

    def __getitem__(self, name: str) -> Any:
        if name not in FIELDS:
            raise KeyError(f"{name}: a batch has {', '.join(FIELDS)}; a view of it is batch.views[{name!r}]")
        if name in self._columns:
            return self._columns[name]
        value = getattr(self, name)
        if name in ("epoch", "step") and isinstance(self.label, Tensor):
            return torch.full((len(self),), value, dtype=torch.int64, device=self.label.device)
        return value

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def to(self, device: torch.device | str | int, non_blocking: bool = False) -> "Batch":
        """Return the batch as tensors on `device`."""
        return self._each(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Batch":
        """Return the batch as tensors in pinned memory, from which `to` with `non_blocking` does not wait."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        place = {"epoch": self.epoch, "step": self.step, **self._columns}
        held = {name: _tensors(self.__dict__[name]) for name in ("views", "label", "index", "extras")}
        return Batch(**map_tensors(function, {**held, **place}))


class StreamBatch(_Batch[NDArray[Any]]):
    """One rank's share of one global batch: n samples, as a stream reads them.

    `index` int64[n] is each sample's row in the subset, `label` int64[n] its class, `views` maps a view's
    name to float32[n,C,T,V,M], and the names of views are attributes too (`batch.joint`). Iterating over a stream
    gives numpy arrays, a DataLoader makes tensors of them that share their memory; `to` and `pin_memory` return a
    `Batch`.
    """


class Batch(_Batch[Tensor]):
    """n samples on the device, one rank's share of a global batch.

    `views` maps each name of the recipe to float32[n,C,T,V,M]. `extras` holds further results, such as mask and
    donors of the view `mixed` as `mixed_mask` and `mixed_donor`; donors are positions in the global batch. The
    names of both are attributes too (`batch.query`, `batch.mixed_donor`). `label` and `index` (the row in the
    subset) are int64[n].
    """


FIELDS = tuple(field.name for field in fields(_Batch))
# Names that a view cannot have: they would hide what a batch is and does.
NOT_VIEWS = tuple(name for name in dir(_Batch) if not name.startswith("_")) + FIELDS


def _number(value: Any) -> int:
    """Return the number itself, or that of the first clip; -1 where there is none."""
    if isinstance(value, Tensor):
        return int(value[0]) if len(value) else -1
    return value if isinstance(value, int) else -1


def _tensors(held: Any) -> Any:
    if isinstance(held, dict):
        return {name: _tensors(x) for name, x in held.items()}
    return torch.as_tensor(held) if isinstance(held, np.ndarray) else held
