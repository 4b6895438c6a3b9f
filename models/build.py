"""From a recipe to a method."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from torch import Tensor

from skelpipe.augment.named_chains import views_of
from skelpipe.augment.op_lists import check_views, names_in
from skelpipe.augment.operators import Chosen, Strength
from skelpipe.errors import UsageError
from skelpipe.models.actclr import ActCLR
from skelpipe.models.aimclr import AimCLR
from skelpipe.models.crosclr import CrosSCLR
from skelpipe.models.encoders import ENCODERS, backbone_settings, build_encoder
from skelpipe.models.method import Method
from skelpipe.models.msmclr import MsMCLR
from skelpipe.models.parts import ContrastSettings, MethodRecipe, Parts
from skelpipe.models.skeattnclr import SkeAttnCLR
from skelpipe.models.skelemixclr import SkeleMixCLR
from skelpipe.models.skeletonclr import SkeletonCLR
from skelpipe.plugins import Table, check_call, origins, require, suggestion
from skelpipe.settings import checked, declared, top_keys
from skelpipe.skeleton import Layout
from skelpipe.untrusted import described
from skelpipe.yaml_reader import nearest

__all__ = [
    "ENCODERS",
    "METHODS",
    "TRAINING_KEYS",
    "build_encoder",
    "build_method",
    "recipe_of",
    "view_operators",
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


# Keys of a recipe of pre-training that say how to train, not what: see `skelpipe.train.recipes.schema`.
TRAINING_KEYS = ("frames", "epochs", "batch_size", "optimiser", "reported")
RECIPE_KEYS = (*(each.name for each in fields(MethodRecipe)), *TRAINING_KEYS)
RESERVED = (*RECIPE_KEYS, *top_keys(ContrastSettings))
METHODS: Final[Table[type[Method]]] = Table("method", _BUILT_IN, _accept)

R = TypeVar("R", bound=MethodRecipe)


def recipe_of(kind: type[R], content: Mapping[str, Any], where: str) -> R:
    """Return the recipe of a `kind`, a MethodRecipe or more, that a mapping of sections describes.

    The section named like the method holds its settings. Raises UsageError naming `where` and the key.
    """
    name = content.get("method")
    require(content.get("plugins", ()), where)
    if name is None:
        raise UsageError(f"{where}: the key 'method' is missing")
    if name not in METHODS:
        known = f"{nearest(str(name), METHODS)}known: {', '.join(METHODS)}{suggestion()}"
        raise UsageError(f"{where}: method is {described(name)}; {known}")
    encoder = backbone_settings(content.get("encoder", {}), where)
    base = kind(method=name, encoder=encoder, settings=METHODS[name].Settings())
    recipe = checked(kind, content, where, base=base, keys={"settings": name})
    operators = view_operators(recipe, where)
    views = {**views_of(recipe.method, recipe.variant), **recipe.views}
    named = [("method", recipe.method), ("backbone", recipe.encoder.name), *names_in(views, operators)]
    return replace(recipe, plugins=origins(named))


def view_operators(recipe: MethodRecipe, where: str = "recipe") -> dict[str, tuple[Chosen, ...]]:
    """Return the operators of each view that a recipe's method augments; UsageError where one is wrong."""
    strength = Strength(recipe.augment.shear, recipe.augment.crop, recipe.variant == "released")
    return check_views(recipe.views, views_of(recipe.method, recipe.variant), strength, where)


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
