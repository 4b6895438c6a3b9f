"""The search in float32 against all similarities in float64: ties, near-ties, products as wrong as they may be."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelpipe.train.evaluation import nearest as search
from skelpipe.train.evaluation.nearest import dots, nearest

NUMBERS = ("random", "duplicates", "near-ties", "collapsed", "spikes", "zeros", "equal")


def features(kind: str, count: int, width: int, rng: np.random.Generator) -> Tensor:
    """Rows whose similarities to the rows of another call lie far apart, close together, or are equal."""
    rows = rng.normal(size=(count, width))
    few = np.random.default_rng(0).normal(size=(3, width))
    match kind:
        case "duplicates":
            rows = few[rng.integers(0, 3, count)] * 2.0 ** rng.integers(-3, 3, (count, 1))
        case "near-ties":
            rows = few[rng.integers(0, 3, count)] + 1e-9 * rows
        case "collapsed":
            rows = few[:1] + 10.0 ** -rng.integers(2, 12, (count, 1)) * rows
        case "spikes":
            rows *= 10.0 ** rng.integers(-30, 8, rows.shape)
        case "zeros":
            rows[rng.random(count) < 0.6] = 0
        case "equal":
            rows = np.repeat(few[:1], count, axis=0)
    return torch.from_numpy(rows)


def halved(values: list[float]) -> float:
    while len(values) > 1:
        rest = len(values) // 2
        width = len(values) - rest
        values = [v + values[width + i] if i < rest else v for i, v in enumerate(values[:width])]
    return values[0]


def similarities(bank: Tensor, queries: Tensor) -> np.ndarray:
    """All similarities as the module defines them, number by number in Python's floats."""

    def unit(x: list[float]) -> list[float]:
        length = math.sqrt(halved([v * v for v in x]))
        return [v / length if length else v for v in x]

    rows, asked = [unit(x) for x in bank.tolist()], [unit(x) for x in queries.tolist()]
    return np.array([[halved([a * b for a, b in zip(q, x, strict=True)]) for x in rows] for q in asked])


def expected(bank: Tensor, queries: Tensor, k: int) -> tuple[list[list[float]], list[list[int]]]:
    every = similarities(bank, queries)
    order = np.argsort(-every, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(every, order, 1).tolist(), order.tolist()


@pytest.fixture(params=["kept", "kept on a device"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernels of a CPU, or the operations of torch that other devices do."""
    if request.param != "kept":
        monkeypatch.setattr(search._Block, "_kept", search._Block._kept_on_device)
        monkeypatch.setattr(search, "KEPT", search.KEPT_ON_DEVICE)
    return request.param


@pytest.mark.parametrize("kind", NUMBERS)
def test_equals_all_similarities(way: str, kind: str) -> None:
    rng = np.random.default_rng(NUMBERS.index(kind))
    bank, queries = features(kind, 120, 6, rng), features(kind, 9, 6, rng)
    for k, kept in ((1, 4), (5, 30), (20, 1000), (70, 4)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "KEPT", kept)
            found = nearest(bank, queries, k)
        assert tuple(each.tolist() for each in found) == expected(bank, queries, k)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(NUMBERS),
    count=st.integers(1, 60),
    width=st.integers(1, 9),
    k=st.integers(1, 12),
    rows=st.integers(1, 40),
    chunk=st.integers(1, 6),
    kept=st.integers(1, 80),
    single=st.booleans(),
)
def test_blocks_change_nothing(
    seed: int, kind: str, count: int, width: int, k: int, rows: int, chunk: int, kept: int, single: bool
) -> None:
    rng = np.random.default_rng(seed)
    bank, queries = features(kind, count, width, rng), features(kind, 5, width, rng)
    if single:
        bank, queries = bank.float(), queries.float()
    k = min(k, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "BLOCK_BYTES", rows * 8 * width)
        patch.setattr(search, "ROWS", 7)
        patch.setattr(search, "KEPT", kept)
        found = nearest(bank, queries, k, chunk=chunk)
    assert tuple(each.tolist() for each in found) == expected(bank, queries, k)


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("width", [1, 5, 256, 700])
def test_products_are_within_the_bound(kind: str, width: int) -> None:
    rng = np.random.default_rng(width)
    rows = search._normalised(features(kind, 8, width, rng))
    queries = search._normalised(features(kind, 8, width, rng))
    block = search._Block.of(rows)
    product = queries.float() @ block.shifted.T
    mean = [Fraction(v) for v in rows.mean(dim=0).tolist()]
    exact = [[Fraction(v) for v in q] for q in queries.tolist()]
    similarity = dots(queries[:, None], rows)
    for q, asked in enumerate(exact):
        common = sum(a * b for a, b in zip(asked, mean, strict=True))
        for n in range(len(rows)):
            error = Fraction(float(product[q, n])) - (Fraction(float(similarity[q, n])) - common)
            assert 2 * abs(error) < block.window


@pytest.mark.parametrize("kind", NUMBERS)
def test_products_may_be_as_wrong_as_the_bound_says(way: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    bank, queries = features(kind, 200, 8, rng), features(kind, 12, 8, rng)
    error = search._Block.of(search._normalised(bank)).window / 2 * 0.99
    exact = search._multiplied
    noise = np.random.default_rng(5)

    def wrong(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
        y = exact(a, b, out)
        return y.add_(torch.from_numpy(noise.choice([-error, error], y.shape)))

    monkeypatch.setattr(search, "_multiplied", wrong)
    for k in (1, 7, 40):
        assert tuple(each.tolist() for each in nearest(bank, queries, k)) == expected(bank, queries, k)


def test_ties_rank_in_bank_order_across_blocks(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Axis vectors: similarities are exactly 0 and 1, so nearly everything is a tie.
    bank = torch.eye(4).repeat(6, 1)
    queries = torch.eye(4)
    for rows in (1, 3, 5, 24):
        monkeypatch.setattr(search, "BLOCK_BYTES", rows * 8 * 4)
        similarity, index = nearest(bank, queries, 9, chunk=2)
        for axis in range(4):
            own = [row for row in range(24) if row % 4 == axis]
            others = [row for row in range(24) if row % 4 != axis]
            assert index[axis].tolist() == own + others[:3]
            assert similarity[axis].tolist() == [1.0] * 6 + [0.0] * 3


def test_zero_vectors_are_similar_to_nothing() -> None:
    similarity, _ = nearest(torch.zeros(2, 3), torch.ones(1, 3), 2)
    assert similarity.tolist() == [[0.0, 0.0]]


def test_rows_that_are_not_finite_come_first(way: str) -> None:
    bank = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    bank[17, 1], bank[30, 0] = torch.nan, torch.inf
    similarity, index = nearest(bank, bank[:5], 4)
    assert sorted(index[0, :2].tolist()) == [17, 30]
    assert similarity[:, :2].isnan().all()
    assert index[:, 2].tolist() == [0, 1, 2, 3, 4]

    queries = bank[[0, 17]]
    finite = bank[:17]
    similarity, index = nearest(finite, queries, 2)
    assert similarity[1].isnan().all()
    assert index[0, 0] == 0


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_lowered_precision_of_products_changes_nothing(precision: str) -> None:
    rng = np.random.default_rng(1)
    bank, queries = (features("near-ties", count, 32, rng).float() for count in (300, 20))
    found = nearest(bank, queries, 9)
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            again = nearest(bank, queries, 9)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
    assert all(a.equal(b) for a, b in zip(found, again, strict=True))
