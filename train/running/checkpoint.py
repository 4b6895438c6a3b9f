"""Checkpoints for bit-identical resuming: written whole or not at all, read without running code in them."""

import io
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from skelpipe.errors import SkelpipeError
from skelpipe.files import replacing
from skelpipe.train.running.ranks import ALONE, Ranks
from skelpipe.untrusted import shown

__all__ = ["Checkpoint", "capture_rng", "newest_checkpoint", "read_checkpoint", "restore_rng", "save_checkpoint"]

FORMAT = "skelpipe-checkpoint-1"
FORMAT_WITHIN = "skelpipe-checkpoint-2"  # of one within an epoch, which the reader of the other would not continue
FORMAT_UNMEASURED = "skelpipe-checkpoint-3"  # of one after the last step of an epoch whose figure is not taken yet
KEEP = 3  # newest checkpoints of a run that stay
KEEP_WITHIN = 2  # newest within an epoch that stay, until a later one of whole epochs is written


@dataclass(frozen=True)
class Checkpoint:
    """A run after `epoch` whole epochs: all that the next epoch depends on, for any number of ranks.

    One that was stopped within an epoch has `within` too (see `skelpipe.train.running.tally`); it is empty
    otherwise.

    `identity` is `Provenance.metadata()`, `model` includes the queue and the key network, `loader` is
    `Loader.state()`, `rng` what `capture_rng` returns, `best` the best figure so far and its epoch.
    """

    identity: dict[str, str]
    epoch: int
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    rng: dict[str, Any]
    loader: dict[str, Any]
    best: dict[str, float]
    within: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        step = f"-step-{self.within['step']:06}" if self.within else ""
        return f"epoch-{self.epoch:04}{step}.pt"


def capture_rng(device: torch.device) -> dict[str, Any]:
    """Return the state of torch's global generators, from which dropout draws."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng(state: dict[str, Any], device: torch.device) -> None:
    """Set torch's global generators back. A state from another kind of device restores only the CPU's."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = KEEP) -> Path:
    """Write `folder/epoch-NNNN.pt` (`epoch-NNNN-step-NNNNNN.pt` within an epoch) atomically; return its path.

    Then remove all earlier ones but the `keep` newest of whole epochs, and the two newest within a later epoch.
    """
    path = folder / checkpoint.name
    names = _NAMES if checkpoint.within else _WHOLE
    content = {name: getattr(checkpoint, name) for name in names}
    try:
        content = {"format": _format(checkpoint), **content}
        with replacing(path, durable=True, needs=partial(_size, content)) as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch reports a full disk so
        raise SkelpipeError(f"{path}: cannot be written: {_line(error)}") from None
    whole = [old for old in _paths(folder) if not _position(old)[1]]
    within = [old for old in _paths(folder) if _position(old)[1]]
    last = _position(whole[-1]) if whole else (0, 0)
    stay = [old for old in within if _position(old) > last][-KEEP_WITHIN:]
    for old in (*whole[:-keep], *(old for old in within if old not in stay)):
        old.unlink()
    return path


def _size(content: Any) -> int:
    """Return the bytes that `torch.save` would write."""
    counted = _Counted()
    torch.save(content, cast(IO[bytes], counted))
    return counted.size


class _Counted(io.RawIOBase):
    """A file that keeps no more than how long it is."""

    size = 0

    def write(self, content: Any) -> int:
        written = memoryview(content).nbytes
        self.size += written
        return written


def _format(checkpoint: Checkpoint) -> str:
    if not checkpoint.within:
        return FORMAT
    return FORMAT_UNMEASURED if checkpoint.within.get("unmeasured") else FORMAT_WITHIN


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU. One that is damaged, foreign or carries code is a SkelpipeError."""
    return _read(path, path)


def _read(file: Path | IO[bytes], path: Path) -> Checkpoint:
    try:
        with zipfile.ZipFile(file) as archive:
            if any(each.compress_type for each in archive.infolist()):  # a kilobyte could stand for gigabytes
                raise SkelpipeError(f"{path}: its members are compressed: it is no checkpoint of a skelpipe run")
            broken = archive.testzip()
        if broken is not None:
            raise SkelpipeError(f"{path}: damaged: the checksum of {broken} does not fit")
        if not isinstance(file, Path):
            file.seek(0)
        with warnings.catch_warnings():  # torch's words on odd pickles
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SkelpipeError(f"{path}: there is no such checkpoint") from None
    except zipfile.BadZipFile:
        raise SkelpipeError(f"{path}: truncated, or no checkpoint at all") from None
    except SkelpipeError:
        raise
    except Exception as error:  # torch.load has no documented set of errors
        raise SkelpipeError(f"{path}: cannot be read as a checkpoint: {_line(error)}") from None
    version = content.get("format") if isinstance(content, dict) else None
    names = _WHOLE if version == FORMAT else _NAMES
    if version not in (FORMAT, FORMAT_WITHIN, FORMAT_UNMEASURED):
        raise SkelpipeError(f"{path}: is no checkpoint of a skelpipe run")
    missing = [name for name in names if name not in content]
    if missing:
        raise SkelpipeError(f"{path}: incomplete: it has no {', '.join(missing)}")
    return Checkpoint(**{name: content[name] for name in names})


def newest_checkpoint(
    folder: Path, say: Callable[[str], None], team: Ranks = ALONE
) -> tuple[Path, Checkpoint] | None:
    """Return the newest whole checkpoint of a run and its path, or None where there is none.

    A damaged one is reported through `say` and skipped; it is an error if all are damaged. With several ranks,
    rank 0 reads it and sends it to the others, whose machines may not have the folder.
    """
    if team.world == 1:
        return _newest(folder, say)
    found: list[tuple[Path, Checkpoint]] = []

    def read() -> bytes:
        newest = _newest(folder, say)
        if newest is None:
            return b""
        found.append(newest)
        return str(newest[0]).encode() + b"\n" + newest[0].read_bytes()

    content = team.from_main(read)
    if content and not found:
        name, _, saved = content.partition(b"\n")
        found.append((Path(name.decode()), _read(io.BytesIO(saved), Path(name.decode()))))
    return found[0] if found else None


def _newest(folder: Path, say: Callable[[str], None]) -> tuple[Path, Checkpoint] | None:
    paths = _paths(folder)
    for path in reversed(paths):
        try:
            return path, read_checkpoint(path)
        except SkelpipeError as error:
            say(f"skipping {error}")
    if paths:
        raise SkelpipeError(f"{folder}: none of its {len(paths)} checkpoints can be read")
    return None


def _paths(folder: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first. What an interrupted write left behind has another suffix."""
    return sorted((path for path in folder.glob("epoch-*.pt") if _NAME.fullmatch(path.name)), key=_position)


def _position(path: Path) -> tuple[int, int]:
    """Return the whole epochs, and the batches of the next one, of the checkpoint with this name."""
    found = _NAME.fullmatch(path.name)
    assert found is not None, "a name that `_paths` returned"
    return int(found[1]), int(found[2] or 0)


def _line(error: Exception) -> str:
    """Return the first sentence of torch's often long messages."""
    return shown(" ".join(str(error).split()).partition(". ")[0]) or type(error).__name__


_NAME = re.compile(r"epoch-([0-9]+)(?:-step-([0-9]+))?\.pt")
_NAMES = tuple(entry.name for entry in fields(Checkpoint))
_WHOLE = tuple(name for name in _NAMES if name != "within")
