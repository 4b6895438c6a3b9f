"""What `skelpipe import` finds in files: recordings with their labels and subsets, and what the arrays are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import NamedTuple

from skelpipe.errors import UsageError
from skelpipe.raw.form import Form
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile
from skelpipe.raw.web_shards import UNLABELLED

__all__ = [
    "UNLABELLED",
    "Contents",
    "Entry",
    "ImportFormat",
    "Request",
    "array_axes",
    "split_of_path",
    "subset_of_file",
    "subset_of_name",
    "words",
]

ONE_BODY = 3  # axes of the array of one body
SUBSET_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "test", "testing"), "test"),
}
SPLIT_WORDS = {
    **dict.fromkeys(("xsub", "csub", "cs", "crosssubject"), "xsub"),
    **dict.fromkeys(("xview", "cv", "crossview"), "xview"),
    **dict.fromkeys(("xset", "cset", "xsetup", "crosssetup"), "xset"),
}


class Entry(NamedTuple):
    """One recording: its id, its subset, its label from 0 (-1 where there is none), and where it is.

    Of a piece of a longer recording, `piece` is the first and the last frame (from 1, both included), and `origin`
    the file and line that say so.
    """

    id: str
    subset: str
    label: int
    file: RawFile
    piece: tuple[int, int] | None = None
    origin: str = ""


@dataclass(frozen=True)
class Request:
    """What the user gave: the files, in the order of the command and of their names, and what they are said to be.

    `split` and `layout` are names; `joints` is the number of joints of that layout. `axes` are the letters of the
    arrays' axes (N, C, T, V, M) and `channels` the meaning of the numbers of a joint, empty where they are not
    declared. `label_column` is the column of a metadata file that holds the label. `image_size` is the width and
    height of the pictures; with `y_down`, y grows downwards where the format leaves it open. `array` is the member
    of a sample that holds the positions, and perhaps the name inside it.
    """

    files: Sequence[RawFile]
    split: str | None = None
    subset: str | None = None
    layout: str | None = None
    joints: int | None = None
    axes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    label_column: str | None = None
    image_size: tuple[int, int] | None = None
    y_down: bool = False
    array: str = ""


@dataclass(frozen=True)
class Contents:
    """The recordings that an import would read, and what their format says of them.

    `reader` reads them: a name in IMPORT_FORMATS or in READERS. `layouts` are those that fit, the format's own
    first; with several, or none, the user chooses. `class_count` is the least number of classes, or with
    `all_classes` their number; `classes` are their names where the files have them. `frames` is the length of all
    arrays, where it is the same; if they are `padded`, zeros at their end are no frames. `profile` is the default
    profile. `made_by` is the profile that had made the arrays before they were stored, if one did. `split` is what
    the files' names say. `missing_joints` is the default policy. `outside` are the numbers of recordings left out,
    by reason; `notes` are lines for the user.
    """

    reader: str
    entries: Sequence[Entry]
    joints: int
    bodies: int
    layouts: tuple[str, ...]
    class_count: int
    all_classes: bool = False
    frames: int | None = None
    padded: bool = True
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    array: str = ""
    units: str = "metres"
    y_down: bool = False
    image_size: tuple[int, int] | None = None
    missing_joints: str = "refused"
    made_by: str = ""
    profile: str = "crosclr"
    split: str = ""
    outside: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportFormat:
    """A format that can be imported.

    `claims` says from names and first bytes whether files of the request look like this format; `index` returns
    their contents, and raises RawError for damage and UsageError where the user has to say more. `read` reads one
    recording of a file that holds many; None where each recording is a file of its own, which READERS read.
    """

    name: str
    title: str
    claims: Callable[[Request], bool]
    index: Callable[[Request], Contents]
    read: Callable[[RawFile, Form], Recording] | None = None


def subset_of_name(name: str) -> str | None:
    """Return the subset that the words of a name say (`val_data.npy`: test), or None."""
    found = {SUBSET_WORDS[word] for word in words(name) if word in SUBSET_WORDS}
    return found.pop() if len(found) == 1 else None


def subset_of_file(file: RawFile, request: Request, lacking: str = "") -> str:
    """Return the subset that the user says, or else the file's name; UsageError if neither does.

    `lacking` is what else the file does not say, for the message.
    """
    subset = request.subset or subset_of_name(PurePath(file.relative).name)
    if subset is None:
        raise UsageError(
            f"{file.path}: {lacking}its name says neither train nor val nor test: say with --subset train or test"
            " what it is"
        )
    return subset


def array_axes(shape: tuple[int, ...], request: Request, where: str) -> list[str]:
    """Return the axes of one recording's array: the declared ones, else T,V,C or T,M,V,C by their number."""
    axes = [axis for axis in request.axes if axis != "N"] or list("TVC" if len(shape) == ONE_BODY else "TMVC")
    if len(shape) != len(axes):
        raise UsageError(
            f"{where}: the shape {list(shape)} is not {','.join(axes)}: declare the order, such as --axes M,T,V,C"
        )
    return axes


def split_of_path(path: str) -> str:
    """Return the split that a file's name or the folder that holds it says (`xview/train_data.npy`), or ""."""
    for part in (PurePath(path).name, PurePath(path).parent.name):
        found = {SPLIT_WORDS[word] for word in words(part) if word in SPLIT_WORDS}
        if len(found) == 1:
            return found.pop()
    return ""


def words(name: str) -> list[str]:
    """Return the words of a name, in lower case."""
    return "".join(c if c.isalnum() else " " for c in name.lower()).split()
