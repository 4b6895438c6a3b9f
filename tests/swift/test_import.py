"""`skelpipe import` of shards in a real bucket: by pattern and as a folder, through connections that break."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.foreign.shards import ForeignShards, ShardForm
from skelpipe.skeleton import layout


@pytest.fixture
def shards(tmp_path: Path, store, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gym").mkdir()
    rng = np.random.default_rng(4)
    for n, name in enumerate(("train-0", "train-1", "val-0")):
        with tarfile.open(tmp_path / "gym" / f"{name}.tar", "w") as tar:
            file = io.BytesIO()
            np.save(file, rng.normal(size=(300, 25, 3)).astype(np.float32))
            for suffix, content in (("npy", file.getvalue()), ("cls", b"%d" % n)):
                info = tarfile.TarInfo(f"clip{n}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        store.filesystem("gym").write(f"{name}.tar", [(tmp_path / "gym" / f"{name}.tar").read_bytes()])
    return tmp_path / "gym"


def imported(word: str, out: str) -> str:
    words = ["import", word, "--layout", "kinect-v2-25", "--out", out, "--workers", "1"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return Dataset.open(out).digest


def test_shards_of_a_bucket(shards, store, proxy) -> None:
    broken = proxy.add(r"GET .*/gym/train-1\.tar", then="reset", after=30_000)
    folder, _, options = store.url("gym", port=proxy.port).partition("?")
    wanted = imported("gym", "local")
    assert imported(f"{folder}/{{train-{{0..1}},val-0}}.tar?{options}", "out/pattern") == wanted
    assert broken.times == 0
    assert imported(f"{folder}/?{options}", "out/folder") == wanted
    assert sorted(path.name for path in Path("out").iterdir()) == ["folder", "pattern"]


def test_shards_of_a_bucket_are_trained_on_directly(shards, store, proxy) -> None:
    folder, _, options = store.url("gym", port=proxy.port).partition("?")
    form = ShardForm(layout("kinect-v2-25"), 64)
    remote = ForeignShards({"train": [f"{folder}/train-{{0..1}}.tar?{options}"]}, form)
    local = ForeignShards({"train": ["gym/train-{0..1}.tar"]}, form)
    assert remote.digest == local.digest
    assert remote.labels("train").tolist() == [0, 1]
    rows = np.arange(2)
    assert np.array_equal(
        remote.reader("train", "joint").gather(rows), local.reader("train", "joint").gather(rows)
    )
