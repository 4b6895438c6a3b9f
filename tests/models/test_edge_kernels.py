"""Neighbourhoods gathered along edges, against loops and against the product with the whole matrix, in float64."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.models import edge_kernels
from skelpipe.models.edge_kernels import EdgeList, gathered, takes
from skelpipe.models.graph import VARIANTS, adjacency
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def random_graph(subsets: int, joints: int, share: float) -> Tensor:
    """A graph [K, V, V] of which some joints have no neighbour in a subset, and one has none at all."""
    graph = torch.rand(subsets, joints, joints, dtype=torch.float64) * (
        torch.rand(subsets, joints, joints) < share
    )
    graph[:, :, 1] = 0
    return graph


@pytest.mark.parametrize(("poses", "joints", "channels"), [(1, 2, 1), (7, 5, 3), (1300, 6, 4), (3, 25, 33)])
def test_gathered_is_the_sum_over_edges(poses: int, joints: int, channels: int) -> None:
    torch.manual_seed(0)
    graph = random_graph(3, joints, 0.3)
    graph[2, 0, 0] = 0.5  # so that there is one
    edges = EdgeList.of(graph)
    weights = graph.flatten()[edges.entries].requires_grad_()
    x = torch.randn(poses, joints, channels, dtype=torch.float64, requires_grad=True)
    near = gathered(x, weights, edges)
    assert near.shape == (poses, joints, 3, channels)
    wanted = torch.zeros(poses, joints, 3, channels, dtype=torch.float64)
    for k in range(3):
        for v in range(joints):
            for w in range(joints):
                wanted[:, w, k] += graph[k, v, w] * x.detach()[:, v]
    assert torch.allclose(near, wanted, rtol=0, atol=1e-13)

    given = torch.randn_like(near)
    of_x, of_weights = torch.autograd.grad(near, (x, weights), given)
    whole = graph.clone().requires_grad_()
    right = torch.autograd.grad(torch.einsum("kvw,pvc->pwkc", whole, x), (x, whole), given)
    assert torch.allclose(of_x, right[0], rtol=0, atol=1e-12)
    assert torch.allclose(of_weights, right[1].flatten()[edges.entries], rtol=0, atol=1e-11)


def test_the_edges_are_those_of_the_graph_and_only_those() -> None:
    for variant in VARIANTS:
        graph = adjacency(KINECT, variant)
        edges = EdgeList.of(graph)
        rebuilt = torch.zeros(graph.numel())
        rebuilt[edges.entries] = graph.flatten()[edges.entries]
        assert torch.equal(rebuilt.view_as(graph), graph)
        assert len(edges.entries) == int((graph != 0).sum())
        assert np.array_equal(edges.entries.numpy() % (25 * 25) // 25, edges.sources)


def test_gradients_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = adjacency(KINECT, "stgcn_full")
    edges, before = EdgeList.of(graph), torch.get_num_threads()
    weights = graph.flatten()[edges.entries].requires_grad_()
    x = torch.randn(2500, 25, 16, requires_grad=True)
    given = torch.randn(2500, 25, 3, 16)

    def outcome(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        near = gathered(x, weights, edges)
        return [near, *torch.autograd.grad(near, (x, weights), given)]

    try:
        for one, two in zip(outcome(1), outcome(3), strict=True):
            assert torch.equal(one, two)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_is_the_same_by_edges_and_by_matrices(training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    by_edges = STGCN(KINECT, width=4, out_channels=24, dropout=0.0).double().train(training)
    for block in by_edges.blocks:
        torch.nn.init.uniform_(block.spatial.importance, 0.5, 1.5)
    by_matrices = copy.deepcopy(by_edges)
    x = torch.randn(3, 3, 16, 25, 2, dtype=torch.float64)
    calls = []
    monkeypatch.setattr(edge_kernels, "in_parts", lambda *each: calls.append(1) or each[0](0, 1, *each[1:]))
    with torch.set_grad_enabled(training):
        found = by_edges(x)
    assert calls
    calls.clear()
    monkeypatch.setattr("skelpipe.models.stgcn.takes", lambda x: False)
    wanted = by_matrices(x)
    assert not calls
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
    if training:
        given = torch.randn_like(found)
        found.backward(given)
        wanted.backward(given)
        for one, other in zip(by_edges.parameters(), by_matrices.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-11)


@pytest.mark.filterwarnings("ignore:.*jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_who_does_not_train_may_ask_for_more_than_gradients() -> None:
    """Outside training the network stays differentiable twice, can be traced, and takes autocast."""
    torch.manual_seed(0)
    encoder = STGCN(KINECT, width=4, out_channels=8, dropout=0.0).eval()
    x = torch.randn(2, 3, 8, 25, 1, requires_grad=True)
    (first,) = torch.autograd.grad(encoder(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert bool(second.abs().sum() > 0)
    with torch.no_grad():
        traced = torch.jit.trace(encoder, (torch.randn(2, 3, 8, 25, 1),))
        other = torch.randn(2, 3, 8, 25, 1)
        assert torch.allclose(traced(other), encoder(other), rtol=0, atol=1e-5)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.allclose(encoder(other).float(), traced(other), rtol=0, atol=0.05)


def test_only_plain_numbers_of_a_cpu_are_taken() -> None:
    x = torch.randn(2, 3, 4)
    assert takes(x)
    assert takes(x.double())
    assert not takes(x.half())
    assert not takes(x.to("meta"))
    assert not takes(torch.nn.Parameter(x).as_subclass(torch.nn.Parameter))
    with torch.autocast("cpu"):
        assert not takes(x)
