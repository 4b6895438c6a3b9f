"""`prepare` and `import` on a full or read-only disk, or in a folder that goes: one line; a rerun completes."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.errors import SkelpipeError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare, run

OPTIONS = Options("xsub", frames=16, shard_size=5)


def make(raw: Path, out: Path, formats: tuple[str, ...] = ("shards",)) -> str:
    digest = prepare(load_manifest("ntu60"), [raw], out, OPTIONS, formats=formats, quiet=True).card["digest"]
    assert isinstance(digest, str)
    return digest


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("formats", "left", "largest"),
    [
        (("shards",), 0, 0),
        (("shards",), 100_000, 40_000),
        (("shards",), 400_000, 40_000),
        (("hdf5",), 1_300_000, 60_000),
    ],
)
def test_a_full_disk(
    formats: tuple[str, ...],
    left: int,
    largest: int,
    raw_folder: Callable[..., Path],
    ntu_names: Callable[..., list[str]],
    disk: Any,
    tmp_path: Path,
) -> None:
    raw, out = raw_folder(ntu_names()), disk.folder / "ds"
    with disk.full(left, largest), pytest.raises(SkelpipeError) as raised:
        make(raw, out, formats)
    said = str(raised.value)
    assert said.startswith(str(out)), said
    assert disk.words in said
    assert "\n" not in said
    assert not (out / "dataset.json").exists()
    assert not [path for path in out.rglob("*.part")]
    assert make(raw, out, formats) == make(raw, tmp_path / "new", formats)
    assert files_of(out) == files_of(tmp_path / "new")


def test_a_read_only_disk(raw_folder: Callable[..., Path], ntu_names: Callable[..., list[str]], disk: Any) -> None:
    raw = raw_folder(ntu_names(actions=1))
    with disk.read_only(), pytest.raises(SkelpipeError, match=f"/ds.*: cannot be .*: {disk.read_only_words}"):
        make(raw, disk.folder / "ds")


def test_an_import_on_a_full_disk(disk: Any, tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(6, 20, 150)).astype(np.float32), np.eye(60)[:6]
    np.savez(tmp_path / "NTU60_CS.npz", x_train=x[:4], y_train=y[:4], x_test=x[4:], y_test=y[4:])
    words = ["import", str(tmp_path / "NTU60_CS.npz"), "--frames", "10", "--workers", "1", "--out"]
    with disk.full(20_000, 5_000):
        result = CliRunner().invoke(main, [*words, str(disk.folder / "ds")])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"Error: {disk.folder}/ds")
    assert disk.words in last
    for out in (disk.folder / "ds", tmp_path / "ds"):
        assert CliRunner().invoke(main, [*words, str(out)]).exit_code == 0
    assert files_of(disk.folder / "ds") == files_of(tmp_path / "ds")


def test_a_folder_that_is_removed_meanwhile(
    raw_folder: Callable[..., Path],
    ntu_names: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw, out = raw_folder(ntu_names()), tmp_path / "ds"

    def removing(items: Iterable[None], *_: Any, **__: Any) -> Iterator[None]:
        for number, item in enumerate(items):
            if number == 1:
                shutil.rmtree(out)
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(run, "progress", removing)
        with pytest.raises(SkelpipeError, match=f"^{out}: was removed while it was written$"):
            make(raw, out)
    assert not (out / "dataset.json").exists()
    shutil.rmtree(out, ignore_errors=True)
    assert make(raw, out) == make(raw, tmp_path / "new")
