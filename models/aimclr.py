"""AimCLR: an extremely augmented view learns from the normal one (Guo et al., AAAI 2022; spec D3)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.crosclr import VIEW_SETS, cross_view, require_joint_view
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import contrastive_logits, positive_first
from skelpipe.models.method import Method, Progress, Setting, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.settings import ABOVE_ZERO
from skelpipe.views import derive

__all__ = ["AimCLR", "d3m", "eadm", "energy_attention", "keep_masks", "nearest", "nnm"]

LAMBDA = 1e-4  # lambda of eq. 3: released code, the paper gives none


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
        self.names = VIEW_SETS.get(settings["views"], (parts.view,))
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

    def views(self) -> ViewRecipes:
        if len(self.names) > 1:
            require_joint_view(f"{self.name} with {len(self.names)} views", self.shown)
        return self._views

    def advance(self, progress: Progress) -> None:
        self.mining = progress.epoch >= self.options["mining_epoch"]

    def forward(self, batch: ViewBatch) -> Step:
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

    def _queries(self, batch: ViewBatch, name: str) -> tuple[Tensor, Tensor, Tensor]:
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

    def _clips(self, batch: ViewBatch, which: str, name: str) -> Tensor:
        clips = batch.views[which]
        return clips if len(self.names) == 1 else derive(clips, name, self.layout)


def energy_attention(x: Tensor, lam: float = LAMBDA, *, unbiased: bool = False) -> Tensor:
    """Return alpha = sigmoid(1/E) of feature maps x [R, C, T', V'], element for element, in 0.622..1.

    1/e_t = (x - mu)^2 / (4 (sigma^2 + lam)) + 1/2, with mean and variance over the T'V' elements of a row's
    channel. `unbiased` divides the variance by one less than their number, as the released code does (spec G28).
    """
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        squares = (x - x.mean(dim=(2, 3), keepdim=True)).square()
        number = max(1, x.shape[2] * x.shape[3] - unbiased)
        variance = squares.sum(dim=(2, 3), keepdim=True) / number
        return torch.sigmoid(squares / (4 * (variance + lam)) + 0.5)


def keep_masks(
    alpha: Tensor, kappa: float, *, relative: bool = False, elementwise: bool = False
) -> tuple[Tensor, Tensor]:
    """Return which joints and which frames of alpha [R, C, T', V'] are kept: masks of 0 and 1 that broadcast.

    A joint's attention is the mean over channels and frames, a frame's the mean over channels and joints. What
    has kappa or more is dropped; if `relative`, only the rest beyond the share `kappa` of a row's joints, and of
    its frames, with the least attention. With `elementwise` the second mask is taken of each element's own
    attention, not of frames' (the released code).
    """
    spatial = alpha.mean(dim=(1, 2), keepdim=True)  # [R, 1, 1, V']
    temporal = alpha if elementwise else alpha.mean(dim=(1, 3), keepdim=True)  # [R, 1, T', 1]
    if not relative:
        return (spatial < kappa).to(alpha.dtype), (temporal < kappa).to(alpha.dtype)
    return _lowest(spatial, kappa), _lowest(temporal, kappa)


def eadm(
    x: Tensor, kappa: float, *, lam: float = LAMBDA, relative: bool = False, released: bool = False
) -> Tensor:
    """Return feature maps x [R, C, T', V'] without their most attended joints and frames (algorithm 1).

    Each mask is followed by a division by the share it keeps of the whole batch. Masks carry no gradient.
    `released`: the temporal mask is elementwise and the variance divided by T'V' - 1, as in the repaired code of
    2022-03. The first public code dropped nothing, as a kappa above 1 does (spec G28).
    """
    with torch.no_grad():
        alpha = energy_attention(x, lam, unbiased=released)
        spatial, temporal = keep_masks(alpha, kappa, relative=relative, elementwise=released)
        factors = _scaled(spatial), _scaled(temporal)
    return x * factors[0].to(x.dtype) * factors[1].to(x.dtype)


def _lowest(values: Tensor, share: float) -> Tensor:
    """Return 1 at the `share` of each row [R, ...] with the lowest values, and at ties with the last of them."""
    rows = values.flatten(1)
    kept = min(max(1, math.ceil(share * rows.shape[1] - 1e-9)), rows.shape[1])
    last = rows.kthvalue(kept, dim=1, keepdim=True).values
    return (rows <= last).to(values.dtype).view_as(values)


def _scaled(mask: Tensor) -> Tensor:
    """Return the mask times count / count of ones; all zeros where nothing is kept."""
    return mask * (mask.numel() / mask.sum().clamp(min=1))


def d3m(target_logits: Tensor, logits: Tensor) -> Tensor:
    """Return the mean cross entropy of softmax(logits) against softmax(target_logits), both [N, 1 + K].

    L_d = -1/N sum_n sum_i P(target)_ni log P(logits)_ni, where logits are [u.z ; u.Q] / t: AimCLR eq. 7 and 8,
    MsMCLR eq. 6 to 8 (printed without the minus signs), with the log taken by log-softmax (spec G38). It equals
    the entropy of P where both logits are the same. No gradient flows into the target.
    """
    with torch.autocast(logits.device.type, enabled=False):
        target_logits, logits = (
            tensor if tensor.dtype == torch.float64 else tensor.float() for tensor in (target_logits, logits)
        )
        target = F.softmax(target_logits.detach(), dim=1)
        return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def nearest(logits: Sequence[Tensor], top_k: int) -> Tensor:
    """Return the positives bool [N, 1 + K]: the key in column 0 and each view's `top_k` nearest of the queue.

    `logits` are each view's [N, 1 + K]; the union over views has 1 + top_k to 1 + top_k * views entries a row.
    Of equal similarities torch's `topk` chooses.
    """
    positives = torch.zeros_like(logits[0], dtype=torch.bool)
    positives[:, 0] = True
    for view in logits:
        queue = view.detach()[:, 1:]
        found = queue.topk(min(top_k, queue.shape[1]), dim=1).indices
        positives.scatter_(1, found + 1, True)
    return positives


def nnm(logits: Tensor, positives: Tensor, *, divided: bool = True) -> Tensor:
    """Return -sum_{j in positives} log softmax(logits)_j, the mean over clips, from [N, 1 + K] each.

    AimCLR eq. 9 is the plain sum; its code, and the default, divides a clip's by its number of positives (spec
    G7). With no positive but column 0 it is InfoNCE.
    """
    with torch.autocast(logits.device.type, enabled=False):
        chances = F.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=1)
        each = -chances.where(positives, 0).sum(dim=1)
        return (each / positives.sum(dim=1) if divided else each).mean()
