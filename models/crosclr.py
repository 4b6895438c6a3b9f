"""CrosSCLR: contrast within each view, then between views (Li et al., CVPR 2021)."""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations, permutations
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.loader.mixing_views import pair
from skelpipe.models.encoders import draw_weights
from skelpipe.models.losses import contrastive_logits, positive_first
from skelpipe.models.method import Logits, Method, Progress, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.settings.crosclr import CrosSCLRSettings
from skelpipe.views import derive

__all__ = ["VIEW_SETS", "CrosSCLR", "cross_logits", "cross_view", "require_joint_view"]

# The views that train together, by their number. A run is named after the first.
VIEW_SETS: Mapping[int, tuple[str, ...]] = {2: ("joint", "motion"), 3: ("joint", "motion", "bone")}


class CrosSCLR(Method):
    """Joint and motion, and with three `views` bone, train in one run, each with its own networks and queue.

    For `mining_epoch` epochs each view has its own InfoNCE loss; after that each learns from the other views'
    nearest neighbours in the queue (`cross_view`). Motion and bone are derived from the augmented joints.

    `variant` "released": while mining, only the key network of motion is updated (divergence `crosclr-momentum`);
    the heads of motion and bone are one layer and then the joint head, which is shared (`crosclr-shared-head`);
    key networks do not start as copies (`key-initial-weights`).
    """

    name: ClassVar[str] = "crosclr"
    Settings: ClassVar[type] = CrosSCLRSettings

    def __init__(self, parts: Parts, settings: CrosSCLRSettings) -> None:
        super().__init__()
        self.view, self.layout, self.temperature = parts.view, parts.layout, settings.temperature
        self.names = VIEW_SETS[settings.views]
        self.settings = settings
        self.mining = False
        self._views = pair(parts.view_chain)
        released = parts.recipe.variant == "released"
        mocos = _released_networks(parts, self.names) if released else {name: parts.moco() for name in self.names}
        self.mocos = nn.ModuleDict(mocos)
        self.updated_while_mining = ("motion",) if released else self.names  # views, by their key networks

    @classmethod
    def build(cls, parts: Parts, settings: CrosSCLRSettings) -> Self:
        return cls(parts, settings)

    def views(self) -> ViewRecipes:
        require_joint_view(self.name, self.view)
        return self._views

    def advance(self, progress: Progress) -> None:
        self.mining = progress.epoch >= self.settings.mining_epoch

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the joint clips `batch.views["query"]` and `["key"]` [N, C, T, V, M]; updates keys and
        queues."""
        q = {name: self.moco(name).query(self._clips(batch, "query", name)) for name in self.names}
        for name in self.updated_while_mining if self.mining else self.names:
            self.moco(name).update_key()
        k = {name: self.moco(name).key(self._clips(batch, "key", name)) for name in self.names}
        # Copies of the queues: backward needs them as they were, and the new keys are written before that.
        logits = {
            name: contrastive_logits(q[name], k[name], self.moco(name).queue.clone(), self.temperature)
            for name in self.names
        }
        named: dict[str, Any] = dict(logits)
        if self.mining:
            named |= cross_logits(logits, self.temperature, context=self.settings.context)
            loss = cross_view(logits, self.settings.top_k, self.temperature, context=self.settings.context)
        else:
            loss = torch.stack([positive_first(each) for each in logits.values()]).sum()
        for name in self.names:
            self.moco(name).enqueue(k[name])
        return Step(loss, q["joint"].detach(), k["joint"], _logs(loss, logits, q), Logits(named))

    def streams(self, view: str) -> tuple[str, ...]:
        return self.names

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        moco = self.moco(view)
        return moco.encoder, moco.head

    def moco(self, name: str) -> MoCo:
        """Return the networks and the queue of a view."""
        return cast(MoCo, self.mocos[name])

    def _clips(self, batch: ViewBatch, which: str, name: str) -> Tensor:
        return derive(batch.views[which], name, self.layout)


def _released_networks(parts: Parts, names: tuple[str, ...]) -> dict[str, MoCo]:
    """Return networks whose heads of motion and bone end in the joint head, and likewise those of the keys."""
    mocos = {"joint": parts.moco()}
    joint = mocos["joint"]
    for name in names[1:]:
        encoder = parts.encoder()
        first = nn.Linear(encoder.feature_dim, encoder.feature_dim)
        draw_weights(first, parts.recipe.init)
        mocos[name] = parts.moco(encoder, nn.Sequential(first, nn.ReLU(), joint.head))
        cast(nn.Sequential, mocos[name].key_head)[2] = joint.key_head
    for moco in mocos.values():
        draw_keys(moco, parts.recipe.init)
    return mocos


def _logs(loss: Tensor, logits: Mapping[str, Tensor], q: Mapping[str, Tensor]) -> dict[str, Tensor]:
    logs = {"loss": loss.detach()}
    for name in logits:
        suffix = "" if name == "joint" else f"-{name}"
        logs[f"top1{suffix}"] = (logits[name].argmax(dim=1) == 0).float().mean()
        logs[f"std{suffix}"] = spread(q[name].detach())
    return logs


def cross_view(logits: Mapping[str, Tensor], top_k: int, temperature: float, *, context: bool = True) -> Tensor:
    """Return the cross-view loss sum_u mean_{v != u} L_{u<-v} of the logits [N, 1 + K] of two views or more.

    logits^u = [z^u.k^u ; z^u.Q^u] / temperature; row i of every view's queue is of the same clip. The positives of
    view u are its key and the `top_k` entries of the queue that view v finds nearest: L_{u<-v} = -1/|pos| sum_{j
    in pos} log softmax(logits^{uv})_j. With `context` logits^{uv} has K more entries, with the same positives:
    s^u_i s^v_i / temperature, the product of both views' similarities, through which gradients flow into both
    views (divergence `crosclr-context`).
    """
    keys, queues, found = {}, {}, {}
    for view, each in logits.items():
        keys[view], queues[view] = each.split([1, each.shape[1] - 1], dim=1)
        found[view] = queues[view].detach().topk(min(top_k, each.shape[1] - 1), dim=1).indices
    whole = {view: each.logsumexp(dim=1) for view, each in logits.items()}
    pairs = list(permutations(logits, 2))
    positives = {(u, v): [keys[u], queues[u].gather(1, found[v])] for u, v in pairs}
    total = torch.stack([whole[u] for u, _ in pairs])
    if context:
        of_both = {}
        for u, v in combinations(logits, 2):  # the same both ways
            shared = queues[u] * queues[v] * temperature
            of_both[u, v] = of_both[v, u] = shared.logsumexp(dim=1)
            positives[u, v].append(shared.gather(1, found[v]))
            positives[v, u].append(shared.gather(1, found[u]))
        total = torch.logaddexp(total, torch.stack([of_both[pair] for pair in pairs]))
    near = torch.stack([torch.cat(positives[pair], dim=1).mean(dim=1) for pair in pairs])
    return (total - near).mean(dim=1).sum() / (len(logits) - 1)


def cross_logits(
    logits: Mapping[str, Tensor], temperature: float, *, context: bool = True
) -> dict[str, Callable[[], Tensor]]:
    """Return what makes logits^{uv} of `cross_view`, by "u<-v": [N, 1 + 2K] with context, else [N, 1 + K]."""
    own = {view: each.detach() for view, each in logits.items()}

    def of(u: str, v: str) -> Tensor:
        return torch.cat([own[u], own[u][:, 1:] * own[v][:, 1:] * temperature], dim=1) if context else own[u]

    return {f"{u}<-{v}": partial(of, u, v) for u, v in permutations(own, 2)}


def require_joint_view(method: str, view: str) -> None:
    """Raise UsageError where the loader's view is not joint, from which the other views are derived."""
    if view != "joint":
        raise UsageError(
            f"{method} trains its views together and derives them from the joints: use --view joint, not {view}"
        )
