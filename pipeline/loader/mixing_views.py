"""The views of the methods that mix clips: which views a batch has and how each is made (see docs/methods.md).

Each function returns what `Loader` takes. Methods without mixing need no more than `chain` for each view.
"""

from collections.abc import Callable

from torch import Tensor

from skelpipe.augment.chain import chain
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.errors import UsageError
from skelpipe.loader.view_recipes import Augmentation, Mats, On
from skelpipe.skeleton import Layout

__all__ = ["actclr", "skeattnclr", "skelemixclr"]

Views = dict[str, On | Mats | Augmentation | None]
Bounds = tuple[int, int]  # smallest and largest value


def skelemixclr(
    layout: Layout,
    *,
    repeats: int = 1,
    parts: Bounds = (2, 3),
    blocks: Bounds = (7, 11),
    per: str = "batch",
    shear: float = 0.5,
    crop: int = 6,
) -> Views:
    """Return `query`, `key` and the mixed query: `mixed`, or for R repeats (SkeleMixCLR+: 3) `mixed1`.. `mixedR`.

    The view is derived first, then mixed. `parts` and `blocks` bound the region (see `SkeleMix`).
    """
    if repeats < 1:
        raise UsageError(f"the query cannot be mixed {repeats} times: repeats must be at least 1")
    names = ["mixed"] if repeats == 1 else [f"mixed{r}" for r in range(1, repeats + 1)]
    mixed = On("query", SkeleMix(layout, parts, blocks, per))
    return {**_pair(shear, crop), **dict.fromkeys(names, mixed)}


def skeattnclr(
    layout: Layout,
    *,
    parts: Bounds = (3, 4),
    blocks: Bounds = (4, 7),
    per: str = "batch",
    shear: float = 0.5,
    crop: int = 6,
) -> Views:
    """Return `query`, `key` and `mixed`: joints of more parts over fewer blocks are mixed, then derived."""
    mixed = On("query", SkeleMix(layout, parts, blocks, per), stage="joint")
    return {**_pair(shear, crop), "mixed": mixed}


def actclr(
    layout: Layout,
    view: str,
    actionlet: Callable[[Tensor], Tensor],
    *,
    variant: str = "paper",
    state: str = "2023-12",
    begins: int = 0,
    parts: Bounds = (2, 3),
    blocks: Bounds = (3, 5),
    shear: float = 0.5,
    crop: int = 6,
) -> Views:
    """Return `query`, made by MATS, `key`, and the views they are made from.

    `paper`: `spread` (the eight augmentations of AimCLR), `act` (then Skeleton AdaIN), `noisy`, `non` (then
    Skeleton Mix). `view` is the view that the loader shows; `parts` and `blocks` bound the region of Skeleton Mix.

    `released`, in one `state` or the other (see `SkeletonAdaIN`): the query joins `act` and `non`, which are drawn
    independently. Further views are `plain` (normal), `styled` (then Skeleton AdaIN), `blended` (then Skeleton
    Mix), `blend`, which joins these two by the actionlet of `plain`, and `mixed`, a Skeleton Mix of its own: of
    `styled` too, in the newest version of `plain` but for joints. In later epochs augmentations are left out and
    the regions of `blended` shrink; epochs count from epoch `begins` of the run.
    """
    pair = _pair(shear, crop)
    if variant == "paper":
        adain = SkeletonAdaIN(layout, view)
        act = chain("actclr-actionlet", layout=layout, shear=shear, crop=crop)
        both = chain("actclr-non-actionlet", layout=layout, shear=shear, crop=crop)
        return {
            "spread": act,
            "act": On("spread", adain),
            "noisy": On("act", both.split(len(act))[1]),
            "non": On("noisy", SkeletonMix(layout, parts, blocks)),
            "query": Mats("act", "non", actionlet),
            "key": pair["key"],
        }
    act, non, normal = (
        chain(
            f"actclr-{name}",
            layout=layout,
            variant=variant,
            shear=shear,
            crop=crop,
            curriculum=True,
            begins=begins,
        )
        for name in ("actionlet", "non-actionlet", "normal")
    )
    style = SkeletonAdaIN(layout, view, state, begins=begins)
    shrinking = SkeletonMix(layout, parts, blocks, curriculum=True, begins=begins)
    changed = state == "2023-12" or view == "joint"  # the style transfer overwrites the clips that it is given
    return {
        "act": act,
        "non": non,
        "query": Mats("act", "non", actionlet),
        "plain": normal,
        "styled": On("plain", style),
        "blended": On("styled", shrinking),
        "blend": Mats("styled", "blended", actionlet, sees="plain"),
        "mixed": On("styled" if changed else "plain", SkeletonMix(layout, parts, blocks, taken=True)),
        "key": normal,
    }


def _pair(shear: float, crop: int) -> Views:
    normal = chain("normal", shear=shear, crop=crop)
    return {"query": normal, "key": normal}
