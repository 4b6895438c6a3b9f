"""The settings of ActCLR: see `skelpipe.models.actclr`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from skelpipe.errors import UsageError
from skelpipe.models.settings.common import ContrastSettings
from skelpipe.settings import Bounds, By, Count, Flag, Positive, Share, Whole

__all__ = ["ActCLRSettings"]


def _each_once(kinds: list[str]) -> list[str]:
    if len(set(kinds)) < len(kinds):
        raise ValueError("a list of act, adain and non, each at most once")
    return kinds


Transformations = Annotated[list[Literal["act", "adain", "non"]], By(_each_once)]
Area = Literal["non-actionlet", "actionlet", "full"]

OF_PAPER = ("transformations", "noise_area", "mix_area", "safp", "anchor")  # settings of one variant alone
OF_RELEASED = ("state", "mixed_keys")


@dataclass(frozen=True, kw_only=True)
class ActCLRSettings(ContrastSettings):
    """The `actclr` section. Values that the paper lacks are the released code's (divergence `actclr-training`).

    `transformations` to `anchor` are the paper's ablations and of variant "paper" alone, see `ActCLR`; `state` and
    `mixed_keys` are of variant "released" alone, see `ReleasedState`.
    """

    moco_epochs: Whole = 300
    query_temperature: Positive = 0.1
    key_temperature: Positive = 0.04
    mask: Literal["carried", "recomputed"] = "carried"
    threshold: Share = 0.0
    soft: Flag = False
    smoothing: Literal["variant", "adjacency", "parts", "none"] = "variant"
    sign: Literal["minus", "plus"] = "minus"
    sigma: Literal["relu", "abs", "sigmoid"] = "relu"
    inner: Flag = False
    nearest: Count = 8192
    parts: Bounds = field(default_factory=lambda: [2, 3])
    blocks: Bounds = field(default_factory=lambda: [3, 5])
    transformations: Transformations = field(default_factory=lambda: ["act", "adain", "non"])
    noise_area: Area = "non-actionlet"
    mix_area: Area = "non-actionlet"
    safp: Literal["offline", "online", "both", "none"] = "offline"
    anchor: Literal["mean-clip", "mean-batch", "zero"] = "mean-clip"
    state: Literal["2023-12", "head"] = "2023-12"
    mixed_keys: Literal["auto", "channels", "clips"] = "auto"

    def check(self, variant: str) -> None:
        """Raise UsageError where a setting differs from its default that this variant does not have."""
        default = ActCLRSettings()
        for name in OF_RELEASED if variant == "paper" else OF_PAPER:
            if getattr(self, name) != getattr(default, name):
                raise UsageError(
                    f"actclr.{name} is {getattr(self, name)!r}, and variant {variant!r} has no such switch: "
                    f"leave it out, or choose variant={'released' if variant == 'paper' else 'paper'}"
                )
