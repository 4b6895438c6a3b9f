"""Cross-view mining against spec D2 written out in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.models.crosclr import VIEW_SETS, cross_view, require_joint_view
from skelpipe.models.losses import contrastive_logits

TAU = 0.2


def similarities(views: tuple[str, ...], n: int = 4, k: int = 9) -> dict[str, Tensor]:
    """Cosines [N, 1 + K] to the key and to the queue."""
    generator = torch.Generator().manual_seed(len(views))
    return {view: torch.rand(n, 1 + k, generator=generator, dtype=torch.float64) * 2 - 1 for view in views}


def naive(s: dict[str, np.ndarray], top_k: int, context: bool) -> float:
    total = 0.0
    for u, v in itertools.permutations(s, 2):
        each = []
        for own, other in zip(s[u], s[v], strict=True):
            neighbours = sorted(range(1, len(own)), key=lambda i: -other[i])[:top_k]
            entries = list(own / TAU)
            positives = [0, *neighbours]
            if context:
                entries += [own[i] * other[i] / TAU for i in range(1, len(own))]
                positives += [len(own) + i - 1 for i in neighbours]
            norm = math.log(sum(math.exp(entry) for entry in entries))
            each.append(-sum(entries[i] - norm for i in positives) / len(positives))
        total += sum(each) / len(each) / (len(s) - 1)
    return total


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("context", [True, False])
def test_cross_view(number: int, top_k: int, context: bool) -> None:
    s = similarities(VIEW_SETS[number])
    found = cross_view({view: each / TAU for view, each in s.items()}, top_k, TAU, context=context)
    assert float(found) == pytest.approx(naive({v: e.numpy() for v, e in s.items()}, top_k, context), rel=1e-12)


def test_a_view_takes_the_others_neighbours() -> None:
    own = torch.tensor([[0.0, 5.0, 0.0, 0.0]])
    other = torch.tensor([[0.0, 0.0, 0.0, 4.0]])
    (gradient,) = torch.autograd.grad(
        cross_view({"joint": own.requires_grad_(True), "motion": other}, 1, TAU, context=False), own
    )
    assert gradient[0, 3] < 0  # pulled towards what the other view finds,
    assert gradient[0, 1] > 0  # and away from what it finds itself


def test_gradients_reach_both_queries_and_no_key() -> None:
    torch.manual_seed(0)
    z, k, queue = (
        [torch.nn.functional.normalize(torch.randn(n, 6), dim=1).requires_grad_(True) for _ in range(2)]
        for n in (3, 3, 7)
    )
    views = {
        name: contrastive_logits(*each, TAU)
        for name, each in zip("ab", zip(z, k, queue, strict=True), strict=True)
    }
    cross_view({"a": views["a"], "b": views["b"]}, 1, TAU).backward()
    assert all(each.grad.abs().sum() > 0 for each in z)
    assert all(each.grad is None for each in (*k, *queue))


@pytest.mark.parametrize("context", [True, False])
def test_gradients_are_whole(context: bool) -> None:
    # Finite differences see both factors of the context and no change in the neighbours.
    s = [each.requires_grad_(True) for each in similarities(VIEW_SETS[3]).values()]

    def loss(*each: Tensor) -> Tensor:
        logits = {view: one / TAU for view, one in zip(VIEW_SETS[3], each, strict=True)}
        return cross_view(logits, 2, TAU, context=context)

    assert torch.autograd.gradcheck(loss, s)


def test_only_joints_can_be_shared_out() -> None:
    require_joint_view("crosclr", "joint")
    with pytest.raises(UsageError, match="crosclr trains its views together.*--view joint, not bone"):
        require_joint_view("crosclr", "bone")
