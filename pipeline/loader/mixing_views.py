"""The views of the methods that mix clips: which views a batch has and how each is made (see docs/methods.md).

Each function returns what `Loader` takes. Methods without mixing need no more than `chain` for each view.
"""

from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from torch import Tensor

from skelpipe.augment.chain import Chain, chain
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.errors import UsageError
from skelpipe.loader.view_recipes import Augmentation, Marked, Mats, On
from skelpipe.skeleton import Layout

__all__ = ["ViewChains", "actclr", "actclr_released", "named", "pair", "skeattnclr", "skelemixclr"]

Views = dict[str, On | Mats | Marked | Augmentation | None]
Bounds = tuple[int, int]  # smallest and largest value


class ViewChains(Protocol):
    """Returns the chain of a view, by the view's name and that of the chain that the method has there.

    With `curriculum` the chain leaves out operators by epoch, counted from epoch `begins` of the run; its first
    operator has number `first`.
    """

    def __call__(
        self, name: str, default: str, *, curriculum: bool = False, begins: int = 0, first: int = 0
    ) -> Chain: ...


def named(layout: Layout | None = None, variant: str = "paper") -> ViewChains:
    """Return what gives every view the chain that the method has there."""

    def of(name: str, default: str, *, curriculum: bool = False, begins: int = 0, first: int = 0) -> Chain:
        return chain(default, layout=layout, variant=variant, curriculum=curriculum, begins=begins, first=first)

    return of


NORMAL = named()


def pair(chains: ViewChains, usual: str = "normal") -> Views:
    """Return `query` and `key`, both augmented as usual."""
    return {"query": chains("query", usual), "key": chains("key", usual)}


def skelemixclr(
    layout: Layout,
    *,
    repeats: int = 1,
    mixed: bool = True,
    parts: Bounds = (2, 3),
    blocks: Bounds = (7, 11),
    per: str = "batch",
    cropping: str = "topology",
    random_joints: Bounds = (10, 15),
    fill: str = "mix",
    chains: ViewChains = NORMAL,
) -> Views:
    """Return `query`, `key` and the mixed query: `mixed`, or for R repeats (SkeleMixCLR+: 3) `mixed1`.. `mixedR`.

    The view is derived first, then mixed. What follows `repeats` describes the region and what it is filled with
    (see `SkeleMix`). Without `mixed` there are R more views like the query instead, `query1`.. `queryR`.
    """
    if repeats < 1:
        raise UsageError(f"the query cannot be mixed {repeats} times: repeats must be at least 1")
    two = pair(chains)
    if not mixed:
        return {**two, **{f"query{r}": two["query"] for r in range(1, repeats + 1)}}
    names = ["mixed"] if repeats == 1 else [f"mixed{r}" for r in range(1, repeats + 1)]
    op = SkeleMix(layout, parts, blocks, per, cropping, random_joints, fill)
    return {**two, **dict.fromkeys(names, On("query", op))}


def skeattnclr(
    layout: Layout,
    *,
    parts: Bounds = (3, 4),
    blocks: Bounds = (4, 7),
    per: str = "batch",
    chains: ViewChains = NORMAL,
) -> Views:
    """Return `query`, `key` and `mixed`: joints of more parts over fewer blocks are mixed, then derived."""
    mixed = On("query", SkeleMix(layout, parts, blocks, per), stage="joint")
    return {**pair(chains), "mixed": mixed}


def actclr(
    layout: Layout,
    view: str,
    actionlet: Callable[[Tensor], Tensor],
    *,
    parts: Bounds = (2, 3),
    blocks: Bounds = (3, 5),
    chains: ViewChains | None = None,
    mask: str = "carried",
    transformations: Collection[str] = ("act", "adain", "non"),
    noise_area: str = "non-actionlet",
    mix_area: str = "non-actionlet",
) -> Views:
    """Return `query`, made by MATS, `key`, and the views they are made from, as in the paper.

    These are `spread` (the eight augmentations of AimCLR), `act` (then Skeleton AdaIN), `noisy`, `non` (then
    Skeleton Mix). With mask="carried" the actionlet is that of the clip as read, and `query` and `key` have it,
    each as their crops and flips moved it, as the extra `mask`; with "recomputed" `query` has that of `act`, and
    `key` none. `view` is the view that the loader shows; `parts` and `blocks` bound the region of Skeleton Mix.
    Ablations: of the `transformations`, "act" are the eight, "adain" is Skeleton AdaIN, "non" noise and Skeleton
    Mix; without any, query and key are the clip as read (divergence `actclr-without-t`). Noise and mix act in the
    "non-actionlet", in the "actionlet" or in the "full" area.
    """
    of = named(layout) if chains is None else chains
    adain = SkeletonAdaIN(layout, view)
    act, key = of("act", "actclr-actionlet"), of("key", "normal") if transformations else None
    noise, mix = of("non", "actclr-noise", first=len(act)), SkeletonMix(layout, parts, blocks)
    steps: Views = {"spread": act if "act" in transformations else None}
    if "adain" in transformations:
        steps["act"] = On("spread", adain)
    last = next(reversed(steps))
    if "non" in transformations:
        steps |= _stronger(last, (noise, noise_area), (mix, mix_area), actionlet, mask)
    else:
        steps["query"] = Mats(last, last, actionlet, mask)
    return {**steps, "key": Marked(key, actionlet) if mask == "carried" else key}


def actclr_released(
    layout: Layout,
    view: str,
    actionlet: Callable[[Tensor], Tensor],
    *,
    state: str = "2023-12",
    begins: int = 0,
    parts: Bounds = (2, 3),
    blocks: Bounds = (3, 5),
    chains: ViewChains | None = None,
) -> Views:
    """Return `query`, made by MATS, `key`, and the views they are made from, as in the released code.

    `state` is that of the code, see `SkeletonAdaIN`. The query joins `act` and `non`, drawn independently.
    Further views are `plain` (normal), `styled` (then Skeleton AdaIN), `blended` (then Skeleton Mix), `blend`,
    which joins these two by the actionlet of `plain`, and `mixed`, a Skeleton Mix of its own: of `styled` too, in
    the newest version of `plain` but for joints. In later epochs augmentations are left out and the regions of
    `blended` shrink; epochs count from epoch `begins` of the run.
    """
    of = named(layout, "released") if chains is None else chains
    thinned = partial(of, curriculum=True, begins=begins)
    style = SkeletonAdaIN(layout, view, state, begins=begins)
    shrinking = SkeletonMix(layout, parts, blocks, curriculum=True, begins=begins)
    changed = state == "2023-12" or view == "joint"  # the style transfer overwrites the clips that it is given
    return {
        "act": thinned("act", "actclr-actionlet"),
        "non": thinned("non", "actclr-non-actionlet"),
        "plain": thinned("plain", "actclr-normal"),
        "styled": On("plain", style),
        "blended": On("styled", shrinking),
        "mixed": On("styled" if changed else "plain", SkeletonMix(layout, parts, blocks, taken=True)),
        "key": thinned("key", "actclr-normal"),
        # Last, as the released step makes them itself: the numbers of the other views are those of its loader.
        "query": Mats("act", "non", actionlet),
        "blend": Mats("styled", "blended", actionlet, sees="plain"),
    }


def _stronger(
    base: str,
    noise: tuple[Augmentation, str],
    mix: tuple[Augmentation, str],
    actionlet: Callable[[Tensor], Tensor],
    mask: str,
) -> Views:
    """Return `noisy`, `non` and `query`: the view `base` with noise, then with a mix, each in its area."""
    inside, outside = _changed(base, base, "noisy", noise[1])
    views: Views = {"noisy": On(base, noise[0])}
    seen = base if mask == "recomputed" else None
    if mix[1] == "full" and inside != outside:  # a donor, too, has its noise in its area alone
        views["joined"] = Mats(inside, outside, actionlet, mask, sees=seen)
        inside = outside = "joined"
    views["non"] = On(inside if mix[1] == "actionlet" else outside, mix[0])
    inside, outside = _changed(inside, outside, "non", mix[1])
    return {**views, "query": Mats(inside, outside, actionlet, mask, sees=seen)}


def _changed(inside: str, outside: str, changed: str, area: str) -> tuple[str, str]:
    """Return the views inside and outside the actionlet, with the view `changed` in an area."""
    return inside if area == "non-actionlet" else changed, outside if area == "actionlet" else changed
