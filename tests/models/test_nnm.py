"""Nearest neighbours mining against sets and sums written out in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.models.aimclr import nearest, nnm
from skelpipe.models.losses import positive_first


def neighbours(views: list[Tensor], row: int, top_k: int) -> set[int]:
    """Column 0 and, for each view, the columns of its largest similarities to the queue."""
    found = {0}
    for view in views:
        values = view[row].tolist()
        found |= set(sorted(range(1, len(values)), key=lambda j: -values[j])[:top_k])
    return found


def looped(logits: Tensor, sets: list[set[int]], divided: bool) -> float:
    total = 0.0
    for row, found in zip(logits.tolist(), sets, strict=True):
        norm = math.log(math.fsum(math.exp(value) for value in row))
        each = -math.fsum(row[j] - norm for j in found)
        total += each / len(found) if divided else each
    return total / len(sets)


@given(
    clips=st.integers(1, 5),
    size=st.integers(1, 12),
    views=st.integers(1, 4),
    top_k=st.integers(1, 4),
    divided=st.booleans(),
    seed=st.integers(0, 999),
)
def test_is_the_formula(clips: int, size: int, views: int, top_k: int, divided: bool, seed: int) -> None:
    torch.manual_seed(seed)
    logits = [torch.randn(clips, 1 + size, dtype=torch.float64) for _ in range(views)]
    sets = [neighbours(logits, row, top_k) for row in range(clips)]
    positives = nearest(logits, top_k)
    assert [set(row.nonzero().flatten().tolist()) for row in positives] == sets
    loss = nnm(logits[0], positives, divided=divided)
    assert float(loss) == pytest.approx(looped(logits[0], sets, divided), rel=1e-12)


def test_without_neighbours_it_is_infonce() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 9)
    alone = torch.zeros(4, 9, dtype=torch.bool)
    alone[:, 0] = True
    assert torch.allclose(nnm(logits, alone), positive_first(logits))
    assert torch.allclose(nnm(logits, alone, divided=False), positive_first(logits))


def test_views_that_agree_share_their_neighbour() -> None:
    near, far = torch.tensor([[0.0, 3.0, 1.0, 2.0]]), torch.tensor([[9.0, 0.0, 1.0, 0.5]])
    assert nearest([near, near, near], 1).tolist() == [[True, True, False, False]]
    assert nearest([near, far], 1).tolist() == [[True, True, True, False]]


def test_gradients_reach_the_first_view_alone() -> None:
    torch.manual_seed(0)
    views = [torch.randn(3, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    positives = nearest(views, 1)
    nnm(views[0], positives).backward()
    wanted = (views[0].softmax(1) - positives / positives.sum(1, keepdim=True)).detach() / 3
    assert views[0].grad is not None
    assert torch.allclose(views[0].grad, wanted)
    assert views[1].grad is None
    assert views[2].grad is None


def test_computes_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 50)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nnm(logits, nearest([logits], 1))
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nnm(logits, nearest([logits], 1)))
