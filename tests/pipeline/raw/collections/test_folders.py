"""Labels and subsets of one file per recording: from metadata files, or from the folders' names."""

import json
from pathlib import Path

import pytest

from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import UNLABELLED, Request
from skelpipe.raw.collections.folders import Organised, organised
from skelpipe.raw.source import find_raw_files


def tree(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path, **wishes: object) -> Organised:
    request = Request(find_raw_files([root]), **wishes)  # type: ignore[arg-type]
    return organised(request, lambda file: file.relative.endswith(".npy"))


def facts(result: Organised) -> list[tuple[str, str, int]]:
    return sorted((entry.id, entry.subset, entry.label) for entry in result.entries)


def test_a_folder_per_class(tmp_path) -> None:
    tree(tmp_path, "train/squat/a.npy", "train/lunge/b.npy", "val/squat/c.npy", "README.md")
    result = found(tmp_path)
    assert result.classes == ("lunge", "squat")
    assert facts(result) == [("a", "train", 1), ("b", "train", 0), ("c", "test", 1)]


def test_equal_names_get_their_folders(tmp_path) -> None:
    tree(tmp_path, "squat/1.npy", "lunge/1.npy")
    assert facts(found(tmp_path, subset="train")) == [("lunge-1", "train", 0), ("squat-1", "train", 1)]
    with pytest.raises(UsageError, match="neither a folder nor metadata says whether .*--subset train or test"):
        found(tmp_path)


def test_no_labels(tmp_path) -> None:
    tree(tmp_path, "train/a.npy", "test/b.npy")
    result = found(tmp_path)
    assert facts(result) == [("a", "train", UNLABELLED), ("b", "test", UNLABELLED)]
    assert result.classes == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_metadata_beside_the_files_of_each_subset(tmp_path, delimiter: str) -> None:
    tree(tmp_path, "train/x/a.npy", "train/x/b.npy", "test/c.npy")
    rows = [["file_name", "label"], ["x/a.npy", "squat"], ["x/b.npy", "lunge"]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    (tmp_path / "train/metadata.csv").write_text(f"\ufeff{text}\n", "utf-8")
    (tmp_path / "test/metadata.jsonl").write_text('{"file_name": "c.npy", "label": "squat"}\n\n')
    result = found(tmp_path)
    assert result.classes == ("lunge", "squat")
    assert facts(result) == [("a", "train", 1), ("b", "train", 0), ("c", "test", 1)]


def test_metadata_above_the_folders_with_a_column_of_subsets(tmp_path) -> None:
    tree(tmp_path, "poses/a.npy", "poses/b.npy", "poses/c.npy")
    (tmp_path / "metadata.csv").write_text("id,action,split,fps\na,3,training,30\nb,0,validation,30\n")
    result = found(tmp_path)
    assert facts(result) == [("a", "train", 3), ("b", "test", 0)]
    assert (result.classes, result.class_count) == ((), 4)
    assert "1 files are in no metadata file: left out, first" in result.notes[0]


def test_a_column_of_the_label_is_named(tmp_path) -> None:
    tree(tmp_path, "train/a.npy", "test/b.npy")
    (tmp_path / "metadata.csv").write_text(
        "file_name,exercise_type,speed\ntrain/a.npy,squat,slow\ntest/b.npy,lunge,slow\n"
    )
    with pytest.raises(UsageError, match="Say --label COLUMN; there are: file_name, exercise_type, speed"):
        found(tmp_path)
    assert found(tmp_path, label_column="exercise_type").classes == ("lunge", "squat")
    with pytest.raises(UsageError, match="there is no column 'type'; there are: file_name, exercise_type, speed"):
        found(tmp_path, label_column="type")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name,label\na.npy\n", "metadata.csv:2: 2 columns are expected"),
        ("file_name,label\na.npy,x,y\n", "metadata.csv:2: 2 columns are expected"),
        ('file_name,label\na.npy,"x"y\n', "metadata.csv:2: is no row of a table"),
        ("file_name,label\nother.npy,x\n", "none of its rows is about one of the 1 files"),
        ("file_name,label\na.npy,x\na.npy,y\n", "metadata.csv:3: a.npy stands there twice"),
    ],
)
def test_damaged_tables(tmp_path, text: str, said: str) -> None:
    tree(tmp_path, "a.npy")
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(RawError, match=said):
        found(tmp_path, subset="train")


def test_damaged_lines_of_json(tmp_path) -> None:
    tree(tmp_path, "a.npy")
    good = json.dumps({"file_name": "a.npy", "label": 1})
    for line, said in (("{", "is no JSON"), ("[1]", "an object with the keys"), ("[" * 100_000, "is no JSON")):
        (tmp_path / "metadata.jsonl").write_text(f"{good}\n{line}\n")
        with pytest.raises(RawError, match=f"metadata.jsonl:2: {said}"):
            found(tmp_path, subset="train")
    (tmp_path / "metadata.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(RawError, match="byte 1 is no UTF-8 text"):
        found(tmp_path, subset="train")


def test_other_words_for_a_subset_are_refused(tmp_path) -> None:
    tree(tmp_path, "a.npy")
    (tmp_path / "metadata.csv").write_text("file_name,label,split\na.npy,x,gallery\n")
    with pytest.raises(UsageError, match="its metadata says 'gallery', which is neither train nor val nor test"):
        found(tmp_path)
