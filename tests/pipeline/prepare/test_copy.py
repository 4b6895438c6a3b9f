"""Copying a dataset: the same bytes, and no target that holds something else is touched."""

import filecmp
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelpipe.cli.copy import copy as copy_command
from skelpipe.dataset import Dataset
from skelpipe.dataset.card import card_digest
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.ownership import Owner
from skelpipe.prepare import Options, prepare, remote_owner
from skelpipe.prepare.copy import copy_dataset
from skelpipe.prepare.remote_lock import OWNER_FILE
from skelpipe.prepare.remote_owner import owned_remotely
from skelpipe.storage import open_filesystem
from skelpipe.storage.filesystem import LocalFilesystem


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, skeleton_text, moving_bodies, ntu_names) -> Callable[[str], Path]:
    """A dataset per split, prepared once; tests work on copies that shutil has made."""
    raw = tmp_path_factory.mktemp("raw")
    for seed, name in enumerate(ntu_names()):
        (raw / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed)))

    def of_split(split: str) -> Path:
        out = raw.parent / f"copy-source-{split}"
        prepare(load_manifest("ntu60"), [raw], out, Options(split, 8, 2, 5), quiet=True)
        return out

    return of_split


@pytest.fixture
def source(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared("xsub"), tmp_path / "source")


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "target"


def copied(source: Path, target: Path, **options) -> int:
    return copy_dataset(open_filesystem(source), open_filesystem(target), quiet=True, **options).copied


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("workers", [1, 4])
def test_a_copy_has_the_same_bytes_and_passes_verify(source, target, workers) -> None:
    report = copy_dataset(
        open_filesystem(source), open_filesystem(f"file://{target}"), workers=workers, quiet=True
    )
    names = list(files_under(source))
    assert filecmp.cmpfiles(source, target, names, shallow=False) == (names, [], [])
    assert files_under(target).keys() == set(names)
    assert (report.copied, report.skipped) == (len(names), 0)
    assert report.bytes == sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    assert damages(Dataset.open(target), quiet=True) == []
    assert Dataset.open(target).digest == report.digest == Dataset.open(source).digest


def test_a_finished_copy_is_left_alone(source, target) -> None:
    copied(source, target)
    times = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    (target / "notes.txt").write_text("my own, added later")
    report = copy_dataset(open_filesystem(source), open_filesystem(target), quiet=True)
    assert report.was_complete
    assert (report.copied, report.bytes, report.skipped) == (0, 0, len(files_under(source)))
    assert {path: path.stat().st_mtime_ns for path in times if path.is_file()} == {
        path: time for path, time in times.items() if path.is_file()
    }


def test_another_dataset_at_the_target_is_refused_or_replaced(prepared, source, target) -> None:
    shutil.copytree(prepared("xview"), target)
    (target / "train/joint/000077.tar").write_bytes(b"one shard more than the new dataset has")
    mine = {"train/run.py": b"code", "notes.txt": b"text", "anchors/mine.txt": b"text"}
    for name, content in mine.items():
        (target / name).write_bytes(content)
    before = files_under(target)
    old, new = Dataset.open(target).digest, Dataset.open(source).digest
    with pytest.raises(
        UsageError, match=rf"another dataset \(digest {old[:12]}, to copy is {new[:12]}\): .*--overwrite"
    ):
        copied(source, target)
    assert files_under(target) == before
    copied(source, target, overwrite=True)
    assert files_under(target) == {**files_under(source), **mine}


@pytest.mark.parametrize("name", ["notes.txt", "README.md", "train/joint/000077.tar", "train/run.py", "test.h5"])
def test_foreign_files_at_the_target_are_refused(source, target, name) -> None:
    (target / name).parent.mkdir(parents=True)
    (target / name).write_bytes(b"mine")
    with pytest.raises(UsageError, match=rf"^{target} holds files that are not of this dataset, the first {name}"):
        copied(source, target)
    assert files_under(target) == {name: b"mine"}


def test_a_copy_that_was_killed_while_it_wrote_any_file_goes_on(source, target) -> None:
    shutil.copytree(source, target)
    card = target / "dataset.json"
    for file in (path for path in sorted(target.rglob("*")) if path.is_file()):
        card.unlink(missing_ok=True)
        content = b"" if file == card else file.read_bytes()
        file.with_name(f"{file.name}.part").write_bytes(content[: len(content) // 2])
        file.unlink(missing_ok=True)
        copied(source, target)
        assert files_under(target) == files_under(source), file


class Bucket(LocalFilesystem):
    """A folder in place of a bucket."""

    is_local = False


@pytest.fixture
def bucket(target: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, seconds in {"BEAT": 0.02, "WATCH": 0.3, "LOOK": 0.02}.items():
        monkeypatch.setattr(remote_owner, f"{name}_SECONDS", seconds)
    return Bucket(target)


@pytest.mark.parametrize("command", ["copy", "prepare"])
def test_a_second_writer_to_a_bucket_is_refused(source, bucket, command) -> None:
    with owned_remotely(bucket, OWNER_FILE, command):
        with pytest.raises(UsageError, match=f"^{bucket}: another {command}: process .* is writing there$"):
            copy_dataset(open_filesystem(source), bucket, quiet=True)
        # Its sign of life is written anew all the time, in a folder by way of a partial file.
        assert {name.removesuffix(".part") for name in bucket.names()} == {OWNER_FILE}
    assert copy_dataset(open_filesystem(source), bucket, quiet=True).skipped == 0
    assert files_under(bucket.local_path) == files_under(source)


def test_a_finished_copy_in_a_bucket_writes_no_owner_and_a_damaged_one_does(source, bucket, monkeypatch) -> None:
    written: list[str] = []
    plain = Bucket.write

    def write(self: Bucket, name: str, pieces: Iterable[bytes]) -> None:
        written.append(name)
        plain(self, name, pieces)

    monkeypatch.setattr(Bucket, "write", write)
    copied(source, bucket.local_path)
    assert copy_dataset(open_filesystem(source), bucket, quiet=True).was_complete
    assert written == []
    (bucket.local_path / "samples.parquet").write_bytes(b"damaged")
    assert copy_dataset(open_filesystem(source), bucket, quiet=True).copied == 1
    assert (written[0], set(written)) == (OWNER_FILE, {OWNER_FILE, "samples.parquet"})
    assert files_under(bucket.local_path) == files_under(source)


def test_the_owner_that_a_killed_copy_left_is_taken_over(source, bucket) -> None:
    gone = Owner("copy", 77, "node7", "another-boot", "2026-11-30 10:00:00 UTC", "word")
    bucket.write(OWNER_FILE, [json.dumps(asdict(gone)).encode()])
    said: list[str] = []
    copy_dataset(open_filesystem(source), bucket, quiet=True, say=said.append)
    assert said[-1] == f"{bucket}: taken over from {gone}, which has ended"
    assert files_under(bucket.local_path) == files_under(source)


def test_a_copy_that_was_taken_over_writes_no_card(source, bucket, monkeypatch) -> None:
    monkeypatch.setattr(remote_owner, "BEAT_SECONDS", 60.0)  # a sign of life now would take the bucket back
    plain = Bucket.write

    def write(self: Bucket, name: str, pieces: Iterable[bytes]) -> None:
        plain(self, name, pieces)
        if name == "samples.parquet":
            other = Owner("copy", 77, "node7", "another-boot", "2026-11-30 10:00:00 UTC", "word")
            plain(self, OWNER_FILE, [json.dumps(asdict(other)).encode()])

    monkeypatch.setattr(Bucket, "write", write)
    with pytest.raises(SkelpipeError, match="another copy is writing there, by copy: process 77 on node7"):
        copy_dataset(open_filesystem(source), bucket, quiet=True)
    assert "dataset.json" not in bucket.names()
    assert OWNER_FILE in bucket.names()  # not ours to remove


def test_the_same_content_in_other_containers_is_not_mixed_in(source, target) -> None:
    """Containers are not part of the digest: two cards of one digest may name different files."""
    shutil.copytree(source, target)
    card = json.loads((target / "dataset.json").read_text())
    (target / "dataset.json").write_text(json.dumps({**card, "generator": "skelpipe elsewhere"}))
    (target / "train.h5").write_bytes(b"only this card names it")
    before = files_under(target)
    with pytest.raises(UsageError, match=r"the first train\.h5"):
        copied(source, target)
    assert files_under(target) == before
    (target / "train.h5").unlink()
    assert copied(source, target) == 1
    assert files_under(target) == files_under(source)


def test_every_container_a_card_names_is_copied(source, target) -> None:
    extra = {"train.h5": b"hdf5 of the train subset" * 99, "untrimmed/test/000000.tar": b"videos" * 999}
    for name, content in extra.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    h5, video = ({"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for c in extra.values())
    card = json.loads((source / "dataset.json").read_text())
    card["hdf5"] = {"train": {"file": "train.h5", **h5}}
    shards = [{"name": "000000", "videos": [], **video}]
    card["untrimmed"] = {
        subset: {"videos": 0, "frames": 0, "shards": shards if subset == "test" else []}
        for subset in ("train", "test")
    }
    (source / "dataset.json").write_text(json.dumps({**card, "digest": card_digest(card)}))
    copied(source, target)
    assert files_under(target) == files_under(source)


def test_sources_without_a_dataset_and_targets_that_cannot_hold_one(source, target, tmp_path) -> None:
    with pytest.raises(DatasetError, match=rf"^{tmp_path}/none: no dataset\.json here"):
        copied(tmp_path / "none", target)
    with pytest.raises(UsageError, match="is the source of the copy"):
        copied(source, source / ".." / "source")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"/file: is a file"):
        copied(source, tmp_path / "file")
    with pytest.raises(SkelpipeError, match=r"/file/below.*: cannot be"):
        copied(source, tmp_path / "file" / "below")
    with pytest.raises(SkelpipeError, match=r"^/proc/nothing/.*: cannot be written: "):
        copied(source, Path("/proc/nothing"))
    (target / ".prepare").mkdir(parents=True)
    (target / ".prepare" / "settings.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="a prepare is unfinished there"):
            copied(source, target, overwrite=overwrite)


def test_cards_that_cannot_be_trusted(source, target) -> None:
    path = source / "dataset.json"
    card = json.loads(path.read_text())

    def with_digest(**changes) -> str:
        changed = {**card, **changes}
        return json.dumps({**changed, "digest": card_digest(changed)})

    escaping = json.loads(json.dumps(card["splits"]))
    escaping["train"]["shards"][0]["name"] = "../../../../escaped"
    for content, message in [
        ("{", "is not the card"),
        ("[]", "is not the card"),
        (json.dumps({**card, "split": "xview"}), "changed after prepare"),
        (with_digest(format={"name": "skelpipe-dataset", "version": 99}), "99"),
        (with_digest(anchors=[]), r"anchors is \[\]"),
        (with_digest(splits=escaping), r"splits\.train\.shards\.0\.name is '\.\./"),
    ]:
        path.write_text(content)
        with pytest.raises(SkelpipeError, match=message):
            copied(source, target)
        assert files_under(target) == {}
    assert not list(source.parent.rglob("escaped*"))


@pytest.fixture
def run() -> Callable:
    return lambda *words: CliRunner().invoke(copy_command, list(map(str, words)))


def test_the_command_reports_what_it_did(run, source, target) -> None:
    digest, total = Dataset.open(source).digest, len(files_under(source))
    size = sum(map(len, files_under(source).values()))
    (target / "train/joint").mkdir(parents=True)
    shutil.copy(source / "train/joint/000000.tar", target / "train/joint")
    size -= (source / "train/joint/000000.tar").stat().st_size
    done = run(source, target, "--workers", 2)
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"{target}: {total - 1} files copied ({size:,} bytes), 1 were there already\ndigest {digest}\n"
    )
    again = run(source, target)
    assert again.stdout == f"{target}: already complete, nothing to do\ndigest {digest}\n"
    report = json.loads(run(source, target, "--json").stdout)
    assert report == {
        "source": str(source),
        "target": str(target),
        "digest": digest,
        "copied": 0,
        "skipped": total,
        "bytes": 0,
        "was_complete": True,
    }


def test_the_command_fails_with_one_line_and_without_secrets(run, source, target) -> None:
    (target / "mine").mkdir(parents=True)
    (target / "mine" / "a").write_bytes(b"")
    refused = run(source, target)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"Error: {target} holds files that are not of this dataset, the first mine/a")
    for url in (
        "s3://AKIAEXAMPLE:SECRET%2Fkey@bucket/ds?endpoint_override=127.0.0.1:1&scheme=http",
        "s3://AKIAEXAMPLE:SECRET/key@bucket/ds",
        "s3://bucket/ds?X-Amz-Signature=SECRET",
    ):
        for words in ((source, url), (url, target)):
            failed = run(*words)
            assert failed.exit_code in (1, 2)
            assert failed.stderr.startswith("Error: ")
            assert failed.stderr.count("\n") == 1
            assert not any(secret in failed.output for secret in ("SECRET", "AKIA"))
