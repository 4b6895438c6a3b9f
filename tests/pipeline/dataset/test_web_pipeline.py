"""Datasets as pipelines of webdataset: the reader's samples, each once over nodes and workers."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare


@pytest.fixture(scope="module")
def clips(tmp_path_factory, skeleton_text, moving_bodies, ntu_names) -> Path:
    """A dataset of 12 training clips in 6 shards."""
    root = tmp_path_factory.mktemp("clips")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names()):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 12 + seed % 5)))
    options = Options("xsub", 10, 2, 2)
    prepare(load_manifest("ntu60"), [root / "raw"], root / "ds", options, quiet=True)
    return root / "ds"


def check_all_once(samples: list[dict], dataset: Dataset, view: str) -> None:
    samples = sorted(samples, key=lambda sample: sample["index"])
    assert [sample["index"] for sample in samples] == list(range(dataset.count("train")))
    assert [sample["id"] for sample in samples] == dataset.ids("train")
    assert [sample["cls"] for sample in samples] == dataset.labels("train").tolist()
    got = np.stack([sample[f"{view}.npy"] for sample in samples])
    wanted = dataset.reader("train", view).gather(np.arange(dataset.count("train")))
    assert got.dtype == wanted.dtype
    assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("view", ["joint", "bone", "motion"])
def test_it_has_the_readers_samples_in_row_order(clips: Path, view: str) -> None:
    dataset = Dataset.open(clips)
    samples = list(dataset.webdataset("train", view))
    assert [sample["index"] for sample in samples] == list(range(12))
    check_all_once(samples, dataset, view)


@pytest.mark.parametrize("shuffle", [0, 5])
def test_two_workers_on_each_of_two_nodes_have_every_sample_once(
    clips: Path, shuffle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, samples, shares = Dataset.open(clips), [], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        pipeline = dataset.webdataset("train", "joint", shuffle=shuffle)
        shares.append(list(DataLoader(pipeline, batch_size=None, num_workers=2, collate_fn=_unchanged)))
        samples += shares[-1]
    assert min(map(len, shares)) > 0
    check_all_once(samples, dataset, "joint")


def _unchanged(sample: dict) -> dict:
    return sample


def test_the_order_is_a_function_of_seed_and_epoch(clips: Path) -> None:
    dataset = Dataset.open(clips)

    def order(seed: int, epoch: int) -> list[int]:
        return [
            sample["index"] for sample in dataset.webdataset("train", "joint", shuffle=6, seed=seed, epoch=epoch)
        ]

    assert order(1, 0) == order(1, 0)
    orders = {tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert {tuple(sorted(each)) for each in orders} == {tuple(range(12))}


def test_further_stages_can_be_appended(clips: Path) -> None:
    dataset = Dataset.open(clips)
    (batch, labels), *others = dataset.webdataset("train", "joint").to_tuple("joint.npy", "cls").batched(8)
    assert torch.as_tensor(batch).shape == (8, *dataset.shape)
    assert list(labels) == dataset.labels("train")[:8].tolist()
    assert len(others) == 1


def test_it_can_be_pickled(clips: Path) -> None:
    dataset = Dataset.open(clips)
    samples = list(pickle.loads(pickle.dumps(dataset.webdataset("train", "joint", shuffle=3))))
    check_all_once(samples, dataset, "joint")


def test_a_remote_dataset_has_the_same_samples(web, folder: Path) -> None:
    dataset = Dataset.open(web)
    check_all_once(list(dataset.webdataset("train", "bone")), dataset, "bone")
    local = [sample["bone.npy"] for sample in Dataset.open(folder).webdataset("train", "bone")]
    remote = [sample["bone.npy"] for sample in dataset.webdataset("train", "bone")]
    assert np.array_equal(local, remote)


def test_a_shard_that_is_not_the_cards_is_refused(clips: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(clips)
    pipeline = dataset.webdataset("train", "joint")
    shard = sorted((clips / "train" / "joint").glob("*.tar"))[1]
    content = shard.read_bytes()
    try:
        shard.write_bytes(content[:-512])
        with pytest.raises(DatasetError, match=rf"{shard.name}: .*cut off"):
            list(pipeline)
        other = io.BytesIO()
        with tarfile.open(fileobj=other, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            tar.addfile(tarfile.TarInfo("x.cls"))
        shard.write_bytes(other.getvalue().ljust(len(content), b"\0"))
        with pytest.raises(DatasetError, match=shard.name):
            list(pipeline)
    finally:
        shard.write_bytes(content)


def test_a_dataset_without_tars_is_refused(clips: Path) -> None:
    dataset = Dataset.open(clips)
    without = Dataset(clips, {**dataset.card, "formats": ["hdf5"]})
    with pytest.raises(DatasetError, match="webdataset reads tar shards: prepare it with --format shards"):
        without.webdataset("train", "joint")
