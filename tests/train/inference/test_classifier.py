"""`skelpipe.Classifier`: what train/predict.py prints, from Python."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import skelpipe
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.raw.readers import RecordingReader
from skelpipe.train.inference.recordings import find_recordings
from skelpipe.train.linear import main as linear
from skelpipe.train.predict import main as predict


@pytest.fixture(scope="module")
def run(finished: Path, tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("linear") / "run"
    command = ["--shards", str(tiny_dataset.path), "--checkpoint", str(finished), "--epochs", "2"]
    done = CliRunner().invoke(linear, [*command, "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out


def printed(run: Path, *more: str) -> list[dict]:
    done = CliRunner().invoke(predict, ["--checkpoint", str(run), "--json", "--device", "cpu", *more])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["recordings"]


def test_it_gives_what_the_script_prints(run: Path, tiny_dataset: Dataset) -> None:
    classifier = skelpipe.Classifier.load(run, device="cpu")
    stored = classifier.predict(tiny_dataset, "test")
    assert stored.ids == list(tiny_dataset.ids("test"))
    assert stored.top() == printed(run, "--shards", str(tiny_dataset.path), *stored.ids)
    assert stored.probabilities.shape == (len(stored), len(classifier.classes))
    np.testing.assert_allclose(stored.probabilities.sum(axis=1), 1)
    raw = [str(Path(tiny_dataset.path).parent / "raw" / f"{each}.skeleton") for each in stored.ids]
    read = classifier.predict(raw)
    assert read.top() == printed(run, *raw)
    np.testing.assert_array_equal(read.probabilities, stored.probabilities)
    clips = tiny_dataset.reader("test", "joint").gather(np.arange(len(stored)))
    given = classifier.predict(torch.from_numpy(clips))
    np.testing.assert_array_equal(given.probabilities, stored.probabilities)
    assert given.names == [classifier.classes[label] for label in stored.labels]
    assert "clips [N,3,8,25,1] of kinect-v2-25" in repr(classifier)


def test_folders_and_archives_are_their_recordings(run: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    files = sorted((Path(tiny_dataset.path).parent / "raw").glob("*A001.skeleton"))
    assert len(files) > 2
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for file in files[:2]:
        (tmp_path / "folder" / "deep" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "folder" / "notes.txt").write_text("no recording")
    with zipfile.ZipFile(tmp_path / "rest.zip", "w") as archive:
        for file in files[2:]:
            archive.write(file, file.name)
    wanted = printed(run, *map(str, files))
    assert printed(run, str(tmp_path / "folder"), str(tmp_path / "rest.zip")) == wanted
    assert [entry["id"] for entry in wanted] == [file.stem for file in files]


def test_a_file_that_is_given_twice_is_one_recording(tiny_dataset: Dataset) -> None:
    folder = Path(tiny_dataset.path).parent / "raw"
    files = sorted(folder.iterdir())
    found = find_recordings([files[3], folder, files[3]], load_manifest("ntu60"))
    assert sorted(Path(file.path) for file in found) == files
    assert Path(found[0].path) == files[3]


def test_live_windows_have_the_probabilities_of_recordings(run: Path, tiny_dataset: Dataset) -> None:
    classifier = skelpipe.Classifier.load(run, device="cpu")
    (file,) = find_recordings([next((Path(tiny_dataset.path).parent / "raw").iterdir())], load_manifest("ntu60"))
    recording = RecordingReader(load_manifest("ntu60"), classifier.bodies).read(file)
    live = classifier.live(window=recording.frames, fps=30)
    assert live.stride == recording.frames // 4
    (found,) = live.push_recording(recording)
    assert found.top == classifier.predict(file.path).top()[0]["top"]
    assert found.seconds == (0.0, recording.frames / 30)
    assert classifier.live().window == classifier.frames
    with pytest.raises(UsageError, match="stride"):
        classifier.live(stride=0)


def test_wrong_requests_are_refused(run: Path, finished: Path, tiny_dataset: Dataset) -> None:
    classifier = skelpipe.Classifier.load(run, device="cpu")
    with pytest.raises(UsageError, match="has no clip 'nobody'"):
        classifier.predict(tiny_dataset, ids=["nobody"])
    with pytest.raises(UsageError, match="subset: only the clips of a dataset"):
        classifier.predict("a.skeleton", "test")
    with pytest.raises(UsageError, match="classifier"):
        skelpipe.Classifier.load(finished)
    with pytest.raises(UsageError, match=r"Classifier\.load\("):
        skelpipe.Classifier(str(run))  # type: ignore[call-arg, arg-type]
    for source in (None, 5, ""):
        with pytest.raises(UsageError, match="a run folder or a file of weights is expected"):
            skelpipe.Classifier.load(source)  # type: ignore[arg-type]
    for ids in ("nobody", 5):
        with pytest.raises(UsageError, match="ids is a list"):
            classifier.predict(tiny_dataset, ids=ids)  # type: ignore[arg-type]
    for clips in (None, 5, {"a": 1}, Dataset):
        with pytest.raises(UsageError, match="a dataset, or paths and URLs of recordings, not"):
            classifier.predict(clips)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch_size is 0"):
        classifier.predict(tiny_dataset, batch_size=0)
    with pytest.raises(UsageError, match="count is -1"):
        classifier.predict(tiny_dataset, "test").top(-1)
