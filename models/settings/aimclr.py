"""The settings of AimCLR: see `skelpipe.models.aimclr`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from skelpipe.models.settings.common import ContrastSettings, refuse_unused
from skelpipe.settings import Amount, Count, Flag, Positive, Whole, at_most

__all__ = ["AimCLRSettings"]


@dataclass(frozen=True, kw_only=True)
class AimCLRSettings(ContrastSettings):
    """The `aimclr` section; see `AimCLR`. Values of the paper, or else of the released code."""

    views: Annotated[Count, at_most(3)] = 1
    eadm: Flag = True
    nnm: Flag = True
    mining_epoch: Whole = 150
    top_k: Count = 1
    neighbours: Literal["mean", "sum"] = "mean"
    alpha: Amount = 1.0
    beta: Amount = 1.0
    kappa: Positive = 0.7
    kappa_mode: Literal["absolute", "quantile"] = "quantile"
    energy_lambda: Positive = 1e-4

    def check(self, variant: str) -> None:
        """Raise UsageError for a setting that an ablation leaves without effect."""
        if not self.eadm:
            refuse_unused("aimclr", self, ("kappa", "kappa_mode", "energy_lambda"), "eadm=false")
        if not self.nnm and self.views == 1:
            refuse_unused("aimclr", self, ("top_k", "neighbours"), "nnm=false")
