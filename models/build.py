"""From a recipe to a method."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import Tensor

from skelpipe.models.actclr import ActCLR
from skelpipe.models.aimclr import AimCLR
from skelpipe.models.crosclr import CrosSCLR
from skelpipe.models.encoders import ENCODERS, build_encoder
from skelpipe.models.method import Method
from skelpipe.models.msmclr import MsMCLR
from skelpipe.models.parts import Parts
from skelpipe.models.recipe import RECIPE_KEYS, RESERVED, TRAINING_KEYS, MethodRecipe, recipe_of
from skelpipe.models.skeattnclr import SkeAttnCLR
from skelpipe.models.skelemixclr import SkeleMixCLR
from skelpipe.models.skeletonclr import SkeletonCLR
from skelpipe.plugins import Table, check_call
from skelpipe.settings import declared, top_keys
from skelpipe.skeleton import Layout

__all__ = [
    "ENCODERS",
    "METHODS",
    "TRAINING_KEYS",
    "build_encoder",
    "build_method",
    "recipe_of",
]

_BUILT_IN: dict[str, type[Method]] = {
    SkeletonCLR.name: SkeletonCLR,
    ActCLR.name: ActCLR,
    CrosSCLR.name: CrosSCLR,
    AimCLR.name: AimCLR,
    MsMCLR.name: MsMCLR,
    SkeleMixCLR.name: SkeleMixCLR,
    SkeAttnCLR.name: SkeAttnCLR,
}


def _accept(name: str, kind: Any) -> type[Method]:
    """Return the method of a plug-in."""
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise ValueError("it is no subclass of skelpipe.models.method.Method")
    if name in RESERVED:
        raise ValueError(f"a key of recipes is called so: choose a name other than {', '.join(RESERVED)}")
    by_default = _function(kind, "build") is _function(Method, "build")
    # A `build` of its own need not make the views that are the default.
    needed = ("forward",) if by_default else ("views", "forward")
    if missing := [each for each in needed if _function(kind, each) is _function(Method, each)]:
        raise ValueError(f"it does not define {' and '.join(missing)}")
    if by_default:
        check_call(kind, "__init__", "parts", "settings")
    check_call(kind.build, "build", "parts", "settings")
    check_call(kind.views, "views", "self")
    check_call(kind.forward, "forward", "self", "batch")
    check_call(kind.networks, "networks", "self", "view")
    declared(kind.Settings)
    if clash := [key for key in top_keys(kind.Settings) if key in (name, *RECIPE_KEYS)]:
        raise ValueError(f"its Settings may not have the key {clash[0]!r} at a recipe's top")
    return kind


def _function(kind: type, name: str) -> Any:
    """Return a method of a class as the function that it is, a classmethod too."""
    found = getattr(kind, name)
    return getattr(found, "__func__", found)


METHODS: Final[Table[type[Method]]] = Table("method", _BUILT_IN, _accept)


def build_method(
    recipe: MethodRecipe | Mapping[str, Any],
    layout: Layout,
    view: str = "joint",
    anchor: Callable[[], Tensor] | None = None,
    channels: int = 3,
) -> Method:
    """Build a recipe's method for a layout; key networks start as copies of the query's.

    `recipe` may be a mapping of sections, which is checked first (see `recipe_of`); it may be a whole recipe of
    pre-training, whose `TRAINING_KEYS` are passed over. `view` is what the loader
    shows, `anchor` returns its mean clip, `channels` is the number of channels of its clips. Raises UsageError
    for what does not fit.
    """
    if not isinstance(recipe, MethodRecipe):
        own = {key: value for key, value in recipe.items() if key not in TRAINING_KEYS}
        recipe = recipe_of(MethodRecipe, own, "recipe")
    return METHODS[recipe.method].build(Parts(recipe, layout, view, anchor, channels), recipe.settings)
