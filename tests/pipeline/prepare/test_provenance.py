"""Raw files: their hashes in the sample table, and `prepare` when one of them changes."""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare, run
from skelpipe.prepare.shard_writer import ShardJob

NTU60 = load_manifest("ntu60")
SMALL = Options("xsub", frames=8, bodies=1, shard_size=4)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def xxh128(content: bytes) -> str:
    return xxhash.xxh128_hexdigest(content)


@pytest.fixture
def raw(raw_folder, ntu_names) -> Path:
    return raw_folder(ntu_names(actions=1))


def make(raw: Path, out: Path, **kwargs):
    return prepare(NTU60, [raw], out, SMALL, quiet=True, **kwargs)


def edited(path: Path, *, older: bool) -> None:
    """Exchange one digit of a file, whose size and perhaps whose age stay."""
    before = path.stat()
    text = path.read_text()
    at = text.index("3.") if "3." in text else text.index("2.")
    path.write_text(text[:at] + str(9 - int(text[at])) + text[at + 1 :])
    assert path.stat().st_size == before.st_size
    age = 10**12 if older else 0
    os.utime(path, ns=(before.st_atime_ns - age, before.st_mtime_ns - age))


def test_every_row_has_the_hash_of_its_raw_file(raw, tmp_path) -> None:
    make(raw, tmp_path / "ds")
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(raw.iterdir()):
            file.write(path, f"nturgb+d_skeletons/{path.name}")
    make(archive, tmp_path / "zipped")
    for name, holder in (("ds", None), ("zipped", archive)):
        for row in pq.read_table(tmp_path / name / "samples.parquet").to_pylist():
            path = raw / f"{row['id']}.skeleton"
            inside = f"all.zip/nturgb+d_skeletons/{path.name}"
            assert row["raw_file"] == (inside if holder else path.name)
            assert (row["raw_size"], row["raw_xxh128"]) == (path.stat().st_size, xxh128(path.read_bytes()))
            assert row["raw_time"] == (holder or path).stat().st_mtime_ns
    ours, theirs = Dataset.open(tmp_path / "ds"), Dataset.open(tmp_path / "zipped")
    assert ours.digest == theirs.digest
    assert damages(ours, quiet=True) == damages(theirs, quiet=True) == []
    # The same recordings from the archive: other times and names, but no other content.
    assert make(archive, tmp_path / "ds").was_complete


def test_a_file_of_equal_size_and_older_time_is_noticed(raw, tmp_path) -> None:
    make(raw, tmp_path / "ds")
    assert make(raw, tmp_path / "ds").was_complete
    path = sorted(raw.iterdir())[2]
    good = path.read_bytes()
    edited(path, older=True)
    with pytest.raises(UsageError, match=f"of other raw files: {path} has changed since"):
        make(raw, tmp_path / "ds")
    path.write_bytes(good)  # with the time of now
    assert make(raw, tmp_path / "ds").was_complete
    os.utime(path, (1, 1))
    assert make(raw, tmp_path / "ds").was_complete
    digest = Dataset.open(tmp_path / "ds").digest
    edited(path, older=True)
    assert make(raw, tmp_path / "ds", overwrite=True).card["digest"] != digest


def test_check_raw_compares_the_content(raw, tmp_path) -> None:
    """Neither size nor time of the file differ: only its hash does."""
    make(raw, tmp_path / "ds")
    path = sorted(raw.iterdir())[2]
    time = path.stat().st_mtime_ns
    edited(path, older=False)
    os.utime(path, ns=(time, time))
    words = ["prepare", "--dataset", "ntu60", "--split", "xsub", "--raw", str(raw), "--out", str(tmp_path / "ds")]
    words += ["--frames", "8", "--bodies", "1", "--shard-size", "4", "--workers", "1"]
    assert "already complete" in CliRunner().invoke(main, words).stdout
    found = CliRunner().invoke(main, [*words, "--check-raw"])
    assert found.exit_code == 2
    assert f"{path} has changed since" in found.stderr


def test_a_dataset_without_hashes_is_compared_by_its_cards_time(raw, tmp_path) -> None:
    make(raw, tmp_path / "ds")
    card = json.loads((tmp_path / "ds" / "dataset.json").read_text())
    table = pq.read_table(tmp_path / "ds" / "samples.parquet").drop_columns(card.pop("provenance")["columns"])
    pq.write_table(table, tmp_path / "ds" / "samples.parquet")
    card["samples_file"]["sha256"] = sha256((tmp_path / "ds" / "samples.parquet").read_bytes())
    card["format"]["version"] = 2
    (tmp_path / "ds" / "dataset.json").write_text(json.dumps(card))
    assert damages(Dataset.open(tmp_path / "ds"), quiet=True) == []  # with the digest of version 3
    assert make(raw, tmp_path / "ds").was_complete
    with pytest.raises(UsageError, match="holds no hashes of its raw files"):
        make(raw, tmp_path / "ds", check_raw=True)
    shown = CliRunner().invoke(main, ["info", "--shards", str(tmp_path / "ds"), "--id", table["id"][0].as_py()])
    assert shown.exit_code == 0
    assert "raw" not in shown.stdout
    os.utime(sorted(raw.iterdir())[0])
    with pytest.raises(UsageError, match="the raw files have changed since"):
        make(raw, tmp_path / "ds")


def as_earlier(folder: Path, raw: Path) -> None:
    """Give a dataset the card and table that commits before XXH128 wrote: sha256 of raw files."""
    table = pq.read_table(folder / "samples.parquet")
    hashes = [sha256((raw / name).read_bytes()) for name in table["raw_file"].to_pylist()]
    rewrite(folder, table.drop_columns("raw_xxh128").append_column("raw_sha256", pa.array(hashes)))


def rewrite(folder: Path, table: pa.Table) -> None:
    """Give a dataset another table, with a card that agrees."""
    card = json.loads((folder / "dataset.json").read_text())
    pq.write_table(table, folder / "samples.parquet")
    columns = [name for name in table.column_names if name.startswith("raw_")]
    lines = [json.dumps(list(row.values()), separators=(",", ":")) for row in table.select(columns).to_pylist()]
    card["provenance"] |= {"columns": columns, "sha256": sha256("".join(f"{line}\n" for line in lines).encode())}
    card["samples_file"]["sha256"] = sha256((folder / "samples.parquet").read_bytes())
    (folder / "dataset.json").write_text(json.dumps(card))


def test_a_table_without_hashes_of_raw_files(raw, tmp_path) -> None:
    make(raw, tmp_path / "ds")
    rewrite(tmp_path / "ds", pq.read_table(tmp_path / "ds" / "samples.parquet").drop_columns("raw_xxh128"))
    with pytest.raises(SkelpipeError, match="has no column raw_xxh128, as the card's provenance promises"):
        make(raw, tmp_path / "ds")


def test_raw_files_hashed_by_sha256_are_compared_too(raw, tmp_path) -> None:
    make(raw, tmp_path / "ds")
    as_earlier(tmp_path / "ds", raw)
    assert damages(Dataset.open(tmp_path / "ds"), quiet=True) == []
    assert make(raw, tmp_path / "ds", check_raw=True).was_complete
    path = sorted(raw.iterdir())[2]
    words = ["info", "--shards", str(tmp_path / "ds"), "--id", path.stem, "--json"]
    found = json.loads(CliRunner().invoke(main, words).stdout)
    assert (found["raw_sha256"], found["raw_xxh128"]) == (sha256(path.read_bytes()), None)
    os.utime(path)
    assert make(raw, tmp_path / "ds").was_complete
    edited(path, older=True)
    with pytest.raises(UsageError, match=f"{path} has changed since"):
        make(raw, tmp_path / "ds")


def test_an_unfinished_prepare_that_hashed_by_sha256_is_continued(raw, tmp_path, monkeypatch) -> None:
    """Shards whose receipts have no XXH128 are written again."""

    def failing(*args: object) -> None:
        raise SkelpipeError("stop")

    monkeypatch.setattr(run, "assemble", failing)
    with pytest.raises(SkelpipeError, match="stop"):
        make(raw, tmp_path / "ds")
    monkeypatch.undo()
    for path in (tmp_path / "ds" / ".prepare").glob("*-*.json"):
        receipt = json.loads(path.read_text())
        receipt["raw"] = {id_: sha256(id_.encode()) for id_ in receipt.pop("raw_xxh128")}
        path.write_text(json.dumps(receipt))
    make(raw, tmp_path / "ds")
    for row in pq.read_table(tmp_path / "ds" / "samples.parquet").to_pylist():
        assert row["raw_xxh128"] == xxh128((raw / row["raw_file"]).read_bytes())


def test_files_that_were_removed_or_added_are_named(raw, tmp_path) -> None:
    make(raw, tmp_path / "ds")
    card = (tmp_path / "ds" / "dataset.json").read_bytes()
    files = sorted(raw.iterdir())
    aside = tmp_path / "aside"
    aside.mkdir()
    for number, path in enumerate(files[:5], 1):
        path.rename(aside / path.name)
        names = ", ".join(each.name for each in files[: min(number, 3)])
        said = f"{names}{' and 2 more' if number == 5 else ''} ha(s|ve) been removed since: choose another"
        if number in (1, 5):
            with pytest.raises(UsageError, match=said):
                make(raw, tmp_path / "ds")
    make(raw, tmp_path / "ds", overwrite=True)
    for path in aside.iterdir():
        path.rename(raw / path.name)
    with pytest.raises(UsageError, match=f"{files[0]}, {files[1]}, {files[2]} and 2 more have been added since"):
        make(raw, tmp_path / "ds")
    path = files[1]
    path.write_text(path.read_text() + "\n")  # another size
    with pytest.raises(UsageError, match="have been added since"):
        make(raw, tmp_path / "ds")
    make(raw, tmp_path / "ds", overwrite=True)
    assert json.loads(card)["digest"] == Dataset.open(tmp_path / "ds").digest
    path.write_text(path.read_text() + "\n")
    with pytest.raises(UsageError, match=f"of other raw files: {path} has changed since"):
        make(raw, tmp_path / "ds")


@pytest.mark.parametrize("before", [True, False])
def test_a_file_that_changes_meanwhile_is_named(raw, tmp_path, monkeypatch, before) -> None:
    """It is changed after its shard was written, or after it was listed; size and time are set back."""
    path = sorted(raw.iterdir())[-1]
    time, write = path.stat().st_mtime_ns, ShardJob.__call__

    def changing(job: ShardJob) -> None:
        if before and job.shard.name == "000000":
            path.write_text(path.read_text() + "\n")
        write(job)
        if (
            not before
            and path.stat().st_mtime_ns == time
            and any(path.name[:-9] == s.id for s in job.shard.samples)
        ):
            edited(path, older=False)
            os.utime(path, ns=(time, time))

    monkeypatch.setattr(ShardJob, "__call__", changing)
    with pytest.raises(SkelpipeError, match=f"{path} has changed while prepare was running"):
        make(raw, tmp_path / "ds")
    assert not (tmp_path / "ds" / "dataset.json").exists()
    monkeypatch.undo()
    if before:
        with pytest.raises(UsageError, match="the raw files have changed since"):
            make(raw, tmp_path / "ds")
    card = make(raw, tmp_path / "ds", overwrite=before).card
    assert card["digest"] == make(raw, tmp_path / "clean").card["digest"]


def test_a_file_that_is_only_touched_meanwhile_is_fine(raw, tmp_path, monkeypatch) -> None:
    path = sorted(raw.iterdir())[-1]
    assemble = run.assemble
    monkeypatch.setattr(run, "assemble", lambda *args: (os.utime(path), assemble(*args))[1])
    make(raw, tmp_path / "ds")
    monkeypatch.undo()
    assert make(raw, tmp_path / "ds").was_complete


def test_recordings_of_one_array_and_info(tmp_path) -> None:
    """An import: all recordings have the hash of the file that holds them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 20, 150)).astype(np.float32)
    y = np.eye(60, dtype=np.float32)[[0, 1, 2, 3, 4, 59]]
    source = tmp_path / "NTU60_CS.npz"
    np.savez(source, x_train=x[:4], y_train=y[:4], x_test=x[4:], y_test=y[4:])
    words = ["import", str(source), "--out", str(tmp_path / "ds"), "--frames", "8", "--workers", "1"]
    made = CliRunner().invoke(main, words)
    assert made.exit_code == 0, made.output
    rows = pq.read_table(tmp_path / "ds" / "samples.parquet").to_pylist()
    assert {row["raw_xxh128"] for row in rows} == {xxh128(source.read_bytes())}
    assert {row["raw_item"] for row in rows} == {f"x_train[{n}]" for n in range(4)} | {"x_test[0]", "x_test[1]"}
    one = next(row for row in rows if row["raw_item"] == "x_test[1]")
    shown = CliRunner().invoke(main, ["info", "--shards", str(tmp_path / "ds"), "--id", one["id"], "--json"])
    found = json.loads(shown.stdout)
    expected = {"subset": "test", "label": 59, "shard": "000000", "row": 1, "raw_file": source.name, "frames": 20}
    assert expected.items() <= found.items()
    assert (found["class"], found["raw_xxh128"]) == ("walking apart from each other", one["raw_xxh128"])
    text = CliRunner().invoke(main, ["info", "--shards", str(tmp_path / "ds"), "--id", one["id"]]).stdout
    assert "raw item        x_test[1]\n" in text
    wrong = CliRunner().invoke(main, ["info", "--shards", str(tmp_path / "ds"), "--id", "nobody"])
    assert wrong.exit_code == 2
    assert "--id nobody" in wrong.stderr
    shutil.copy(source, tmp_path / "copy.npz")
    x[0, 0, 0] += 1
    np.savez(source, x_train=x[:4], y_train=y[:4], x_test=x[4:], y_test=y[4:])
    os.utime(source, (1, 1))
    again = CliRunner().invoke(main, words)
    assert (again.exit_code, f"{source} has changed since" in again.stderr) == (2, True)


def test_frames_in_files_of_their_own(tmp_path, raw_folder: Callable[..., Path]) -> None:
    """One frame gets an older time and another content: neither the sum of sizes nor the newest time changes."""
    folder = tmp_path / "raw" / "train" / "wave"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for frame in range(4):
        people = [{"pose_keypoints_2d": [round(v, 3) for v in rng.uniform(10, 99, 75).tolist()]}]
        (folder / f"ada_{frame:012d}_keypoints.json").write_text(json.dumps({"people": people}))
    words = [
        "import",
        str(tmp_path / "raw"),
        "--format",
        "openpose",
        "--out",
        str(tmp_path / "ds"),
        "--workers",
        "1",
    ]
    made = CliRunner().invoke(main, [*words, "--frames", "4"])
    assert made.exit_code == 0, made.output
    (row,) = pq.read_table(tmp_path / "ds" / "samples.parquet").to_pylist()
    files = sorted(folder.iterdir())
    listing = "".join(f"{xxh128(path.read_bytes())}  {path.name}\n" for path in files)
    assert row["raw_xxh128"] == xxh128(listing.encode())
    assert "already complete" in CliRunner().invoke(main, [*words, "--frames", "4"]).output
    text = files[1].read_text()
    at = text.index(".") + 1
    files[1].write_text(text[:at] + str(9 - int(text[at])) + text[at + 1 :])
    os.utime(files[1], (1, 1))
    again = CliRunner().invoke(main, [*words, "--frames", "4"])
    assert again.exit_code == 2
    assert "has changed since" in again.stderr
