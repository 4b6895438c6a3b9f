"""Which files of frames belong to one recording."""

import pytest

from skelpipe.errors import RawError
from skelpipe.raw.frame_files import joined
from skelpipe.raw.source import RawFile


def files(*names: str) -> list[RawFile]:
    return [RawFile(name, f"/raw/{name}", 10 + i, 100 + i) for i, name in enumerate(names)]


def named(*names: str, suffix: str = ".json") -> dict[str, list[int]]:
    """The recordings by name, with the numbers of their frames."""
    return {file.relative: [number for number, _ in file.parts] for file in joined(files(*names), [suffix])}


def test_names_with_a_common_beginning_are_a_recording() -> None:
    found = named("a_10.json", "b_1.json", "a_9.json", "a_000000000011.json", "sub/a_9.json")
    assert found == {"a.json": [9, 10, 11], "b.json": [1], "sub/a.json": [9]}


def test_numbers_alone_take_the_name_of_the_folder() -> None:
    found = named("walk/c1/0001.json", "walk/c1/0003.json", "walk/c2/0001.json")
    assert found == {"walk/c1.json": [1, 3], "walk/c2.json": [1]}


@pytest.mark.parametrize("name", ["a_7.json", "a-7.json", "a.7.json", "a 7.json", "a7.json"])
def test_signs_before_the_number(name: str) -> None:
    assert named(name) == {"a.json": [7]}


def test_an_id_may_end_in_a_number() -> None:
    names = ("S001C001_000000000000_keypoints.json", "S001C002_000000000000_keypoints.json")
    assert named(*names, suffix="_keypoints.json") == {
        "S001C001_keypoints.json": [0],
        "S001C002_keypoints.json": [0],
    }


def test_other_files_stay_as_they_are() -> None:
    others = files("readme.txt", "labels.json", "a_1.csv")
    assert joined(others, [".json"]) == others


def test_sizes_and_times_are_those_of_all_parts() -> None:
    (file,) = joined(files("c/a_2.json", "c/a_1.json"), [".json"])
    assert (file.relative, file.path, file.size, file.changed) == ("c/a.json", "/raw/c/a_*.json", 21, 101)
    assert [part.relative for _, part in file.parts] == ["c/a_1.json", "c/a_2.json"]


def test_a_frame_that_is_there_twice_is_refused() -> None:
    with pytest.raises(RawError, match=r"^/raw/a_01\.json: frame 1 is found twice, first as /raw/a_1\.json$"):
        joined(files("a_1.json", "a_01.json"), [".json"])
