"""Actionlets: the gradient computed in three ways, the masks number by number."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.models.actionlets import Actionlets, difference_gradient, evaluation_mode
from skelpipe.models.parts import projection_head
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
N, M, D, T, V, DIM = 3, 2, 8, 4, 25, 5


@pytest.fixture
def parts() -> tuple[Tensor, nn.Module, Tensor]:
    """Feature maps [N*M,D,T',V], a head and the anchor's embedding in float64."""
    torch.manual_seed(1)
    features = torch.randn(N * M, D, T, V, dtype=torch.float64)
    return features, projection_head(D, 16, DIM).double(), torch.randn(1, DIM, dtype=torch.float64)


def dense_gradient(features: Tensor, head: nn.Module, anchor: Tensor) -> Tensor:
    """d(-sim)/dh_ctv by autograd, with every position a variable (eq. 3 and 4), for each clip alone."""
    leaf = features.clone().requires_grad_()
    for n in range(N):
        h = leaf[n * M : (n + 1) * M].mean(dim=(2, 3)).mean(dim=0)  # over positions, then bodies
        z = head(h[None])[0]
        similarity = (z * anchor[0]).sum() / (z.norm() * anchor.norm())
        (-similarity).backward()
    assert leaf.grad is not None
    return leaf.grad


def test_the_gradient_is_the_same_at_every_position_of_a_channel(parts: Any) -> None:
    features, head, anchor = parts
    h = features.mean(dim=(2, 3)).unflatten(0, (N, M)).mean(dim=1)
    closed = difference_gradient(h, head, anchor) / (M * T * V)
    dense = dense_gradient(features, head, anchor).unflatten(0, (N, M))
    torch.testing.assert_close(dense, closed[:, None, :, None, None].expand_as(dense), rtol=1e-9, atol=1e-15)
    assert float(closed.abs().max()) > 1e-5
    assert not closed.requires_grad


def test_the_gradient_by_hand(parts: Any) -> None:
    features, head, anchor = parts
    h = features.mean(dim=(2, 3)).unflatten(0, (N, M)).mean(dim=1)
    first, second = head[0], head[2]
    inner = h @ first.weight.T + first.bias
    z = inner.clamp(min=0) @ second.weight.T + second.bias
    unit, target = F.normalize(z, dim=1), F.normalize(anchor, dim=1)
    dz = -(target - (unit * target).sum(1, keepdim=True) * unit) / z.norm(dim=1, keepdim=True)
    expected = ((dz @ second.weight) * (inner > 0)) @ first.weight
    torch.testing.assert_close(difference_gradient(h, head, anchor), expected, rtol=1e-9, atol=1e-14)


def bones_mean(values: Tensor, joint: int) -> float:
    """The entry of A G for a joint: G is the skeleton with loops, its columns divided by their sums."""
    near = {joint} | {a for a, b in KINECT.edges if b == joint} | {b for a, b in KINECT.edges if a == joint}
    return sum(float(values[v]) for v in near) / len(near)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_actionlets_of_the_paper(parts: Any, inner: bool, threshold: float) -> None:
    features, head, anchor = parts
    dense = dense_gradient(features, head, anchor)
    wanted = torch.zeros(N * M, T, V)
    for row in range(N * M):
        passed = dense[row].clamp(min=0) if inner else dense[row]
        alpha = [sum(passed[c].flatten().tolist()) / (T * V) for c in range(D)]
        cam = sum(alpha[c] * features[row, c] for c in range(D)).clamp(min=0)
        smooth = torch.tensor([[bones_mean(cam[t], v) for v in range(V)] for t in range(T)])
        wanted[row] = (smooth > threshold * smooth.max()).float()
    found = Actionlets(KINECT, "paper", threshold, inner).of(features, M, head, anchor)
    assert found.shape == (N, M, T, V)
    assert torch.equal(found.flatten(0, 1), wanted)
    assert 0.02 < float(wanted.mean()) < 0.98


@pytest.mark.parametrize("sign", ["minus", "plus"])
@pytest.mark.parametrize("smoothing", ["adjacency", "parts", "none"])
@pytest.mark.parametrize("soft", [False, True])
def test_what_the_paper_leaves_open_can_be_set(parts: Any, sign: str, smoothing: str, soft: bool) -> None:
    features, head, anchor = parts
    dense = dense_gradient(features, head, anchor) * (1 if sign == "minus" else -1)
    near = {
        "adjacency": [[bones_mean(torch.eye(V)[u], v) for v in range(V)] for u in range(V)],
        "parts": [[sum((u in p) and (v in p) for p in KINECT.parts.values()) for v in range(V)] for u in range(V)],
        "none": torch.eye(V).tolist(),
    }[smoothing]
    spread = torch.tensor(near, dtype=torch.float64)
    spread = spread / spread.sum(0)
    for row in range(N * M):
        weighed = torch.einsum("c,ctv->tv", dense[row].mean((1, 2)).double(), features[row].double())
        cam = weighed.clamp(min=0) @ spread
        share = cam / cam.max()
        found = Actionlets(KINECT, "paper", 0.2, sign=sign, smoothing=smoothing, soft=soft)
        got = found.of(features, M, head, anchor).flatten(0, 1)[row].double()
        if soft:
            torch.testing.assert_close(got, share, rtol=0, atol=1e-5)
        else:
            clear = (share - 0.2).abs() > 1e-5
            assert torch.equal(got[clear], (share > 0.2).double()[clear])


def test_actionlets_as_released(parts: Any) -> None:
    features, head, anchor = parts
    features[1] = 1e-9 * features[1].abs()  # so small that the division by 1e-8 stays below the clip at 1
    dense = dense_gradient(features, head, anchor) / N  # the gradient of the mean over the batch
    alpha = dense.mean(dim=(2, 3))
    cam = (alpha[:, :, None, None] * features).mean(dim=1).clamp(min=0) / 1e-8
    wanted = torch.zeros(N * M, T, V, dtype=torch.float64)
    for part in KINECT.parts.values():
        wanted[:, :, list(part)] = cam[:, :, list(part)].mean(dim=2, keepdim=True).clamp(max=1)
    found = Actionlets(KINECT, "released").of(features, M, head, anchor)
    torch.testing.assert_close(found.flatten(0, 1), wanted.float(), rtol=1e-5, atol=1e-12)
    assert 0 < float(found[0, 1].max()) < 1


def test_no_gradients_or_statistics_are_left_behind(parts: Any) -> None:
    features, head, anchor = parts
    features = features.requires_grad_()
    with torch.no_grad():
        mask = Actionlets(KINECT).of(features, M, head, anchor)
        assert not torch.is_grad_enabled()
    assert not mask.requires_grad
    assert features.grad is None
    assert all(p.grad is None and p.requires_grad for p in head.parameters())


def test_clips_do_not_mix_in_a_head_with_batch_normalisation(parts: Any) -> None:
    features, _, anchor = parts
    head = projection_head(D, 16, DIM, batch_norm=True).double()
    head(torch.randn(20, D, dtype=torch.float64))
    before = copy.deepcopy(head.state_dict())
    regions = Actionlets(KINECT)
    together = regions.of(features, M, head, anchor)
    alone = torch.cat([regions.of(rows, M, head, anchor) for rows in features.split(M)])
    assert torch.equal(together, alone)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    assert head.training


def test_autocast_changes_nothing(parts: Any) -> None:
    features, head, anchor = (part.float() for part in parts)
    regions = Actionlets(KINECT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = regions.of(features, M, head, anchor)
    assert torch.equal(cast, regions.of(features, M, head, anchor))


def test_evaluation_mode_restores_the_mode() -> None:
    one, two = nn.Sequential(nn.Dropout()), nn.Dropout().eval()
    modes = []

    def fail() -> None:
        with evaluation_mode(one, two):
            modes.extend([one.training, one[0].training, two.training])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert modes == [False] * 3
    assert one.training
    assert one[0].training
    assert not two.training
