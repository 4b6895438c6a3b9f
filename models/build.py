"""From a recipe to a method."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.models.actclr import ActCLR
from skelpipe.models.aimclr import AimCLR
from skelpipe.models.crosclr import CrosSCLR
from skelpipe.models.encoders import ENCODERS, build_encoder
from skelpipe.models.method import Method
from skelpipe.models.msmclr import MsMCLR
from skelpipe.models.parts import Parts
from skelpipe.models.settings import check_section
from skelpipe.models.skeattnclr import SkeAttnCLR
from skelpipe.models.skelemixclr import SkeleMixCLR
from skelpipe.models.skeletonclr import SkeletonCLR
from skelpipe.skeleton import Layout

__all__ = ["ENCODERS", "METHODS", "build_encoder", "build_method"]

METHODS: Mapping[str, type[Method]] = {
    SkeletonCLR.name: SkeletonCLR,
    ActCLR.name: ActCLR,
    CrosSCLR.name: CrosSCLR,
    AimCLR.name: AimCLR,
    MsMCLR.name: MsMCLR,
    SkeleMixCLR.name: SkeleMixCLR,
    SkeAttnCLR.name: SkeAttnCLR,
}


def build_method(
    recipe: Mapping[str, Any],
    layout: Layout,
    view: str = "joint",
    anchor: Callable[[], Tensor] | None = None,
) -> Method:
    """Build a method for a layout from a recipe with sections, key networks starting as copies of the query's.

    Reads `method`, what `Parts.of` reads and the section named like the method, which must hold all of the
    method's settings (but for `Method.earlier`); other keys are ignored. `view` is what the loader shows, `anchor`
    returns its mean clip.
    Raises UsageError for an unknown method and for what does not fit.
    """
    name = recipe.get("method")
    if name is None:
        raise UsageError("the recipe lacks 'method'")
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    method = METHODS[name]
    settings = {**method.earlier, **check_section(recipe.get(name) or {}, method.settings, name)}
    missing = [f"{name}.{key}" for key in method.settings if key not in settings]
    if missing:
        raise UsageError(f"the recipe lacks {', '.join(missing)}")
    return method.build(Parts.of(recipe, layout, view, anchor), settings)
