"""The readers by the name that a manifest gives them, and reading the recordings of a dataset."""

from collections.abc import Callable

import numpy as np

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest
from skelpipe.raw.form import Form
from skelpipe.raw.msr import read_msr
from skelpipe.raw.npy import read_npy
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.nw_ucla import read_nw_ucla
from skelpipe.raw.pku import read_pku
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile, TextBuffer

__all__ = ["FIXED_CHANNELS", "READERS", "RecordingReader"]

Reader = Callable[[np.ndarray, str, Form], Recording]


def _of_joints(read: Callable[[np.ndarray, str, int], Recording]) -> Reader:
    """Return the reader of a format that leaves nothing open but the number of joints."""
    return lambda text, name, form: read(text, name, form.joints)


# The values of a manifest's key `reader`. Each reader takes the bytes of a file (as `TextBuffer` returns them),
# the file's name for error messages, and what the manifest says of its files.
READERS: dict[str, Reader] = {
    "ntu-skeleton": _of_joints(read_skeleton),
    "pku-text": _of_joints(read_pku),
    "msr-text": _of_joints(read_msr),
    "npy": read_npy,
    "nw-ucla-json": _of_joints(read_nw_ucla),
}
# The channels that the files of a reader may be declared to hold; readers that are not listed leave it open.
FIXED_CHANNELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ntu-skeleton": (("x", "y", "z"),),
    "pku-text": (("x", "y", "z"),),
    "msr-text": (("x", "y", "z"),),
    "nw-ucla-json": (("x", "y", "z"),),
}


class RecordingReader:
    """Read the recordings of a dataset; keeps the last one, since all clips of a video are read in turn."""

    def __init__(self, manifest: Manifest) -> None:
        self._read = READERS[manifest.reader]
        self._form = Form.of(manifest)
        self._y_down = manifest.y_down
        self._text = TextBuffer()
        self._last: tuple[str, Recording | RawError] | None = None

    def read(self, file: RawFile) -> Recording:
        """Return the recording in a file, y upwards; RawError if it is damaged."""
        if self._last is None or self._last[0] != file.path:
            try:
                recording = self._read(self._text.read_raw(file), file.path, self._form)
                if self._y_down:
                    recording.xyz[:, :, 1] *= -1
                self._last = file.path, recording
            except RawError as error:
                self._last = file.path, error
        if isinstance(self._last[1], RawError):
            raise self._last[1]
        return self._last[1]
