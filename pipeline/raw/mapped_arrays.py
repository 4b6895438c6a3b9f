"""Arrays of .npy and .npz files, mapped into memory: any row of a file of any size is read without the others."""

import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from isal import isal_zlib

from skelpipe import mapped_files
from skelpipe.errors import DatasetError, RawError
from skelpipe.raw.npy import read_array
from skelpipe.untrusted import shown

__all__ = ["check_npz", "is_npy", "map_file", "map_npy", "map_npz", "npy_array"]

MAGIC = b"\x93NUMPY"
LOCAL_HEADER = struct.Struct("<4s5H3L2H")
LOCAL_MAGIC = b"PK\x03\x04"
ENCRYPTED = 1
PIECE = 1 << 24  # bytes whose CRC is computed at once
MOST_INFLATED = 1 << 30  # bytes of a compressed array, which each worker keeps in memory


def map_file(path: str) -> memoryview:
    """Return the bytes of a file, mapped; RawError if it cannot be read or is empty."""
    try:
        facts = os.stat(path)
        if not facts.st_size:
            raise RawError(f"{path}: the file is empty")
        return _mapped(path, facts.st_mtime_ns)
    except OSError as error:
        raise RawError(f"{path}: cannot be read: {error.strerror}") from None


@lru_cache(maxsize=8)
def _mapped(path: str, _changed: int) -> memoryview:
    """Map a file and keep it mapped; one that has changed on disk is mapped again."""
    try:
        return mapped_files.map_file(path).data
    except DatasetError as error:
        raise RawError(str(error)) from None


def is_npy(path: str) -> bool:
    """Return whether a file starts like an .npy file."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def map_npy(path: str) -> np.ndarray:
    """Return the array in an .npy file, mapped and read-only; RawError for a damaged file or pickled objects."""
    return npy_array(map_file(path), path)


def npy_array(content: memoryview, name: str) -> np.ndarray:
    """Return the array in the bytes of an .npy file, a view of them."""
    return read_array(np.asarray(content), name, "array")


def map_npz(path: str) -> Mapping[str, np.ndarray]:
    """Return the arrays of an .npz file by name.

    Arrays that numpy.savez wrote are mapped where they lie in the file; compressed ones are unpacked into memory
    if they are small, and refused else. RawError for a damaged file.
    """
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError as error:
        raise RawError(f"{path}: cannot be read: {error.strerror}") from None
    return _npz(path, changed)


def check_npz(path: str) -> None:
    """Compare the mapped arrays of an .npz file with their CRCs; RawError names the one that is damaged.

    It reads the whole file; compressed arrays are checked whenever they are unpacked.
    """
    map_npz(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                continue
            content, crc = _stored(path, info), 0
            for start in range(0, len(content), PIECE):
                crc = isal_zlib.crc32(content[start : start + PIECE], crc)
            if crc != info.CRC:
                raise RawError(f"{path}: {shown(info.filename)}: damaged: its CRC is not what the archive says")


@lru_cache(maxsize=4)
def _npz(path: str, _changed: int) -> Mapping[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                info.filename.removesuffix(".npy"): _member(path, archive, info)
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
    except (OSError, zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, zlib.error, EOFError) as error:
        raise RawError(f"{path}: cannot be read as .npz (cut off in download?): {shown(error)}") from None


def _member(path: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    where = f"{path}: {shown(info.filename.removesuffix('.npy'))}"
    if info.flag_bits & ENCRYPTED:
        raise RawError(f"{where}: is encrypted")
    if info.compress_type != zipfile.ZIP_STORED:
        if info.file_size > MOST_INFLATED:
            raise RawError(
                f"{where}: is compressed and has {info.file_size:,} bytes: recordings are read in any order, so"
                " save it once by numpy.savez, which does not compress, instead of numpy.savez_compressed"
            )
        with archive.open(info) as member:
            inflated = member.read(info.file_size + 1)
        return npy_array(memoryview(inflated), where)
    return npy_array(_stored(path, info), where)


def _stored(path: str, info: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of an array that is not compressed, mapped."""
    where = f"{path}: {shown(info.filename)}"
    mapped = map_file(path)
    head = bytes(mapped[info.header_offset : info.header_offset + LOCAL_HEADER.size])
    if len(head) < LOCAL_HEADER.size or not head.startswith(LOCAL_MAGIC):
        raise RawError(f"{where}: the archive is damaged: no array starts where its directory says")
    *_, name_size, extra_size = LOCAL_HEADER.unpack(head)
    start = info.header_offset + LOCAL_HEADER.size + name_size + extra_size
    content = mapped[start : start + info.file_size]
    if len(content) != info.file_size:
        raise RawError(
            f"{where}: {info.file_size} bytes are expected, found {len(content)} (cut off in download?)"
        )
    return content
