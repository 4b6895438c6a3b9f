"""Imports of files at addresses: the same dataset as of local files, nothing left behind, no secret shown."""

import io
import shutil
import tarfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.prepare.import_fetch import fetched

CLIPS = np.random.default_rng(3).normal(size=(6, 8, 25, 3)).astype(np.float32)
SECRET = "wJalrXUtnFEMI"


def write(path: Path, numbers: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for n in numbers:
            file = io.BytesIO()
            np.save(file, CLIPS[n])
            for suffix, content in (("npy", file.getvalue()), ("cls", b"%d" % (n % 3))):
                info = tarfile.TarInfo(f"clip{n}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def imported(*words: str | Path) -> Result:
    options = ["--profile", "stored", "--layout", "kinect-v2-25", "--frames", "8", "--workers", "1"]
    return CliRunner().invoke(main, ["import", *map(str, [*words, *options])])


@pytest.fixture
def shards(tmp_path: Path, server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards train-0, train-1 and val-0 in a folder `bucket/gym`, which the server serves too."""
    monkeypatch.chdir(tmp_path)
    for name, numbers in (("train-0", range(2)), ("train-1", range(2, 4)), ("val-0", range(4, 6))):
        write(tmp_path / "bucket" / "gym" / f"{name}.tar", numbers)
    server.serve_folder(tmp_path / "bucket", "bucket")
    return tmp_path / "bucket" / "gym"


@pytest.fixture
def local(shards: Path) -> Dataset:
    """What the local shards, a folder of them, are imported as."""
    result = imported(shards, "--out", "local")
    assert result.exit_code == 0, result.output
    return Dataset.open("local")


@pytest.fixture(params=["http", "s3"])
def address(request: pytest.FixtureRequest, server, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The start and the end of the shards' addresses, the end with a secret where it is a query."""
    if request.param == "http":
        return f"{server.url.replace('//', f'//me:{SECRET}@')}/bucket/gym", f"?sig={SECRET}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
    return "s3://bucket/gym", f"?{options}"


def test_brace_patterns_give_the_dataset_of_the_local_files(local: Dataset, address: tuple[str, str]) -> None:
    start, end = address
    result = imported(f"{start}/{{train-{{0..1}},val-0}}.tar{end}", "--out", "out/ds")
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    dataset = Dataset.open("out/ds")
    assert dataset.name == local.name == "gym"
    assert dataset.digest == local.digest
    assert dataset.ids("train") == [f"clip{n}" for n in range(4)]
    assert [path.name for path in Path("out").iterdir()] == ["ds"]
    again = imported(f"{start}/{{train-{{0..1}},val-0}}.tar{end}", "--out", "out/ds")
    assert again.exit_code == 0, again.output
    assert "already complete" in again.output


def test_patterns_of_local_files(local: Dataset) -> None:
    result = imported("bucket/gym/{train-{0..1},val-0}.tar", "--out", "ds")
    assert result.exit_code == 0, result.output
    assert Dataset.open("ds").digest == local.digest
    assert "no-1.tar: there is no such file" in imported("no-{0..1}.tar".replace("0..1", "1..2")).output


def test_files_of_one_folder_stay_beside_each_other(tmp_path: Path, server, monkeypatch) -> None:
    """st-gcn's array is found with its label, and the folder's name is that of the split."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "NTU" / "xview"
    folder.mkdir(parents=True)
    np.save(folder / "train_data.npy", CLIPS.transpose(0, 3, 1, 2)[..., None])
    np.save(folder / "train_label.npy", np.arange(6))
    server.serve_folder(tmp_path / "NTU", "NTU")
    for out, start in (("a", "NTU"), ("b", f"{server.url}/NTU")):
        result = imported(f"{start}/xview/train_{{data,label}}.npy", "--format", "stgcn-npy", "--out", out)
        assert result.exit_code == 0, result.output
    assert Dataset.open("a").split == "xview"
    assert Dataset.open("a").digest == Dataset.open("b").digest


def test_a_missing_file_ends_it_before_anything_is_fetched(shards: Path, address: tuple[str, str], server) -> None:
    start, end = address
    result = imported(f"{start}/train-{{0..2}}.tar{end}", "--out", "out/ds")
    assert result.exit_code == 1
    assert "/bucket/gym/train-2.tar: cannot be read: no such file" in result.stderr.replace("s3:/", "")
    assert SECRET not in result.output
    assert not [path for path in server.gets("train-0") if path.endswith("?")]
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize("kind", ["short", "reset"])
def test_a_broken_connection_is_mended(local: Dataset, server, fault, kind: str) -> None:
    server.faults["/bucket/gym/train-1.tar"] = [fault(kind)]
    result = imported(f"{server.url}/bucket/gym/{{train-{{0..1}},val-0}}.tar", "--out", "ds")
    assert result.exit_code == 0, result.output
    assert Dataset.open("ds").digest == local.digest


def test_after_a_file_that_is_cut_off_a_rerun_goes_on(local: Dataset, server, fault) -> None:
    pattern = f"{server.url}/bucket/gym/{{train-{{0..1}},val-0}}.tar?sig={SECRET}"
    size = len(server.files["/bucket/gym/val-0.tar"])
    server.faults["/bucket/gym/val-0.tar"] = [fault("cut", times=3)]
    result = imported(pattern, "--out", "out/ds")
    assert result.exit_code == 1
    assert f"gym/val-0.tar: cut off or replaced on the server: {size // 2:,} of {size:,} bytes came 3 times" in (
        result.stderr
    )
    assert SECRET not in result.output
    (kept,) = Path("out").iterdir()
    assert f"fetched files stay in {kept} for the next attempt" in result.stderr
    assert not list(kept.rglob("*.part"))
    before = len(server.gets("train-"))
    result = imported(pattern.replace(SECRET, "another"), "--out", "out/ds")
    assert result.exit_code == 0, result.output
    assert len(server.gets("train-")) == before
    assert Dataset.open("out/ds").digest == local.digest
    assert [path.name for path in Path("out").iterdir()] == ["ds"]


def test_damage_is_named_by_the_address(shards: Path, server) -> None:
    server.files["/bucket/gym/train-1.tar"] = server.files["/bucket/gym/train-1.tar"][:5000]
    result = imported(f"{server.url}/bucket/gym/train-{{0..1}}.tar?sig={SECRET}", "--out", "out/ds")
    assert result.exit_code == 1
    assert f"Error: {server.url}/bucket/gym/train-1.tar: " in result.stderr
    assert SECRET not in result.output
    assert result.stderr.splitlines()[-1].count("train-1") == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("pipe:cat x.tar", "pipe: would run a program"),
        ("PIPE: cat x.tar", "pipe: would run a program"),
        (
            f"https://me:{SECRET}@host/a-{{0..9.tar?sig={SECRET}",
            "https://host/a-{0..9.tar: its braces do not match",
        ),
        (f"https://host/a-{{0..999999}}.tar?sig={SECRET}", "https://host/a-{0..999999}.tar: stands for more than"),
        (f"ftp://me:{SECRET}@host/a.tar", "ftp:// is not supported"),
        ("https://host/a/../../b.tar", "is not the name of a file"),
    ],
)
def test_what_is_no_address(word: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised, fetched([word], tmp_path):
        pass
    assert message in str(raised.value)
    assert SECRET not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small(shards: Path, server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    sizes = sum(len(server.files[f"/bucket/gym/train-{n}.tar"]) for n in (0, 1))
    with (
        pytest.raises(SkelpipeError, match=rf"{sizes:,} bytes are needed for 2 files.* and 1,000 are free"),
        fetched([f"{server.url}/bucket/gym/train-{{0..1}}.tar"], tmp_path / "out", quiet=True),
    ):
        pass
    assert server.gets("train") == []


def test_without_a_folder_nothing_stays(shards: Path, server, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    address = f"{server.url}/bucket/gym/val-0.tar"

    def fail() -> None:
        with fetched([address], None, quiet=True) as files:
            (path,) = files.paths
            assert Path(path).read_bytes() == (shards / "val-0.tar").read_bytes()
            assert path.startswith(str(tmp_path))
            raise SkelpipeError(f"{path}: odd")

    with pytest.raises(SkelpipeError, match=f"^{address}: odd$"):
        fail()
    assert not list(tmp_path.glob("skelpipe-import-*"))


def test_two_runs_at_once_are_refused(shards: Path, server, tmp_path: Path) -> None:
    words = [f"{server.url}/bucket/gym/val-0.tar"]
    with (
        fetched(words, tmp_path / "out", quiet=True),
        pytest.raises(UsageError, match="another import is fetching the same files"),
        fetched(words, tmp_path / "out", quiet=True),
    ):
        pass
