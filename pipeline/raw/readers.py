"""The readers by the name that a manifest gives them, and reading the recordings of a dataset."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from skelpipe.errors import RawError, SkelpipeError
from skelpipe.manifest import Manifest
from skelpipe.mapped_files import reading
from skelpipe.plugins import Table, check_call
from skelpipe.raw.collections.formats import IMPORT_FORMATS
from skelpipe.raw.form import Form
from skelpipe.raw.frame_lines import read_frame_line
from skelpipe.raw.gzipped import gunzip
from skelpipe.raw.msr import read_msr
from skelpipe.raw.npy import read_npy
from skelpipe.raw.ntu import read_skeleton
from skelpipe.raw.nw_ucla import read_nw_ucla
from skelpipe.raw.pku import read_pku
from skelpipe.raw.poses.formats import POSE_FORMATS, PoseFormat, reads_frame_files
from skelpipe.raw.poses.people import recording_of
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile, TextBuffer, listing_hash
from skelpipe.raw.text import read_as_text
from skelpipe.untrusted import shown

__all__ = ["FIXED_CHANNELS", "READERS", "RecordingReader"]

Reader = Callable[[np.ndarray, str, Form], Recording]


def _of_text(read: Callable[[np.ndarray, str, int], Recording]) -> Reader:
    """Return the reader of a text format, which also takes texts that other programs saved in their way."""
    return lambda text, name, form: read_as_text(lambda plain: read(plain, name, form.joints), text, name)


def _of_poses(kind: PoseFormat) -> Reader:
    """Return the reader of a pose estimator's files; one file of a format of frames is a recording of a frame."""
    if kind.read is not None:
        return kind.read
    read = kind.read_frame
    assert read is not None
    return lambda text, name, form: recording_of({0: read(text, name, form)}, name, form, kind.adapt)


# The values of a manifest's key `reader`. Each reader takes the bytes of a file (as `TextBuffer` returns them),
# the file's name for error messages, and what the manifest says of its files.
_BUILT_IN: dict[str, Reader] = {
    "ntu-skeleton": _of_text(read_skeleton),
    "pku-text": _of_text(read_pku),
    "msr-text": _of_text(read_msr),
    "npy": read_npy,
    "nw-ucla-json": _of_text(read_nw_ucla),
    **{name: _of_poses(kind) for name, kind in POSE_FORMATS.items()},
}
# The channels that the files of a reader may be declared to hold; readers that are not listed leave it open.
FIXED_CHANNELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ntu-skeleton": (("x", "y", "z"),),
    "pku-text": (("x", "y", "z"),),
    "msr-text": (("x", "y", "z"),),
    "nw-ucla-json": (("x", "y", "z"),),
    **{name: kind.channels for name, kind in POSE_FORMATS.items() if kind.channels},
}


@dataclass(frozen=True)
class _PluginReader:
    """The reader of a plug-in. What it raises names the file, and what it returns is checked."""

    name: str
    read: Reader

    def __call__(self, text: np.ndarray, file: str, form: Form) -> Recording:
        try:
            found = self.read(text, file, form)
        except SkelpipeError:
            raise
        except Exception as error:
            why = shown(f"{type(error).__name__}: {error}")
            raise RawError(f"{file}: reader {self.name} fails: {why}") from error
        if not isinstance(found, Recording):
            raise RawError(f"{file}: reader {self.name} returns {type(found).__name__}, not a Recording")
        bodies = int(found.counts.sum())
        wanted = (bodies, form.joints, 3)
        if found.xyz.shape != wanted or len(found.ids) != bodies:
            raise RawError(
                f"{file}: reader {self.name} returns xyz {found.xyz.shape} and {len(found.ids)} ids; the counts"
                f" and the layout {form.layout.name} mean {wanted} and {bodies}"
            )
        return found


def _accept(name: str, read: Reader, channels: tuple[tuple[str, ...], ...]) -> Reader:
    """Return the reader of a plug-in. `channels` are those that may be declared."""
    check_call(read, "function", "content", "file", "form")
    if not channels or any({*each} - {"x", "y", "z", "score"} or not {"x", "y"} <= {*each} for each in channels):
        raise ValueError(f"its channels are {channels}; each entry names x and y, and may name z and score")
    FIXED_CHANNELS[name] = channels
    return _PluginReader(name, read)


READERS: Final[Table[Reader]] = Table("reader", _BUILT_IN, _accept)


def _forget(xyz: np.ndarray, missing_value: float) -> None:
    """Set joints whose coordinates all are `missing_value` to NaN; of flat poses z says nothing."""
    coordinates = 3 if xyz[..., 2].any() else 2
    xyz[(xyz[..., :coordinates] == missing_value).all(axis=2)] = np.nan


class RecordingReader:
    """Read the recordings of a dataset; keeps the last one, since all clips of a video are read in turn.

    With `hashing`, one of `HASHES`, `hash` is that of the last recording's file as it was read (of frames in files
    of their own, `listing_hash`); None where it could not be read, and for one of many recordings in a file.
    """

    def __init__(self, manifest: Manifest, bodies: int = 1, *, hashing: str = "") -> None:
        """Read by the manifest; clips have `bodies` slots, if those are more than the manifest says."""
        self.hash: str | None = None
        self._reader = manifest.reader
        self._form = replace(Form.of(manifest), bodies=max(manifest.bodies, bodies))
        self._y_down = manifest.y_down
        self._text, self._hashing = TextBuffer(hashing=hashing), hashing
        self._last: tuple[RawFile, Recording | RawError] | None = None

    def read(self, file: RawFile) -> Recording:
        """Return the recording in a file, y upwards; RawError if it is damaged."""
        if self._last is None or self._last[0] != file:
            self.hash, self._text.hash = None, ""
            try:
                self._last = file, self._as_declared(self._recording(file))
            except RawError as error:
                self._last = file, error
            if not file.parts:
                self.hash = self._text.hash or None
        if isinstance(self._last[1], RawError):
            raise self._last[1]
        return self._last[1]

    def parse(self, content: bytes, name: str, reader: str = "") -> Recording:
        """Return the recording in the bytes of a file, which may be gzip, y upwards; `name` begins messages.

        `reader` is the name of another format than the manifest's.
        """
        text = np.frombuffer(gunzip(content, name) + b"\n", np.uint8)
        recording = READERS[reader or self._reader](text, name, self._form)
        if not reader or reader == self._reader:
            return self._as_declared(recording)
        if (kind := POSE_FORMATS.get(reader)) is not None and kind.y_down:
            recording.xyz[:, :, 1] *= -1
        return recording

    def parse_frame(self, line: bytes, name: str) -> Recording:
        """Return the frame in a line of JSON, y upwards, as a recording of one frame.

        The line is a file of the manifest's format, where each of its files is a frame, else as
        `skelpipe.raw.frame_lines` describes; positions are declared as those of the manifest's files.
        """
        if reads_frame_files(self._reader):
            return self.parse(line, name)
        return self._as_declared(read_frame_line(line, name, self._form))

    def _as_declared(self, recording: Recording) -> Recording:
        """Forget joints that have the value of missing ones, and turn y upwards, in place."""
        if self._form.missing_value is not None:
            _forget(recording.xyz, self._form.missing_value)
        if self._y_down:
            recording.xyz[:, :, 1] *= -1
        return recording

    def _recording(self, file: RawFile) -> Recording:
        if file.item is not None:
            read = IMPORT_FORMATS[self._reader].read
            assert read is not None
            form = replace(self._form, by_options=True)
            return reading(lambda: read(file, form))  # some of these files are mapped
        if file.parts:
            return self._recording_of_frames(file)
        return READERS[self._reader](self._text.read_raw(file), file.path, self._form)

    def _recording_of_frames(self, file: RawFile) -> Recording:
        """Read the files of the frames one after the other; only their people stay in memory."""
        kind = POSE_FORMATS[self._reader]
        assert kind.read_frame is not None
        people, hashes = {}, []
        for number, part in file.parts:
            text = self._text.read_raw(part)
            hashes.append((part.relative.rpartition("/")[2], self._text.hash))
            people[number] = kind.read_frame(text, part.path, self._form)
        self.hash = listing_hash(hashes, self._hashing) if self._hashing else None
        return recording_of(people, file.path, self._form, kind.adapt)
