"""SkeletonCLR: InfoNCE between two views of a clip (Li et al. 2021, section 3.2)."""

from typing import ClassVar, Self

from torch import Tensor, nn

from skelpipe.loader.mixing_views import pair
from skelpipe.models.losses import contrastive_logits, mean_similarities, positive_first
from skelpipe.models.method import Logits, Method, Step, ViewBatch, ViewRecipes, spread
from skelpipe.models.moco import MoCo, draw_keys
from skelpipe.models.parts import Parts
from skelpipe.models.settings import ContrastSettings

__all__ = ["SkeletonCLR"]


class SkeletonCLR(Method):
    """MoCo v2 on skeleton clips.

    `variant` chooses between paper and released code in how the key network starts (divergence
    `key-initial-weights`).
    """

    name: ClassVar[str] = "skeletonclr"
    Settings: ClassVar[type] = ContrastSettings

    def __init__(self, moco: MoCo, temperature: float, views: ViewRecipes) -> None:
        """`views` makes `query` and `key`."""
        super().__init__()
        self.moco = moco
        self.temperature = temperature
        self._views = views

    @classmethod
    def build(cls, parts: Parts, settings: ContrastSettings) -> Self:
        moco = parts.moco()
        if parts.recipe.variant == "released":
            draw_keys(moco, parts.recipe.init)
        return cls(moco, settings.temperature, pair(parts.view_chain))

    def views(self) -> ViewRecipes:
        return self._views

    def forward(self, batch: ViewBatch) -> Step:
        """Step with `batch.views["query"]` and `["key"]` [N, C, T, V, M]; updates key network and queue."""
        q = self.moco.query(batch.views["query"])
        self.moco.update_key()
        k = self.moco.key(batch.views["key"])
        # A copy of the queue: backward needs it as it was, and the new keys are written before that.
        logits = contrastive_logits(q, k, self.moco.queue.clone(), self.temperature)  # [N, 1 + K]
        loss = positive_first(logits)
        self.moco.enqueue(k)
        logs = _logs(loss, logits, q, self.temperature)
        return Step(loss, embeddings=q.detach(), keys=k, logs=logs, logits=Logits({"query": logits}))

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        return self.moco.encoder, self.moco.head


def _logs(loss: Tensor, logits: Tensor, q: Tensor, temperature: float) -> dict[str, Tensor]:
    top1 = (logits.argmax(dim=1) == 0).float().mean()  # how often the positive is nearer than the whole queue
    key, queue = mean_similarities(logits.detach(), temperature)
    similar = {"similar_key": key, "similar_queue": queue}  # Chen et al. 2022, fig. 4
    return {"loss": loss.detach(), "top1": top1, "std": spread(q.detach()), **similar}
