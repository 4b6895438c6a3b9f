"""Names of recordings in the paths of their files, and windows, by hand."""

from pathlib import Path

import pytest

from skelpipe.manifest import Manifest, Windows
from skelpipe.manifest_file import load_manifest

HEAD = "name: my\nreader: npy\nlayout: coco-17\nsuffix: .npy\nclasses: [walk, run]\nsplits: {all: {train: all}}\n"


def manifest(folder: Path, pattern: str, **keys: str) -> Manifest:
    lines = [f"{key}: {value}" for key, value in keys.items()]
    head = "\n".join(line for line in HEAD.splitlines() if line.partition(":")[0] not in keys)
    (folder / "my.yaml").write_text("\n".join([head, f"name_pattern: '{pattern}'", *lines]))
    return load_manifest(str(folder / "my.yaml"))


@pytest.mark.parametrize(
    ("pattern", "path", "name", "fields"),
    [
        (r"(?P<action>\w+)/\d+", "raw/train/walk/001.npy", "walk/001", {"action": "walk"}),
        (
            r"(?P<part>\w+)/(?P<action>\w+)/\d+",
            "/a/b/train/walk/1.npy",
            "train/walk/1",
            {"part": "train", "action": "walk"},
        ),
        (r"(?P<action>\w+)/[^/]+\.v\d", "a.zip/walk/x.v1.npy", "walk/x.v1", {"action": "walk"}),
        (r"((?P<day>\w+)/)?(?P<action>\w+)", "tue/run.npy", "tue/run", {"day": "tue", "action": "run"}),
        (
            r"(?P<action>[a-z/]+)",
            "tue/run.npy",
            "run",
            {"action": "run"},
        ),  # a slash in a set of characters: no folder
        (r"(?P<action>\w+)", "raw/deep/run.npy", "run", {"action": "run"}),
        (r"(?P<action>\w+)\/x", "raw/run/x.npy", "run/x", {"action": "run"}),
    ],
)
def test_a_name_has_as_many_folders_as_its_pattern_has_slashes(tmp_path, pattern, path, name, fields) -> None:
    described = manifest(tmp_path, pattern)
    assert described.identity(path) == name
    assert described.fields(name) == fields


def test_folders_above_the_raw_folder_count(tmp_path, monkeypatch) -> None:
    (tmp_path / "walk").mkdir()
    described = manifest(tmp_path, r"(?P<action>walk|run)/\d+")
    monkeypatch.chdir(tmp_path / "walk")
    assert described.identity("1.npy") == "walk/1"


def test_a_name_that_does_not_match_is_given_as_it_is(tmp_path) -> None:
    described = manifest(tmp_path, r"(?P<action>walk|run)/\d+")
    assert described.identity("jump/1.npy") == "1"
    assert described.fields("1") is None
    assert described.identity("walk/1.txt") is None


@pytest.mark.parametrize(
    "file",
    ["s001c002p003r001a010.skeleton", "S001C002P003R001A010.Skeleton.txt", "S001c002P003R001A010.SKELETON.GZ"],
)
def test_the_case_of_built_in_names_and_what_programs_add_do_not_count(file) -> None:
    ntu60 = load_manifest("ntu60")
    name = ntu60.identity(f"raw/{file}")
    assert name == "S001C002P003R001A010"
    fields = ntu60.fields(name)
    assert fields == {"setup": 1, "camera": 2, "subject": 3, "replication": 1, "action": 10}


def test_a_text_beside_an_array_is_no_recording(tmp_path) -> None:
    described = manifest(tmp_path, r"(?P<action>\w+)")
    assert described.identity("walk.npy.txt") is None
    assert described.identity("walk.NPY") == "walk"
    assert described.identity("walk.npy.gz") == "walk"
    assert manifest(tmp_path, r"(?P<action>\w+)", case="upper").identity("walk.npy") == "WALK"


@pytest.mark.parametrize(
    ("frames", "starts"),
    [(1, [0]), (64, [0]), (65, [0, 1]), (96, [0, 32]), (100, [0, 32, 36]), (128, [0, 32, 64])],
)
def test_windows_cover_every_frame(frames, starts) -> None:
    assert Windows(64, 32).starts(frames) == starts


def test_windows_further_apart_than_long() -> None:
    assert Windows(10, 30).starts(75) == [0, 30, 60, 65]
