"""Split files: every mistake is reported with file and line."""

from pathlib import Path

import pytest

from skelpipe.errors import UsageError
from skelpipe.prepare.split_file import read_split_file

BAD_LISTS = {
    "no header": ("0002-L,\n", ":1: a header"),
    "one list": ("Training videos:\n0002-L,\n", "a training and a validation list"),
    "both": ("Training videos:\n0002-L,\nValidation videos:\n0002-L,\n", "0002-L is in both lists"),
    "reversed": (
        "Validation videos:\n0002-L,\nTraining videos:\n0003-L\n",
        ":1: the header .* is not expected here",
    ),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_wrong_split_files_are_refused(tmp_path, case) -> None:
    text, message = BAD_LISTS[case]
    (tmp_path / "split.txt").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_split_file(tmp_path / "split.txt")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_list_without_end_is_given_up() -> None:
    with pytest.raises(UsageError, match=r"^--split-file /dev/zero: is longer than 64 MB, which no list is$"):
        read_split_file("/dev/zero")
