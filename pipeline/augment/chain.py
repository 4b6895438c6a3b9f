"""Augmentations one after another, where neighbours that can be folded are one pass; chains by name."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

from torch import Tensor

from skelpipe.augment.clip_program import WEIGH, ClipOp, Part, Program, program
from skelpipe.augment.cpu_kernels import usable
from skelpipe.augment.draws import Draws
from skelpipe.augment.fold import AxisOp, Fold, FrameOp, Op, OwningOp, Params, kind_of, owns_memory
from skelpipe.augment.named_chains import ACTCLR, Curriculum
from skelpipe.augment.op_lists import read_ops
from skelpipe.augment.op_texts import op_text
from skelpipe.augment.operators import Strength
from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.errors import UsageError
from skelpipe.front.arguments import given, whole_number
from skelpipe.front.descriptions import described_safely
from skelpipe.skeleton import Layout
from skelpipe.skeleton import layout as layout_named

__all__ = ["AxisOp", "Chain", "FrameOp", "Op", "Params", "Steps", "chain"]

FOLDED = ("frames", "matrix", "centred", "weights", "joints")
VARIANTS = ("paper", "released")
NORMAL = ("crop", "shear", "centred-shear")  # a curriculum keeps these, where a chain begins with them
Steps: TypeAlias = tuple[tuple[int | None, Params], ...]


class Chain:
    """Augmentations in order. Op number i draws from `draws.child(first + i)`.

    Neighbouring ops that choose frames, mix axes or reorder joints are folded into one frame index, one matrix and
    one joint order per sample, which are applied together. The result equals that of the ops one by one, up to
    rounding. With a curriculum, ops are left out by epoch: their parameters are None.
    """

    def __init__(self, ops: Sequence[Op], curriculum: Curriculum | None = None, first: int = 0) -> None:
        """Join `ops`; the first of them has number `first`."""
        self.ops = _checked(ops)
        self.curriculum = curriculum
        self.first = first
        self._kinds = tuple(kind_of(op) for op in self.ops)
        self._in_programs = tuple(isinstance(op, ClipOp) for op in self.ops)

    @described_safely
    def __repr__(self) -> str:
        fewer = "" if self.curriculum is None else "; fewer by epoch"
        return f"<Chain: {', '.join(map(op_text, self.ops)) or 'changes nothing'}{fewer}>"

    def __len__(self) -> int:
        return len(self.ops)

    def split(self, count: int) -> tuple["Chain", "Chain"]:
        """Return the chains of the first `count` ops and of the rest; together they draw what this chain draws."""
        if self.curriculum is not None:
            raise UsageError("a chain with a curriculum cannot be split")
        return Chain(self.ops[:count], first=self.first), Chain(self.ops[count:], first=self.first + count)

    def sample(self, draws: Draws, shape: Sequence[int]) -> tuple[Params | None, ...]:
        """Draw the parameters of each op for clips of `shape` [N,C,T,V,M]."""
        kept = None if self.curriculum is None else self.curriculum.kept(draws, len(self.ops))
        children = draws.children(self.first, len(self.ops))
        return tuple(
            op.sample(child, shape) if kept is None or i in kept else None
            for i, (op, child) in enumerate(zip(self.ops, children, strict=True))
        )

    @property
    def begins_by_mixing(self) -> bool:
        """Whether the first pass mixes axes, so that it can read memory-mapped clips directly."""
        folded = itertools.takewhile(lambda kind: kind in FOLDED, self._kinds)
        return self.curriculum is None and not {"matrix", "centred"}.isdisjoint(folded)

    def apply(self, x: Tensor | MappedClips, params: Sequence[Params | None]) -> Tensor:
        """Apply the ops with these parameters to clips [N,C,T,V,M]; `x` stays as it is."""
        return self.run(x, self.folded(params, x.shape))

    def folded(self, params: Sequence[Params | None], shape: Sequence[int]) -> Steps:
        """Return the steps that these parameters mean for clips of `shape` [N,C,T,V,M], folded where possible.

        Each step is the number of an op and its parameters, or None and the parameters of a `Fold`. All tensors
        have one row per sample, so that steps computed for several batches together can be split again.
        """
        steps: list[tuple[int | None, Params]] = []
        fold = Fold()
        for number, (op, kind, drawn) in enumerate(zip(self.ops, self._kinds, params, strict=True)):
            if drawn is None or fold.add(op, kind, drawn, shape):
                continue
            steps += [(None, fold.params()), (number, drawn)]
            fold = Fold()
        return (*steps, (None, fold.params()))

    def program(self, steps: Steps, shape: Sequence[int]) -> Program | None:
        """Return the longest beginning of the steps that can be done clip by clip on a CPU.

        `shape` is [N,C,T,V,M], N the rows of the steps' tensors. None where it would be no step, or where tensors
        are not those of a CPU.
        """
        number, first = steps[0]
        if number is not None or "matrix" not in first or not usable(first["matrix"]):
            return None
        parts, count = [], 1
        for number, params in steps[1:]:
            if number is not None and self._in_programs[number]:
                parts.append(cast(ClipOp, self.ops[number]).part(params, shape))
            elif number is None and not params.keys() - {"weights"}:
                parts += [Part(WEIGH, [params["weights"]])] if params else []
            else:
                break
            count += 1
        return program(Fold(**first), parts, count, shape)

    def run(self, x: Tensor | MappedClips, steps: Steps) -> Tensor:
        """Apply the steps that `folded` returned to clips [N,C,T,V,M]; `x` stays as it is."""
        if (isinstance(x, MappedClips) or usable(x)) and (made := self.program(steps, x.shape)):
            return self.finish(made.run(x), steps[made.count :])
        return self.finish(x, steps)

    def finish(self, x: Tensor | MappedClips, steps: Steps) -> Tensor:
        """Apply these steps one after another; `x` stays as it is."""
        y: Tensor | MappedClips = x
        for number, params in steps:
            if number is None:
                y = Fold(**params).apply(y, owned=y is not x and owns_memory(cast(Tensor, y), x))
                continue
            op, kind, y = self.ops[number], self._kinds[number], cast(Tensor, y)  # a fold came first
            may_change = kind == "change" and owns_memory(y, x) and y.is_contiguous() and not y.requires_grad
            y = cast(OwningOp, op).change(y, params) if may_change else op.apply(y, params)
        return cast(Tensor, y)

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        """Draw and apply."""
        return self.apply(x, self.sample(draws, x.shape))


def _checked(ops: Any) -> tuple[Op, ...]:
    """Return operators; UsageError for what is none."""
    if isinstance(ops, str) or not isinstance(ops, Iterable):
        raise UsageError(f"Chain() joins a list of operators, not {given(ops)}; chain(...) makes them by name")
    found = tuple(ops)
    for op in found:
        if isinstance(op, type):
            raise UsageError(f"a chain joins operators: {op.__name__}(...) makes one, the class alone is none")
        if not (hasattr(op, "sample") and hasattr(op, "apply")):
            raise UsageError(
                f"{given(op)} is no operator: those have sample and apply; chain(...) makes them by name"
            )
    return found


def _amount(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UsageError(f"{name} is {given(value)}; it must be a number of at least 0")
    return value


def _layout(layout: Any) -> Layout | None:
    if layout is None or isinstance(layout, Layout):
        return layout
    if isinstance(layout, str):
        return layout_named(layout)
    raise UsageError(
        f"layout is a skeleton: a dataset's `layout`, or the name of a built-in one, not {given(layout)}"
    )


def chain(
    ops: Any,
    *,
    layout: Layout | str | None = None,
    variant: str = "paper",
    shear: float = 0.5,
    crop: int = 6,
    curriculum: bool | str = False,
    begins: int = 0,
    first: int = 0,
    where: str = "augmentation",
    at: str = "ops",
) -> Chain:
    """Build a chain by name (see `named_chains.CHAINS`) or of a list of operators (see `op_lists.read_ops`).

    `layout`, or the name of a built-in one, is needed by chains that treat joints differently. What a list or
    chain does not say is taken from the `variant`, `paper` or `released`, and for crop and shear from `crop` and
    `shear`. With `curriculum` a chain of
    ActCLR leaves out ops by epoch, counted from epoch `begins`, as the released code does; a list takes the
    curriculum of the chain named. `first` is the number of the first op, `where` and `at` begin messages. Raises
    UsageError for what is unknown or wrong, and where the layout is missing.
    """
    if variant not in VARIANTS:
        raise UsageError(f"the variant of an augmentation is 'paper' or 'released', not {variant!r}")
    shear, crop = _amount(shear, "shear"), whole_number(crop, "crop", 0)
    layout = _layout(layout)
    strength = Strength(shear=shear, crop=crop, released=variant == "released")
    chosen = read_ops(ops, strength, where, at)
    made = [each.op(layout) for each in chosen]
    if not curriculum:
        return Chain(made, first=first)
    name = ops if curriculum is True else curriculum
    if not isinstance(name, str) or name not in ACTCLR:
        raise UsageError(f"the augmentation {name!r} has no curriculum; these have: {', '.join(ACTCLR)}")
    normal = itertools.takewhile(lambda each: each.name in NORMAL, chosen)
    return Chain(made, replace(ACTCLR[name], always=len(list(normal)), begins=begins), first)
