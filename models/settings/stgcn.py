"""The settings of ST-GCN: see `skelpipe.models.stgcn`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from skelpipe.models.settings.common import AbsentBodies, BackboneSettings
from skelpipe.settings import Amount, Count, at_most

__all__ = ["STGCNSettings"]


@dataclass(frozen=True, kw_only=True)
class STGCNSettings(BackboneSettings):
    """The `encoder` section for ST-GCN: the graph (see `models.graph`), its widths and its dropout.

    `absent_bodies` says how bodies that are zeros throughout are trained on (see `models.body_backbone`).
    """

    name: Literal["stgcn"] = "stgcn"
    graph: Literal["stgcn_capped", "stgcn_full", "agcn"] = "stgcn_capped"
    width: Count = 16
    out_channels: Count = 256
    dropout: Annotated[Amount, at_most(0.999)] = 0.5
    absent_bodies: AbsentBodies = "as-papers"
