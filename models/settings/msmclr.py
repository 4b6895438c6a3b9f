"""The settings of MsMCLR: see `skelpipe.models.msmclr`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from skelpipe.models.settings.common import ContrastSettings, refuse_unused
from skelpipe.settings import By, Count, Flag, Whole

__all__ = ["MsMCLRSettings"]


def _each_once(scales: list[str]) -> list[str]:
    if not scales or len(set(scales)) < len(scales):
        raise ValueError("a list of one or more of joint, part, body, each once")
    return scales


Scales = Annotated[list[Literal["joint", "part", "body"]], By(_each_once)]


@dataclass(frozen=True, kw_only=True)
class MsMCLRSettings(ContrastSettings):
    """The `msmclr` section; see `MsMCLR`. Values of the released code; the first four are of the ablations."""

    attention: Flag = True
    scales: Scales = field(default_factory=lambda: ["joint", "part", "body"])
    differences: Literal["all", "inter-frame", "inter-node"] = "all"
    strong_loss: Literal["ms", "nce"] = "ms"
    reduction: Count = 8
    zero_pad: Flag = False
    mining_epoch: Whole = 150
    top_k: Count = 1

    def check(self, variant: str) -> None:
        """Raise UsageError for a setting that an ablation leaves without effect."""
        if not self.attention:
            refuse_unused("msmclr", self, ("differences", "reduction", "zero_pad"), "attention=false")
