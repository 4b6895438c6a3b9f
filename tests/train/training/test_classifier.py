"""A network trained with labels: its loss, what it learns, and which modes it trains in."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from skelpipe.augment.chain import chain
from skelpipe.loader import Batch
from skelpipe.models.method import Progress
from skelpipe.train.training.classifier import Classifier


class Mean(nn.Module):
    """The simplest encoder: each joint coordinate's mean over time, normalised, some of it dropped."""

    def __init__(self, features: int, drop: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(x.mean(dim=2).flatten(1)))


def batch(clips: int, classes: int, seed: int = 0) -> Batch:
    """Clips [n,3,4,5,1] whose class shows in the first coordinate of every joint."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(clips) % classes
    x = torch.randn(clips, 3, 4, 5, 1, generator=generator)
    x[:, 0] += label[:, None, None, None]
    return Batch({"clip": x}, label, torch.arange(clips), epoch=0, step=0)


def naive(scores: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        total -= math.log(math.exp(row[label]) / sum(math.exp(value) for value in row))
    return total / len(labels)


def test_the_loss_is_cross_entropy_and_the_log_says_how_many_were_right() -> None:
    torch.manual_seed(0)
    model = Classifier(Mean(15), 15, classes=4, init="default").eval()
    given = batch(10, 4)
    step = model(given)
    h = (given.views["clip"].double().mean(dim=2).flatten(1) / math.sqrt(1 + model.encoder.norm.eps)).numpy()
    scores = h @ model.head.weight.detach().double().numpy().T + model.head.bias.detach().double().numpy()
    assert float(step.loss.detach()) == pytest.approx(naive(scores, given.label.numpy()), rel=1e-5)
    right = sum(int(row.argmax()) == label for row, label in zip(scores, given.label.tolist(), strict=True))
    assert 0 < right < 10  # otherwise the next line would say little
    assert float(step.logs["accuracy"]) == pytest.approx(100 * right / 10)
    assert torch.allclose(model.scores()(given.views["clip"]).double(), torch.from_numpy(scores), atol=1e-5)


def test_the_spread_is_that_of_the_normalised_features() -> None:
    model = Classifier(Mean(15), 15, classes=2).eval()
    given = batch(6, 2)
    h = given.views["clip"].double().mean(dim=2).flatten(1).numpy()
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    wanted = h.std(axis=0).mean() * math.sqrt(15)
    assert float(model(given).logs["std"]) == pytest.approx(wanted, rel=1e-4)
    same = Batch({"clip": torch.ones(6, 3, 4, 5, 1)}, given.label, given.index, 0, 0)
    assert float(model(same).logs["std"]) == pytest.approx(0, abs=1e-6)


def test_everything_is_trained_until_all_is_right() -> None:
    torch.manual_seed(0)
    model = Classifier(Mean(15), 15, classes=3).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    for step in range(60):
        model.advance(Progress(0, 1, step, 60))
        loss = model(batch(30, 3)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.finish()
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert float(model(batch(30, 3)).logs["accuracy"]) == 100


@pytest.mark.parametrize("fixed", [False, True])
def test_fixed_modes_keep_statistics_and_drop_nothing_but_still_learn(fixed: bool) -> None:
    torch.manual_seed(0)
    model = Classifier(Mean(15, drop=0.5), 15, classes=3, fixed_modes=fixed)
    running = model.encoder.norm.running_mean.clone()
    model.train()
    assert model.training
    first, second = model(batch(9, 3)), model(batch(9, 3))
    assert torch.equal(model.encoder.norm.running_mean, running) is fixed
    assert torch.equal(first.loss, second.loss) is fixed
    first.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.eval()
    assert not any(module.training for module in model.modules())


def test_the_new_layer_follows_the_classes_and_the_initialiser() -> None:
    torch.manual_seed(0)
    paper, default = (Classifier(Mean(400), 400, classes=60, init=init).head for init in ("paper", "default"))
    assert paper.weight.shape == (60, 400)
    assert float(paper.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not paper.bias.any()
    uniform = 1 / math.sqrt(3 * 400)  # of U(-1/20, 1/20)
    assert float(default.weight.detach().std()) == pytest.approx(uniform, rel=0.05)
    assert default.bias.any()


def test_the_loader_is_told_how_to_augment() -> None:
    augmentation = chain("normal")
    assert Classifier(Mean(15), 15, 3, augmentation).views() == {"clip": augmentation}
    assert Classifier(Mean(15), 15, 3).views() == {"clip": None}
