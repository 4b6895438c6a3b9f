"""What a method is built from, as a recipe of pre-training says it; nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from skelpipe.augment.named_chains import views_of
from skelpipe.augment.strengths import AugmentSettings
from skelpipe.errors import UsageError
from skelpipe.models.settings import BackboneSettings, ContrastSettings, Initialiser
from skelpipe.models.settings.stgcn import STGCNSettings
from skelpipe.models.settings.tables import METHOD_SETTINGS, backbone_settings
from skelpipe.plugins import loaded, origins, require, suggestion
from skelpipe.settings import Variant, checked, top_keys
from skelpipe.untrusted import described
from skelpipe.yaml_reader import nearest

if TYPE_CHECKING:
    from skelpipe.augment.operators import Chosen

__all__ = ["RECIPE_KEYS", "RESERVED", "TRAINING_KEYS", "MethodRecipe", "recipe_of", "view_operators"]


@dataclass(frozen=True, kw_only=True)
class MethodRecipe:
    """What a method is built from.

    `settings` is a `Settings` of the method's class: the section named like the method, and the keys that stand at
    the top. `variant` says whom to follow where a paper and its released code disagree, `init` how first weights
    are drawn. `views` are the operators of
    the views that the method augments (see `augment.op_lists`); a view that it does not name has the method's own.
    `plugins` are the modules that method, backbone and augmentations come from; to read a recipe imports none.
    """

    method: str = "skeletonclr"
    variant: Variant = "paper"
    init: Initialiser = "paper"
    encoder: BackboneSettings = field(default_factory=STGCNSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    views: dict[str, Any] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)
    settings: Any = field(default_factory=ContrastSettings)


# Keys of a recipe of pre-training that say how to train, not what: see `skelpipe.train.recipes.schema`.
TRAINING_KEYS = ("frames", "epochs", "batch_size", "optimiser", "reported")
RECIPE_KEYS = (*(each.name for each in fields(MethodRecipe)), *TRAINING_KEYS)
RESERVED = (*RECIPE_KEYS, *top_keys(ContrastSettings))

R = TypeVar("R", bound=MethodRecipe)


def recipe_of(kind: type[R], content: Mapping[str, Any], where: str) -> R:
    """Return the recipe of a `kind`, a MethodRecipe or more, that a mapping of sections describes.

    The section named like the method holds its settings. Raises UsageError naming `where` and the key.
    """
    name = content.get("method")
    require(content.get("plugins", ()), where)
    if name is None:
        raise UsageError(f"{where}: the key 'method' is missing")
    if name not in METHOD_SETTINGS:
        known = f"{nearest(str(name), METHOD_SETTINGS)}known: {', '.join(METHOD_SETTINGS)}{suggestion()}"
        raise UsageError(f"{where}: method is {described(name)}; {known}")
    encoder = backbone_settings(content.get("encoder", {}), where)
    base = kind(method=name, encoder=encoder, settings=METHOD_SETTINGS[name]())
    recipe = checked(kind, content, where, base=base, keys={"settings": name})
    if not recipe.views and not loaded():
        return recipe
    from skelpipe.augment.op_lists import names_in  # the table of operators is read for views alone

    found = view_operators(recipe, where)
    views = {**views_of(recipe.method, recipe.variant), **recipe.views}
    named = [("method", recipe.method), ("backbone", recipe.encoder.name), *names_in(views, found)]
    return replace(recipe, plugins=origins(named))


def view_operators(recipe: MethodRecipe, where: str = "recipe") -> "dict[str, tuple[Chosen, ...]]":
    """Return the operators of each view that a recipe's method augments; UsageError where one is wrong."""
    from skelpipe.augment.op_lists import check_views
    from skelpipe.augment.operators import Strength

    strength = Strength(recipe.augment.shear, recipe.augment.crop, recipe.variant == "released")
    return check_views(recipe.views, views_of(recipe.method, recipe.variant), strength, where)
