"""WebDataset shards of others through `skelpipe import` to the stored clip."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.cli import main
from skelpipe.dataset import Dataset

CLIPS = np.random.default_rng(2).normal(size=(6, 8, 25, 3)).astype(np.float32)
LABELS = [0, 2, 1, 1, 0, 2]


def write(
    path: Path, numbers: range, mode: str = "w", *, json_labels: bool = False, labelled: bool = True
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for n in numbers:
            file = io.BytesIO()
            np.save(file, CLIPS[n])
            label = json.dumps({"action": f"act {LABELS[n]}"}) if json_labels else str(LABELS[n])
            members = [("npy", file.getvalue()), ("json" if json_labels else "cls", label.encode())]
            for suffix, content in members[:: (-1) ** n] if labelled else members[:1]:
                info = tarfile.TarInfo(f"clip{n}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def imported(out: Path, *words: str | Path) -> Result:
    options = ["--profile", "stored", "--layout", "kinect-v2-25", "--out", out, "--frames", "8"]
    return CliRunner().invoke(main, ["import", *map(str, [*words, *options])])


@pytest.mark.parametrize(("mode", "suffix"), [("w", "tar"), ("w:gz", "tar.gz"), ("w:xz", "tar.xz")])
def test_clips_and_labels(tmp_path: Path, mode: str, suffix: str) -> None:
    write(tmp_path / f"train-0.{suffix}", range(2), mode)
    write(tmp_path / f"train-1.{suffix}", range(2, 4), mode)
    write(tmp_path / f"val.{suffix}", range(4, 6), mode)
    result = imported(tmp_path / "ds", *sorted(tmp_path.glob("*.tar*")))
    assert result.exit_code == 0, result.output
    dataset = Dataset.open(tmp_path / "ds")
    for subset, wanted in (("train", range(4)), ("test", range(4, 6))):
        assert dataset.ids(subset) == [f"clip{n}" for n in wanted]
        assert dataset.labels(subset).tolist() == [LABELS[n] for n in wanted]
        clips = dataset.reader(subset, "joint").gather(np.arange(len(wanted)))
        np.testing.assert_array_equal(clips[..., 0], CLIPS[list(wanted)].transpose(0, 3, 1, 2))


def test_names_in_json(tmp_path: Path) -> None:
    write(tmp_path / "train.tar", range(6), json_labels=True)
    result = imported(tmp_path / "ds", tmp_path / "train.tar")
    assert result.exit_code == 0, result.output
    dataset = Dataset.open(tmp_path / "ds")
    assert dataset.classes == ("act 0", "act 1", "act 2")
    assert dataset.labels("train").tolist() == LABELS


def test_a_folder_of_shards_and_other_archives(tmp_path: Path) -> None:
    """Tars of samples are shards wherever they lie in the folder; what macOS writes beside them is not."""
    write(tmp_path / "in" / "train-0.tar", range(2))
    write(tmp_path / "in" / "more" / "train-1.tgz", range(2, 4), "w:gz")
    write(tmp_path / "in" / "val.tar.bz2", range(4, 6), "w:bz2")
    (tmp_path / "in" / "._train-0.tar").write_bytes(b"mac")
    (tmp_path / "in" / "README.md").write_text("shards")
    result = imported(tmp_path / "ds", tmp_path / "in")
    assert result.exit_code == 0, result.output
    dataset = Dataset.open(tmp_path / "ds")
    assert (dataset.ids("train"), dataset.count("test")) == ([f"clip{n}" for n in range(4)], 2)


@pytest.mark.parametrize("given", ["train.tar", "."])
def test_shards_without_labels(tmp_path: Path, given: str) -> None:
    """A tar of arrays alone could be anything, so the format has to be said; all labels are -1 then."""
    write(tmp_path / "in" / "train.tar", range(3), labelled=False)
    assert imported(tmp_path / "no", tmp_path / "in" / given).exit_code != 0
    result = imported(tmp_path / "ds", tmp_path / "in" / given, "--format", "webdataset")
    assert result.exit_code == 0, result.output
    dataset = Dataset.open(tmp_path / "ds")
    assert not dataset.labelled
    samples = list(dataset.webdataset("train", "joint", shuffle=2))
    assert {sample["cls"] for sample in samples} == {-1}
    for sample in samples:
        n = int(sample["id"].removeprefix("clip"))
        np.testing.assert_array_equal(sample["joint.npy"][..., 0], CLIPS[n].transpose(2, 0, 1))
    assert len(samples) == 3


def test_what_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "clips.tar", range(6))
    result = imported(tmp_path / "ds", tmp_path / "clips.tar")
    assert result.exit_code == 2
    assert "clips.tar: its name says neither train nor val nor test: say --subset train or test" in result.output
    result = imported(tmp_path / "ds", tmp_path / "clips.tar", "--subset", "train", "--axes", "T,V")
    assert result.exit_code == 2
