"""CrosSCLR: contrast within each view, then between views (Li et al., CVPR 2021; spec D2)."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.models.encoders import draw_weights
from skelpipe.models.losses import contrastive_logits, positive_first
from skelpipe.models.method import Method, Progress, Setting, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts
from skelpipe.views import derive

__all__ = ["VIEW_SETS", "CrosSCLR", "cross_view", "require_joint_view"]

# The views trained together, by their number. The first is the one a run is named after.
VIEW_SETS: Mapping[int, tuple[str, ...]] = {2: ("joint", "motion"), 3: ("joint", "motion", "bone")}


class CrosSCLR(Method):
    """Joint and motion, and with three `views` bone, each with networks and a queue of its own, in one run.

    For `mining_epoch` epochs each view contrasts alone; from then on each learns from the others' nearest
    neighbours in the queue. Motion and bone are derived from the augmented joints.

    `released` does what its code does and the paper does not: while views mine, only the motion key network
    follows its query network (spec G10); the heads of motion and bone are a layer of their own and then the
    joint head, shared (G9); key networks start with weights of their own (G8).
    """

    name: ClassVar[str] = "crosclr"
    settings: ClassVar[Mapping[str, Setting]] = {
        "views": Setting("int", low=2, high=3),
        "mining_epoch": Setting("int", low=0),
        "top_k": Setting("int", low=1),
        "context": Setting("bool"),
    }

    def __init__(self, parts: Parts, *, views: int, mining_epoch: int, top_k: int, context: bool) -> None:
        super().__init__()
        self.shown, self.layout, self.temperature = parts.view, parts.layout, parts.temperature
        self.names = VIEW_SETS[views]
        self.mining_epoch = mining_epoch
        self.top_k = top_k
        self.context = context
        self.mining = False
        self.augmentation = parts.chain("normal")
        released = parts.variant == "released"
        made = _released(parts, self.names) if released else {name: parts.moco() for name in self.names}
        self.mocos = nn.ModuleDict(made)
        self.followers = ("motion",) if released else self.names  # keys that move while views mine

    @classmethod
    def build(cls, parts: Parts, settings: Mapping[str, Any]) -> Self:
        return cls(parts, **settings)

    def views(self) -> ViewRecipes:
        require_joint_view(self.name, self.shown)
        return {"query": self.augmentation, "key": self.augmentation}

    def advance(self, progress: Progress) -> None:
        self.mining = progress.epoch >= self.mining_epoch

    def forward(self, batch: ViewBatch) -> Step:
        """Step with the joint clips `batch.views["query"]` and `["key"]` [N, C, T, V, M]."""
        q = {name: self.moco(name).query(self._clips(batch, "query", name)) for name in self.names}
        for name in self.followers if self.mining else self.names:
            self.moco(name).update_key()
        k = {name: self.moco(name).key(self._clips(batch, "key", name)) for name in self.names}
        # Copies of the queues: backward needs them as they were, and the new keys are written before that.
        logits = {
            name: contrastive_logits(q[name], k[name], self.moco(name).queue.clone(), self.temperature)
            for name in self.names
        }
        if self.mining:
            loss = cross_view(logits, self.top_k, self.temperature, context=self.context)
        else:
            loss = torch.stack([positive_first(each) for each in logits.values()]).sum()
        for name in self.names:
            self.moco(name).enqueue(k[name])
        return Step(loss, embeddings=q["joint"].detach(), keys=k["joint"], logs=_logs(loss, logits, q))

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


def _released(parts: Parts, names: tuple[str, ...]) -> dict[str, MoCo]:
    """Return networks whose motion and bone heads end in the joint head itself, the keys' in the joint key's."""
    made = {"joint": parts.moco()}
    joint = made["joint"]
    for name in names[1:]:
        encoder = parts.encoder()
        own = nn.Linear(encoder.feature_dim, encoder.feature_dim)
        draw_weights(own, parts.init)
        made[name] = parts.moco(encoder, nn.Sequential(own, nn.ReLU(), joint.head))
        cast(nn.Sequential, made[name].key_head)[2] = joint.key_head
    for moco in made.values():
        draw_keys(moco, parts.init)
    return made


def _logs(loss: Tensor, logits: Mapping[str, Tensor], q: Mapping[str, Tensor]) -> dict[str, Tensor]:
    logs = {"loss": loss.detach()}
    for name in logits:
        suffix = "" if name == "joint" else f"-{name}"
        logs[f"top1{suffix}"] = (logits[name].argmax(dim=1) == 0).float().mean()
        logs[f"std{suffix}"] = spread(q[name].detach())
    return logs


def cross_view(logits: Mapping[str, Tensor], top_k: int, temperature: float, *, context: bool = True) -> Tensor:
    """Return sum_u mean_{v != u} L_{u<-v} for the logits [N, 1 + K] of two views or more, by view.

    logits^u = [z^u.k^u ; z^u.Q^u] / temperature; row i of all queues is of one clip. View u takes for positives
    its key and the `top_k` of the queue that view v finds nearest:
    L_{u<-v} = -1/|pos| sum_{j in pos} log softmax(logits^{uv})_j. With `context` the similarities that both views
    agree on, s^u_i s^v_i / temperature, stand beside view u's own, as K more entries with the same positives;
    gradients flow into both views through them.
    """
    found = {}
    for view, each in logits.items():
        queue = each.detach()[:, 1:]
        found[view] = queue.topk(min(top_k, queue.shape[1]), dim=1).indices
    whole = {view: each.logsumexp(dim=1) for view, each in logits.items()}
    losses = []
    for u, v in permutations(logits, 2):
        near = found[v]
        positives, total = [logits[u][:, :1], logits[u][:, 1:].gather(1, near)], whole[u]
        if context:
            shared = logits[u][:, 1:] * logits[v][:, 1:] * temperature
            positives.append(shared.gather(1, near))
            total = torch.logaddexp(total, shared.logsumexp(dim=1))
        losses.append((total - torch.cat(positives, dim=1).mean(dim=1)).mean())
    return torch.stack(losses).sum() / (len(logits) - 1)


def require_joint_view(method: str, shown: str) -> None:
    """Raise UsageError where the clips shown are not joints, from which several views could be derived."""
    if shown != "joint":
        raise UsageError(
            f"{method} trains its views together and derives them from the joints: use --view joint, not {shown}"
        )
