"""Features through the loader: rows, seeds and views of augmented clips; broken clips are named."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.train.evaluation.augmented_features import FeatureLoader, embed_augmented

CPU = torch.device("cpu")
FLAT = nn.Flatten()


def embedded(dataset: Dataset, view: str = "joint", seed: int = 0) -> Tensor:
    found = embed_augmented(FLAT, dataset, "test", view, device=CPU, seed=seed)
    assert found.ids == dataset.ids("test")
    assert found.labels.tolist() == dataset.labels("test").tolist()
    return found.features


def test_rows_stay_and_seeds_decide(tiny_dataset: Dataset) -> None:
    first = embedded(tiny_dataset)
    assert torch.equal(first, embedded(tiny_dataset))
    assert not torch.allclose(first, embedded(tiny_dataset, seed=1))
    # A crop repeats frames and a shear mixes coordinates: joints that stand still in the origin stay there.
    plain = tiny_dataset.reader("test", "joint").gather(np.arange(24))
    still = np.abs(plain).max(axis=(1, 2)) == 0  # [N,V,M]
    assert still.any()
    clips = first.view(24, *tiny_dataset.shape).numpy()
    assert np.abs(clips).max(axis=(1, 2))[still].max() == 0
    assert not np.allclose(clips, plain)


def test_views_are_derived_from_augmented_joints(tiny_dataset: Dataset) -> None:
    joints, motion = (embedded(tiny_dataset, view).view(24, *tiny_dataset.shape) for view in ("joint", "motion"))
    expected = joints[:, :, 1:] - joints[:, :, :-1]
    assert torch.allclose(motion[:, :, :-1], expected, atol=1e-6)
    assert motion[:, :, -1].abs().max() == 0


@pytest.mark.parametrize("size", [5, 24])
def test_the_batch_changes_no_clip(tiny_dataset: Dataset, size: int) -> None:
    def epoch(batch_size: int) -> Tensor:
        loader = FeatureLoader(
            FLAT, tiny_dataset, "test", "joint", batch_size, device=CPU, augment=True, shuffle=False
        )
        return torch.cat([features for features, _, _ in loader.epoch()])

    assert torch.equal(epoch(size), epoch(7))


def test_without_augmentation_clips_are_as_they_are(tiny_dataset: Dataset) -> None:
    loader = FeatureLoader(FLAT, tiny_dataset, "train", "bone", 5, device=CPU, augment=False, seed=3)
    assert len(loader) == 4  # and four clips that make no whole batch
    stored = torch.from_numpy(tiny_dataset.reader("train", "bone").gather(np.arange(24))).flatten(1)
    epochs = [list(loader.epoch()) for _ in range(2)]
    for batches in epochs:
        rows = torch.cat([index for _, _, index in batches])
        assert len(set(rows.tolist())) == 20
        assert torch.equal(torch.cat([features for features, _, _ in batches]), stored[rows])
        labels = torch.from_numpy(tiny_dataset.labels("train"))
        assert torch.equal(torch.cat([label for _, label, _ in batches]), labels[rows])
    assert not torch.equal(epochs[0][0][2], epochs[1][0][2])


def test_the_network_keeps_its_mode_and_makes_no_gradients(tiny_dataset: Dataset) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 25, 2), nn.BatchNorm1d(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = embed_augmented(network, tiny_dataset, "test", "joint", device=CPU)
    assert not found.features.requires_grad
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_clip_that_is_not_finite_is_named(tiny_dataset: Dataset) -> None:
    class Spoiling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1).clone()
            flat[2, 0] = float("nan")
            return flat

    with pytest.raises(SkelpipeError, match=f"the embedding of {tiny_dataset.ids('test')[2]} is not finite"):
        embed_augmented(Spoiling(), tiny_dataset, "test", "joint", device=CPU)
