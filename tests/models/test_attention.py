"""MHSAM against its equations, position by position and head by head."""

import math

import pytest
import torch
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.models.skeattnclr import MHSAM


def naive(module: MHSAM, row: Tensor, heads: int, sharpness: float) -> Tensor:
    """Eq. 2 to 4 for one row [D, T', V'] in float64."""
    channels, frames, joints = row.shape
    weights = {name: tensor.double() for name, tensor in module.state_dict().items()}
    tokens = []
    for t in range(frames):
        for v in range(joints):
            token = row[:, t, v].double()
            mean = token.sum() / channels
            variance = ((token - mean) ** 2).sum() / channels
            tokens.append(
                (token - mean) / (variance + 1e-5).sqrt() * weights["norm.weight"] + weights["norm.bias"]
            )
    w_q, w_k, w_v = weights["qkv.weight"].chunk(3)
    b_q, b_k, b_v = weights["qkv.bias"].chunk(3)
    q, k, value = ([w @ x + b for x in tokens] for w, b in ((w_q, b_q), (w_k, b_k), (w_v, b_v)))
    size = channels // heads
    mask = torch.zeros(row.shape, dtype=torch.float64)
    for i in range(len(tokens)):
        found = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = [float(q[i][own] @ k[j][own]) / math.sqrt(size) for j in range(len(tokens))]
            total = sum(map(math.exp, scores))
            found.append(sum(math.exp(s) / total * value[j][own] for j, s in enumerate(scores)))
        projected = weights["proj.weight"] @ torch.cat(found) + weights["proj.bias"]
        mask[:, i // joints, i % joints] = 1 / (1 + torch.exp(-sharpness * projected))
    return mask


@pytest.mark.parametrize(
    ("shape", "heads", "sharpness"), [((8, 3, 5), 2, 2.0), ((6, 4, 1), 3, 0.5), ((4, 1, 1), 1, 8.0)]
)
def test_equations(shape: tuple[int, int, int], heads: int, sharpness: float) -> None:
    torch.manual_seed(0)
    module = MHSAM(shape[0], heads, sharpness)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    features = torch.randn(3, *shape)
    mask = module(features)
    assert mask.shape == features.shape
    for row, got in zip(features, mask, strict=True):
        torch.testing.assert_close(got.double(), naive(module, row, heads, sharpness), rtol=0, atol=1e-5)
    wide = module.double()(features.double())
    torch.testing.assert_close(wide[1], naive(module, features[1], heads, sharpness), rtol=0, atol=1e-12)


def test_the_papers_size() -> None:
    module = MHSAM(256)
    assert sum(p.numel() for p in module.parameters()) == 263_680  # spec C5
    assert (module.heads, module.sharpness) == (8, 2.0)


def test_positions_are_alike_and_rows_are_apart() -> None:
    torch.manual_seed(1)
    module, features = MHSAM(8, 2), torch.randn(4, 8, 3, 5)
    mask = module(features)
    order = torch.randperm(15)
    shuffled = features.flatten(2)[:, :, order].unflatten(2, (3, 5))
    torch.testing.assert_close(module(shuffled).flatten(2), mask.flatten(2)[:, :, order])
    torch.testing.assert_close(module(features[2:3]), mask[2:3])


def test_sharper_masks_are_nearer_to_0_and_1() -> None:
    torch.manual_seed(2)
    features, module = torch.randn(2, 8, 3, 5), MHSAM(8, 2, 1.0)
    soft = module(features)
    module.sharpness = 4.0
    sharp = module(features)
    odds = torch.log(soft / (1 - soft))
    torch.testing.assert_close(torch.log(sharp / (1 - sharp)), 4 * odds, rtol=1e-3, atol=1e-4)


def test_heads_must_share_the_channels() -> None:
    with pytest.raises(UsageError, match="5 attention heads cannot share 8 channels"):
        MHSAM(8, 5)
