import pytest
import torch
from torch import nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.running.loop import LossWatch, build_optimiser, check_weights


def test_one_step_is_plain_sgd_with_decay_on_every_weight() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    frozen = nn.Linear(2, 2).requires_grad_(False)
    recipe = with_overrides(load_recipe("skeletonclr"), ["optimiser.weight_decay=0.01"], lr=0.5)
    optimiser = build_optimiser(nn.ModuleList([net, frozen]), recipe.optimiser)
    velocity = [torch.zeros_like(p) for p in net.parameters()]
    expected = [p.detach().clone() for p in net.parameters()]
    for _ in range(3):
        optimiser.zero_grad()
        gradients = [torch.randn_like(p) for p in net.parameters()]
        for p, gradient in zip(net.parameters(), gradients, strict=True):
            p.grad = gradient.clone()
        optimiser.step()
        for v, p, gradient in zip(velocity, expected, gradients, strict=True):
            v.mul_(0.9).add_(gradient + 0.01 * p)  # no Nesterov, no damping
            p.sub_(0.5 * v)
    for p, value in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 4


def test_adam_is_the_papers() -> None:
    # Kingma & Ba 2015, algorithm 1, with weight decay as part of the gradient.
    net = nn.Linear(3, 2).double()
    recipe = with_overrides(
        load_recipe("skeletonclr"), ["optimiser.name=adam", "optimiser.weight_decay=0.01"], lr=0.1
    )
    optimiser = build_optimiser(net, recipe.optimiser)
    expected = [p.detach().clone() for p in net.parameters()]
    first = [torch.zeros_like(p) for p in expected]
    second = [torch.zeros_like(p) for p in expected]
    for t in range(1, 4):
        for i, p in enumerate(net.parameters()):
            p.grad = torch.randn_like(p)
            gradient = p.grad + 0.01 * expected[i]
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            scaled = first[i] / (1 - 0.9**t) / ((second[i] / (1 - 0.999**t)).sqrt() + 1e-8)
            expected[i] = expected[i] - 0.1 * scaled
        optimiser.step()
    for p, value in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value)


def test_adamw_shrinks_the_weights_beside_the_step() -> None:
    # Loshchilov & Hutter 2019, algorithm 2, with lr as alpha and in front of lambda.
    net = nn.Linear(3, 2).double()
    settings = ["optimiser.name=adamw", "optimiser.weight_decay=0.05", "optimiser.beta2=0.95"]
    optimiser = build_optimiser(net, with_overrides(load_recipe("skeletonclr"), settings, lr=0.1).optimiser)
    expected = [p.detach().clone() for p in net.parameters()]
    first = [torch.zeros_like(p) for p in expected]
    second = [torch.zeros_like(p) for p in expected]
    for t in range(1, 4):
        for i, p in enumerate(net.parameters()):
            p.grad = torch.randn_like(p)
            first[i] = 0.9 * first[i] + 0.1 * p.grad
            second[i] = 0.95 * second[i] + 0.05 * p.grad**2
            scaled = first[i] / (1 - 0.9**t) / ((second[i] / (1 - 0.95**t)).sqrt() + 1e-8)
            expected[i] = expected[i] - 0.1 * (scaled + 0.05 * expected[i])
        optimiser.step()
    for p, value in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value)


def test_a_value_that_the_optimiser_does_not_take_is_named() -> None:
    recipe = with_overrides(load_recipe("skeletonclr"), ["optimiser.name=adamw", "optimiser.beta2=1"])
    with pytest.raises(UsageError, match=r"^optimiser\.name=adamw: Invalid beta parameter at index 1: 1\.0"):
        build_optimiser(nn.Linear(2, 2), recipe.optimiser)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("every", [1, 3, 50])
def test_a_loss_that_is_not_finite_is_named(bad: float, every: int) -> None:
    watch = LossWatch([f"S{i:03}" for i in range(40)], every)
    index = torch.arange(40).view(4, 10)

    def epoch() -> None:
        for step, loss in enumerate([1.0, 2.0, bad, 3.0]):
            watch.add(7, step + 1, torch.tensor(loss), index[step])
        watch.finish()

    named = ", ".join(f"S{i:03}" for i in range(20, 28))
    with pytest.raises(SkelpipeError, match=f"epoch 7, step 3, on {named} and 2 more;"):
        epoch()


def test_the_mean_is_over_all_steps() -> None:
    watch = LossWatch(["a"], 3)
    looked = [watch.add(1, step, torch.tensor(float(step)), torch.tensor([0])) for step in range(1, 6)]
    assert looked == [False, False, True, False, False]
    assert watch.finish() == 3.0


def test_broken_weights_are_not_saved() -> None:
    net = nn.Linear(2, 2)
    check_weights(net, 4)
    with torch.no_grad():
        net.bias[1] = float("inf")
    with pytest.raises(SkelpipeError, match="after epoch 4 bias is not finite"):
        check_weights(net, 4)
