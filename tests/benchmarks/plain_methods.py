"""The methods as they are usually written, on the plain ST-GCN; ours give the same losses.

Queues have one column per key and a pointer that is read back, key networks are updated parameter by parameter,
attention and losses are written out.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from plain_stgcn import PlainSTGCN
from torch import Tensor, nn

from skelpipe.models.method import Method
from skelpipe.models.moco import MoCo
from skelpipe.models.msmclr import MsMAttention
from skelpipe.models.stgcn import STGCN

__all__ = ["PLAIN", "Plain", "PlainMoCo"]

Views = Mapping[str, Tensor]


class PlainMoCo(nn.Module):
    """Query and key network and queue, with the weights of ours."""

    def __init__(self, ours: MoCo, temperature: float) -> None:
        super().__init__()
        self.encoder = PlainSTGCN.of(cast(STGCN, ours.encoder))
        self.key_encoder = PlainSTGCN.of(cast(STGCN, ours.key_encoder)).requires_grad_(False)
        self.head, self.key_head = copy.deepcopy(ours.head), copy.deepcopy(ours.key_head)
        self.register_buffer("queue", ours.queue.T.clone())
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))
        self.momentum, self.temperature = ours.momentum, temperature

    def project(self, h: Tensor) -> Tensor:
        return F.normalize(self.head(h), dim=1)

    def query(self, x: Tensor) -> Tensor:
        return self.project(self.encoder(x))

    @torch.no_grad()
    def follow(self) -> None:
        pairs = ((self.encoder, self.key_encoder), (self.head, self.key_head))
        for query, key in pairs:
            for theta_q, theta_k in zip(query.parameters(), key.parameters(), strict=True):
                theta_k.data = theta_k.data * self.momentum + theta_q.data * (1.0 - self.momentum)

    @torch.no_grad()
    def key(self, x: Tensor) -> Tensor:
        return F.normalize(self.key_head(self.key_encoder(x)), dim=1)

    def logits(self, q: Tensor, k: Tensor) -> Tensor:
        positive = torch.einsum("nc,nc->n", q, k).unsqueeze(-1)
        negative = torch.einsum("nc,ck->nk", q, self.queue.clone().detach())
        return torch.cat([positive, negative], dim=1) / self.temperature

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        start = int(self.pointer)
        self.queue[:, start : start + len(keys)] = keys.T
        self.pointer[0] = (start + len(keys)) % self.queue.shape[1]


class Plain(nn.Module):
    """A method with the weights and settings of ours; `step(views, extras)` is one of `PLAIN`."""

    def __init__(self, ours: Any, step: Callable[["Plain", Views, Views], Tensor]) -> None:
        super().__init__()
        self.ours: list[Method] = [ours]  # in a list, so that its weights are not this module's
        mocos = ours.mocos if hasattr(ours, "mocos") else {"joint": ours.moco}
        self.mocos = nn.ModuleDict({name: PlainMoCo(moco, ours.temperature) for name, moco in mocos.items()})
        self.attention = copy.deepcopy(getattr(ours, "attention", None))
        self.predictors = copy.deepcopy(getattr(ours, "predictors", None))
        self._step = step

    @property
    def moco(self) -> PlainMoCo:
        return cast(PlainMoCo, self.mocos["joint"])

    def forward(self, views: Views, extras: Views) -> Tensor:
        return self._step(self, views, extras)


def skeletonclr(plain: Plain, views: Views, extras: Views) -> Tensor:
    moco = plain.moco
    q = moco.query(views["query"])
    moco.follow()
    k = moco.key(views["key"])
    loss = _first(moco.logits(q, k))
    moco.enqueue(k)
    return loss


def crosclr(plain: Plain, views: Views, extras: Views) -> Tensor:
    method = cast(Any, plain.ours[0])
    mocos = cast(Mapping[str, PlainMoCo], dict(plain.mocos.items()))
    parents = list(method.layout.parents)
    seen = {name: {which: _derived(x, name, parents) for which, x in views.items()} for name in mocos}
    q = {name: moco.query(seen[name]["query"]) for name, moco in mocos.items()}
    for moco in mocos.values():
        moco.follow()
    k = {name: moco.key(seen[name]["key"]) for name, moco in mocos.items()}
    scores = {name: moco.logits(q[name], k[name]) * moco.temperature for name, moco in mocos.items()}
    loss = q["joint"].new_zeros(())
    for u in mocos:
        for v in mocos:
            if u == v:
                continue
            near = scores[v][:, 1:].topk(method.settings.top_k, dim=1).indices
            positives = torch.zeros_like(scores[v][:, 1:]).scatter_(1, near, 1)
            mask = torch.cat([torch.ones_like(positives[:, :1]), positives, positives], dim=1)
            context = scores[u][:, 1:] * scores[v][:, 1:]
            chances = F.log_softmax(torch.cat([scores[u], context], dim=1) / mocos[u].temperature, dim=1)
            loss = loss - ((chances * mask).sum(1) / mask.sum(1)).mean() / (len(mocos) - 1)
    for name, moco in mocos.items():
        moco.enqueue(k[name])
    return loss


def aimclr(plain: Plain, views: Views, extras: Views) -> Tensor:
    moco, settings = plain.moco, cast(Any, plain.ours[0]).settings
    normal = moco.query(views["query"])
    maps = moco.encoder.features(views["extreme"])
    bodies = views["extreme"].shape[4]
    whole = moco.project(moco.encoder.pool(maps, bodies))
    dropped = moco.project(moco.encoder.pool(_drop(maps, settings.kappa, settings.energy_lambda), bodies))
    moco.follow()
    k = moco.key(views["key"])
    logits = [moco.logits(z, k) for z in (normal, whole, dropped)]
    mask = torch.zeros_like(logits[0])
    mask[:, 0] = 1
    for each in logits:
        mask.scatter_(1, each[:, 1:].topk(settings.top_k, dim=1).indices + 1, 1)
    alike = -((F.log_softmax(logits[0], dim=1) * mask).sum(1) / mask.sum(1)).mean()
    mining = (_d3m(logits[0], logits[1]) + _d3m(logits[0], logits[2])) / 2
    moco.enqueue(k)
    return settings.alpha * alike + settings.beta * mining


def skelemixclr(plain: Plain, views: Views, extras: Views) -> Tensor:
    moco = plain.moco
    q = moco.query(views["query"])
    moco.follow()
    k = moco.key(views["key"])
    loss = _first(moco.logits(q, k))
    for name in (name for name in views if name.startswith("mixed")):
        maps = moco.encoder.features(views[name]).unflatten(0, (len(k), -1))
        mask = extras[f"{name}_mask"].to(maps.dtype)[:, None, None]
        inside, outside = (maps * mask).sum((3, 4)), (maps * (1 - mask)).sum((3, 4))
        p = moco.project((inside / mask.sum((3, 4))).mean(1))
        g = moco.project((outside / (1 - mask).sum((3, 4))).mean(1))
        mixed = (_hard_negative(moco, p, k[extras[f"{name}_donor"]], g) + _hard_negative(moco, g, k, p)) / 2
        loss = loss + cast(Any, plain.ours[0]).weight * mixed
    moco.enqueue(k)
    return loss


def actclr(plain: Plain, views: Views, extras: Views) -> Tensor:
    method, moco = cast(Any, plain.ours[0]), plain.moco
    anchor, bodies = method.anchor[None], views["key"].shape[4]
    zbar = _embedded(moco, anchor)
    moco.key_encoder.eval()
    with torch.no_grad():
        maps = moco.key_encoder.features(views["act"])
    moco.key_encoder.train()
    mask = _actionlet(moco, method, maps, zbar, bodies)
    wide = F.interpolate(mask[:, None].float(), views["act"].shape[2:4], mode="bilinear", align_corners=True)
    wide = wide.to(mask.dtype).unflatten(0, (-1, bodies)).permute(0, 2, 3, 4, 1)  # [N,1,T,V,M]
    q = moco.query(wide * views["act"] + (1 - wide) * views["non"])
    moco.follow()
    zbar = _embedded(moco, anchor)
    with torch.no_grad():
        maps = moco.key_encoder.features(views["key"])
    mask = _actionlet(moco, method, maps, zbar, bodies)
    with torch.no_grad():
        moving = (maps * mask[:, None]).sum((2, 3)) / (mask.sum((1, 2)) + 1e-5)[:, None]
        k = F.normalize(moco.key_head(moving.unflatten(0, (-1, bodies)).mean(1)), dim=1)
    bank = moco.queue.clone().detach()
    wanted = F.softmax(k @ bank / method.losses.key_temperature, dim=1)
    found = F.log_softmax(q @ bank / method.losses.query_temperature, dim=1)
    moco.enqueue(k)
    return -(wanted * found).sum(1).mean()


def skeattnclr(plain: Plain, views: Views, extras: Views) -> Tensor:
    method, moco, attention = cast(Any, plain.ours[0]), plain.moco, cast(Any, plain.attention)
    predictors = cast(Any, plain.predictors)
    bodies = views["query"].shape[4]
    q = F.normalize(predictors["z"](moco.head(moco.encoder(views["query"]))), dim=1)
    maps = moco.encoder.features(views["mixed"])
    tokens = maps.flatten(2).transpose(1, 2)
    qkv = attention.qkv(attention.norm(tokens)).unflatten(2, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    weights = (qkv[0] @ qkv[1].transpose(2, 3) * qkv[0].shape[3] ** -0.5).softmax(3)
    found = attention.proj((weights @ qkv[2]).transpose(1, 2).flatten(2))
    mask = torch.sigmoid(attention.sharpness * found).transpose(1, 2).reshape(maps.shape)
    rest = torch.ones_like(mask) - mask
    q_s, q_ns = (
        F.normalize(predictors[which](moco.head(moco.encoder.pool(maps * share, bodies))), dim=1)
        for which, share in (("s", mask), ("ns", rest))
    )
    moco.follow()
    with torch.no_grad():
        maps = moco.key_encoder.features(views["key"])
        pooled = [moco.key_encoder.pool(x, bodies) for x in (maps, maps * mask, maps * rest)]
        k, k_s, k_ns = (F.normalize(moco.key_head(h), dim=1) for h in pooled)
    loss = _first(moco.logits(q, k))
    loss = (
        loss
        + method.mu * _hard_negative(moco, q_s, k_s, q_ns)
        + (1 - method.mu) * _hard_negative(moco, q_ns, k_ns, q_s)
    )
    moco.enqueue(k)
    return loss


def msmclr(plain: Plain, views: Views, extras: Views) -> Tensor:
    moco, attention = plain.moco, cast(MsMAttention, plain.attention)
    q = moco.query(views["query"])
    maps = moco.encoder.features(views["strong"])
    layout = cast(Any, plain.ours[0]).moco.encoder.layout
    scales = [maps]
    for level in ("part", "body"):
        merged = [maps[..., list(joints)].mean(3) for joints in layout.levels[level].values()]
        scales.append(torch.stack(merged, dim=3))
    strong = [moco.project(moco.encoder.pool(_attended(attention, x), views["strong"].shape[4])) for x in scales]
    moco.follow()
    k = moco.key(views["key"])
    logits = [moco.logits(z, k) for z in (q, *strong)]
    moco.enqueue(k)
    return _first(logits[0]) + sum(_d3m(logits[0], each) for each in logits[1:]) / 3


PLAIN: Mapping[str, Callable[[Plain, Views, Views], Tensor]] = {
    step.__name__: step for step in (skeletonclr, crosclr, aimclr, skelemixclr, actclr, skeattnclr, msmclr)
}


def _first(logits: Tensor) -> Tensor:
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def _d3m(teacher: Tensor, logits: Tensor) -> Tensor:
    return -(F.softmax(teacher.detach(), dim=1) * F.log_softmax(logits, dim=1)).sum(1).mean()


def _hard_negative(moco: PlainMoCo, q: Tensor, k: Tensor, other: Tensor) -> Tensor:
    hard = torch.einsum("nc,nc->n", q, other.detach()).unsqueeze(-1) / moco.temperature
    return _first(torch.cat([moco.logits(q, k), hard], dim=1))


def _derived(x: Tensor, view: str, parents: list[int]) -> Tensor:
    if view == "bone":
        return x - x[:, :, :, parents]
    if view == "motion":
        y = torch.zeros_like(x)
        y[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
        return y
    return x


def _drop(x: Tensor, kappa: float, lam: float) -> Tensor:
    """The most attended joints and frames of each row left out (relative thresholds)."""
    squares = (x - x.mean(dim=(2, 3), keepdim=True)) ** 2
    energy = squares / (4 * (squares.mean(dim=(2, 3), keepdim=True) + lam)) + 0.5
    alpha = torch.sigmoid(energy).detach()
    for means, shape in (
        (alpha.mean((1, 2)), (-1, 1, 1, x.shape[3])),
        (alpha.mean((1, 3)), (-1, 1, x.shape[2], 1)),
    ):
        kept = -int(-(kappa * means.shape[1] - 1e-9) // 1)
        mask = torch.zeros_like(means).scatter_(1, means.argsort(dim=1)[:, :kept], 1.0).view(shape)
        x = x * mask * mask.numel() / mask.sum()
    return x


@torch.no_grad()
def _embedded(moco: PlainMoCo, clip: Tensor) -> Tensor:
    """The key network's embedding of one clip, in eval mode."""
    moco.key_encoder.eval()
    z: Tensor = moco.key_head(moco.key_encoder(clip))
    moco.key_encoder.train()
    return z


def _actionlet(moco: PlainMoCo, method: Any, maps: Tensor, zbar: Tensor, bodies: int) -> Tensor:
    """Masks [R,T',V] by the gradient at the feature maps (Lin et al. 2023, eq. 3 to 5)."""
    leaf = maps.detach().requires_grad_()
    similarity = F.cosine_similarity(moco.key_head(moco.key_encoder.pool(leaf, bodies)), zbar, dim=1)
    (gradient,) = torch.autograd.grad(-similarity.sum(), leaf)
    weights = gradient.mean((2, 3), keepdim=True)
    cam = F.relu((weights * maps.detach()).sum(1))
    graph = torch.eye(maps.shape[3], dtype=maps.dtype)
    for child, parent in method.moco.encoder.layout.edges:
        graph[child, parent] = graph[parent, child] = 1
    cam = cam @ (graph / graph.sum(0))
    return (cam > method.regions.threshold * cam.amax((1, 2), keepdim=True)).to(maps.dtype)


def _attended(attention: MsMAttention, x: Tensor) -> Tensor:
    """W X + X of a map [R,D,T',V_s] (Wu et al., eq. 1 and 2)."""
    motion = attention.motion
    y = F.conv2d(x, motion.down.weight[:, :, None, None], motion.down.bias)
    normal = F.layer_norm(y, y.shape[3:])
    frames, nodes = torch.zeros_like(normal), torch.zeros_like(normal)
    frames[:, :, :-1] = normal[:, :, 1:] - normal[:, :, :-1]
    nodes[..., :-1] = normal[..., 1:] - normal[..., :-1]
    moves = (frames + nodes) / 2
    tokens = moves.transpose(1, 2).flatten(2)
    near = F.softmax(tokens @ tokens.transpose(1, 2) / tokens.shape[2] ** 0.5, dim=2)
    found = (near @ tokens).unflatten(2, (moves.shape[1], -1)).transpose(1, 2)
    weight = torch.sigmoid(F.conv2d(found + y, motion.up.weight[:, :, None, None], motion.up.bias))
    return weight * x + x
