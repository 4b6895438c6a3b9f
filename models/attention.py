"""MHSAM, the soft attention mask of SkeAttnCLR (Hua et al. 2023, section 3.2; spec C5)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import UsageError

__all__ = ["MHSAM"]


class MHSAM(nn.Module):
    """A mask in 0..1 for a feature map [R, D, T', V']: a share of its own for each position and channel.

    Self-attention among the T' V' positions of a row (eq. 2 and 3), after a LayerNorm, then
    M = sigmoid(sharpness * proj(x)) (eq. 4; `sharpness` is lambda). There is no way around the attention and
    no dropout. At D = 256 it has 263,680 weights. The modules keep PyTorch's own initialisation.
    """

    def __init__(self, channels: int, heads: int = 8, sharpness: float = 2.0) -> None:
        super().__init__()
        if channels % heads:
            raise UsageError(f"{heads} attention heads cannot share {channels} channels: take a divisor of them")
        self.heads = heads
        self.sharpness = sharpness
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)  # queries, keys, values, each head-major
        self.proj = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mask [R, D, T', V'] of a map of that shape."""
        tokens = features.flatten(2).transpose(1, 2)  # [R, L, D], frame by frame
        qkv = self.qkv(self.norm(tokens)).unflatten(2, (3, self.heads, -1))  # [R, L, 3, heads, D / heads]
        found = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))  # [R, heads, L, D / heads]
        mask = torch.sigmoid(self.sharpness * self.proj(found.transpose(1, 2).flatten(2)))
        return mask.transpose(1, 2).unflatten(2, features.shape[2:])
