"""Embedding with a frozen network: order of rows, derived views, the state of the network, errors."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelpipe.dataset import Dataset, Reader
from skelpipe.errors import SkelpipeError
from skelpipe.train.evaluation.embedding import embed, frozen
from skelpipe.views import derive

CPU = torch.device("cpu")


class Net(nn.Module):
    """Batch normalisation and dropout, both of which a frozen network must hold still."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.norm(x.flatten(3))).mean(dim=(2, 3)))


def clips(dataset: Dataset, subset: str, view: str) -> np.ndarray:
    return dataset.reader(subset, view).gather(np.arange(dataset.count(subset)))


@pytest.mark.parametrize("view", ["joint", "bone", "motion"])
def test_rows_labels_and_ids_are_in_row_order(tiny_dataset: Dataset, view: str) -> None:
    found = embed(nn.Flatten(), tiny_dataset, "test", view, device=CPU, batch_size=7)
    assert np.array_equal(found.features.numpy(), clips(tiny_dataset, "test", view).reshape(24, -1))
    assert found.ids == tiny_dataset.ids("test")
    # The oracle for labels is the name: action 001 is label 0.
    assert found.labels.tolist() == [int(name[-3:]) - 1 for name in found.ids]


def test_a_view_that_is_not_stored_is_derived(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    joints = torch.from_numpy(clips(tiny_dataset, "train", "joint"))
    monkeypatch.setattr(tiny_dataset, "views", ("joint",))
    found = embed(nn.Flatten(), tiny_dataset, "train", "motion", device=CPU)
    assert found.features.equal(derive(joints, "motion", tiny_dataset.layout).flatten(1))


def test_the_network_is_left_as_it_was(tiny_dataset: Dataset) -> None:
    net = Net().train()
    net.drop.eval()  # a mode of its own, to be kept
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = embed(net, tiny_dataset, "train", "joint", device=CPU)
    second = embed(net, tiny_dataset, "train", "joint", device=CPU)
    assert first.features.equal(second.features)  # no dropout
    assert not first.features.requires_grad
    after = net.state_dict()
    assert all(after[name].equal(value) for name, value in before.items())
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert torch.get_rng_state().equal(state)


def test_the_mode_comes_back_after_an_error() -> None:
    net = Net().train()

    def fail() -> None:
        with frozen(net):
            assert not net.norm.training
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert net.norm.training
    assert torch.is_grad_enabled()


def test_batch_size_does_not_matter(tiny_dataset: Dataset) -> None:
    net = Net()
    whole = embed(net, tiny_dataset, "test", "joint", device=CPU, batch_size=100).features
    pieces = embed(net, tiny_dataset, "test", "joint", device=CPU, batch_size=5).features
    torch.testing.assert_close(pieces, whole)


def test_not_a_number_is_an_error_that_names_a_clip(tiny_dataset: Dataset) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            z = x.flatten(1)[:, :5].clone()
            z[3, 2] = float("nan")
            return z

    name = tiny_dataset.ids("test")[3]
    with pytest.raises(SkelpipeError, match=f"of 1 clip are not finite, the first is {name}"):
        embed(Broken(), tiny_dataset, "test", "joint", device=CPU)


def test_only_the_rows_asked_for_are_read(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([20, 3, 7, 3, 11, 0])
    flat = clips(tiny_dataset, "test", "joint").reshape(24, -1)
    seen: list[int] = []
    plain = Reader.gather

    def noting(self: Reader, wanted: np.ndarray) -> np.ndarray:
        seen.extend(wanted.tolist())
        return plain(self, wanted)

    monkeypatch.setattr(Reader, "gather", noting)
    found = embed(nn.Flatten(), tiny_dataset, "test", "joint", device=CPU, rows=rows, batch_size=4)
    assert seen == rows.tolist()
    np.testing.assert_array_equal(found.features.numpy(), flat[rows])
    assert found.ids == [tiny_dataset.ids("test")[row] for row in rows]
    assert found.labels.tolist() == [int(name[-3:]) - 1 for name in found.ids]
