"""`train/embed.py`: embeddings of recordings and of a dataset as files, equal to those of `skelpipe.Encoder`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import skelpipe
from skelpipe.dataset import Dataset
from skelpipe.train.embed import main


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words), "--device", "cpu"])


def stored(path: Path) -> tuple[list[str], np.ndarray]:
    table = pq.read_table(path)
    assert table.column_names == ["id", "feature"]
    return table["id"].to_pylist(), np.array(table["feature"].to_pylist(), np.float32)


def test_raw_files_folders_and_archives_give_what_the_encoder_gives(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    raw = tiny_dataset.path.parent / "raw"
    files = sorted(raw.iterdir())
    encoder = skelpipe.Encoder.load(finished, device="cpu")
    wanted = encoder.embed(files)
    shutil.make_archive(str(tmp_path / "all"), "zip", raw)
    for number, given in enumerate([files, [raw], [tmp_path / "all.zip"]]):
        out = tmp_path / f"{number}.parquet"
        result = call(*given, "--checkpoint", finished, "--out", out, "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert (said["clips"], said["dim"], said["damaged"]) == (len(files), encoder.dim, [])
        ids, features = stored(out)
        order = [wanted.ids.index(name) for name in ids]
        assert sorted(order) == list(range(len(files)))
        assert features.tobytes() == wanted.features[order].tobytes()


def test_a_dataset_needs_no_labels_and_npz_holds_no_pickle(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "test.npz"
    words = ["--shards", tiny_dataset.path, "--subset", "test", "--checkpoint", finished, "--out", out]
    result = call(*words, "--features", "z")
    assert result.exit_code == 0, result.output
    assert "24 clips" in result.stdout
    wanted = skelpipe.Encoder.load(finished, features="z", device="cpu").embed(tiny_dataset, "test")
    with np.load(out, allow_pickle=False) as found:
        assert set(found) == {"id", "feature", "about"}
        assert found["id"].tolist() == wanted.ids == tiny_dataset.ids("test")
        assert found["feature"].tobytes() == wanted.features.tobytes()
        assert json.loads(str(found["about"]))["digest"] == tiny_dataset.digest
    assert [path.name for path in out.parent.iterdir()] == ["test.npz"]
    assert "is there already: pass --overwrite" in call(*words).stderr
    assert call(*words, "--overwrite").exit_code == 0


def test_damaged_recordings_stop_it_or_are_named(finished: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    good = min((tiny_dataset.path.parent / "raw").iterdir())
    bad = tmp_path / "bad.skeleton"
    bad.write_text("no skeleton")
    words = [good, bad, "--checkpoint", finished, "--out", tmp_path / "x.parquet"]
    result = call(*words)
    assert result.exit_code == 1
    assert "bad.skeleton" in result.stderr
    assert not (tmp_path / "x.parquet").exists()
    result = call(*words, "--skip-bad")
    assert result.exit_code == 0, result.output
    assert f"{bad}: left out" in result.stderr
    assert stored(tmp_path / "x.parquet")[0] == [good.stem]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.skeleton", "--out", "x.csv"], "x.csv: a file ends in .parquet or .npz"),
        (["a.skeleton"], "--out is missing: name the file to write, .parquet or .npz; the picture of t-SNE"),
        (["--out", "x.npz"], "name either raw files, folders, archives or URLs, or a dataset with --shards"),
        (["a", "--shards", "ds", "--out", "x.npz"], "name either raw files"),
        (["a", "--subset", "test", "--out", "x.npz"], "about the dataset that --shards names"),
        (["--shards", "ds", "--classes", "5"], "there is no option --classes here: the picture of t-SNE and its"),
        (["--shards", "ds", "--nonsense"], "No such option"),
    ],
)
def test_wrong_requests_are_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.pt").write_bytes(b"PK")
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds" / "dataset.json").touch()
    monkeypatch.chdir(tmp_path)
    result = call(*words, "--checkpoint", "weights.pt")
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
