"""Steps of the methods, in float64, written from the papers without skelpipe's models.

A network is a dict of tensors by the names of a method's `state_dict`; clips [N,C,T,V,M] have Kinect v2's joints.
`python tests/models/plain_steps.py` writes `plain_steps.json`, what `test_plain_steps.py` also compares with.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Weights = dict[str, Tensor]
STORED = Path(__file__).with_suffix(".json")
CLIPS, FRAMES, DIM, QUEUE, TAU, MOMENTUM = 3, 16, 4, 7, 0.2, 0.9
RATE, SGD_MOMENTUM, DECAY = 0.05, 0.9, 1e-4
# Child and parent of each bone, counted from 1; the centre is joint 21.
BONES = [(1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11)]
BONES += [(13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (23, 8)]
BONES += [(24, 25), (25, 12)]
PARTS = [(1, 2, 21), (3, 4), (5, 6, 7), (8, 22, 23), (9, 10, 11), (12, 24, 25), (13, 14), (15, 16), (17, 18)]
PARTS += [(19, 20)]
BODY = [(5, 6, 7, 8, 22, 23), (9, 10, 11, 12, 24, 25), (13, 14, 15, 16), (17, 18, 19, 20), (1, 2, 3, 4, 21)]


# ---- Networks


def normalised_links() -> Tensor:
    """Links between joints and with themselves, columns with sum 1."""
    links = torch.eye(25, dtype=torch.float64)
    for child, parent in BONES:
        links[child - 1, parent - 1] = links[parent - 1, child - 1] = 1
    return links / links.sum(0)


def graph() -> Tensor:
    """The three matrices [3,25,25] of the authors' ST-GCN, in float32 as theirs.

    Only joints 2, 3, 5 and 9 are one bone from the centre; all others are infinitely far.
    """
    links, far = normalised_links(), {20: 0, 1: 1, 2: 1, 4: 1, 8: 1}
    found = torch.zeros(3, 25, 25, dtype=torch.float64)
    for v in range(25):
        for w in range(25):
            kind = 0 if v == w else 2 if far.get(v, 9) < far.get(w, 9) else 1
            found[kind, v, w] = links[v, w]
    return found.float().double()


def batch_norm(w: Weights, at: str, x: Tensor, training: bool) -> Tensor:
    """Normalise each channel of x [..., C]; in training by its own moments, which enter the running ones."""
    rows = x.flatten(0, -2)
    mean, variance = w[f"{at}.running_mean"], w[f"{at}.running_var"]
    if training:
        n = len(rows)
        mean = rows.sum(0) / n
        variance = ((rows - mean) ** 2).sum(0) / n
        w[f"{at}.running_mean"] = 0.9 * w[f"{at}.running_mean"] + 0.1 * mean.detach()
        w[f"{at}.running_var"] = 0.9 * w[f"{at}.running_var"] + 0.1 * variance.detach() * n / (n - 1)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{at}.weight"] + w[f"{at}.bias"]


def stgcn(w: Weights, at: str, x: Tensor, training: bool = True) -> Tensor:
    """The map [N,M,T/4,V,D] of clips."""
    n, c, t, v, m = x.shape
    y = x.permute(0, 4, 2, 3, 1).reshape(n * m, t, v * c)
    y = batch_norm(w, f"{at}.input_norm", y, training).view(n * m, t, v, c)
    edges = graph()
    for i in range(10):
        block = f"{at}.blocks.{i}"
        stride = 2 if i in (4, 7) else 1
        maps = y @ w[f"{block}.spatial.maps.weight"].T + w[f"{block}.spatial.maps.bias"]
        maps = maps.unflatten(3, (3, -1))  # [R,T,V,3,C]
        near = torch.einsum("rtvkc,kvw->rtwc", maps, edges * w[f"{block}.spatial.importance"])
        near = batch_norm(w, f"{block}.spatial_norm", near, training).clamp(min=0)
        weight = w[f"{block}.temporal.weight"].reshape(near.shape[3], near.shape[3], 9)
        padded = torch.cat([torch.zeros_like(near[:, :4]), near, torch.zeros_like(near[:, :4])], 1)
        new = torch.einsum("rtvck,dck->rtvd", padded.unfold(1, 9, stride), weight)
        new = batch_norm(w, f"{block}.temporal_norm", new + w[f"{block}.temporal.bias"], training)
        if f"{block}.shortcut.weight" in w:
            same = y[:, ::stride] @ w[f"{block}.shortcut.weight"].T + w[f"{block}.shortcut.bias"]
            new = new + batch_norm(w, f"{block}.shortcut_norm", same, training)
        elif i:
            new = new + y
        y = new.clamp(min=0)
    return y.unflatten(0, (n, m))


def pooled(maps: Tensor) -> Tensor:
    return maps.mean((1, 2, 3))


def head(w: Weights, at: str, h: Tensor, training: bool = True) -> Tensor:
    """The embedding, not normalised: linear, normalised where the head has that, rectified, linear."""
    y = h @ w[f"{at}.0.weight"].T + w[f"{at}.0.bias"]
    last = 2
    if f"{at}.1.weight" in w:
        y, last = batch_norm(w, f"{at}.1", y, training), 3
    return y.clamp(min=0) @ w[f"{at}.{last}.weight"].T + w[f"{at}.{last}.bias"]


def unit(z: Tensor) -> Tensor:
    return z / (z * z).sum(1, keepdim=True).sqrt()


def query(w: Weights, at: str, maps: Tensor) -> Tensor:
    return unit(head(w, f"{at}.head", pooled(maps)))


def momentum_update(w: Weights, at: str, momentum: float) -> None:
    """The key network's weights follow the query's; its running statistics are its own."""
    for name in [name for name in w if name.startswith((f"{at}.key_encoder", f"{at}.key_head"))]:
        if name.endswith(("running_mean", "running_var", "adjacency", "num_batches_tracked")):
            continue
        own = w[name.replace(".key_", ".")].detach()
        w[name] = momentum * w[name] + (1 - momentum) * own


def enqueue(w: Weights, at: str, keys: Tensor) -> None:
    queue = w[f"{at}.queue"].clone()
    for key in keys:
        queue[int(w[f"{at}.pointer"])] = key
        w[f"{at}.pointer"] = (w[f"{at}.pointer"] + 1) % len(queue)
    w[f"{at}.queue"] = queue


# ---- Losses


def similarities(q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
    return torch.cat([(q * k.detach()).sum(1)[:, None], q @ queue.T], 1) / TAU


def nce(logits: Tensor, positives: Tensor | None = None, divided: bool = True) -> Tensor:
    """The mean over rows of minus the log of the positives' shares; by default of the first column's."""
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    if positives is None:
        return -shares[:, 0].log().mean()
    each = -(shares.log() * positives).sum(1)
    return (each / positives.sum(1) if divided else each).mean()


def taught(teacher: Tensor, logits: Tensor) -> Tensor:
    """Guo et al., eq. 7 and 8."""
    wanted = teacher.detach().exp() / teacher.detach().exp().sum(1, keepdim=True)
    return -(wanted * (logits.exp() / logits.exp().sum(1, keepdim=True)).log()).sum(1).mean()


def mined(*logits: Tensor) -> Tensor:
    """The key and each view's nearest entry of the queue, 0 or 1."""
    found = torch.zeros_like(logits[0])
    for row in range(len(found)):
        found[row, 0] = 1
        for each in logits:
            found[row, 1 + int(each[row, 1:].argmax())] = 1
    return found


# ---- Steps: weights, clips and extras, number of the step, settings


def skeletonclr(w: Weights, batch: Mapping[str, Tensor], step: int) -> Tensor:
    q = query(w, "moco", stgcn(w, "moco.encoder", batch["query"]))
    momentum_update(w, "moco", MOMENTUM)
    k = plain_key(w, "moco", batch["key"])
    loss = nce(similarities(q, k, w["moco.queue"]))
    enqueue(w, "moco", k)
    return loss


def crosclr(w: Weights, batch: Mapping[str, Tensor], step: int) -> Tensor:
    """Li et al., eq. 5 to 8: in the second step the views mine in each other's queues."""
    names = ("joint", "motion", "bone")
    q = {v: query(w, f"mocos.{v}", stgcn(w, f"mocos.{v}.encoder", derived(batch["query"], v))) for v in names}
    for v in names:
        momentum_update(w, f"mocos.{v}", MOMENTUM)
    k = {v: plain_key(w, f"mocos.{v}", derived(batch["key"], v)) for v in names}
    s = {v: similarities(q[v], k[v], w[f"mocos.{v}.queue"]) * TAU for v in names}
    loss = torch.zeros((), dtype=torch.float64)
    for u in names:
        if step == 0:
            loss = loss + nce(s[u] / TAU)
            continue
        for v in (v for v in names if v != u):
            near = mined(s[v])
            context = s[u][:, 1:] * s[v][:, 1:]
            logits = torch.cat([s[u], context], 1) / TAU
            loss = loss + nce(logits, torch.cat([near, near[:, 1:]], 1)) / 2
    for v in names:
        enqueue(w, f"mocos.{v}", k[v])
    return loss


def aimclr(w: Weights, batch: Mapping[str, Tensor], step: int) -> Tensor:
    """Guo et al., eq. 1 to 9 and algorithm 1; neighbours are mined in the second step."""
    at = "mocos.joint"
    z_hat = query(w, at, stgcn(w, f"{at}.encoder", batch["query"]))
    maps = stgcn(w, f"{at}.encoder", batch["extreme"])
    z_tilde, z_drop = query(w, at, maps), query(w, at, dropped(maps))
    momentum_update(w, at, MOMENTUM)
    k = plain_key(w, at, batch["key"])
    logits = [similarities(z, k, w[f"{at}.queue"]) for z in (z_hat, z_tilde, z_drop)]
    alike = nce(logits[0]) if step == 0 else nce(logits[0], mined(*logits))
    enqueue(w, at, k)
    return alike + (taught(logits[0], logits[1]) + taught(logits[0], logits[2])) / 2


def skelemixclr(w: Weights, batch: Mapping[str, Tensor], step: int) -> Tensor:
    """Chen et al., eq. 1 to 7, with two mixtures."""
    q = query(w, "moco", stgcn(w, "moco.encoder", batch["query"]))
    momentum_update(w, "moco", MOMENTUM)
    k = plain_key(w, "moco", batch["key"])
    loss = nce(similarities(q, k, w["moco.queue"]))
    for name in ("mixed1", "mixed2"):
        maps = stgcn(w, "moco.encoder", batch[name])  # [N,M,T',V,D]
        mask = batch[f"{name}_mask"].double()[:, None, :, :, None]
        inside = (maps * mask).sum((2, 3)) / mask.sum((2, 3))
        outside = (maps * (1 - mask)).sum((2, 3)) / (1 - mask).sum((2, 3))
        p, g = (unit(head(w, "moco.head", part.mean(1))) for part in (inside, outside))
        for z, key, other in ((p, k[batch[f"{name}_donor"]], g), (g, k, p)):
            hard = (z * other.detach()).sum(1)[:, None] / TAU
            loss = loss + nce(torch.cat([similarities(z, key, w["moco.queue"]), hard], 1)) / 2
    enqueue(w, "moco", k)
    return loss


def skeattnclr(w: Weights, batch: Mapping[str, Tensor], step: int) -> Tensor:
    """Hua et al., eq. 1 to 11, with mu = 0.3; steps 0 and 1 of six of a run's schedule of momentum."""
    q = query(w, "moco", stgcn(w, "moco.encoder", batch["query"]))
    maps = stgcn(w, "moco.encoder", batch["mixed"])
    mask = self_attention(w, maps)
    q_s, q_ns = (unit(head(w, "moco.head", pooled(maps * share))) for share in (mask, 1 - mask))
    momentum_update(w, "moco", 1 - (1 - MOMENTUM) * (math.cos(math.pi * step / 6) + 1) / 2)
    with torch.no_grad():
        keys = stgcn(w, "moco.key_encoder", batch["key"])
        shares = torch.ones_like(mask), mask, 1 - mask
        k, k_s, k_ns = (unit(head(w, "moco.key_head", pooled(keys * share))) for share in shares)
    loss = nce(similarities(q, k, w["moco.queue"]))
    for z, key, other, weight in ((q_s, k_s, q_ns, 0.3), (q_ns, k_ns, q_s, 0.7)):
        hard = (z * other.detach()).sum(1)[:, None] / TAU
        loss = loss + weight * nce(torch.cat([similarities(z, key, w["moco.queue"]), hard], 1))
    enqueue(w, "moco", k)
    return loss


def msmclr(w: Weights, batch: Mapping[str, Tensor], step: int) -> Tensor:
    """Wu et al., eq. 1 to 10."""
    q = query(w, "moco", stgcn(w, "moco.encoder", batch["query"]))
    maps = stgcn(w, "moco.encoder", batch["strong"]).flatten(0, 1)
    strong = []
    for groups in ([(v + 1,) for v in range(25)], PARTS, BODY):
        nodes = torch.stack([sum(maps[:, :, v - 1] for v in joints) / len(joints) for joints in groups], 2)
        weighted = motion_attention(w, nodes)
        strong.append(unit(head(w, "moco.head", pooled(weighted.unflatten(0, (CLIPS, -1))))))
    momentum_update(w, "moco", MOMENTUM)
    k = plain_key(w, "moco", batch["key"])
    logits = [similarities(z, k, w["moco.queue"]) for z in (q, *strong)]
    enqueue(w, "moco", k)
    return nce(logits[0]) + sum(taught(logits[0], each) for each in logits[1:]) / 3


def actclr(w: Weights, batch: Mapping[str, Tensor], step: int) -> Tensor:
    """Lin et al., eq. 2 to 5, 8 and 9, after a step of MoCo; `key_mask` is an actionlet that the key has."""
    q = query(w, "moco", stgcn(w, "moco.encoder", batch["query"]))
    momentum_update(w, "moco", MOMENTUM)
    if step == 0:
        k = plain_key(w, "moco", batch["key"])
        loss = nce(similarities(q, k, w["moco.queue"]))
    else:
        still = pooled(stgcn(w, "moco.key_encoder", anchor()[None], training=False))
        still = head(w, "moco.key_head", still, training=False)
        maps = stgcn(w, "moco.key_encoder", batch["key"])
        mask = thinned(batch["key_mask"]) if "key_mask" in batch else actionlet(w, maps, still)
        moving = (maps * mask[..., None]).sum((2, 3)) / (mask.sum((2, 3)) + 1e-5)[..., None]
        k = unit(head(w, "moco.key_head", moving.mean(1))).detach()
        wanted = (k @ w["moco.queue"].T / 0.04).exp()
        found = (q @ w["moco.queue"].T / 0.1).exp()
        shares = found / found.sum(1, keepdim=True)
        loss = -(wanted / wanted.sum(1, keepdim=True) * shares.log()).sum(1).mean()
    enqueue(w, "moco", k)
    return loss


def actionlet(w: Weights, maps: Tensor, still: Tensor) -> Tensor:
    """Eq. 3 to 5: where a body's activation, smoothed over its joints, is above 0.3 of its greatest."""
    leaf = maps.detach().requires_grad_()
    z = head(w, "moco.key_head", pooled(leaf), training=False)
    similarity = (z * still).sum(1) / ((z * z).sum(1).sqrt() * (still * still).sum(1).sqrt())
    (gradient,) = torch.autograd.grad(-similarity.sum(), leaf)
    active = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(4).clamp(min=0)
    active = active @ normalised_links()
    return (active > 0.3 * active.amax((2, 3), keepdim=True)).double()


def thinned(mask: Tensor) -> Tensor:
    """A mask [N,T,V,M] at the map's T/4 times, whose ends are those of the clip: [N,M,T/4,V]."""
    steps = FRAMES // 4
    times = [t * (FRAMES - 1) // (steps - 1) for t in range(steps)]  # whole numbers for 16 frames
    return mask[:, times].permute(0, 3, 1, 2)


def anchor() -> Tensor:
    return torch.from_numpy(np.random.RandomState(9).uniform(-1, 1, (3, FRAMES, 25, 2)))


def plain_key(w: Weights, at: str, clips: Tensor) -> Tensor:
    with torch.no_grad():
        return unit(head(w, f"{at}.key_head", pooled(stgcn(w, f"{at}.key_encoder", clips))))


def derived(x: Tensor, view: str) -> Tensor:
    """Motion and bone of joints."""
    if view == "joint":
        return x
    y = torch.zeros_like(x)
    if view == "motion":
        for t in range(x.shape[2] - 1):
            y[:, :, t] = x[:, :, t + 1] - x[:, :, t]
    else:
        for child, parent in BONES:
            y[:, :, :, child - 1] = x[:, :, :, child - 1] - x[:, :, :, parent - 1]
    return y


def dropped(maps: Tensor) -> Tensor:
    """EADM with relative thresholds: of each body 0.7 of the joints and of the frames with the least attention."""
    x = maps.detach()
    n, m, t, v, _ = x.shape
    mean = x.mean((2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((2, 3), keepdim=True)
    alpha = 1 / (1 + torch.exp(-((x - mean) ** 2 / (4 * (variance + 1e-4)) + 0.5)))
    joints, frames = torch.zeros(n, m, v, dtype=torch.float64), torch.zeros(n, m, t, dtype=torch.float64)
    for i in range(n):
        for j in range(m):
            for mask, attention in ((joints, alpha[i, j].mean((0, 2))), (frames, alpha[i, j].mean((1, 2)))):
                kept = sorted(range(len(attention)), key=lambda at, of=attention: float(of[at]))
                mask[i, j, kept[: math.ceil(0.7 * len(attention) - 1e-9)]] = 1
    factors = joints * joints.numel() / joints.sum(), frames * frames.numel() / frames.sum()
    return maps * factors[0][:, :, None, :, None] * factors[1][:, :, :, None, None]


def self_attention(w: Weights, maps: Tensor) -> Tensor:
    """MHSAM of maps [N,M,T',V,D] with two heads and lambda = 2: the mask M_s of that shape."""
    tokens = maps.flatten(2, 3)
    mean = tokens.mean(3, keepdim=True)
    spread = ((tokens - mean) ** 2).mean(3, keepdim=True)
    tokens = (tokens - mean) / (spread + 1e-5).sqrt() * w["attention.norm.weight"] + w["attention.norm.bias"]
    d = tokens.shape[3]
    found = []
    for number in range(2):
        own = slice(number * d // 2, (number + 1) * d // 2)
        layers = zip(w["attention.qkv.weight"].split(d), w["attention.qkv.bias"].split(d), strict=True)
        q, k, value = (tokens @ weight[own].T + bias[own] for weight, bias in layers)
        near = (q @ k.transpose(2, 3) / math.sqrt(d // 2)).exp()
        found.append(near / near.sum(3, keepdim=True) @ value)
    joined = torch.cat(found, 3) @ w["attention.proj.weight"].T + w["attention.proj.bias"]
    return (1 / (1 + torch.exp(-2 * joined))).view_as(maps)


def motion_attention(w: Weights, x: Tensor) -> Tensor:
    """MsM attention of nodes [R,T',V_s,D]: W X + X."""
    at = "attention.motion"
    y = x @ w[f"{at}.down.weight"].T + w[f"{at}.down.bias"]
    mean = y.mean(2, keepdim=True)
    normal = (y - mean) / (((y - mean) ** 2).mean(2, keepdim=True) + 1e-5).sqrt()
    moves = torch.zeros_like(normal)
    moves[:, :-1] += (normal[:, 1:] - normal[:, :-1]) / 2
    moves[:, :, :-1] += (normal[:, :, 1:] - normal[:, :, :-1]) / 2
    found = []
    for row in moves:
        tokens = row.flatten(1)  # frames
        near = (tokens @ tokens.T / math.sqrt(tokens.shape[1])).exp()
        found.append((near / near.sum(1, keepdim=True) @ tokens).view_as(row))
    share = torch.sigmoid((torch.stack(found) + y) @ w[f"{at}.up.weight"].T + w[f"{at}.up.bias"])
    return share * x + x


# ---- Runs of two steps


SMALL = {
    "variant": "paper",
    "queue": QUEUE,
    "momentum": MOMENTUM,
    "temperature": TAU,
    "encoder": {"name": "stgcn", "width": 2, "out_channels": 8, "dropout": 0.0},
    "head": {"hidden": 6, "dim": DIM, "batch_norm": False},
}
NORMALISED = {**SMALL, "head": {"hidden": 6, "dim": DIM, "batch_norm": True}}
RUNS: Mapping[str, tuple[Callable[..., Tensor], Mapping[str, Any], Sequence[str]]] = {
    "skeletonclr": (skeletonclr, SMALL, ("query", "key")),
    "crosclr": (crosclr, {**SMALL, "crosclr": {"views": 3, "mining_epoch": 1}}, ("query", "key")),
    "aimclr": (aimclr, {**SMALL, "aimclr": {"mining_epoch": 1}}, ("query", "extreme", "key")),
    "skelemixclr": (
        skelemixclr,
        {**NORMALISED, "skelemixclr": {"repeats": 2, "blocks": [1, 3]}},
        ("query", "key", "mixed1", "mixed2"),
    ),
    "skeattnclr": (
        skeattnclr,
        {**NORMALISED, "skeattnclr": {"mu": 0.3, "heads": 2, "blocks": [1, 3]}},
        ("query", "key", "mixed"),
    ),
    "actclr": (
        actclr,
        {**SMALL, "actclr": {"moco_epochs": 1, "mask": "recomputed", "threshold": 0.3, "blocks": [1, 3]}},
        ("query", "key"),
    ),
    "actclr-carried": (
        actclr,
        {**SMALL, "actclr": {"moco_epochs": 1, "mask": "carried", "blocks": [1, 3]}},
        ("query", "key", "key_mask"),
    ),
    "msmclr": (msmclr, {**SMALL, "msmclr": {"reduction": 4}}, ("query", "strong", "key")),
}


def drawn(shapes: Mapping[str, Sequence[int]]) -> Weights:
    """Weights of these shapes, from a generator whose numbers stay the same."""
    random = np.random.RandomState(7)
    found = {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        if name.endswith(("adjacency", "pointer", "num_batches_tracked")):
            continue
        x = torch.from_numpy(random.uniform(-1, 1, shape))
        if name.endswith("running_var"):
            x = x + 1.5
        elif name.endswith("importance") or (name.endswith("weight") and len(shape) == 1):
            x = 1 + 0.3 * x
        elif name.endswith("queue"):
            x = unit(x)
        elif len(shape) > 1:
            x = x * (3 / math.prod(shape[1:])) ** 0.5
        found[name] = x
    return found


def clips_of(views: Sequence[str], step: int) -> Weights:
    """The views of a step; the second body of the first clip is absent. Mixtures come with masks and donors."""
    random = np.random.RandomState(100 + step)
    batch = {}
    for name in views:
        if name.endswith("_mask"):
            batch[name] = torch.from_numpy(random.uniform(0, 1, (CLIPS, FRAMES, 25, 2)) > 0.6).double()
            continue
        batch[name] = torch.from_numpy(random.uniform(-1, 1, (CLIPS, 3, FRAMES, 25, 2)))
        batch[name][0, ..., 1] = 0
        if name.startswith("mixed"):
            mask = torch.zeros(CLIPS, FRAMES // 4, 25, dtype=torch.bool)
            mask[:, step : step + 2, random.permutation(25)[:9]] = True
            batch |= {f"{name}_mask": mask, f"{name}_donor": (torch.arange(CLIPS) + 1 + step) % CLIPS}
    return batch


def learned(names: Sequence[str]) -> list[str]:
    """The names of what gradients reach."""
    other = ("running_mean", "running_var", "queue", "pointer", "adjacency", "num_batches_tracked")
    return [name for name in names if ".key_" not in name and not name.endswith(other)]


def two_steps(name: str, weights: Weights, steps: int = 2) -> list[tuple[float, Weights, Weights]]:
    """Loss, gradients and weights after each of `steps` with SGD; a weight that is not used has no gradient."""
    take, _, views = RUNS[name]
    w = dict(weights)
    w |= {at.replace("queue", "pointer"): torch.tensor(QUEUE - 2) for at in weights if at.endswith(".queue")}
    trained, speed, results = learned(list(weights)), {}, []
    for step in range(steps):
        for each in trained:
            w[each] = w[each].detach().requires_grad_()
        loss = take(w, clips_of(views, step), step)
        found = torch.autograd.grad(loss, [w[each] for each in trained], allow_unused=True)
        gradients = {each: g for each, g in zip(trained, found, strict=True) if g is not None}
        for each, gradient in gradients.items():
            change = gradient + DECAY * w[each].detach()
            speed[each] = change if each not in speed else SGD_MOMENTUM * speed[each] + change
            w[each] = w[each].detach() - RATE * speed[each]
        results.append((float(loss.detach()), gradients, {at: x.detach().clone() for at, x in w.items()}))
    return results


def stored_numbers(results: Sequence[tuple[float, Weights, Weights]]) -> list[dict[str, Any]]:
    """What the file holds of each step: the loss, sums of gradients, of weights and of key weights, the queue."""
    found = []
    for loss, gradients, w in results:
        keys = [x for name, x in w.items() if ".key_" in name and x.is_floating_point()]
        sums = {
            "gradients": sum(float(g.abs().sum()) for g in gradients.values()),
            "weights": sum(float(w[name].abs().sum()) for name in learned(list(w))),
            "keys": sum(float(x.abs().sum()) for x in keys),
        }
        queue = [x.tolist() for name, x in sorted(w.items()) if name.endswith(".queue")]
        found.append({"loss": loss, **sums, "queue": queue})
    return found


def main() -> None:
    from skelpipe.models import build_method
    from skelpipe.skeleton import layout

    torch.set_num_threads(1)
    content = {}
    for name, (_, recipe, _) in RUNS.items():
        method = build_method({"method": name.partition("-")[0], **recipe}, layout("kinect-v2-25"))
        shapes = {each: x.shape for each, x in method.state_dict().items()}
        content[name] = stored_numbers(two_steps(name, drawn(shapes)))
    STORED.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
