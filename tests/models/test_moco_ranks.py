"""The queue of a batch that several processes share: the same rows in the same places everywhere."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from skelpipe.models.moco import MoCo


def queue_of(size: int) -> MoCo:
    torch.manual_seed(0)
    return MoCo(nn.Linear(3, 3), nn.Linear(3, 2), dim=2, queue_size=size, momentum=0.9)


@given(size=st.integers(1, 12), shares=st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=3), max_size=4))
def test_each_process_enters_all_keys_in_the_batchs_order(size: int, shares: list[list[int]]) -> None:
    """`shares` has, for each batch, the keys of three processes; the oracle has whole batches."""
    alone, processes = queue_of(size), [queue_of(size) for _ in range(3)]
    key = 0
    for counts in shares:
        keys = torch.arange(key, key + sum(counts), dtype=torch.float32)[:, None] + torch.tensor([0.0, 0.5])
        key += sum(counts)
        alone.enqueue(keys)
        parts = keys.split(counts)
        for moco, own in zip(processes, parts, strict=True):

            def gather(given: Tensor, own: Tensor = own, keys: Tensor = keys) -> Tensor:
                assert given is own, "only a process's own keys are handed over"
                return keys

            moco.gather = gather
            moco.enqueue(own)
    for moco in processes:
        assert torch.equal(moco.queue, alone.queue)
        assert torch.equal(moco.pointer, alone.pointer)


def test_what_gathers_is_no_part_of_a_checkpoint() -> None:
    plain, shared = queue_of(4), queue_of(4)
    shared.gather = lambda keys: torch.cat([keys, keys])
    assert plain.state_dict().keys() == shared.state_dict().keys()
    plain.load_state_dict(shared.state_dict())
