"""What a step of a method holds."""

import pytest
import torch

from skelpipe.models.method import Logits


def test_logits_are_detached_and_joined_when_they_are_read() -> None:
    own, hard = torch.randn(3, 5, requires_grad=True), torch.randn(3, 1, requires_grad=True)
    made = []
    logits = Logits({"query": own * 2, "host": (own, hard), "u<-v": lambda: made.append(0) or own + 1})
    assert list(logits) == ["query", "host", "u<-v"]
    assert not made
    torch.testing.assert_close(logits["query"], own.detach() * 2)
    torch.testing.assert_close(logits["host"][:, 5:], hard.detach())
    torch.testing.assert_close(logits["host"][:, :5], own.detach())
    torch.testing.assert_close(dict(logits)["u<-v"], own.detach() + 1)
    assert made == [0]
    assert not any(each.requires_grad for each in logits.values())
    with pytest.raises(KeyError):
        logits["key"]


def test_logits_that_a_step_has_are_not_copied() -> None:
    own = torch.randn(3, 5)
    assert Logits({"query": own})["query"].data_ptr() == own.data_ptr()
