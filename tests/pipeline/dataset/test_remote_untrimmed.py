"""Untrimmed videos of a remote dataset: those of the folder, fetched once, verified."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.dataset.untrimmed import Videos
from skelpipe.errors import DatasetError, SkelpipeError


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic PKU-MMD, which `url` serves instead of the usual dataset. Tests must not change it."""
    root = tmp_path_factory.mktemp("pku")
    recordings = ["--subjects", "3", "--actions", "2", "--repeats", "2", "--frames", "16"]
    made = CliRunner().invoke(main, ["synth", "--dataset", "pkummd1", "--out", str(root / "raw"), *recordings])
    assert made.exit_code == 0, made.output
    (lists,) = (root / "raw").rglob("cross-view.txt")
    words = [
        "--dataset",
        "pkummd1",
        "--split",
        "xview",
        "--split-file",
        str(lists),
        "--frames",
        "8",
        "--untrimmed",
    ]
    words += ["--raw", str(root / "raw"), "--out", str(root / "ds"), "--workers", "1"]
    done = CliRunner().invoke(main, ["prepare", *words])
    assert done.exit_code == 0, done.output
    return root / "ds"


def equal(one: Videos, other: Videos) -> None:
    assert one.ids == other.ids != []
    for video in range(len(other)):
        assert np.array_equal(one.joint(video), other.joint(video))
        assert np.array_equal(one.label(video), other.label(video))
        assert one.label(video).max() > 0


def test_videos_are_those_of_the_folder(url, server, folder, tmp_path) -> None:
    local = Dataset.open(folder)
    for cache in (None, tmp_path / "cache"):
        far = Dataset.open(url, cache=cache)
        for subset in ("train", "test"):
            equal(far.videos(subset), local.videos(subset))
    server.requests.clear()
    equal(Dataset.open(url, cache=tmp_path / "cache").videos("test"), local.videos("test"))
    assert server.requests == []


def test_a_tar_of_videos_that_is_damaged_or_gone_is_reported(url, server) -> None:
    path = "/bucket/ds/untrimmed/test/000000.tar"
    far, size = Dataset.open(url), len(server.files[path])
    server.files[path] = server.files[path][:-1] + b"?"
    with pytest.raises(
        DatasetError, match=rf"bucket/ds/untrimmed/test/000000\.tar: damaged.*{size:,} of {size:,}"
    ):
        far.videos("test")
    del server.files[path]
    with pytest.raises(SkelpipeError, match=rf"000000\.tar: cannot be read: no such file.*\(0 of {size:,} bytes"):
        far.videos("test")
