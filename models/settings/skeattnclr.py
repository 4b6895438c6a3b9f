"""The settings of SkeAttnCLR: see `skelpipe.models.skeattnclr`."""

from dataclasses import dataclass, field
from typing import Literal

from skelpipe.models.settings.common import ContrastSettings
from skelpipe.settings import Bounds, Count, Flag, Positive, Share, Whole

__all__ = ["SkeAttnCLRSettings"]


@dataclass(frozen=True, kw_only=True)
class SkeAttnCLRSettings(ContrastSettings):
    """The `skeattnclr` section; see `SkeAttnCLR`. Values of Hua et al. 2023, tables 9, 10 and 13.

    Recipes from before `predictors` could be set follow the variant, which is why that is its default. The hidden
    layers of predictors have `predictor_hidden` units, or with 0 as many as that of the head.
    """

    mu: Share = 0.5
    sharpness: Positive = 2.0
    heads: Count = 8
    hard_negative: Flag = True
    predictors: Literal["three", "none", "variant"] = "variant"
    predictor_hidden: Whole = 0
    parts: Bounds = field(default_factory=lambda: [3, 4])
    blocks: Bounds = field(default_factory=lambda: [4, 7])
