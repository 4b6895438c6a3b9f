"""A backbone with a linear layer on its pooled feature h, trained with labels.

For the training loop it is a method like the others: one view of a batch, and cross-entropy as its loss.
"""

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.named_chains import CLIP
from skelpipe.errors import UsageError
from skelpipe.loader import Batch
from skelpipe.loader.view_recipes import Augmentation
from skelpipe.models.encoders import draw_weights
from skelpipe.models.method import Method, Step, ViewBatch, ViewRecipes, spread

__all__ = ["Classifier"]


class Classifier(Method):
    """Scores of clips: `head(encoder(clips))`, the head a linear layer from h [N, D] to scores [N, classes].

    `fixed_modes` keeps the encoder in evaluation mode while it is trained, as code derived from CrosSCLR does
    (divergence `finetune-eval-mode`): batch normalisation uses the statistics of pre-training, without dropout.
    """

    name: ClassVar[str] = "classifier"

    def __init__(
        self,
        encoder: nn.Module,
        features: int,
        classes: int,
        augmentation: Augmentation | None = None,
        *,
        init: str = "paper",
        fixed_modes: bool = False,
    ) -> None:
        """Put a new layer on `encoder`, whose h has `features` channels; `init` names the draw of its weights."""
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(features, classes)
        draw_weights(self.head, init)
        self.fixed_modes = fixed_modes
        self._views: ViewRecipes = {CLIP: augmentation}

    @classmethod
    def build(cls, parts: Any, settings: Any) -> Self:
        """Raise UsageError: a classifier is not a method of pre-training."""
        raise UsageError("a classifier is trained by skelpipe finetune")

    def views(self) -> ViewRecipes:
        return self._views

    def train(self, mode: bool = True) -> Self:
        """Switch to training, or to evaluation mode; see `fixed_modes`."""
        super().train(mode)
        if self.fixed_modes:
            self.encoder.eval()
        return self

    def scores(self) -> nn.Module:
        """Return the map from clips [N,C,T,V,M] to scores [N, classes]; it shares the weights."""
        return nn.Sequential(self.encoder, self.head)

    def forward(self, batch: ViewBatch) -> Step:
        """Return the cross-entropy of a labelled batch; its log has the accuracy in % and the spread of h."""
        assert isinstance(batch, Batch)  # the loader's batch, which has labels; other methods need none
        h: Tensor = self.encoder(batch.views[CLIP])
        scores = self.head(h).float()
        loss = F.cross_entropy(scores, batch.label)
        with torch.no_grad():
            embeddings = F.normalize(h.detach().float(), dim=1)
            right = (scores.argmax(dim=1) == batch.label).float().mean() * 100
        return Step(loss, embeddings, logs={"accuracy": right, "std": spread(embeddings)})
