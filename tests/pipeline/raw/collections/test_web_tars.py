"""WebDataset shards of others through `skelpipe import` to the stored clip."""

import bz2
import io
import json
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.errors import RawError
from skelpipe.raw.collections.contents import Request
from skelpipe.raw.collections.web_tars import holds_web_samples, index_web_tars, read_web_tars
from skelpipe.raw.form import Form
from skelpipe.raw.source import RawFile
from skelpipe.skeleton import layout

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


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


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


@pytest.mark.parametrize(("mode", "suffix"), [("w", "tar"), ("w:gz", "tgz"), ("w:bz2", "tar.bz2")])
def test_each_array_is_read_once_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, suffix: str
) -> None:
    """Samples are read at their offsets: as many bytes as their arrays have, and no tar is gone through again."""
    write(tmp_path / f"train-0.{suffix}", range(0, 6, 2), mode)
    write(tmp_path / f"train-1.{suffix}", range(1, 6, 2), mode)
    paths = sorted(tmp_path.iterdir())
    files = [RawFile(p.name, str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    entries = sorted(index_web_tars(Request(files)).entries, key=lambda entry: entry.id)
    read: list[int] = []
    plain = os.pread

    def pread(file: int, size: int, offset: int) -> bytes:
        read.append(size)
        return plain(file, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    monkeypatch.setattr(tarfile, "open", None)
    form = Form(layout("kinect-v2-25"))
    for n, entry in enumerate(entries):
        assert np.array_equal(read_web_tars(entry.file, form).xyz, CLIPS[n].astype(np.float64))
    assert read == [len(npy(clip)) for clip in CLIPS]
    os.utime(paths[0], ns=(1, 1))
    if mode == "w":
        with pytest.raises(RawError, match=r"train-0.tar: was replaced since it was listed"):
            read_web_tars(entries[0].file, form)


def test_arrays_and_labels_that_have_to_be_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for n in range(4):
            file = io.BytesIO()
            np.savez(file, xyz=CLIPS[n], other=CLIPS[0] + 1)
            facts = json.dumps({"pose": CLIPS[n].tolist(), "data": [1], "label": n % 2, "action": f"act {n}"})
            for suffix, content in (("npz", file.getvalue()), ("json", facts.encode())):
                info = tarfile.TarInfo(f"clip{n}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    for words, message in [
        (["--label", "json:label"], "holds 2 arrays: say which, as in --array npz:NAME: other, xyz"),
        (["--array", "npz:xyz"], "which is the label? Say --label json:label (here 0) or --label json:action"),
    ]:
        result = imported(tmp_path / "no", tmp_path / "train.tar", *words)
        assert result.exit_code == 1
        assert message in result.output
    for array in ("npz:xyz", "json:pose"):
        out = tmp_path / array.partition(":")[0]
        result = imported(out, tmp_path / "train.tar", "--array", array, "--label", "json:label")
        assert result.exit_code == 0, result.output
        dataset = Dataset.open(out)
        assert dataset.labels("train").tolist() == [0, 1, 0, 1]
        clips = dataset.reader("train", "joint").gather(np.arange(4))
        np.testing.assert_array_equal(clips[..., 0], CLIPS[:4].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("packed", [False, True])
def test_members_of_a_terabyte_are_not_read_through(tmp_path: Path, *, packed: bool) -> None:
    """To say whether a tar is a shard, whose size may be a few kilobytes."""
    info = tarfile.TarInfo("a.npy")
    info.size = 1 << 40
    head = info.tobuf(tarfile.GNU_FORMAT)
    path = tmp_path / ("train.tar.bz2" if packed else "train.tar")
    if packed:
        squeezed = bz2.BZ2Compressor()
        zeros = b"".join(squeezed.compress(bytes(1 << 20)) for _ in range(300))
        path.write_bytes(squeezed.compress(head) + zeros + squeezed.flush())
    else:
        path.write_bytes(head)
        os.truncate(path, len(head) + info.size)
    start = time.process_time()
    assert not holds_web_samples(path)
    assert time.process_time() - start < 5
