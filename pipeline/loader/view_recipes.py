"""How the views of a batch are made: augmented afresh, mixed from views made before, or joined by an actionlet."""

import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, cast, runtime_checkable

import torch
from torch import Tensor

from skelpipe.augment.actionlet import to_frames
from skelpipe.augment.blend import Mixed
from skelpipe.augment.chain import Chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.mats import carried, mats
from skelpipe.dataset.mapped_clips import MappedClips
from skelpipe.errors import UsageError
from skelpipe.loader.drawn import DrawnView

__all__ = [
    "Augmentation",
    "BatchInProgress",
    "Mats",
    "Mixing",
    "On",
    "View",
    "ViewRecipe",
    "ViewRecipes",
    "view_recipes",
    "with_used",
]


@runtime_checkable
class Augmentation(Protocol):
    """What changes clips, such as a `Chain`.

    `sample` returns tensors with one row a sample, alone or in dicts, lists and tuples: parameters of
    several batches are drawn together and cut apart.
    """

    def sample(self, draws: Draws, shape: torch.Size) -> Any: ...

    def apply(self, x: Tensor, params: Any) -> Tensor: ...


@runtime_checkable
class Mixing(Augmentation, Protocol):
    """An augmentation that mixes the clips of a batch and tells what it mixed.

    Its parameters, as those of all that takes something from another clip, hold under the key `donor` which one
    that is, int64[N] (see `skelpipe.augment.donor`).
    """

    def mix(self, x: Tensor, params: Any) -> Mixed: ...


@dataclass(frozen=True, slots=True)
class View:
    """A view while its batch is made: the finished `clip`; the `joints` it was derived from (None where it was
    changed since); its `extras`; and `carry`, which moves a mask of the clip as it was read to this view."""

    clip: Tensor
    joints: Tensor | None
    carry: Callable[[Tensor], Tensor]
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def first(self, count: int) -> "View":
        """Return the view of the first clips, which masks can no longer be carried to."""
        joints = None if self.joints is None else self.joints[:count]
        return View(self.clip[:count], joints, self.carry, {key: x[:count] for key, x in self.extras.items()})


@dataclass(frozen=True, slots=True)
class BatchInProgress:
    """A batch in the making: its clips, how the view shown is derived, the views made so far.

    The clips may be stored ones where all entries take those (`takes_mapped`).
    """

    clips: Tensor | MappedClips
    derive: Callable[[Tensor], Tensor]
    made: dict[str, View] = field(default_factory=dict)

    def first(self, count: int) -> "BatchInProgress":
        """Return the scene of the first clips."""
        made = {name: view.first(count) for name, view in self.made.items()}
        return BatchInProgress(self.clips[:count], self.derive, made)


class ViewRecipe(Protocol):
    """How one view of a batch is made, from the clips read or from views (`uses`) made before it."""

    @property
    def uses(self) -> tuple[str, ...]: ...

    @property
    def extras(self) -> tuple[str, ...]: ...

    @property
    def from_clips_alone(self) -> bool: ...

    @property
    def takes_mapped(self) -> bool: ...

    def sample(self, draws: Draws, shape: torch.Size) -> Any: ...

    def plan(self, params: Any, shape: torch.Size) -> DrawnView: ...

    def make(self, scene: BatchInProgress, plan: DrawnView) -> View: ...


@dataclass(frozen=True, slots=True)
class _Augmented:
    """The clips read, augmented, and the view derived from the result."""

    augmentation: Augmentation | None
    uses: ClassVar[tuple[str, ...]] = ()
    extras: ClassVar[tuple[str, ...]] = ()

    @property
    def from_clips_alone(self) -> bool:
        """Say whether clips and parameters decide the view, whenever and wherever it is made."""
        return isinstance(self.augmentation, Chain)

    @property
    def takes_mapped(self) -> bool:
        """Say whether the view is as quickly made from clips where they lie as from ones in memory."""
        return isinstance(self.augmentation, Chain) and self.augmentation.begins_by_mixing

    def sample(self, draws: Draws, shape: torch.Size) -> Any:
        return None if self.augmentation is None else self.augmentation.sample(draws, shape)

    def plan(self, params: Any, shape: torch.Size) -> DrawnView:
        return DrawnView.of(self.augmentation, params, shape)

    def make(self, scene: BatchInProgress, plan: DrawnView) -> View:
        op = self.augmentation
        clips = cast(Tensor, scene.clips)  # or what a chain takes as well
        x = clips if op is None else plan.apply(op, clips)
        return View(scene.derive(x), x, lambda mask: carried(mask, op, plan.params))


@dataclass(frozen=True, slots=True)
class On:
    """The view `view` of the same batch, augmented or mixed further by `op`.

    With stage="view" the operation acts on the finished view: it is derived first, then mixed, as in
    SkeleMixCLR and ActCLR. With stage="joint" it acts on the joints of `view`, and the view is derived from
    the result, as in SkeAttnCLR: bones and motion across the border of a mixed region then join two people
    (spec A8). A mixing operation adds the extras `mask` and `donor`.
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
        return ("mask", "donor") if isinstance(self.op, Mixing) else ()

    def sample(self, draws: Draws, shape: torch.Size) -> Any:
        return self.op.sample(draws, shape)

    def plan(self, params: Any, shape: torch.Size) -> DrawnView:
        return DrawnView.of(self.op, params, shape)

    def make(self, scene: BatchInProgress, plan: DrawnView) -> View:
        below = scene.made[self.view]
        x = below.clip if self.stage == "view" else below.joints
        assert x is not None, "only views with joints are let through by view_recipes()"
        extras: dict[str, Tensor] = {}
        if isinstance(self.op, Mixing):
            mixed = self.op.mix(x, plan.params)
            x, extras = mixed.clip, {"mask": mixed.mask, "donor": mixed.donor}
        else:
            x = plan.apply(self.op, x)

        def carry(mask: Tensor) -> Tensor:
            return carried(below.carry(mask), self.op, plan.params)

        return View(x, None, carry, extras) if self.stage == "view" else View(scene.derive(x), x, carry, extras)


@dataclass(frozen=True, slots=True)
class Mats:
    """The view `act` inside the actionlet and the view `non` outside it (Lin et al. 2023, eq. 7; spec D5).

    `actionlet` maps clips [N,C,T,V,M] of the view shown to the mask A, [N,T',V,M] or [N,T',V] in 0..1, T' being
    the frames or the encoder's steps; it is called when the batch is handed out, so that it may use networks
    in training. With mask="recomputed" it sees the clips of `sees`, which is `act` unless another view with the
    same crops and flips is named; with mask="carried" the clips as read (the paper's wording), and its mask
    goes through the crops and flips of `act`. `stretch` is how a mask of T' steps gets its frames (see
    `to_frames`); an actionlet keeps none of the clips it is given, whose memory is used
    again. Adds the extra `mask`, [N,T,V,M] (M=1 if bodies share it).
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
        return self.mask != "carried"  # then it does not see the clips as read

    def __post_init__(self) -> None:
        if self.mask not in ("recomputed", "carried"):
            raise UsageError(f"an actionlet's mask is 'recomputed' or 'carried', not {self.mask!r}")
        if self.mask == "carried" and self.sees is not None:
            raise UsageError("an actionlet whose mask is carried sees the clips as read, no view")

    @property
    def uses(self) -> tuple[str, ...]:
        return (self.act, self.non, self.sees or self.act)

    def sample(self, draws: Draws, shape: torch.Size) -> Any:
        return None

    def plan(self, params: Any, shape: torch.Size) -> DrawnView:
        return DrawnView(params, None)

    def make(self, scene: BatchInProgress, plan: DrawnView) -> View:
        act = scene.made[self.act]
        if self.mask == "recomputed":
            seen = scene.made[self.sees or self.act].clip
        else:
            seen = scene.derive(cast(Tensor, scene.clips))
        mask = self.actionlet(seen)
        mask = mask[..., None] if mask.dim() == 3 else mask
        mask = to_frames(mask.movedim(3, 1), act.clip.shape[2], self.stretch).movedim(1, 3)
        if self.mask == "carried":
            mask = act.carry(mask)
        return View(mats(act.clip, scene.made[self.non].clip, mask), None, act.carry, {"mask": mask})


ViewRecipes: TypeAlias = Mapping[str, On | Mats | Augmentation | None]


def view_recipes(recipe: ViewRecipes, reserved: Iterable[str] = ()) -> dict[str, ViewRecipe]:
    """Return the recipe with an entry for every name.

    Raises UsageError for views that cannot be made, and for names that cannot be an attribute beside the
    `reserved` ones.
    """
    made: dict[str, ViewRecipe] = {}
    taken = set(reserved)
    for name, content in recipe.items():
        if not isinstance(content, On | Mats | Augmentation | None):
            raise UsageError(f"the view {name!r} is to be an augmentation, On, Mats or None, not {content!r}")
        entry = content if isinstance(content, On | Mats) else _Augmented(content)
        if missing := [used for used in entry.uses if used not in made]:
            raise UsageError(
                f"the view {name!r} is made from {missing[0]!r}, which must stand before it in the recipe"
            )
        if isinstance(entry, On) and entry.stage == "joint" and not _has_joints(made[entry.view]):
            raise UsageError(
                f"the view {name!r} acts on the joints of {entry.view!r}, "
                f"which was changed after it was derived and has no joints any more"
            )
        for own in (name, *(f"{name}_{extra}" for extra in entry.extras)):
            if not own.isidentifier() or keyword.iskeyword(own) or own in taken or own.startswith("_"):
                raise UsageError(f"a view of a batch cannot be called {own!r}")
            taken.add(own)
        made[name] = entry
    return made


def with_used(made: Mapping[str, ViewRecipe], names: Iterable[str]) -> set[str]:
    """Return these views and all that they are made from."""
    found = set(names)
    return found.union(*(with_used(made, made[name].uses) for name in found))


def _has_joints(entry: ViewRecipe) -> bool:
    """Say whether a view is derived last, so that there are joints that it was derived from."""
    return isinstance(entry, _Augmented) or (isinstance(entry, On) and entry.stage == "joint")
