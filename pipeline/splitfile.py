"""Split files as PKU-MMD's download has them: a header, training ids with commas, a header, validation ids."""

from pathlib import Path

from skelpipe.errors import UsageError

__all__ = ["read_split_file"]


def read_split_file(path: str | Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the ids for training and for testing.

    Ids are separated by commas or blanks, on one line or several. UsageError names file and line where the
    layout is another, an id is listed on both sides, or a side is empty.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError(f"--split-file {path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--split-file {path}: is no text") from None
    sides: list[set[str]] = []
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        if "train" in words[0].lower() or "valid" in words[0].lower() or "test" in words[0].lower():
            expected = ("train",) if not sides else ("valid", "test")
            if len(sides) == 2 or not any(word in words[0].lower() for word in expected):
                raise UsageError(f"--split-file {path}:{number}: the header {line.strip()!r} is out of turn")
            sides.append(set())
        elif not sides:
            raise UsageError(f"--split-file {path}:{number}: a header such as 'Training videos:' is expected")
        else:
            sides[-1].update(words)
    if len(sides) != 2 or not all(sides):
        raise UsageError(f"--split-file {path}: a training and a validation list with headers are expected")
    train, test = map(frozenset, sides)
    if both := sorted(train & test):
        raise UsageError(f"--split-file {path}: {both[0]} is on both lists")
    return train, test
