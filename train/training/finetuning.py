"""Training with labels: from first weights, or a run's newest checkpoint, to the scores of the test clips."""

import hashlib
from dataclasses import dataclass

from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.plugins import used
from skelpipe.train.evaluation.dataset_rows import full_dataset
from skelpipe.train.evaluation.embedding import Embedded, embed
from skelpipe.train.evaluation.metrics import topk_accuracy
from skelpipe.train.evaluation.outcome import OUTCOME_FILES
from skelpipe.train.recipes.schema import FinetuneRecipe
from skelpipe.train.running.provenance import ClipFacts, Provenance
from skelpipe.train.running.run import Measurement, Run, RunOptions
from skelpipe.train.running.run_log import Console
from skelpipe.train.training.classifier import Classifier

__all__ = ["Finetuned", "finetune", "finetuning_run", "provenance_of"]

KEPT = 2  # checkpoints that stay: the newest, and the one before it should that be damaged
COLLAPSE = (
    "the features of all clips are nearly the same (std {gauge} of 1): a lower --lr, more epochs or "
    "--set init=default may help"
)


@dataclass(frozen=True)
class Finetuned:
    """A finished training with labels: classifier, scores of the test clips, best accuracy with its epoch."""

    classifier: Classifier
    tested: Embedded
    best: dict[str, float]
    epoch: int


def provenance_of(
    dataset: Dataset, classifier: Classifier, recipe: FinetuneRecipe, view: str, seed: int, amp: bool
) -> Provenance:
    """Return the provenance of a run that is about to start from these weights."""
    return Provenance(
        clips=ClipFacts.of(dataset),
        view=view,
        views=(view,),
        recipe=recipe,
        seed=seed,
        amp=amp,
        start=_weights_hash(classifier),
        plugins=used(recipe.plugins),
    )


def finetune(
    dataset: Dataset, classifier: Classifier, provenance: Provenance, options: RunOptions, console: Console
) -> Finetuned:
    """Train to the recipe's last epoch on the train subset; the scores of the test subset are in row order."""
    run, test = finetuning_run(dataset, classifier, provenance, options)
    run.train(run.begin(console, also=OUTCOME_FILES), console)
    return Finetuned(classifier, test(run.epoch), run.best, run.epoch)


def finetuning_run(
    dataset: Dataset, classifier: Classifier, provenance: Provenance, options: RunOptions
) -> tuple[Run, "_Test"]:
    """Return a run that is about to begin, and what scores the test clips."""
    test = _Test(classifier, dataset, provenance.view, options)

    def take() -> dict[str, float]:
        """Return the accuracy on the test clips."""
        scores = test(run.epoch)
        return {"top1": topk_accuracy(scores.features.numpy(), scores.labels.numpy())}

    measurement = Measurement("top1", take, _epoch_line, COLLAPSE)
    classifier = classifier.to(options.device)
    full = full_dataset(dataset)
    run = Run(dataset, classifier, provenance, options, measurement, full_dataset=full, keep=KEPT)
    return run, test


class _Test:
    """Scores every test clip, [N, classes] in place of features, without augmentation, once per epoch."""

    def __init__(self, classifier: Classifier, dataset: Dataset, view: str, options: RunOptions) -> None:
        self._classifier, self._dataset, self._view, self._device = classifier, dataset, view, options.device
        self._newest: tuple[int, Embedded] | None = None

    def __call__(self, epoch: int) -> Embedded:
        """Return the scores after `epoch` epochs, which are the classifier's present ones."""
        if self._newest is None or self._newest[0] != epoch:
            scores = embed(self._classifier.scores(), self._dataset, "test", self._view, device=self._device)
            self._newest = epoch, scores
        return self._newest[1]


def _weights_hash(network: nn.Module) -> str:
    content = hashlib.sha256()
    for name, value in network.state_dict().items():
        content.update(f"{name} {list(value.shape)}".encode() + value.cpu().contiguous().numpy().tobytes())
    return content.hexdigest()


def _epoch_line(epoch: int, last: int, learned: dict[str, float], speed: dict[str, float]) -> str:
    tested = f", test {learned['top1']:.1f} %" if "top1" in learned else ""
    return (
        f"epoch {epoch}/{last}: loss {learned['loss']:.4f}, lr {learned['lr']:g}, training clips "
        f"{learned['accuracy']:.1f} %{tested}, {speed['samples_per_s']:,.0f} samples/s"
    )
