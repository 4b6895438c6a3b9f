"""UTKinect's `actionLabel.txt`: the pieces of all sequences and their classes, in one file."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from skelpipe.errors import RawError
from skelpipe.raw.collections.contents import Entry
from skelpipe.raw.collections.folders import Organised
from skelpipe.raw.source import RawFile, TextBuffer
from skelpipe.raw.table import lines_of
from skelpipe.untrusted import shown, whole

__all__ = ["LABELS", "with_action_labels"]

LABELS = "actionlabel.txt"
SEQUENCE = re.compile(r"s[0-9]+_e[0-9]+")
ABSENT = "nan"  # both frames of an action that a sequence does not show


def with_action_labels(found: Organised, files: Sequence[RawFile]) -> Organised:
    """Return the pieces that `actionLabel.txt` names of the sequences, if it is among the files.

    The file holds, for each sequence, its name (`s01_e01`) and lines `walk: 252 390`: class, first and last frame.
    Classes are in the order in which it names them. Raises RawError that names the line.
    """
    tables = [file for file in files if PurePosixPath(file.relative).name.lower() == LABELS]
    if not tables:
        return found
    if len(tables) > 1:
        raise RawError(f"{tables[1].path}: another file of labels, beside {tables[0].path}")
    sequences = {PurePosixPath(entry.file.relative).stem.removeprefix("joints_"): entry for entry in found.entries}
    classes: dict[str, int] = {}
    pieces: list[Entry] = []
    absent = 0
    entry: Entry | None = None
    sequence = ""
    for line, words in lines_of(TextBuffer().read_raw(tables[0]), tables[0].path):
        where = f"{tables[0].path}:{line}"
        if len(words) == 1 and SEQUENCE.fullmatch(words[0]):
            sequence, entry = words[0], sequences.get(words[0])
            continue
        name, first, last = _row(words, sequence, where)
        label = classes.setdefault(name, len(classes))
        if first is None or last is None:
            absent += 1
        elif entry is not None:
            pieces.append(entry._replace(id=f"{sequence}_{name}", label=label, piece=(first, last), origin=where))
    notes = (f"{tables[0].path}: {len(pieces)} actions of {len(sequences)} sequences, {absent} not shown",)
    return replace(
        found, entries=pieces, classes=tuple(classes), class_count=len(classes), notes=(*found.notes, *notes)
    )


def _row(words: Sequence[str], sequence: str, where: str) -> tuple[str, int | None, int | None]:
    """Return class, first and last frame; None where the sequence does not show the action."""
    name, numbers = words[0].removesuffix(":"), words[1:]
    if numbers[:1] == [":"]:
        numbers = numbers[1:]
    if not sequence or len(numbers) != 2 or not name:
        raise RawError(f"{where}: the name of a sequence, or a row such as 'walk: 252 390', is expected")
    if all(number.lower() == ABSENT for number in numbers):
        return name, None, None
    first, last = map(whole, numbers)
    if first is None or last is None or not 1 <= first <= last:
        raise RawError(f"{where}: frames {shown(' '.join(numbers))} are no piece of a sequence")
    return name, first, last
