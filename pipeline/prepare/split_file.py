"""Split files as in PKU-MMD's download: a header, training ids with commas, a header, validation ids."""

import re
from pathlib import Path

from skelpipe.errors import UsageError
from skelpipe.files import read_lines
from skelpipe.untrusted import described, shown

__all__ = ["read_split_file"]

# Words only, up to a colon or the end of the line, so that an id that starts with "test" is not a header.
HEADER = re.compile(r"\s*(?P<subset>(train|valid|test)[a-z]*)(\s+[a-z]+)*\s*(:|$)(?P<rest>.*)", re.IGNORECASE)


def read_split_file(path: str | Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids for training and for testing.

    Ids are separated by commas or blanks, on one line or several. Raises UsageError, with file and line, for any
    other layout, an id in both lists, or an empty list.
    """
    lines = read_lines(Path(path), f"--split-file {path}", plain=False)
    subsets: list[set[str]] = []
    for number, line in enumerate(lines, 1):
        header = HEADER.match(line)
        if header:
            if len(subsets) == 2 or header["subset"].lower().startswith("train") != (not subsets):
                said = described(line.strip())
                raise UsageError(f"--split-file {path}:{number}: the header {said} is not expected here")
            subsets.append(set())
        words = (header["rest"] if header else line).replace(",", " ").split()
        if words and not subsets:
            raise UsageError(f"--split-file {path}:{number}: a header such as 'Training videos:' is expected")
        if words:
            subsets[-1].update(words)
    if len(subsets) != 2 or not all(subsets):
        raise UsageError(f"--split-file {path}: a training and a validation list with headers are expected")
    train, test = map(frozenset, subsets)
    if both := sorted(train & test):
        raise UsageError(f"--split-file {path}: {shown(both[0])} is in both lists")
    return train, test
