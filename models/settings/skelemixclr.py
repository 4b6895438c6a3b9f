"""The settings of SkeleMixCLR: see `skelpipe.models.skelemixclr`."""

from dataclasses import dataclass, field
from typing import Literal

from skelpipe.models.settings.common import ContrastSettings, refuse_unused
from skelpipe.settings import Amount, Bounds, Count

__all__ = ["SkeleMixCLRSettings"]


@dataclass(frozen=True, kw_only=True)
class SkeleMixCLRSettings(ContrastSettings):
    """The `skelemixclr` section: R `repeats` (Chen et al. 2022, table VIII), lambda `weight` (table III), the
    bounds of the pasted region (table II), and the switches of its ablations; see `SkeleMixCLR`.

    `repeats_loss` says whether the losses of the R mixtures are added or averaged.
    """

    repeats: Count = 1
    repeats_loss: Literal["sum", "mean"] = "sum"
    weight: Amount = 1.0
    parts: Bounds = field(default_factory=lambda: [2, 3])
    blocks: Bounds = field(default_factory=lambda: [7, 11])
    per: Literal["batch", "sample"] = "batch"
    cropping: Literal["topology", "random"] = "topology"
    random_joints: Bounds = field(default_factory=lambda: [10, 15])
    fill: Literal["mix", "zeros"] = "mix"
    pairs: Literal["hard", "cont"] = "hard"
    losses: Literal["both", "trimmed", "truncated"] = "both"
    hard_negative: Literal["detached", "attached", "none"] = "detached"

    def check(self, variant: str) -> None:
        """Raise UsageError for a setting that an ablation leaves without effect."""
        if self.pairs == "cont":
            region = ("parts", "blocks", "per", "cropping", "random_joints", "fill")
            refuse_unused("skelemixclr", self, (*region, "losses", "hard_negative"), "pairs=cont")
        if self.cropping == "random":
            refuse_unused("skelemixclr", self, ["parts"], "cropping=random")
        else:
            refuse_unused("skelemixclr", self, ["random_joints"], "cropping=topology")
