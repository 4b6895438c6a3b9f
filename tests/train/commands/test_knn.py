"""Votes as float32."""

import numpy as np
import pytest
import torch

from skelpipe.train.commands.knn import rounded


def test_rounding_votes_keeps_the_winner() -> None:
    close = torch.tensor([[1.0, 1.0 + 1e-12, 0.5], [2.0, 1.0, 2.0], [0.0, 3.0, 3.0 + 1e-9]], dtype=torch.float64)
    scores = rounded(close)
    assert scores.dtype == np.float32
    assert scores.argmax(axis=1).tolist() == [1, 0, 2]
    assert scores == pytest.approx(close.numpy(), rel=1e-6)
