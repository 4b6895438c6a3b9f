"""`skelpipe.Encoder`: the same bits as the evaluations, whatever the clips are given as."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import skelpipe
from skelpipe.dataset import Dataset
from skelpipe.errors import RawError, UsageError
from skelpipe.train.evaluation.embedding import embed
from skelpipe.train.evaluation.evaluated_network import NetworkOptions, choose_network


@pytest.fixture(scope="module")
def encoder(finished: Path) -> skelpipe.Encoder:
    return skelpipe.Encoder.load(finished, device="cpu", say=lambda _: None)


@pytest.fixture(scope="module")
def wanted(finished: Path, tiny_dataset: Dataset) -> dict[str, tuple[list[str], np.ndarray]]:
    """Ids and features h of both subsets, as the evaluations compute them."""
    options = NetworkOptions(checkpoint=str(finished), features="h")
    network = choose_network(tiny_dataset, options, lambda _: None)
    device = torch.device("cpu")
    found = {
        each: embed(network.embedder, tiny_dataset, each, network.view, device=device)
        for each in ("train", "test")
    }
    return {subset: (each.ids, each.features.numpy()) for subset, each in found.items()}


def raw_files(dataset: Dataset, subset: str) -> list[Path]:
    return [Path(dataset.path).parent / "raw" / f"{each}.skeleton" for each in dataset.ids(subset)]


def test_clips_of_a_dataset(encoder: skelpipe.Encoder, tiny_dataset: Dataset, wanted: dict) -> None:
    for given in (tiny_dataset, tiny_dataset.path, str(tiny_dataset.path)):
        found = encoder.embed(given, "test")
        assert found.ids == wanted["test"][0]
        assert found.features.dtype == np.float32
        np.testing.assert_array_equal(found.features, wanted["test"][1])
        np.testing.assert_array_equal(found.labels, tiny_dataset.labels("test"))
    both = encoder.embed(tiny_dataset)
    assert both.ids == wanted["train"][0] + wanted["test"][0]
    np.testing.assert_array_equal(both.features, np.concatenate([wanted["train"][1], wanted["test"][1]]))


def test_arrays_and_raw_files(encoder: skelpipe.Encoder, tiny_dataset: Dataset, wanted: dict) -> None:
    rows = np.arange(tiny_dataset.count("test"))
    clips = tiny_dataset.reader("test", "joint").gather(rows)
    ids, features = wanted["test"]
    for given in (clips, torch.from_numpy(clips)):
        found = encoder.embed(given)
        assert found.ids == [str(row) for row in rows]
        np.testing.assert_array_equal(found.features, features)
        assert found.labels is None
    files = raw_files(tiny_dataset, "test")
    found = encoder.embed(files)
    assert found.ids == ids
    np.testing.assert_array_equal(found.features, features)
    folder, name = files[0].parent, files[0].name
    assert encoder.embed(f"{folder}/*{name[4:]}").ids == [
        path.stem for path in sorted(folder.glob(f"*{name[4:]}"))
    ]
    with pytest.raises(UsageError, match=r"\*\.none: no file has a name like this"):
        encoder.embed(f"{folder}/*.none")


@pytest.mark.parametrize("kind", ["folder", "zip", "url"])
def test_folders_archives_and_urls(
    encoder: skelpipe.Encoder, tiny_dataset: Dataset, wanted: dict, tmp_path: Path, kind: str
) -> None:
    raw = Path(tiny_dataset.path).parent / "raw"
    if kind == "zip":
        shutil.make_archive(str(tmp_path / "raw"), "zip", raw)
    given = {"folder": raw, "zip": tmp_path / "raw.zip", "url": raw.as_uri()}[kind]
    found = encoder.embed(given)
    rows = dict(zip(found.ids, found.features, strict=True))
    for ids, features in wanted.values():
        # Batches of other clips may round otherwise.
        np.testing.assert_allclose(np.stack([rows[each] for each in ids]), features, rtol=1e-5, atol=1e-6)
    assert len(rows) == sum(len(ids) for ids, _ in wanted.values())


def test_every_file_of_a_run(
    finished: Path, encoder: skelpipe.Encoder, tiny_dataset: Dataset, wanted: dict
) -> None:
    checkpoints = finished / "checkpoints"
    for source in (finished / "encoder.safetensors", checkpoints / "epoch-0006.pt", checkpoints):
        other = skelpipe.Encoder.load(source, device="cpu")
        np.testing.assert_array_equal(other.embed(tiny_dataset, "test").features, wanted["test"][1])
    assert encoder.dim == wanted["test"][1].shape[1]
    assert encoder.name in repr(encoder)
    assert "[N,3,8,25,1]" in repr(encoder)


def test_damaged_recordings(
    encoder: skelpipe.Encoder, tiny_dataset: Dataset, wanted: dict, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.skeleton"
    bad.write_text("no skeleton")
    files = [*raw_files(tiny_dataset, "test"), bad]
    with pytest.raises(RawError, match=r"bad\.skeleton"):
        encoder.embed(files)
    found = encoder.embed(files, skip_bad=True)
    np.testing.assert_array_equal(found.features, wanted["test"][1])
    assert [name for name, _ in found.damaged] == [str(bad)]


def test_embeddings_are_written(encoder: skelpipe.Encoder, tiny_dataset: Dataset, tmp_path: Path) -> None:
    found = encoder.embed(raw_files(tiny_dataset, "test"))
    found.write(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet").to_pydict()
    assert table["id"] == found.ids
    assert sorted(table) == ["feature", "id"]
    np.testing.assert_array_equal(np.array(table["feature"], np.float32), found.features)
    with pytest.raises(UsageError, match=r"x\.csv: a file ends in \.parquet or \.npz"):
        found.write(tmp_path / "x.csv")
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (np.zeros((2, 3, 9, 25, 1), np.float32), r"shape \[2, 3, 9, 25, 1\]; this network takes .*\[N,3,8,25,1\]"),
        (np.zeros((3, 8, 25, 1), np.float32), r"takes joint clips \[N,3,8,25,1\]"),
        (np.zeros((2, 3, 8, 25, 1), np.int64), "hold int64"),
        ([np.zeros((3, 8, 25, 1))], "as one array"),
        ([], "list of names is empty"),
    ],
)
def test_what_is_no_clip_is_refused(encoder: skelpipe.Encoder, clips: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encoder.embed(clips)  # type: ignore[arg-type]


def test_wrong_requests_are_refused(finished: Path, encoder: skelpipe.Encoder, tiny_dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="subset 'all'; there are: train, test"):
        encoder.embed(tiny_dataset, "all")
    with pytest.raises(UsageError, match="subset 'test': only the clips of a dataset"):
        encoder.embed("a.skeleton", "test")
    with pytest.raises(UsageError, match="networks for joint, not for bone"):
        skelpipe.Encoder.load(finished, view="bone")
    with pytest.raises(UsageError, match="no such run or file"):
        skelpipe.Encoder.load("nowhere")
    with pytest.raises(UsageError, match="no features 'x'"):
        skelpipe.Encoder.load(finished, features="x")


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda run: skelpipe.Encoder(str(run)), r"Encoder\.load\("),  # type: ignore[call-arg]
        (lambda run: skelpipe.Encoder.load(None), "a run folder or a file of weights is expected, not None"),  # type: ignore[arg-type]
        (lambda run: skelpipe.Encoder.load(""), "not ''"),
        (lambda run: skelpipe.Encoder.load("s3://bucket/run"), "fetch it first"),
        (lambda run: skelpipe.Encoder.load(run / "recipe.yaml"), "holds no weights; .*: name its run"),
        (lambda run: skelpipe.Encoder.load(run, device="gpu"), "auto, cpu, cuda or cuda:N"),
        (lambda run: skelpipe.Encoder.load(run, device=None), "there is no device None"),  # type: ignore[arg-type]
        (lambda run: skelpipe.Encoder.load(run, dataset="ntu61"), "ntu60, nw-ucla"),
        (lambda run: skelpipe.Encoder.load(run, dataset=5), "YAML file of a manifest, is expected"),  # type: ignore[arg-type]
    ],
)
def test_weights_that_are_none_are_answered_with_what_is_possible(
    finished: Path, call: Callable[[Path], object], what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        call(finished)


@pytest.mark.parametrize(
    ("clips", "more", "what"),
    [
        (None, {}, "an array.*not None|as one array, a dataset, or paths.*not None"),
        ({"joint": 1}, {}, "not a dict"),
        (Dataset, {}, "not the class Dataset"),
        (b"a.skeleton", {}, "not a bytes"),
        ("", {}, "name of the recordings is empty"),
        (np.array(["a.skeleton"]), {}, "floating-point"),
        (np.zeros((2, 3, 8, 25, 1), np.float32), {"batch_size": 0}, "batch_size is 0"),
        (np.zeros((2, 3, 8, 25, 1), np.float32), {"batch_size": -1}, "batch_size is -1"),
        (np.zeros((2, 3, 8, 25, 1), np.float32), {"batch_size": "8"}, "whole number"),
    ],
)
def test_clips_that_are_none_are_answered_with_what_is_possible(
    encoder: skelpipe.Encoder, clips: object, more: dict, what: str
) -> None:
    with pytest.raises(UsageError, match=what):
        encoder.embed(clips, **more)  # type: ignore[arg-type]


def test_called_it_takes_arrays_of_any_length_and_refuses_other_joints(encoder: skelpipe.Encoder) -> None:
    clips = np.random.default_rng(0).normal(size=(2, 3, 16, 25, 1)).astype(np.float32)
    assert encoder(clips).shape == (2, encoder.dim)  # type: ignore[arg-type]
    for wrong in (clips[:, :2], clips[..., :20, :], clips[0]):
        with pytest.raises(UsageError, match=r"takes joint clips \[N,3,8,25,1\]"):
            encoder(torch.from_numpy(np.ascontiguousarray(wrong)))
