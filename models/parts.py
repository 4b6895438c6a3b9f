"""What methods are built from, as a recipe describes it: backbones, heads, key networks, augmentations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from skelpipe.augment.chain import Chain, chain
from skelpipe.errors import UsageError
from skelpipe.models.encoders import INIT, Encoder, build_encoder, draw_weights
from skelpipe.models.moco import MoCo
from skelpipe.models.settings import ABOVE_ZERO, Setting, check_section
from skelpipe.skeleton import Layout

__all__ = ["SECTIONS", "SETTINGS", "Parts", "projection_head"]


SETTINGS: Mapping[str, Setting] = {
    "variant": Setting("str", choices=("paper", "released")),
    "init": INIT,
    "temperature": Setting("float", low=ABOVE_ZERO),
    "momentum": Setting("float", low=0, high=1),
    "queue": Setting("int", low=1),
}
SECTIONS: Mapping[str, Mapping[str, Setting]] = {
    "head": {"hidden": Setting("int", low=1), "dim": Setting("int", low=1), "batch_norm": Setting("bool")},
    "augment": {"shear": Setting("float", low=0), "crop": Setting("int", low=1)},
}
DEFAULTS: Mapping[str, Any] = {
    "variant": "paper",
    "init": "paper",
    "head": {"hidden": 256, "dim": 128, "batch_norm": False},
    "augment": {"shear": 0.5, "crop": 6},
}


@dataclass(frozen=True)
class Parts:
    """Makes the parts of one method. Every call draws fresh weights from torch's global generator.

    `view` is what the loader shows. `augment` holds `shear` and `crop`, the strengths of the normal
    augmentation. `variant` says which to follow where a paper and its released code disagree. `anchor` returns
    the mean training clip [C,T,V,M] of the view shown; it is None where no dataset is at hand, as when trained
    weights are only to be judged: a method that keeps the anchor keeps it in a buffer that is not persistent.
    """

    layout: Layout
    view: str
    variant: str
    augment: Mapping[str, Any]
    temperature: float
    momentum: float
    queue: int
    init: str
    encoder_settings: Mapping[str, Any]
    head_settings: Mapping[str, Any]
    anchor: Callable[[], Tensor] | None = None

    @classmethod
    def of(
        cls,
        recipe: Mapping[str, Any],
        layout: Layout,
        view: str = "joint",
        anchor: Callable[[], Tensor] | None = None,
    ) -> "Parts":
        """Return the parts of a recipe with sections (`Recipe.nested`); a UsageError where a value is wrong.

        Required are `encoder`, `temperature`, `momentum` and `queue`; keys of no concern here are ignored.
        """
        values = {**DEFAULTS, **recipe}
        for key in ("encoder", *SETTINGS):
            if values.get(key) is None:
                raise UsageError(f"the recipe lacks {key!r}")
        plain = {key: setting.check(key, values[key], "recipe") for key, setting in SETTINGS.items()}
        head, augment = (
            {**DEFAULTS[name], **check_section(values[name], settings, name)}
            for name, settings in SECTIONS.items()
        )
        return cls(
            layout=layout,
            view=view,
            anchor=anchor,
            encoder_settings=values["encoder"],
            head_settings=head,
            augment=augment,
            **plain,
        )

    def encoder(self) -> Encoder:
        """Return a new backbone."""
        return build_encoder(self.encoder_settings, self.layout, self.init)

    def head(self, in_dim: int | None = None) -> nn.Module:
        """Return a new projection head on features of `in_dim` channels, the backbone's where none is given."""
        head = projection_head(self.feature_dim if in_dim is None else in_dim, out_dim=self.dim, **self._hidden)
        draw_weights(head, self.init)
        return head

    def moco(self, encoder: nn.Module | None = None, head: nn.Module | None = None) -> MoCo:
        """Return a query network, new where none is given, with its key network (a copy) and its queue."""
        if encoder is None:
            encoder = self.encoder()
        if head is None:
            head = self.head(int(encoder.feature_dim))  # type: ignore[arg-type]
        return MoCo(encoder, head, dim=self.dim, queue_size=self.queue, momentum=self.momentum)

    def chain(self, name: str) -> Chain:
        """Return an augmentation by name (see `skelpipe.augment.chains`), of the recipe's strength and variant."""
        return chain(name, layout=self.layout, variant=self.variant, **self.augment)

    @property
    def dim(self) -> int:
        """The channels of an embedding z."""
        return int(self.head_settings["dim"])

    @cached_property
    def feature_dim(self) -> int:
        """The channels of the backbone's pooled feature h. The generator stays where it is."""
        with torch.random.fork_rng(devices=()):
            return self.encoder().feature_dim

    @property
    def _hidden(self) -> dict[str, Any]:
        return {key: self.head_settings[key] for key in ("hidden", "batch_norm")}


def projection_head(in_dim: int, hidden: int, out_dim: int, batch_norm: bool = False) -> nn.Sequential:
    """Return the MLP h [N, in_dim] -> [N, out_dim]: Linear, (BatchNorm,) ReLU, Linear. It does not normalise.

    With `batch_norm` it is SkeleMixCLR's; without, SkeletonCLR's, AimCLR's and MsMCLR's.
    """
    norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
    return nn.Sequential(nn.Linear(in_dim, hidden), *norm, nn.ReLU(), nn.Linear(hidden, out_dim))
