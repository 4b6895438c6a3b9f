"""AimCLR: an extremely augmented view learns from the normal view (Guo et al., AAAI 2022)."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.absent_bodies import leaves_out_absent, mean_of_present, present_bodies
from skelpipe.models.crosclr import VIEW_SETS, cross_logits, cross_view, require_joint_view
from skelpipe.models.encoders import Encoder
from skelpipe.models.losses import contrastive_logits, positive_first, upcast
from skelpipe.models.method import Logits, Method, Progress, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.settings.aimclr import AimCLRSettings
from skelpipe.models.together import passed
from skelpipe.views import derive

__all__ = ["AimCLR", "d3m", "eadm", "energy_attention", "keep_masks", "nearest", "nnm"]

LAMBDA = 1e-4  # lambda of eq. 3, from the released code; the paper has no value


class AimCLR(Method):
    """L = alpha L_Info + beta L_D, and after `mining_epoch` epochs alpha L_N + beta L_D (two-stage training).

    z_hat, z_tilde and z_drop are the query network's embeddings of a normal view, of an extreme view, and of the
    extreme view's feature map without the features that `eadm` drops. L_D = (D3M(z_tilde) + D3M(z_drop)) / 2
    against z_hat (eq. 7, 8). In L_N the `top_k` nearest keys in the queue to each of the three are positives too
    (eq. 9); `neighbours` says whether their terms are added or averaged (divergence `nnm-sum`).

    The ablations of table 1: without `eadm` there is no z_drop, and L_D = D3M(z_tilde) (eq. 7 alone); without
    `nnm` L_Info stays in the second stage.

    With 1, `views` is the view that the loader shows. With 2 or 3, joint, motion and bone train together, and
    while mining alpha times CrosSCLR's cross-view loss of z_hat is added (divergence `aimclr-cross-stream`).

    `variant` chooses between paper and released code: temporal flip and blur of the extreme view (divergences
    `aimclr-temporal-flip`, `blur-gain`), EADM's masks (`eadm-mask`) and how key networks start
    (`key-initial-weights`). `kappa_mode` says how the paper's masks use `kappa`: as a margin ("absolute"), which
    is what the released code does, or as the share that is kept ("quantile"); see `eadm`.
    """

    name: ClassVar[str] = "aimclr"
    Settings: ClassVar[type] = AimCLRSettings

    def __init__(self, parts: Parts, settings: AimCLRSettings) -> None:
        super().__init__()
        settings.check(parts.recipe.variant)
        self.view, self.layout, self.temperature = parts.view, parts.layout, settings.temperature
        self.settings = settings
        self.names = VIEW_SETS.get(settings.views, (parts.view,))
        self.mocos = nn.ModuleDict({name: parts.moco() for name in self.names})
        if not self.moco(self.names[0]).encoder.joint_map:
            raise UsageError(
                "aimclr drops frames and joints of the feature map, and the map of this encoder has no joints: "
                "choose another encoder.name, such as stgcn"
            )
        self.released = parts.recipe.variant == "released"
        if self.released:
            for name in self.names:
                draw_keys(self.moco(name), parts.recipe.init)
        self.mining = False
        self._views = {
            "query": parts.view_chain("query", "normal"),
            "extreme": parts.view_chain("extreme", "aimclr-extreme"),
            "key": parts.view_chain("key", "normal"),
        }

    @classmethod
    def build(cls, parts: Parts, settings: AimCLRSettings) -> Self:
        return cls(parts, settings)

    def views(self) -> ViewRecipes:
        if len(self.names) > 1:
            require_joint_view(f"{self.name} with {len(self.names)} views", self.view)
        return self._views

    def advance(self, progress: Progress) -> None:
        self.mining = progress.epoch >= self.settings.mining_epoch

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the views `query`, `extreme` and `key` [N, C, T, V, M]; updates key networks and queues."""
        z = {name: self._queries(batch, name) for name in self.names}
        for name in self.names:
            self.moco(name).update_key()
        k = {name: self.moco(name).key(self._clips(batch, "key", name)) for name in self.names}
        logits = {name: self._logits(z[name], k[name], name) for name in self.names}
        named: dict[str, Any] = {
            f"{which}{self._suffix(name)}": each
            for name in self.names
            for which, each in zip(("query", "extreme", "dropped"), logits[name], strict=False)
        }
        info = torch.stack([self._info_loss(each) for each in logits.values()]).sum()
        distribution = torch.stack([_distribution_loss(each) for each in logits.values()]).sum()
        if self.mining and len(self.names) > 1:
            normal = {name: each[0] for name, each in logits.items()}
            info = info + cross_view(normal, self.settings.top_k, self.temperature)
            named |= cross_logits(normal, self.temperature)
        loss = self.settings.alpha * info + self.settings.beta * distribution
        for name in self.names:
            self.moco(name).enqueue(k[name])
        logs = {"loss": loss.detach(), "info": info.detach(), "d3m": distribution.detach()}
        for name in self.names:
            logs[f"top1{self._suffix(name)}"] = (logits[name][0].argmax(dim=1) == 0).float().mean()
            logs[f"std{self._suffix(name)}"] = spread(z[name][0].detach())
        first = self.names[0]
        return Step(loss, embeddings=z[first][0].detach(), keys=k[first], logs=logs, logits=Logits(named))

    def streams(self, view: str) -> tuple[str, ...]:
        return self.names

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        moco = self.moco(view)
        return moco.encoder, moco.head

    def moco(self, name: str) -> MoCo:
        """Return the networks and the queue of a view."""
        return cast(MoCo, self.mocos[name])

    def _suffix(self, name: str) -> str:
        """Return what follows a name of logs and logits, for a view beside the first."""
        return "" if name == self.names[0] else f"-{name}"

    def _queries(self, batch: ViewBatch, name: str) -> tuple[Tensor, ...]:
        """Return z_hat, z_tilde and with `eadm` z_drop [N, dim] of one view.

        The encoder runs once for the last two.
        """
        moco = self.moco(name)
        extreme = self._clips(batch, "extreme", name)
        encoder = cast(Encoder, moco.encoder)
        normal, maps = passed(encoder, self._clips(batch, "query", name), extreme)
        whole = mean_of_present(encoder, encoder.pool(maps, extreme.shape[4]), extreme)
        if not self.settings.eadm:
            return moco.project_all(normal, whole)
        kept = eadm(
            maps,
            self.settings.kappa,
            lam=self.settings.energy_lambda,
            relative=self.settings.kappa_mode == "quantile" and not self.released,
            released=self.released,
            present=present_bodies(extreme).flatten() if leaves_out_absent(encoder) else None,
        )
        dropped = mean_of_present(encoder, encoder.pool(kept, extreme.shape[4]), extreme)
        return moco.project_all(normal, whole, dropped)

    def _logits(self, z: tuple[Tensor, ...], k: Tensor, name: str) -> list[Tensor]:
        # A copy of the queue: backward needs it as it was, and the new keys are written before that.
        queue = self.moco(name).queue.clone()
        return [contrastive_logits(each, k, queue, self.temperature) for each in z]

    def _info_loss(self, logits: list[Tensor]) -> Tensor:
        """Return InfoNCE of the normal view or, while mining, NNM with the neighbours of all views (eq. 1, 9)."""
        if not (self.mining and self.settings.nnm):
            return positive_first(logits[0])
        return nnm(logits[0], nearest(logits, self.settings.top_k), divided=self.settings.neighbours == "mean")

    def _clips(self, batch: ViewBatch, which: str, name: str) -> Tensor:
        clips = batch.views[which]
        return clips if len(self.names) == 1 else derive(clips, name, self.layout)


def _distribution_loss(logits: list[Tensor]) -> Tensor:
    """Return L_D: the mean of D3M against the normal view's logits, which come first (eq. 7, 8)."""
    normal, *others = logits
    return torch.stack([d3m(normal, each) for each in others]).mean()


def energy_attention(x: Tensor, lam: float = LAMBDA, *, unbiased: bool = False) -> Tensor:
    """Return alpha = sigmoid(1/E) of each element of feature maps x [R, C, T', V'], in 0.622..1 (eq. 3).

    1/e_t = (x - mu)^2 / (4 (sigma^2 + lam)) + 1/2, with mean and variance over the T'V' elements of a channel; the
    energy is that of SimAM. `unbiased` divides the variance by T'V' - 1, as the released code does.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = upcast(x)
        squares = (x - x.mean(dim=(2, 3), keepdim=True)).square()
        number = max(1, x.shape[2] * x.shape[3] - unbiased)
        variance = squares.sum(dim=(2, 3), keepdim=True) / number
        return torch.sigmoid(squares / (4 * (variance + lam)) + 0.5)


def keep_masks(
    alpha: Tensor, kappa: float, *, relative: bool = False, elementwise: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the masks of kept joints and of kept frames of alpha [R, C, T', V'], 0 or 1, to broadcast (algorithm
    1).

    The attention of a joint is the mean over channels and frames, that of a frame the mean over channels and
    joints. Attention of kappa or more is dropped. If `relative`, the share `kappa` of a row's joints, and of its
    frames, with the least attention is kept instead. With `elementwise` the second mask is one of single elements
    instead of frames, as in the released code (divergence `eadm-mask`).
    """
    spatial = alpha.mean(dim=(1, 2), keepdim=True)  # [R, 1, 1, V']
    temporal = alpha if elementwise else alpha.mean(dim=(1, 3), keepdim=True)  # [R, 1, T', 1]
    if not relative:
        return (spatial < kappa).to(alpha.dtype), (temporal < kappa).to(alpha.dtype)
    return _lowest(spatial, kappa), _lowest(temporal, kappa)


def eadm(
    x: Tensor,
    kappa: float,
    *,
    lam: float = LAMBDA,
    relative: bool = False,
    released: bool = False,
    present: Tensor | None = None,
) -> Tensor:
    """Return feature maps x [R, C, T', V'] without their most attended joints and frames (algorithm 1).

    After each mask the map is divided by the share that the mask keeps of the whole batch, or of the rows that are
    `present`, bool [R]. Masks have no gradient.
    `released` follows the code of March 2022: the temporal mask is elementwise and the variance divided by
    T'V' - 1 (divergence `eadm-mask`). With `kappa` above 1 nothing is dropped.
    """
    with torch.no_grad():
        alpha = energy_attention(x, lam, unbiased=released)
        spatial, temporal = keep_masks(alpha, kappa, relative=relative, elementwise=released)
        factors = _scaled(spatial, present), _scaled(temporal, present)
    return x * factors[0].to(x.dtype) * factors[1].to(x.dtype)


def _lowest(values: Tensor, share: float) -> Tensor:
    """Return 1 for the `share` of each row [R, ...] with the lowest values and for ties with the highest of
    these."""
    rows = values.flatten(1)
    kept = min(max(1, math.ceil(share * rows.shape[1] - 1e-9)), rows.shape[1])
    last = rows.kthvalue(kept, dim=1, keepdim=True).values
    return (rows <= last).to(values.dtype).view_as(values)


def _scaled(mask: Tensor, present: Tensor | None) -> Tensor:
    """Return the mask times count / count of ones, in the rows present; all zeros where nothing is kept."""
    if present is None:
        return mask * (mask.numel() / mask.sum().clamp(min=1))
    rows = present.to(mask.dtype)[:, None, None, None]
    return mask * (rows.sum() * mask[0].numel() / (mask * rows).sum().clamp(min=1))


def d3m(target_logits: Tensor, logits: Tensor) -> Tensor:
    """Return the distributional divergence loss D3M of logits against target logits, both [N, 1 + K].

    L_d = -1/N sum_n sum_i P(target)_ni log P(logits)_ni, where P is the softmax of [u.z ; u.Q] / t: eq. 7 and 8,
    and Wu et al., eq. 6 to 8 (divergences `d3m-log`, `msmclr-text`). It equals the entropy of P where both logits
    are equal. No gradient flows into the target.
    """
    with torch.autocast(logits.device.type, enabled=False):
        target = F.softmax(upcast(target_logits.detach()), dim=1)
        return -(target * F.log_softmax(upcast(logits), dim=1)).sum(dim=1).mean()


def nearest(logits: Sequence[Tensor], top_k: int) -> Tensor:
    """Return the positives of NNM, bool [N, 1 + K]: column 0, the key, and each view's `top_k` nearest in the
    queue.

    `logits` are [N, 1 + K] per view; the union over views has 1 + top_k to 1 + top_k * views entries per row.
    Among equal similarities torch's `topk` chooses.
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

    Eq. 9 is the plain sum; the default, as in the released code, divides the sum of each clip by its number of
    positives (divergence `nnm-sum`). With column 0 as the only positive it is InfoNCE.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_p = F.log_softmax(upcast(logits), dim=1)
        each = -log_p.where(positives, 0).sum(dim=1)
        return (each / positives.sum(dim=1) if divided else each).mean()
