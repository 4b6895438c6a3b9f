"""Clips with scores through every reader: memory-mapped, gathered, DALI, HDF5; derived on the fly or stored."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelpipe import views
from skelpipe.augment.chain import chain
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.dataset import Dataset
from skelpipe.dataset.stats import average_motion
from skelpipe.dataset.verify import damages
from skelpipe.loader import Batch, Loader, Stream
from skelpipe.loader.view_recipes import On
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

pytestmark = pytest.mark.usefixtures("threads")
NORMAL = chain("normal")


@pytest.fixture(scope="module")
def dataset(
    tmp_path_factory: Any, skeleton_text: Any, moving_bodies: Any, ntu_names: Any, with_scores: Callable[..., Path]
) -> Dataset:
    """24 training clips [4,44,25,2] with scores."""
    root = tmp_path_factory.mktemp("scores")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=6)):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 12, 1 + seed % 2)))
    prepare(load_manifest("ntu60"), [root / "raw"], root / "ds", Options("xsub", 44, shard_size=7), quiet=True)
    return Dataset.open(with_scores(root / "ds", root / "scored"))


def batches(dataset: Dataset, recipe: Any, **options: Any) -> list[Batch]:
    view = options.get("view", "joint")
    opened = (view,) if options.get("derive") == "stored" else ("joint",)
    return list(Loader(Stream(dataset, "train", opened, 8), "cpu", recipe, **options))


def clips(dataset: Dataset, view: str, index: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(dataset.reader("train", view).gather(index.numpy()))


def test_the_dataset_is_whole(dataset: Dataset) -> None:
    assert damages(dataset, quiet=True) == []
    for view in dataset.views:
        np.testing.assert_allclose(average_motion(dataset, view, quiet=True), dataset.anchor(view), atol=1e-6)


@pytest.mark.parametrize("view", ["bone", "motion"])
def test_derived_and_stored_views_agree(dataset: Dataset, view: str) -> None:
    for after, stored in zip(
        batches(dataset, {"x": None}, view=view),
        batches(dataset, {"x": None}, view=view, derive="stored"),
        strict=True,
    ):
        assert torch.equal(after.x, stored.x)
        joints = clips(dataset, "joint", after.index)
        assert torch.equal(after.x, views.derive(joints, view, dataset.layout))


@pytest.mark.parametrize("reader", ["native", "dali"])
def test_augmented_batches_carry_scores(dataset: Dataset, reader: str) -> None:
    if reader == "dali":
        pytest.importorskip("nvidia.dali", reason="DALI is not installed here")
    recipe = {"query": NORMAL, "mixed": On("query", SkeleMix(dataset.layout, (2, 3), (7, 11)))}
    found = batches(dataset, recipe, reader=reader)
    assert len(found) == 3
    for batch in found:
        stored = clips(dataset, "joint", batch.index)
        for n, clip in enumerate(batch.query):
            # A crop with its reflected ends: every frame is one of the clip's, and its scores are that frame's.
            frames = [(stored[n, 3] - score).abs().amax((1, 2)).argmin() for score in clip[3]]
            assert torch.equal(clip[3], stored[n, 3, torch.stack(frames)])
        mask = batch.mixed_mask.repeat_interleave(4, 1)[:, None, :, :, None]
        expected = torch.where(mask, batch.query[batch.mixed_donor], batch.query)
        assert torch.equal(batch.mixed, expected)


def test_mapped_and_gathered_clips_give_the_same(dataset: Dataset) -> None:
    mapped = batches(dataset, {"query": NORMAL})
    gathered = batches(dataset, {"query": NORMAL, "plain": None})
    for one, other in zip(mapped, gathered, strict=True):
        assert torch.equal(one.query, other.query)


def test_a_damaged_score_is_noticed(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(str(dataset.path), tmp_path / "ds")
    path = tmp_path / "ds" / "train" / "joint" / "000000.tar"
    geometry, content = dataset.geometry("joint"), bytearray(path.read_bytes())
    content[geometry.data_offset + geometry.array_bytes - 2] ^= 1  # in the last score of the first clip
    path.write_bytes(content)
    (damage,) = damages(Dataset.open(tmp_path / "ds"), quiet=True)
    assert "000000.tar" in damage
