"""A linear classifier on the features of a frozen network: the head of linear evaluation.

Guo et al. 2022, "Experimental Settings"; docs/evaluation.md, "Linear".
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.loader.sampling import Sampling
from skelpipe.train.recipes.schema import LearningRates, LinearOptimiser
from skelpipe.train.running.loop import optimiser_of, set_rate
from skelpipe.train.running.schedule import learning_rate

__all__ = ["LinearHead", "batches", "fit_linear", "linear_scores", "one_thread"]

DEVIATION = 0.02  # of the first weights, N(0, 0.02); biases 0
SCORED = 4096  # features scored at a time

Batch = tuple[Tensor, Tensor]  # features [n,D], labels int64[n]


def fit_linear(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    epochs: int = 100,
    batch_size: int = 128,
    lr: float = 3.0,
    milestones: Sequence[int] = (80,),
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return weight float32[K,D] and bias float32[K] of a linear classifier trained with SGD and cross entropy.

    `features` float[N,D] and `labels` int64[N] in 0..classes-1 may be on any device; the result is there too.
    The defaults are those of AimCLR's linear evaluation. Equal arguments give bit-identical results on one device;
    torch's global generator is not touched. A batch larger than N is one of N clips. Raises SkelpipeError where
    features are not finite or training diverges.
    """
    if not len(features):
        raise UsageError("a linear classifier needs at least one clip")
    if not bool(features.isfinite().all()):
        raise SkelpipeError("a linear classifier cannot be trained on features that are not finite")
    features, labels = features.float(), labels.to(features.device)
    settings = LinearOptimiser(momentum=momentum, weight_decay=weight_decay)
    head = LinearHead(features.shape[1], classes, settings, seed, features.device)
    with one_thread():
        for epoch in range(1, epochs + 1):
            given = batches(features, labels, batch_size, seed, epoch)
            head.train(given, learning_rate(lr, milestones, epoch))
    return head.weight, head.bias


def batches(
    features: Tensor, labels: Tensor, size: int, seed: int, epoch: int, sampling: Sampling | None = None
) -> Iterator[Batch]:
    """Yield an epoch's batches in an order of (seed, epoch); the last, shorter one is dropped, as in the papers.

    Fewer than `size` clips are one batch. With `sampling` an epoch has its clips, not each of them once.
    """
    generator = torch.Generator().manual_seed(((seed << 20) + epoch) % 2**63)
    order = torch.randperm(len(features), generator=generator).to(features.device)
    if sampling is not None:
        drawn = torch.from_numpy(sampling.occurrences(seed, epoch - 1) % sampling.rows)
        order = drawn.to(features.device)[order]
    size = min(size, len(features))
    for rows in order[: len(order) - len(order) % size].split(size):
        yield features[rows], labels[rows]


class LinearHead:
    """A linear layer [D -> K] and the optimiser of its settings; rates are given for each epoch or step.

    Gradients and steps of SGD, the same as those of `torch.optim.SGD` without Nesterov, are computed here: for a
    model this small autograd and optimiser take longer than the arithmetic.
    """

    def __init__(
        self,
        width: int,
        classes: int,
        settings: LearningRates = LinearOptimiser(),  # noqa: B008  (frozen)
        seed: int = 0,
        device: torch.device | str = "cpu",
        heads: int = 1,
    ) -> None:
        """Start with weights N(0, 0.02) of this seed, drawn on the CPU, and zero biases.

        With several `heads` the layer is the mean of as many, each with its own bias: the mean of the biases moves
        with the mean gradient / heads. Their features, divided by `heads`, stand side by side.
        """
        generator = torch.Generator().manual_seed(seed % 2**63)
        self.weight = torch.empty(classes, width).normal_(0.0, DEVIATION, generator=generator).to(device)
        self.bias = torch.zeros(classes, device=device)
        self._momentum, self._decay, self._heads = settings.momentum, settings.weight_decay, heads
        layer = [self.weight, self.bias]
        self._optimiser = None if settings.name == "sgd" else optimiser_of(layer, settings)
        self._moving = [(value, torch.zeros_like(value)) for value in layer]

    def train(
        self,
        given: Iterable[Batch],
        rate: float | Callable[[int], float],
        working: Callable[[int], None] = lambda step: None,
    ) -> float:
        """Train on an epoch's batches at a learning rate, or that of each step, from 0; return the mean of their
        mean cross entropies.

        `working(batches done)` is called after each. Raises SkelpipeError when the loss is no longer finite.
        """
        losses = []
        for step, (features, labels) in enumerate(given):
            losses.append(self.step(features, labels, rate(step) if callable(rate) else rate))
            working(step + 1)
        mean = float(torch.stack(losses).double().mean()) if losses else float("nan")
        if not abs(mean) < float("inf"):
            raise SkelpipeError(f"the loss of the linear classifier is {mean}: a lower learning rate may help")
        return mean

    @torch.no_grad()
    def step(self, features: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Make one step on a batch; return its mean cross entropy before the step."""
        truth = labels[:, None]
        logits = torch.addmm(self.bias, features, self.weight.T)
        loss = logits.log_softmax(dim=1).gather(1, truth).mean().neg_()
        slope = logits.softmax(dim=1)  # three times as fast as exp of the logs, whose small values are slow
        slope.scatter_add_(1, truth, slope.new_full((1, 1), -1.0).expand(len(labels), 1)).div_(len(labels))
        if self._optimiser is not None:
            self.weight.grad, self.bias.grad = slope.T @ features, slope.sum(dim=0) / self._heads
            set_rate(self._optimiser, rate)
            self._optimiser.step()
            return loss
        for value, velocity in self._moving:
            velocity.mul_(self._momentum)
            if self._decay:
                velocity.add_(value, alpha=self._decay)
        (_, velocity), (_, bias_velocity) = self._moving
        velocity.addmm_(slope.T, features)
        bias_velocity.add_(slope.sum(dim=0), alpha=1 / self._heads)
        for value, velocity in self._moving:
            value.sub_(velocity, alpha=rate)
        return loss


@torch.no_grad()
def linear_scores(weight: Tensor, bias: Tensor, features: Tensor) -> Tensor:
    """Return the scores float32[N,K] of features [N,D] under a linear classifier.

    Summed in float64: a clip gets the same float32, however many clips are scored at once.
    """
    weights, biases = weight.double().T, bias.double()
    parts = [torch.addmm(biases, part.double(), weights).float() for part in features.split(SCORED) if len(part)]
    return torch.cat(parts) if parts else torch.empty(0, len(bias), device=features.device)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: on matrices this small a second one gains no more than waiting for it costs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
