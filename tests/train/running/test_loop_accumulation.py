"""Steps of the optimiser over several batches, against the same arithmetic by hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.loader import Loader
from skelpipe.models.method import Method, Progress, Step, ViewBatch
from skelpipe.models.moco import MoCo
from skelpipe.train.running.loop import train_epoch, updates

CPU = torch.device("cpu")
BATCHES, SIZE, RATE = 5, 4, 0.5


class Notes(Method):
    """Squared distance of query and key; notes what the loop asks of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.moco = MoCo(nn.Linear(6, 5), nn.Linear(5, 3), dim=3, queue_size=12, momentum=0.5).double()
        self.asked: list[str] = []

    def advance(self, progress: Progress) -> None:
        self.asked.append(f"advance {progress.step}/{progress.steps} of epoch {progress.epoch}/{progress.epochs}")

    def forward(self, batch: ViewBatch) -> Step:
        self.asked.append("forward")
        q = self.moco.query(batch.views["query"])
        self.moco.update_key()
        k = self.moco.key(batch.views["query"])
        self.moco.enqueue(k)
        return Step(((q - k.flip(0)) ** 2).sum(dim=1).mean(), embeddings=q.detach(), keys=k)

    def finish(self) -> None:
        self.asked.append("finish")


@dataclass
class Batches:
    """What the loop needs of a loader."""

    clips: list[Tensor]

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Any]:
        for step, x in enumerate(self.clips):
            yield SimpleNamespace(views={"query": x}, extras={}, index=torch.arange(SIZE), epoch=3, step=step)


def train(method: Notes, clips: list[Tensor], accumulate: int) -> dict[str, float]:
    optimiser = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=RATE)
    start = Progress(3, 9, 0, updates(len(clips), accumulate))
    method.advance(start)
    loader = cast(Loader, Batches(clips))
    result = train_epoch(
        method,
        optimiser,
        loader,
        start,
        device=CPU,
        amp=False,
        accumulate=accumulate,
        ids=["a"] * SIZE,
        working=lambda step, rate: None,
    )
    return result.learned


@pytest.mark.parametrize("accumulate", [1, 2, 3, 8])
def test_a_step_takes_the_mean_gradient_of_its_batches(accumulate: int) -> None:
    torch.manual_seed(1)
    clips = [torch.randn(SIZE, 6, dtype=torch.float64) for _ in range(BATCHES)]
    method = Notes()
    query = [p.detach().clone() for p in (*method.moco.encoder.parameters(), *method.moco.head.parameters())]
    key = [p.clone() for p in query]
    queue = method.moco.queue.clone()

    def network(x: Tensor, weights: list[Tensor]) -> Tensor:
        return F.normalize((x @ weights[0].T + weights[1]) @ weights[2].T + weights[3], dim=1)

    losses, written = [], 0
    for first in range(0, BATCHES, accumulate):
        group = clips[first : first + accumulate]
        key = [0.5 * k + 0.5 * q for k, q in zip(key, query, strict=True)]  # once a step
        weights = [q.clone().requires_grad_() for q in query]
        each = []
        for x in group:
            keys = network(x, key)
            each.append(((network(x, weights) - keys.flip(0)) ** 2).sum(dim=1).mean())
            for row in keys:  # every batch enters its keys
                queue[written % 12] = row
                written += 1
        losses += [loss.item() for loss in each]
        gradients = torch.autograd.grad(torch.stack(each).mean(), weights)
        query = [q - RATE * gradient for q, gradient in zip(query, gradients, strict=True)]

    learned = train(method, clips, accumulate)
    moco = method.moco
    for found, wanted in zip((*moco.encoder.parameters(), *moco.head.parameters()), query, strict=True):
        torch.testing.assert_close(found.detach(), wanted)
    for found, wanted in zip((*moco.key_encoder.parameters(), *moco.key_head.parameters()), key, strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(moco.queue, queue)
    assert int(moco.pointer) == BATCHES * SIZE % 12
    assert learned["loss"] == pytest.approx(sum(losses) / BATCHES)
    assert 0 < learned["std"] < 2  # the gauge is taken though the method logs nothing


def test_the_hooks_surround_a_step_of_the_optimiser() -> None:
    method = Notes()
    train(method, [torch.randn(SIZE, 6, dtype=torch.float64) for _ in range(BATCHES)], 2)
    assert method.asked == [
        *("advance 0/3 of epoch 3/9", "forward", "forward", "finish"),
        *("advance 1/3 of epoch 3/9", "forward", "forward", "finish"),
        *("advance 2/3 of epoch 3/9", "forward", "finish"),
    ]
    assert not method.moco.held
