"""State dicts in PyTorch's own file format, read without running code that a file may hold."""

import os
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.untrusted import shown

__all__ = ["inflates", "is_pickled", "is_torch_file", "read_content", "read_state"]

ENDINGS = (".pt", ".pth")
LONGEST_NAME = 60  # characters of a name in messages
PICKLED = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # PK: a zip archive, the new format

ALSO = "skelpipe.Encoder.load, or Classifier.load for actions,"  # what reads what skelpipe wrote

NAMED = re.compile(r"GLOBAL ([\w.]+)")  # in torch's message about a Python object that it refuses
UNNAMED = re.compile(r"[Uu]nsupported|instantiate")


def is_torch_file(path: Path) -> bool:
    """Say whether `read_content` can read a file: by its suffix or, with any other suffix, by its first bytes."""
    return path.suffix in ENDINGS or (path.is_file() and is_pickled(path))


def is_pickled(path: Path) -> bool:
    """Say whether a file begins like one of `torch.save` or another pickle; OSError where it cannot be read."""
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with a length, which may have any bytes, and then a JSON header.
    return start[:2] in PICKLED and start[8:] != b"{"


def read_content(path: Path) -> object:
    """Return what `torch.save` wrote into a file, in the new or the old format, on the CPU.

    Raises SkelpipeError, naming the file, where it is missing or damaged, or holds more than tensors and plain
    values: reading such a file could run code. UsageError for what skelpipe wrote in another format.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, not a file of torch.save; {ALSO} reads the folder of a run")
    try:
        file = path.open("rb")
    except OSError as error:
        raise SkelpipeError(f"{path}: cannot be read: {error.strerror or error}") from None
    with file:
        start = file.read(9)
        if start[8:] == b"{":
            raise UsageError(f"{path}: is a safetensors file, not one of torch.save; {ALSO} reads it")
        if start[:2] not in PICKLED:
            raise SkelpipeError(f"{path}: damaged, or not a PyTorch file")
        file.seek(0)
        if inflates(file):
            raise SkelpipeError(
                f"{path}: its members are compressed, as those of torch.save are not: it is not read"
            )
        try:
            with warnings.catch_warnings():  # torch's words on odd pickles
                warnings.simplefilter("ignore")
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load has no documented set of errors
            raise SkelpipeError(f"{path}: {_reason(str(error))}") from None


def inflates(file: IO[bytes]) -> bool:
    """Say whether a zip archive, open at its start, stands for more than its bytes: torch would inflate it all."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return False  # none, or a damaged one, of which torch says so
    finally:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
    return any(each.compress_type for each in members) or sum(each.file_size for each in members) > size


def _reason(message: str) -> str:
    name = NAMED.search(message)
    if name is None and not UNNAMED.search(message):
        return "damaged, or not a PyTorch file"
    what = f"the Python object {shown(name[1], LONGEST_NAME)}" if name else "Python objects"
    return (
        f"holds {what} beside tensors, which could run code when loaded: it is not read; save the state dict alone"
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors by name in a file; SkelpipeError where it holds anything but a state dict.

    What skelpipe wrote is a UsageError that says what reads it.
    """
    content = read_content(path)
    if not isinstance(content, dict) or not content:
        raise SkelpipeError(f"{path}: holds no state dict, that is tensors by name")
    if str(content.get("format", "")).startswith("skelpipe-checkpoint"):
        raise UsageError(f"{path}: is a checkpoint of a skelpipe run, not a state dict alone; {ALSO} reads it")
    others = [str(key) for key, value in content.items() if not (isinstance(key, str) and torch.is_tensor(value))]
    if others:
        listed = ", ".join(shown(name, LONGEST_NAME) for name in others[:8])
        raise SkelpipeError(f"{path}: is not a plain state dict: {listed} is not a named tensor")
    return dict(content)
