"""A recording from a pipe: its format is told by its content, and frames in lines are read as they come."""

import json
from collections.abc import Iterator
from itertools import chain, count
from typing import IO

import numpy as np

from skelpipe.errors import RawError, UsageError
from skelpipe.manifest import Manifest
from skelpipe.raw.frame_lines import is_frame
from skelpipe.raw.gzipped import MOST_BYTES
from skelpipe.raw.poses.formats import POSE_FORMATS, reads_frame_files
from skelpipe.raw.readers import READERS, RecordingReader
from skelpipe.raw.recording import Recording

__all__ = ["LINES", "PIPE_FORMATS", "joined", "read_piped"]

LINES = "lines"
PIPE_FORMATS = (LINES, *READERS)
LONGEST_LINE = 1 << 24  # bytes of a frame
ARRAYS = (b"\x93NUMPY", b"PK\x03\x04")
GZIP = b"\x1f\x8b"
NTU = "ntu-skeleton"


def read_piped(stream: IO[bytes], manifest: Manifest, bodies: int, format_: str, name: str) -> Iterator[Recording]:
    """Yield the recording in a stream in pieces: frame by frame where its lines are frames, else whole.

    `format_` is one of `PIPE_FORMATS`, or empty: then the content decides among arrays of numpy, lines of JSON,
    NTU RGB+D's text and the manifest's own format. `name` begins messages. A RawError names the line where one is
    damaged.
    """
    reader = RecordingReader(manifest, bodies)
    first = b"\n"
    while first in (b"\n", b"\r\n"):
        first = stream.readline(LONGEST_LINE)
    if not first:
        raise RawError(f"{name}: the pipe ended before a recording came")
    chosen = format_ or _of_content(first, manifest.reader)
    if chosen == LINES:
        yield from _frames(stream, first, reader, name)
        return
    if chosen not in READERS:
        raise UsageError(
            f"{name}: recordings of {manifest.name} are parts of files that hold many, which a pipe does not take:"
            f" name another format with --format: {', '.join(PIPE_FORMATS)}"
        )
    content = first + stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise RawError(f"{name}: is longer than {MOST_BYTES} bytes: no recording is")
    yield reader.parse(content, name, chosen)


def joined(pieces: Iterator[Recording]) -> Recording:
    """Return pieces of a recording, in their order, as one."""
    parts = list(pieces)
    if len(parts) == 1:
        return parts[0]
    scores = [part.scores for part in parts if part.scores is not None]
    return Recording(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.xyz for part in parts]),
        np.concatenate(scores) if len(scores) == len(parts) else None,
    )


def _frames(stream: IO[bytes], first: bytes, reader: RecordingReader, name: str) -> Iterator[Recording]:
    lines = chain([first], iter(lambda: stream.readline(LONGEST_LINE), b""))
    for number, line in zip(count(1), lines, strict=False):
        if len(line) >= LONGEST_LINE:
            raise RawError(f"{name}:{number}: a line of more than {LONGEST_LINE} bytes is no frame")
        if line.strip():
            yield reader.parse_frame(line, f"{name}:{number}")


def _of_content(first: bytes, reader: str) -> str:
    """Return the format of a stream that begins with this line; `reader` is that of the manifest."""
    if first.startswith(ARRAYS):
        return "npy"
    if first.startswith(GZIP):
        return reader
    start = first.lstrip(b"\xef\xbb\xbf \t")[:1]
    if start in (b"[", b"{", b"n"):
        try:
            content = json.loads(first)
        except (ValueError, RecursionError):  # a recording whose JSON goes on in the next line
            return reader
        return LINES if is_frame(content) or reads_frame_files(reader) else reader
    if first.strip().isdigit() and (reader in POSE_FORMATS or reader not in READERS or reader == "npy"):
        return NTU
    return reader
