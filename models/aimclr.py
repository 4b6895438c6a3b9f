"""AimCLR: an extremely augmented view learns from the normal one (Guo et al., AAAI 2022; spec D3)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.d3m import d3m
from skelpipe.models.eadm import eadm
from skelpipe.models.encoders import Encoder
from skelpipe.models.keyinit import draw_keys
from skelpipe.models.losses import contrastive_logits, positive_first
from skelpipe.models.method import Batch, Method, Progress, Setting, Views
from skelpipe.models.mining import JOINED, cross_view, refuse_derived
from skelpipe.models.moco import MoCo
from skelpipe.models.nnm import nearest, nnm
from skelpipe.models.parts import Parts
from skelpipe.models.settings import ABOVE_ZERO
from skelpipe.models.step import Step, spread
from skelpipe.views import derive

__all__ = ["AimCLR"]


class AimCLR(Method):
    """L = alpha L_Info + beta L_D, and after `mining_epoch` epochs alpha L_N + beta L_D (two-stage training).

    z_hat, z_tilde and z_drop are the query network's embeddings of a normal view, of an extreme one, and of the
    extreme one's feature map without what `eadm` drops. L_D = (D3M(z_tilde) + D3M(z_drop)) / 2 against z_hat
    (eq. 7, 8); L_N takes the `top_k` nearest in the queue of all three for positives (eq. 9). `neighbours` says
    whether the positives' terms are summed, as eq. 9 does, or averaged, as the code does (spec G7).

    `views` of 1 is the view the loader shows. With 2 or 3, joint, motion and bone train together, and while
    mining alpha times CrosSCLR's cross-view loss of z_hat is added, in our reading: the paper reports such runs
    ("cross-stream knowledge mining") but neither it nor its code says how they combine.

    Paper and released code differ, and `variant` chooses: the temporal flip and a blur that keeps the size of
    bodies, see `augment.chains` (G1, G6); EADM's temporal mask of frames, or of single elements (G28); key
    networks that start as copies, or with weights of their own (G8). `kappa_mode` says how the paper's masks of
    joints and frames use `kappa`: as a margin (absolute) or as the share that is kept (quantile), see `eadm`;
    the code's is always a margin.
    """

    name: ClassVar[str] = "aimclr"
    settings: ClassVar[Mapping[str, Setting]] = {
        "views": Setting("int", low=1, high=3),
        "mining_epoch": Setting("int", low=0),
        "top_k": Setting("int", low=1),
        "neighbours": Setting("str", choices=("mean", "sum")),
        "alpha": Setting("float", low=0),
        "beta": Setting("float", low=0),
        "kappa": Setting("float", low=ABOVE_ZERO),
        "kappa_mode": Setting("str", choices=("absolute", "quantile")),
        "energy_lambda": Setting("float", low=ABOVE_ZERO),
    }

    def __init__(self, parts: Parts, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.shown, self.layout, self.temperature = parts.view, parts.layout, parts.temperature
        self.options = dict(settings)
        self.names = JOINED.get(settings["views"], (parts.view,))
        self.mocos = nn.ModuleDict({name: parts.moco() for name in self.names})
        if not self.moco(self.names[0]).encoder.joint_map:
            raise UsageError(
                "aimclr drops frames and joints of the feature map, and this encoder has no joints in its own: "
                "choose another encoder.name, such as stgcn"
            )
        self.released = parts.variant == "released"
        if self.released:
            for name in self.names:
                draw_keys(self.moco(name), parts.init)
        self.mining = False
        normal = parts.chain("normal")
        self._views = {"query": normal, "extreme": parts.chain("aimclr-extreme"), "key": normal}

    @classmethod
    def build(cls, parts: Parts, settings: Mapping[str, Any]) -> Self:
        return cls(parts, settings)

    def views(self) -> Views:
        if len(self.names) > 1:
            refuse_derived(f"{self.name} with {len(self.names)} views", self.shown)
        return self._views

    def advance(self, progress: Progress) -> None:
        self.mining = progress.epoch >= self.options["mining_epoch"]

    def forward(self, batch: Batch) -> Step:
        """Step with the views `query`, `extreme` and `key` [N, C, T, V, M]; moves key networks and queues."""
        z = {name: self._queries(batch, name) for name in self.names}
        for name in self.names:
            self.moco(name).update_key()
        k = {name: self.moco(name).key(self._clips(batch, "key", name)) for name in self.names}
        logits = {name: self._logits(z[name], k[name], name) for name in self.names}
        alike = torch.stack([self._alike(each) for each in logits.values()]).sum()
        taught = torch.stack([(d3m(n, e) + d3m(n, d)) / 2 for n, e, d in logits.values()]).sum()
        if self.mining and len(self.names) > 1:
            normal = {name: each[0] for name, each in logits.items()}
            alike = alike + cross_view(normal, self.options["top_k"], self.temperature)
        loss = self.options["alpha"] * alike + self.options["beta"] * taught
        for name in self.names:
            self.moco(name).enqueue(k[name])
        logs = {"loss": loss.detach(), "info": alike.detach(), "d3m": taught.detach()}
        for name in self.names:
            suffix = "" if name == self.names[0] else f"-{name}"
            logs[f"top1{suffix}"] = (logits[name][0].argmax(dim=1) == 0).float().mean()
            logs[f"std{suffix}"] = spread(z[name][0].detach())
        first = self.names[0]
        return Step(loss, embeddings=z[first][0].detach(), keys=k[first], logs=logs)

    def streams(self, view: str) -> tuple[str, ...]:
        return self.names

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        moco = self.moco(view)
        return moco.encoder, moco.head

    def moco(self, name: str) -> MoCo:
        """Return the networks and the queue of a view."""
        return cast(MoCo, self.mocos[name])

    def _queries(self, batch: Batch, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return z_hat, z_tilde and z_drop [N, dim] of one view; the last two share a pass of the encoder."""
        moco = self.moco(name)
        normal = moco.query(self._clips(batch, "query", name))
        extreme = self._clips(batch, "extreme", name)
        encoder = cast(Encoder, moco.encoder)
        maps = encoder.features(extreme)
        rest = eadm(
            maps,
            self.options["kappa"],
            lam=self.options["energy_lambda"],
            relative=self.options["kappa_mode"] == "quantile" and not self.released,
            released=self.released,
        )
        whole, dropped = (moco.project(encoder.pool(each, extreme.shape[4])) for each in (maps, rest))
        return normal, whole, dropped

    def _logits(self, z: tuple[Tensor, ...], k: Tensor, name: str) -> list[Tensor]:
        # A copy of the queue: backward needs it as it was, and the new keys are written before that.
        queue = self.moco(name).queue.clone()
        return [contrastive_logits(each, k, queue, self.temperature) for each in z]

    def _alike(self, logits: list[Tensor]) -> Tensor:
        """Return InfoNCE of the normal view or, while mining, its loss with the neighbours of all three."""
        if not self.mining:
            return positive_first(logits[0])
        return nnm(logits[0], nearest(logits, self.options["top_k"]), divided=self.options["neighbours"] == "mean")

    def _clips(self, batch: Batch, which: str, name: str) -> Tensor:
        clips = batch.views[which]
        return clips if len(self.names) == 1 else derive(clips, name, self.layout)
