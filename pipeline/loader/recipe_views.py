"""The views of a recipe without its method: what `show` draws and `bench` measures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from skelpipe.augment.chain import VARIANTS, Chain, chain
from skelpipe.augment.named_chains import CLIP, METHODS, views_of
from skelpipe.augment.op_lists import check_views, view_ops
from skelpipe.augment.operators import Strength, settings_of
from skelpipe.augment.strengths import AugmentSettings
from skelpipe.errors import UsageError
from skelpipe.loader.mixing_views import actclr, actclr_released, skeattnclr, skelemixclr
from skelpipe.loader.view_recipes import ViewRecipes
from skelpipe.plugins import RECIPES, require
from skelpipe.settings import checked, is_section, nested
from skelpipe.skeleton import Layout
from skelpipe.untrusted import described
from skelpipe.yaml_reader import nearest, parse_yaml, read_yaml

__all__ = ["RecipeViews", "read_recipe_views"]

FOLDER: Final = "skelpipe.train.recipes"  # files of the package; nothing of it is imported
FINETUNE = "finetune"  # the protocol of a recipe of training with labels
MIXING: Final[Mapping[str, Callable[..., Any]]] = {
    "skelemixclr": skelemixclr,
    "skeattnclr": skeattnclr,
    "actclr": actclr,
}
GIVEN: Final = ("layout", "view", "actionlet", "chains", "begins")  # what no section says


@dataclass(frozen=True)
class RecipeViews:
    """What a recipe's file says of the views of its method; `content` are its sections, `where` names it."""

    content: Mapping[str, Any]
    where: str
    method: str
    variant: str
    strength: Strength

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What the views are where the section `views` does not say it."""
        if self.method != FINETUNE:
            return views_of(self.method, self.variant)
        name = self.part("augment").get("name", "none")
        return {CLIP: [] if name == "none" else name}

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a section of the file, empty where it has none."""
        section = self.content.get(name, {})
        if not is_section(section):
            raise UsageError(
                f"{self.where}: {name} must be a section of `key: value` lines, not {described(section)}"
            )
        return section

    def recipes(self, layout: Layout, view: str, actionlet: Callable[[Tensor], Tensor]) -> ViewRecipes:
        """Return the view recipes of the method's last stage, for a loader that shows `view`.

        `actionlet` stands for that of ActCLR's network. UsageError where a value is wrong.
        """
        of = partial(self._chain, layout)
        if self.method not in MIXING:
            return {name: of(name, default) for name, default in self.defaults.items()}
        released = self.method == "actclr" and self.variant == "released"
        make = actclr_released if released else MIXING[self.method]
        base = settings_of(make, GIVEN)()
        own = {key: value for key, value in self.part(self.method).items() if key in nested(base)}
        values = nested(checked(type(base), own, self.where, self.method, base))
        regions: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        if make is skelemixclr:
            regions["mixed"] = self.part(self.method).get("pairs") != "cont"
        if self.method == "actclr":
            regions |= {"view": view, "actionlet": actionlet}
        made: ViewRecipes = make(layout, chains=of, **regions)
        return made

    def _chain(self, layout: Layout, name: str, default: Any, **how: Any) -> Chain:
        how["curriculum"] = how.get("curriculum", False) and default
        return chain(
            view_ops(self.part("views"), name, default),
            layout=layout,
            variant=self.variant,
            shear=self.strength.shear,
            crop=self.strength.crop,
            where=self.where,
            at=f"views.{name}",
            **how,
        )


def read_recipe_views(recipe: str) -> RecipeViews:
    """Return what a recipe says of its views: a built-in one by name, or the path of a YAML file.

    Of the other sections nothing is checked. Raises UsageError where there is no such recipe, where it trains
    nothing that is augmented, and where its views are wrong.
    """
    where = f"recipe {recipe}"
    built_in = sorted(each.name.removesuffix(".yaml") for each in files(FOLDER).iterdir() if _is_recipe(each.name))
    if recipe in RECIPES:
        content: Any = RECIPES[recipe]
    elif recipe in built_in:
        content = parse_yaml(files(FOLDER).joinpath(f"{recipe}.yaml").read_text("utf-8"), where)
    elif Path(recipe).is_file():
        content = read_yaml(recipe)
    else:
        raise UsageError(
            f"there is no recipe {described(recipe)}: {nearest(recipe, built_in)}give the path of a YAML file "
            f"or one of: {', '.join(built_in)}"
        )
    if not is_section(content):
        raise UsageError(f"{where}: expected `key: value` lines, found {described(content)}")
    require(content.get("plugins", ()), where)
    labelled = content.get("protocol") == FINETUNE
    method, variant = FINETUNE if labelled else content.get("method"), content.get("variant", "paper")
    if not labelled and method not in METHODS:
        raise UsageError(f"{where}: method is {described(method)}; known: {', '.join(METHODS)}")
    if variant not in VARIANTS:
        raise UsageError(f"{where}: variant is {described(variant)}; known: {', '.join(VARIANTS)}")
    found = RecipeViews(content, where, method, variant, Strength())
    strengths = {key: value for key, value in found.part("augment").items() if key != "name"}
    augment = checked(AugmentSettings, strengths, where, "augment")
    found = replace(found, strength=Strength(augment.shear, augment.crop, variant == "released"))
    check_views(found.part("views"), found.defaults, found.strength, where)
    return found


def _is_recipe(name: str) -> bool:
    return name.endswith(".yaml") and not name.startswith("linear")
