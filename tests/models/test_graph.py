"""Adjacency against the figures of the papers' graphs and a transcription by hop counts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.errors import UsageError
from skelpipe.models.graph import adjacency
from skelpipe.skeleton import Layout, layout

KINECT = layout("kinect-v2-25")
# Degrees with the joint itself, and the bones that point away from the centre within one hop of it (1-based).
DEGREES = [4, 3, 3, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 3, 3, 3, 2, 5, 2, 3, 2, 3]
CENTRIFUGAL = {(2, 1), (3, 4), (5, 6), (9, 10), (21, 2), (21, 3), (21, 5), (21, 9)}


def nonzeros(variant: str) -> list[int]:
    return [int(subset.count_nonzero()) for subset in adjacency(KINECT, variant)]


def test_published_numbers_of_nonzeros() -> None:
    assert nonzeros("stgcn_capped") == [25, 40, 8]
    assert nonzeros("stgcn_full") == [25, 24, 24]
    assert nonzeros("agcn") == [25, 24, 24]


def test_capped_graph_has_the_eight_centrifugal_edges() -> None:
    found = {(int(v) + 1, int(w) + 1) for v, w in adjacency(KINECT, "stgcn_capped")[2].nonzero()}
    assert found == CENTRIFUGAL


@pytest.mark.parametrize("variant", ["stgcn_capped", "stgcn_full"])
def test_columns_are_normalised_by_degree(variant: str) -> None:
    whole = adjacency(KINECT, variant).double().sum(0)
    assert torch.allclose(whole.sum(0), torch.ones(25, dtype=torch.float64), atol=1e-6)
    assert (1 / whole.diagonal()).round().int().tolist() == DEGREES


def test_agcn_entries() -> None:
    identity, inward, outward = adjacency(KINECT, "agcn")
    assert torch.equal(identity, torch.eye(25))
    assert inward[20, 1] == 1  # spine shoulder -> spine middle: that column has one entry
    assert inward[1, 20] == 0
    assert outward[1, 20] == 0.25  # four bones leave the spine shoulder
    assert outward[3, 2] == 1
    assert outward[0, 1] == 1


def test_float32_and_shape() -> None:
    for variant in ("stgcn_capped", "stgcn_full", "agcn"):
        graph = adjacency(KINECT, variant)
        assert graph.shape == (3, 25, 25)
        assert graph.dtype == torch.float32


def test_unknown_variant_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'spatial'.*stgcn_capped, stgcn_full, agcn"):
        adjacency(KINECT, "spatial")


def tree(parents: list[int]) -> Layout:
    return Layout(
        name="tree",
        joints=tuple(f"joint {v}" for v in range(len(parents))),
        parents=tuple(parents),
        centre=0,
        left_shoulder=0,
        right_shoulder=0,
        mirror=tuple(range(len(parents))),
        parts={},
        levels={},
    )


trees = st.integers(2, 12).flatmap(
    lambda n: st.tuples(st.just(0), *(st.integers(0, v - 1) for v in range(1, n))).map(lambda p: tree(list(p)))
)


@given(tree_layout=trees, cap=st.sampled_from([None, 1]))
def test_partition_follows_the_definition_on_any_tree(tree_layout: Layout, cap: int | None) -> None:
    joints = len(tree_layout)
    links = np.eye(joints)
    for child, parent in enumerate(tree_layout.parents):
        links[child, parent] = links[parent, child] = 1
    # hop(v): the smallest power of the link matrix that reaches the centre
    hop = [math.inf] * joints
    for power in range(joints, -1, -1):
        for v in np.flatnonzero(np.linalg.matrix_power(links, power)[:, tree_layout.centre]):
            hop[v] = power if cap is None or power <= cap else math.inf
    expected = np.zeros((3, joints, joints))
    for v in range(joints):
        for w in range(joints):
            share = links[v, w] / links[:, w].sum()
            if v == w:
                expected[0, v, w] = share
            elif hop[v] >= hop[w]:
                expected[1, v, w] = share
            else:
                expected[2, v, w] = share
    variant = "stgcn_full" if cap is None else "stgcn_capped"
    assert np.allclose(adjacency(tree_layout, variant).numpy(), expected, atol=1e-7)
