"""Memory that is used again: only once nobody uses it any more, and never more of it than was used at once."""

import copy
import threading

import numpy as np
import pytest
import torch

from skelpipe.augment import kept_memory
from skelpipe.augment.kept_memory import LEAST, MOST, SIZES, kept_empty

SHAPE = (4, LEAST // 2)


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_memory, "_free", {})


def test_what_is_gone_is_used_again_and_what_is_in_use_is_not() -> None:
    first, second = kept_empty(SHAPE), kept_empty(SHAPE)
    assert first.shape == SHAPE
    assert (first.dtype, first.is_contiguous(), first.requires_grad) == (torch.float32, True, False)
    first.fill_(1)
    second.fill_(2)
    assert bool((first == 1).all())
    address, part = first.data_ptr(), first[1:, 5]
    del first
    assert kept_empty(SHAPE).data_ptr() != address  # a part is still in use
    assert bool((part == 1).all())
    del part
    again = kept_empty((2, LEAST))  # another shape of the same size
    assert again.data_ptr() == address
    assert bool((second == 2).all())


@pytest.mark.parametrize("keep", [lambda t: t.numpy(), lambda t: t.detach(), lambda t: memoryview(t.numpy())])
def test_whatever_refers_to_it_keeps_it(keep) -> None:
    tensor = kept_empty(SHAPE).fill_(3)
    address, kept = tensor.data_ptr(), keep(tensor)
    del tensor
    assert kept_empty(SHAPE).data_ptr() != address
    assert np.asarray(kept)[0, 0] == 3


def test_autograd_and_copies() -> None:
    tensor = kept_empty(SHAPE).fill_(2).requires_grad_()
    address, square = tensor.data_ptr(), (tensor * tensor).sum()
    other = copy.deepcopy(tensor.detach())
    del tensor
    assert kept_empty(SHAPE).data_ptr() != address  # it was saved for the backward pass
    square.backward()
    assert bool((other == 2).all())


def test_no_more_is_kept_than_the_limits_say() -> None:
    many = [kept_empty((LEAST,)) for _ in range(2 * MOST)]
    del many
    assert len(kept_memory._free[LEAST]) == MOST
    for extra in range(1, 2 * SIZES):
        kept_empty((LEAST + extra,))
        assert len(kept_memory._free) <= SIZES
    assert LEAST not in kept_memory._free
    kept_empty((LEAST - 1,))
    assert LEAST - 1 not in kept_memory._free


def test_threads_never_share_memory() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(200):
            mine = kept_empty((LEAST,)).fill_(number)
            if not bool((mine == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
