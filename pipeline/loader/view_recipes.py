"""How each view of a batch is made: clips augmented, an earlier view mixed, or two joined by an actionlet."""

import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

import torch
from torch import Tensor

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.blend import Mixed
from skelpipe.augment.chain import Chain, Steps
from skelpipe.augment.clip_program import Program
from skelpipe.augment.cpu_kernels import usable
from skelpipe.augment.draws import Draws
from skelpipe.augment.mats import carried, mats
from skelpipe.augment.op_texts import op_text
from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.errors import UsageError
from skelpipe.front.arguments import given
from skelpipe.loader.nested import map_tensors

__all__ = [
    "Augmentation",
    "Augmented",
    "BatchInProgress",
    "DrawnView",
    "Marked",
    "Mats",
    "Mixing",
    "On",
    "View",
    "ViewRecipe",
    "ViewRecipes",
    "described",
    "view_recipes",
    "with_used",
]


@runtime_checkable
class Augmentation(Protocol):
    """An operation that changes clips, such as a `Chain`.

    `sample` returns tensors with one row per sample, alone or nested in dicts, lists and tuples: the parameters of
    several batches are drawn together and cut apart.
    """

    def sample(self, draws: Draws, shape: torch.Size) -> Any: ...

    def apply(self, x: Tensor, params: Any) -> Tensor: ...


@runtime_checkable
class Mixing(Augmentation, Protocol):
    """An augmentation that mixes the clips of a batch and returns mask and donors besides.

    Its parameters, like those of every operation that uses other clips, hold the number of the other clip,
    int64[N], under the key `donor` (see `skelpipe.augment.donor`). What it gives beside the clips it may name in
    `extras`, which are fields of `Mixed`; otherwise that is `mask` and `donor`.
    """

    def mix(self, x: Tensor, params: Any) -> Mixed: ...


class DrawnView(NamedTuple):
    """The parameters drawn for a view and, for a `Chain`, the steps that they are folded to (see `Chain.folded`).

    Both have one row per sample, so that several batches can be drawn together and cut apart. The parameters of a
    chain are hardly ever needed once they are folded, so they are cut only on demand, as the steps are, which on a
    CPU are one program (see `Chain.program`). `made` keeps it, for all parts alike. `begun` is what it has made of
    the clips together with other views (see `make_views`).
    """

    drawn: Any
    steps: Steps | None
    rows: slice
    made: dict[str, Program | None]
    begun: Tensor | None = None

    @classmethod
    def of(cls, op: Augmentation | None, params: Any, shape: torch.Size) -> "DrawnView":
        return cls(params, op.folded(params, shape) if isinstance(op, Chain) else None, slice(None), {})

    def part(self, rows: slice) -> "DrawnView":
        """Return what was drawn for some of the samples."""
        return self._replace(rows=rows)

    @property
    def params(self) -> Any:
        return map_tensors(itemgetter(self.rows), self.drawn)

    def apply(self, op: Augmentation, x: Tensor) -> Tensor:
        if self.steps is None:
            return op.apply(x, self.params)
        chain, steps, y = cast(Chain, op), self.steps, x
        if program := self.program(chain, x):
            y = program.run(x, self.rows.start or 0) if self.begun is None else self.begun
            steps = steps[program.count :]
        return chain.finish(y, map_tensors(itemgetter(self.rows), steps))

    def program(self, op: Augmentation | None, x: Tensor | MappedClips) -> Program | None:
        """Return the program that begins a chain's steps; None for others, and where clips x are not on a CPU."""
        if self.steps is None or not isinstance(op, Chain) or not (isinstance(x, MappedClips) or usable(x)):
            return None
        if "program" not in self.made:
            number = next((len(each) for each in self.steps[0][1].values()), x.shape[0])
            self.made["program"] = op.program(self.steps, (number, *x.shape[1:]))
        return self.made["program"]


@dataclass(frozen=True, slots=True)
class View:
    """A finished view of a batch.

    `clip` is the result, `joints` the joint stream that it was derived from (None if it was changed afterwards),
    `extras` further results, and `carry` maps a mask of the clip as it was read to this view.
    """

    clip: Tensor
    joints: Tensor | None
    carry: Callable[[Tensor], Tensor]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def first(self, count: int) -> "View":
        """Return the view of the first `count` clips."""
        joints, rest = None if self.joints is None else self.joints[:count], len(self.clip) - count

        def carry(mask: Tensor) -> Tensor:
            """Carry masks of the first clips: those of the rest, which the parameters are for too, are zeros."""
            return self.carry(torch.cat([mask, mask.new_zeros(rest, *mask.shape[1:])]))[:count]

        return View(self.clip[:count], joints, carry, {key: x[:count] for key, x in self.extras.items()})


@dataclass(frozen=True, slots=True)
class BatchInProgress:
    """A batch whose views are being made: its clips, how to derive the view shown, and the views so far.

    The clips are memory-mapped only if all view recipes can read such clips (`takes_mapped`). `found` are the
    actionlets of the clips as read, by the id of the function that found them.
    """

    clips: Tensor | MappedClips
    derive: Callable[[Tensor], Tensor]
    made: dict[str, View] = field(default_factory=dict)
    found: dict[int, Tensor] = field(default_factory=dict)

    def actionlet(self, find: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the actionlets [N,T',V,(M)] of the clips as read, in the view shown; found once per batch."""
        if id(find) not in self.found:  # a function need not be hashable
            self.found[id(find)] = find(self.derive(cast(Tensor, self.clips)))
        return self.found[id(find)]

    def first(self, count: int) -> "BatchInProgress":
        """Return the batch of the first `count` clips."""
        made = {name: view.first(count) for name, view in self.made.items()}
        found = {find: mask[:count] for find, mask in self.found.items()}
        return BatchInProgress(self.clips[:count], self.derive, made, found)


class ViewRecipe(Protocol):
    """How one view of a batch is made, from the clips read or from earlier views (`uses`).

    `sample` draws parameters for clips of `shape`, `folded` prepares them for use, and `make` makes the view.
    """

    @property
    def uses(self) -> tuple[str, ...]: ...

    @property
    def extras(self) -> tuple[str, ...]: ...

    @property
    def from_clips_alone(self) -> bool: ...

    @property
    def takes_mapped(self) -> bool: ...

    def sample(self, draws: Draws, shape: torch.Size) -> Any: ...

    def folded(self, params: Any, shape: torch.Size) -> DrawnView: ...

    def make(self, batch: BatchInProgress, drawn: DrawnView) -> View: ...


@dataclass(frozen=True, slots=True)
class Augmented:
    """The clips read are augmented, and the view is derived from the result."""

    augmentation: Augmentation | None
    uses: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[tuple[str, ...]] = ()

    @property
    def from_clips_alone(self) -> bool:
        """Whether the view follows from clips and parameters alone, so that any thread may make it at any time."""
        return isinstance(self.augmentation, Chain)

    @property
    def keeps_absent(self) -> bool:
        """Whether bodies that are absent from the clips are surely absent from the view."""
        from skelpipe.augment.absence import keeps_absent  # loads all operators

        return keeps_absent(self.augmentation)

    @property
    def takes_mapped(self) -> bool:
        """Whether the view is made from memory-mapped clips as fast as from clips in memory."""
        return isinstance(self.augmentation, Chain) and self.augmentation.begins_by_mixing

    def sample(self, draws: Draws, shape: torch.Size) -> Any:
        return None if self.augmentation is None else self.augmentation.sample(draws, shape)

    def folded(self, params: Any, shape: torch.Size) -> DrawnView:
        return DrawnView.of(self.augmentation, params, shape)

    def make(self, batch: BatchInProgress, drawn: DrawnView) -> View:
        op = self.augmentation
        clips = cast(Tensor, batch.clips)  # or memory-mapped clips, which a chain takes as well
        x = clips if op is None else drawn.apply(op, clips)
        return View(batch.derive(x), x, lambda mask: carried(mask, op, drawn.params))


@dataclass(frozen=True, slots=True)
class On:
    """The view `view` of the same batch, augmented or mixed further by `op`.

    With stage="view" the operation acts on the finished view: it is derived first, then mixed, as in SkeleMixCLR
    and ActCLR. With stage="joint" it acts on the joints of `view`, and the view is derived from the result, as in
    SkeAttnCLR: then bones and motion across the border of a mixed region join two people (docs/augmentation.md). A
    mixing operation adds extras such as `mask` and `donor`.
    """

    view: str
    op: Augmentation
    stage: str = "view"
    from_clips_alone: ClassVar[bool] = False
    takes_mapped: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.stage not in ("view", "joint"):
            raise UsageError(f"an operation acts on the 'view' or on the 'joint' stage, not {self.stage!r}")

    @property
    def uses(self) -> tuple[str, ...]:
        return (self.view,)

    @property
    def extras(self) -> tuple[str, ...]:
        return getattr(self.op, "extras", ("mask", "donor")) if _mixes(type(self.op)) else ()

    def sample(self, draws: Draws, shape: torch.Size) -> Any:
        return self.op.sample(draws, shape)

    def folded(self, params: Any, shape: torch.Size) -> DrawnView:
        return DrawnView.of(self.op, params, shape)

    def make(self, batch: BatchInProgress, drawn: DrawnView) -> View:
        below = batch.made[self.view]
        x = below.clip if self.stage == "view" else below.joints
        assert x is not None, "view_recipes() accepts only views with joints here"
        extras: dict[str, Tensor] = {}
        if _mixes(type(self.op)):
            mixed = cast(Mixing, self.op).mix(x, drawn.params)
            x, extras = mixed.clip, {name: getattr(mixed, name) for name in self.extras}
        else:
            x = drawn.apply(self.op, x)

        def carry(mask: Tensor) -> Tensor:
            return carried(below.carry(mask), self.op, drawn.params)

        return View(x, None, carry, extras) if self.stage == "view" else View(batch.derive(x), x, carry, extras)


@dataclass(frozen=True, slots=True)
class Mats:
    """The view `act` inside the actionlet and the view `non` outside it (Lin et al. 2023, eq. 7).

    `actionlet` maps clips [N,C,T,V,M] of the view shown to the mask A, [N,T',V,M] or [N,T',V] in 0..1, where T' is
    the number of frames or of the encoder's steps. It is called when the batch is handed out, so it may use
    networks that are being trained. With mask="recomputed" it gets the clips of the view `sees`, by default `act`;
    another one must have the same crops and flips. With mask="carried" it gets the clips as read (section 3.2,
    step 2), and its mask goes through what moves frames and joints in `act`; views with the same `actionlet`, such
    as a `Marked` one, share that mask. `stretch` is how a mask of T' steps is brought to T frames (see
    `to_frames`). An actionlet must not keep its clips: their memory is reused. Adds the extra `mask`, [N,T,V,M]
    (M=1 if bodies share it).
    """

    act: str
    non: str
    actionlet: Callable[[Tensor], Tensor]
    mask: str = "recomputed"
    sees: str | None = None
    stretch: str = "linear"
    extras: ClassVar[tuple[str, ...]] = ("mask",)
    from_clips_alone: ClassVar[bool] = False

    @property
    def takes_mapped(self) -> bool:
        return self.mask != "carried"  # a carried mask is computed from the clips as read

    def __post_init__(self) -> None:
        if self.mask not in ("recomputed", "carried"):
            raise UsageError(f"an actionlet's mask is 'recomputed' or 'carried', not {self.mask!r}")
        if self.mask == "carried" and self.sees is not None:
            raise UsageError("an actionlet whose mask is carried gets the clips as read, not a view")

    @property
    def uses(self) -> tuple[str, ...]:
        return (self.act, self.non, self.sees or self.act)

    def sample(self, draws: Draws, shape: torch.Size) -> Any:
        return None

    def folded(self, params: Any, shape: torch.Size) -> DrawnView:
        return DrawnView.of(None, params, shape)

    def make(self, batch: BatchInProgress, drawn: DrawnView) -> View:
        act = batch.made[self.act]
        frames = act.clip.shape[2]
        if self.mask == "recomputed":
            mask = _per_frame(self.actionlet(batch.made[self.sees or self.act].clip), frames, self.stretch)
        else:
            mask = act.carry(_per_frame(batch.actionlet(self.actionlet), frames, self.stretch))
        return View(mats(act.clip, batch.made[self.non].clip, mask), None, act.carry, {"mask": mask})


@dataclass(frozen=True, slots=True)
class Marked:
    """A view made from the clips read by `augmentation`, with their actionlet: the extra `mask`, [N,T,V,M or 1].

    As with a carried mask of `Mats`, `actionlet` gets the clips as read, and its mask goes through what moves
    frames and joints in `augmentation`.
    """

    augmentation: Augmentation | None
    actionlet: Callable[[Tensor], Tensor]
    stretch: str = "linear"
    uses: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[tuple[str, ...]] = ("mask",)
    from_clips_alone: ClassVar[bool] = False
    takes_mapped: ClassVar[bool] = False

    def sample(self, draws: Draws, shape: torch.Size) -> Any:
        return Augmented(self.augmentation).sample(draws, shape)

    def folded(self, params: Any, shape: torch.Size) -> DrawnView:
        return DrawnView.of(self.augmentation, params, shape)

    def make(self, batch: BatchInProgress, drawn: DrawnView) -> View:
        view = Augmented(self.augmentation).make(batch, drawn)
        mask = view.carry(_per_frame(batch.actionlet(self.actionlet), view.clip.shape[2], self.stretch))
        return View(view.clip, view.joints, view.carry, {"mask": mask})


@cache
def _mixes(kind: type) -> bool:
    """Return whether operations of this kind are `Mixing`: to look takes longer than to slice what was drawn."""
    return issubclass(kind, Mixing)


def _per_frame(mask: Tensor, frames: int, stretch: str) -> Tensor:
    """Return masks [N,T',V(,M)] as [N,frames,V,M], with M = 1 where they have no axis of bodies."""
    mask = mask[..., None] if mask.dim() == 3 else mask
    return to_frames(mask.movedim(3, 1), frames, stretch).movedim(1, 3)


ViewRecipes: TypeAlias = Mapping[str, On | Mats | Marked | Augmentation | None]


def view_recipes(recipe: ViewRecipes, reserved: Iterable[str] = ()) -> dict[str, ViewRecipe]:
    """Return a view recipe for every name.

    Raises UsageError for views that cannot be made, and for names that cannot be attributes of a batch beside the
    `reserved` ones.
    """
    made: dict[str, ViewRecipe] = {}
    taken = set(reserved)
    if isinstance(recipe, type) or not isinstance(recipe, Mapping):
        raise UsageError(
            f"views are given by name, such as {{'query': chain('normal'), 'key': chain('normal')}}, "
            f"not as {given(recipe)}"
        )
    for name, content in recipe.items():
        if not isinstance(name, str):
            raise UsageError(f"the name of a view is a text, such as 'query', not {given(name)}")
        if isinstance(content, type) or not isinstance(content, On | Mats | Marked | Augmentation | None):
            hint = f": {content.__name__}(...) makes one" if isinstance(content, type) else ""
            if isinstance(content, str):
                hint = f": chain({content!r}) makes one by name"
            raise UsageError(
                f"the view {name!r} must be an augmentation, On, Mats, Marked or None, not {given(content)}{hint}"
            )
        view_recipe = content if isinstance(content, On | Mats | Marked) else Augmented(content)
        if missing := [used for used in view_recipe.uses if used not in made]:
            raise UsageError(
                f"the view {name!r} is made from {missing[0]!r}, which must come before it in the recipe"
            )
        if (
            isinstance(view_recipe, On)
            and view_recipe.stage == "joint"
            and not _has_joints(made[view_recipe.view])
        ):
            raise UsageError(
                f"the view {name!r} acts on the joints of {view_recipe.view!r}, "
                f"which was changed after it was derived and so has no joints"
            )
        for own in (name, *(f"{name}_{extra}" for extra in view_recipe.extras)):
            if not own.isidentifier() or keyword.iskeyword(own) or own in taken or own.startswith("_"):
                raise UsageError(f"a view of a batch cannot be called {own!r}")
            taken.add(own)
        made[name] = view_recipe
    return made


def described(recipe: ViewRecipe) -> str:
    """Return in words how a view is made."""
    if isinstance(recipe, On):
        joints = "the joints of " if recipe.stage == "joint" else ""
        return f"{op_text(recipe.op)} on {joints}{recipe.view}"
    if isinstance(recipe, Mats):
        return f"{recipe.act} inside its actionlet, {recipe.non} outside, mask {recipe.mask}"
    if isinstance(recipe, Augmented | Marked):
        marked = ", with its actionlet" if isinstance(recipe, Marked) else ""
        op = recipe.augmentation
        return ("clips as read" if op is None else op_text(op)) + marked
    return repr(recipe)


def with_used(made: Mapping[str, ViewRecipe], names: Iterable[str]) -> set[str]:
    """Return the names of these views and of all views that they are made from."""
    found = set(names)
    return found.union(*(with_used(made, made[name].uses) for name in found))


def _has_joints(view_recipe: ViewRecipe) -> bool:
    """Whether deriving is the last step of a view, so that it has joints."""
    if isinstance(view_recipe, On):
        return view_recipe.stage == "joint"
    return isinstance(view_recipe, Augmented | Marked)
