"""Training of the linear classifier against plain formulas and PyTorch's SGD: seeds, batches, errors."""

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.evaluation.linear_head import LinearHead, batches, fit_linear, linear_scores
from skelpipe.train.recipes.schema import LinearOptimiser


@pytest.fixture
def clips() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(60) % 4
    centres = torch.randn(4, 6, generator=generator)
    return centres[labels] + 0.3 * torch.randn(60, 6, generator=generator), labels


def naive(
    features: Tensor, labels: Tensor, start: np.ndarray, rates: list[float], momentum: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Train on all clips at once, in float64, one rate a step: v <- m v + g + d w, w <- w - r v."""
    x, w, b = features.double().numpy(), start.astype(np.float64), np.zeros(len(start))
    v, u = np.zeros_like(w), np.zeros_like(b)
    for rate in rates:
        logits = x @ w.T + b
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        p[np.arange(len(x)), labels.numpy()] -= 1
        p /= len(x)
        v = momentum * v + p.T @ x + decay * w
        u = momentum * u + p.sum(axis=0) + decay * b
        w, b = w - rate * v, b - rate * u
    return w, b


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 0.0), (0.5, 0.01), (0.0, 0.0)])
def test_training_is_that_of_plain_formulas(clips: tuple[Tensor, Tensor], momentum: float, decay: float) -> None:
    features, labels = clips
    start = LinearHead(6, 4, seed=3).weight.numpy().copy()
    given = dict(
        epochs=12, batch_size=60, lr=0.5, milestones=(4, 9), momentum=momentum, weight_decay=decay, seed=3
    )
    weight, bias = fit_linear(features, labels, 4, **given)
    rates = [0.5] * 4 + [0.05] * 5 + [0.005] * 3
    w, b = naive(features, labels, start, rates, momentum, decay)
    assert weight.numpy() == pytest.approx(w, abs=1e-5)
    assert bias.numpy() == pytest.approx(b, abs=1e-5)


def test_heads_together_are_layers_on_the_mean_of_their_scores(clips: tuple[Tensor, Tensor]) -> None:
    features, labels = clips
    streams = [features, features.roll(1, 1).tanh(), features.square()]
    ours = LinearHead(18, 4, LinearOptimiser(weight_decay=1e-3), seed=1, heads=3)
    layers = torch.nn.ModuleList(torch.nn.Linear(6, 4) for _ in streams)
    with torch.no_grad():
        for layer, weight in zip(layers, ours.weight.split(6, dim=1), strict=True):
            layer.weight.copy_(weight)
            layer.bias.zero_()
    optimiser = torch.optim.SGD(layers.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-3)
    for epoch in range(4):
        scores = sum(layer(x) for layer, x in zip(layers, streams, strict=True)) / 3
        loss = torch.nn.functional.cross_entropy(scores, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found = ours.train([(torch.cat(streams, dim=1) / 3, labels)], 0.3)
        assert found == pytest.approx(float(loss.detach()), abs=1e-6), epoch
    torch.testing.assert_close(ours.weight, torch.cat([layer.weight.detach() for layer in layers], dim=1))
    torch.testing.assert_close(ours.bias, sum(layer.bias.detach() for layer in layers) / 3)


def test_steps_are_those_of_torch(clips: tuple[Tensor, Tensor]) -> None:
    features, labels = clips
    ours, theirs = LinearHead(6, 4, LinearOptimiser(weight_decay=1e-3), seed=1), torch.nn.Linear(6, 4)
    with torch.no_grad():
        theirs.weight.copy_(ours.weight)
        theirs.bias.zero_()
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=0.9, weight_decay=1e-3)
    for epoch in range(1, 4):
        for x, y in batches(features, labels, 16, 0, epoch):
            loss = torch.nn.functional.cross_entropy(theirs(x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            assert float(ours.step(x, y, 0.3)) == pytest.approx(float(loss.detach()), abs=1e-5)
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-5)
    assert torch.allclose(ours.bias, theirs.bias, atol=1e-5)


def test_adamw_and_rates_of_steps_are_those_of_torch(clips: tuple[Tensor, Tensor]) -> None:
    features, labels = clips
    streams = [features, features.roll(1, 1).tanh()]
    settings = LinearOptimiser(name="adamw", weight_decay=0.1, beta2=0.9)
    ours = LinearHead(12, 4, settings, seed=1, heads=2)
    layers = torch.nn.ModuleList(torch.nn.Linear(6, 4) for _ in streams)
    with torch.no_grad():
        for layer, weight in zip(layers, ours.weight.split(6, dim=1), strict=True):
            layer.weight.copy_(weight)
            layer.bias.zero_()
    optimiser = torch.optim.AdamW(layers.parameters(), betas=(0.9, 0.9), weight_decay=0.1)
    rates = [0.1, 0.03, 0.2]
    for rate in rates:
        optimiser.param_groups[0]["lr"] = rate
        scores = sum(layer(x) for layer, x in zip(layers, streams, strict=True)) / 2
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(scores, labels).backward()
        optimiser.step()
    ours.train([(torch.cat(streams, dim=1) / 2, labels)] * 3, rates.__getitem__)
    torch.testing.assert_close(ours.weight, torch.cat([layer.weight.detach() for layer in layers], dim=1))
    torch.testing.assert_close(ours.bias, sum(layer.bias.detach() for layer in layers) / 2)


def test_it_learns_what_can_be_learned(clips: tuple[Tensor, Tensor]) -> None:
    features, labels = clips
    weight, bias = fit_linear(features, labels, 4, epochs=60, batch_size=16, lr=0.3)
    assert (linear_scores(weight, bias, features).argmax(dim=1) == labels).all()


def test_seeds_agree_and_differ_and_leave_torch_alone(clips: tuple[Tensor, Tensor]) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first, again, other = (fit_linear(*clips, 4, epochs=3, batch_size=8, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_epoch_has_each_clip_once_and_drops_the_rest() -> None:
    features, labels = torch.arange(50.0)[:, None], torch.arange(50)
    epochs = [[y.tolist() for _, y in batches(features, labels, 8, 0, epoch)] for epoch in (1, 2)]
    for parts in epochs:
        assert [len(part) for part in parts] == [8] * 6
        assert len({row for part in parts for row in part}) == 48
    assert epochs[0] != epochs[1]
    ((x, y),) = batches(features, labels, 500, 0, 1)
    assert sorted(y.tolist()) == list(range(50))
    assert torch.equal(x[:, 0].long(), y)


def test_scores_do_not_depend_on_how_many_are_scored_together() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(7, 33, generator=generator), torch.randn(7, generator=generator)
    features = torch.randn(50, 33, generator=generator)
    together = linear_scores(weight, bias, features)
    assert torch.equal(together, torch.cat([linear_scores(weight, bias, row[None]) for row in features]))
    plain = features.double().numpy() @ weight.double().numpy().T + bias.double().numpy()
    assert together.numpy() == pytest.approx(plain, rel=1e-6)
    assert linear_scores(weight, bias, features[:0]).shape == (0, 7)


def test_what_cannot_be_trained_is_an_error(clips: tuple[Tensor, Tensor]) -> None:
    features, labels = clips
    with pytest.raises(UsageError, match="at least one clip"):
        fit_linear(features[:0], labels[:0], 4)
    broken = features.clone()
    broken[3, 2] = float("nan")
    with pytest.raises(SkelpipeError, match="not finite"):
        fit_linear(broken, labels, 4)
    with pytest.raises(SkelpipeError, match="a lower learning rate may help"):
        fit_linear(features * 1e30, labels, 4, lr=1e10)
