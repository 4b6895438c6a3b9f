"""The queue against a deque, the momentum update against its formula, gradients, and shared batches."""

from collections import deque

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from skelpipe.models.moco import MoCo
from skelpipe.models.parts import projection_head
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout


def small(size: int = 8, momentum: float = 0.9, dim: int = 4) -> MoCo:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
    return MoCo(encoder, projection_head(5, 5, dim), dim=dim, queue_size=size, momentum=momentum)


@given(size=st.integers(1, 9), batches=st.lists(st.integers(0, 25), max_size=8))
def test_queue_is_a_ring_of_the_last_keys(size: int, batches: list[int]) -> None:
    moco = small(size, dim=2)
    assert torch.allclose(moco.queue.norm(dim=1), torch.ones(size))
    model = deque([tuple(row) for row in moco.queue.tolist()], maxlen=size)
    count = 0
    for n in batches:
        keys = torch.arange(count, count + n, dtype=torch.float32)[:, None] + torch.tensor([0.0, 0.5])
        count += n
        moco.enqueue(keys)
        model.extend(tuple(row) for row in keys.tolist())
        assert int(moco.pointer) == count % size
        in_order = moco.queue.roll(-int(moco.pointer), 0)  # oldest first
        assert [tuple(row) for row in in_order.tolist()] == list(model)


def test_first_queue_is_noise_on_the_unit_sphere() -> None:
    torch.manual_seed(0)
    queue = small(4000, dim=16).queue
    assert float(queue.mean(0).norm()) < 0.1
    assert torch.allclose(queue.T @ queue / 4000, torch.eye(16) / 16, atol=0.01)


def test_checkpoint_holds_queue_and_pointer() -> None:
    moco, other = small(), small()
    moco.enqueue(torch.randn(5, 4))
    assert not torch.equal(other.queue, moco.queue)
    other.load_state_dict(moco.state_dict())
    assert torch.equal(other.queue, moco.queue)
    keys = torch.randn(6, 4)
    for each in (moco, other):
        each.enqueue(keys)
    assert torch.equal(other.queue, moco.queue)
    assert int(other.pointer) == 3


def test_key_network_starts_as_a_copy_of_its_own() -> None:
    encoder = STGCN(layout("kinect-v2-25"), width=4, out_channels=16)
    moco = MoCo(encoder, projection_head(16, 16, 8), dim=8, queue_size=4, momentum=0.9)
    for q, k in ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head)):
        for (name, left), (other, right) in zip(q.named_parameters(), k.named_parameters(), strict=True):
            assert name == other
            assert torch.equal(left, right)
            assert left.data_ptr() != right.data_ptr()
            assert left.requires_grad
            assert not right.requires_grad
    assert moco.key_encoder.training


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999, 1.0])
def test_update_is_the_moving_average_of_parameters_only(momentum: float) -> None:
    torch.manual_seed(0)
    moco = small(momentum=momentum)
    with torch.no_grad():
        for parameter in (*moco.encoder.parameters(), *moco.head.parameters()):
            parameter.normal_()
        moco.encoder[2].running_mean.fill_(7.0)
    networks = ((moco.encoder, moco.key_encoder), (moco.head, moco.key_head))
    expected = [
        momentum * k.double() + (1 - momentum) * q.double()
        for query, key in networks
        for q, k in zip(query.parameters(), key.parameters(), strict=True)
    ]
    moco.update_key()
    found = [k for _, key in networks for k in key.parameters()]
    assert len(found) == 8
    for k, wanted in zip(found, expected, strict=True):
        assert torch.allclose(k.double(), wanted, atol=1e-6)
    assert not moco.key_encoder[2].running_mean.any()


def test_a_held_key_network_does_not_change() -> None:
    moco = small(momentum=0.5)
    with torch.no_grad():
        moco.head[0].weight.normal_()
    before = [k.clone() for k in moco.key_head.parameters()]
    moco.held = True
    moco.update_key()
    assert all(map(torch.equal, before, moco.key_head.parameters()))
    moco.held = False
    moco.update_key()
    assert torch.allclose(moco.key_head[0].weight, (before[0] + moco.head[0].weight) / 2)


def test_projections_are_unit_vectors_and_keys_have_no_gradient() -> None:
    moco = small()
    x = torch.randn(7, 6)
    q, k = moco.query(x), moco.key(x)
    for z in (q, k):
        assert torch.allclose(z.norm(dim=1), torch.ones(7), atol=1e-6)
    assert q.requires_grad
    assert not k.requires_grad
    q.sum().backward()
    assert all(p.grad is None for p in (*moco.key_encoder.parameters(), *moco.key_head.parameters()))


def test_keys_use_the_statistics_of_their_own_batch() -> None:
    moco = small()
    moco.key_encoder[3].p = 0.0
    x = torch.randn(7, 6) + 3
    hidden = F.linear(x, moco.encoder[1].weight, moco.encoder[1].bias)
    hidden = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, correction=0) + 1e-5)
    assert torch.allclose(moco.key(x), F.normalize(moco.head(hidden), dim=1), atol=1e-5)
    assert moco.key_encoder[2].running_mean.any()
    assert not moco.encoder[2].running_mean.any()


def test_projection_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = small().query(torch.randn(3, 6))
    assert z.dtype == torch.float32
    assert torch.allclose(z.norm(dim=1), torch.ones(3), atol=1e-6)


def queue_of(size: int) -> MoCo:
    torch.manual_seed(0)
    return MoCo(nn.Linear(3, 3), nn.Linear(3, 2), dim=2, queue_size=size, momentum=0.9)


@given(size=st.integers(1, 12), shares=st.lists(st.lists(st.integers(1, 4), min_size=3, max_size=3), max_size=4))
def test_every_process_writes_all_keys_in_order(size: int, shares: list[list[int]]) -> None:
    """`shares` are the numbers of keys of three processes per batch; the oracle gets whole batches."""
    alone, processes = queue_of(size), [queue_of(size) for _ in range(3)]
    key = 0
    for counts in shares:
        keys = torch.arange(key, key + sum(counts), dtype=torch.float32)[:, None] + torch.tensor([0.0, 0.5])
        key += sum(counts)
        alone.enqueue(keys)
        parts = keys.split(counts)
        for moco, own in zip(processes, parts, strict=True):

            def gather(given: Tensor, own: Tensor = own, keys: Tensor = keys) -> Tensor:
                assert given is own, "gather must get the process's own keys"
                return keys

            moco.gather = gather
            moco.enqueue(own)
    for moco in processes:
        assert torch.equal(moco.queue, alone.queue)
        assert torch.equal(moco.pointer, alone.pointer)


def test_gather_is_not_in_a_checkpoint() -> None:
    plain, shared = queue_of(4), queue_of(4)
    shared.gather = lambda keys: torch.cat([keys, keys])
    assert plain.state_dict().keys() == shared.state_dict().keys()
    plain.load_state_dict(shared.state_dict())
