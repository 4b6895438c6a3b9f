"""What is given to a network as clips: arrays, datasets, or raw recordings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.front.arguments import given as words
from skelpipe.front.descriptions import shape_text
from skelpipe.progress import progress
from skelpipe.storage import open_filesystem
from skelpipe.train.inference.clip_maker import ClipMaker
from skelpipe.train.inference.recordings import recordings

__all__ = ["Clips", "Piece", "as_dataset", "checked_clips", "pieces_of"]

CARD = "dataset.json"

# Joint clips [N,C,T,V,M]; a dataset; or paths and URLs of raw files, folders and archives, one or several.
Clips: TypeAlias = "np.ndarray | Tensor | Dataset | str | Path | Sequence[str | Path]"


@dataclass
class Piece:
    """Some joint clips, float32 [n,C,T,V,M], and what results call them."""

    ids: list[str]
    clips: Tensor
    damaged: list[tuple[str, str]] = field(default_factory=list)


def as_dataset(given: Any) -> Dataset | None:
    """Return the dataset that is given, or that a path or URL names; None for anything else."""
    if isinstance(given, Dataset):
        return given
    if isinstance(given, str) and "://" in given:
        if given.lower().startswith(("s3://", "gs://", "gcs://", "http://", "https://")):
            try:
                found = open_filesystem(given).size(CARD)
            except SkelpipeError:
                return None  # the address of a file
            return Dataset.open(given) if found is not None else None
        return None
    if isinstance(given, str | Path) and (Path(given) / CARD).is_file():
        return Dataset.open(given)
    return None


@contextmanager
def pieces_of(
    given: Any,
    shape: tuple[int, int, int, int],
    maker: ClipMaker | None,
    batch_size: int,
    *,
    why_no_maker: str = "",
    skip_bad: bool = False,
    quiet: bool = True,
) -> Iterator[Iterator[Piece]]:
    """Yield an iterator over arrays or raw recordings as pieces of at most `batch_size` clips.

    UsageError where arrays are not of the shape [N, *shape], or raw recordings cannot be made into clips since
    `maker` is None.
    """
    if isinstance(given, np.ndarray | Tensor):
        yield _of_array(given, shape, batch_size)
        return
    names = _names(given)
    if maker is None:
        raise UsageError(why_no_maker)
    with recordings(names, maker.manifest, quiet=quiet) as (files, fetched):

        def made() -> Iterator[Piece]:
            starts = range(0, len(files), batch_size)
            for start in progress(starts, "recordings", len(starts), quiet=quiet or len(starts) == 1):
                damaged: list[Any] | None = [] if skip_bad else None
                clips, kept = maker.clips(files[start : start + batch_size], damaged)
                names = [maker.name(file.named) for file in kept]
                left_out = [(fetched.named(file.path), fetched.named(why)) for file, why in damaged or ()]
                yield Piece(names, torch.from_numpy(clips), left_out)

        yield made()


def _names(given: Any) -> list[str | Path]:
    if isinstance(given, str | Path):
        if not str(given):
            raise UsageError("the name of the recordings is empty")
        return [given]
    possible = "clips [N,C,T,V,M] as one array, a dataset, or paths and URLs of recordings"
    if isinstance(given, type | Mapping | bytes) or not isinstance(given, Iterable):
        raise UsageError(f"expected {possible}, not {words(given)}")
    names = list(given)
    if wrong := [each for each in names if not isinstance(each, str | Path)]:
        raise UsageError(f"expected {possible}, not a list with {words(wrong[0])}")
    if not names:
        raise UsageError("there are no recordings: the list of names is empty")
    return names


def checked_clips(clips: Any, shape: tuple[int, int, int, int], *, free: bool = False) -> Tensor:
    """Return an array or a tensor as a tensor; UsageError where it holds no joint clips of the shape [N, *shape].

    With `free` they may have other numbers of frames and bodies.
    """
    if not isinstance(clips, np.ndarray | Tensor):
        raise UsageError(f"expected joint clips as an array or a tensor, not {words(clips)}")
    if isinstance(clips, np.ndarray) and clips.dtype.kind not in "biufc":
        raise UsageError(f"clips hold {clips.dtype}; positions are floating-point numbers")
    x = torch.as_tensor(clips)
    wanted = (shape[0], *x.shape[2:3], shape[2], *x.shape[4:5]) if free else shape
    if x.ndim != 5 or tuple(x.shape[1:]) != wanted:
        found = list(x.shape)
        raise UsageError(f"clips have the shape {found}; this network takes joint clips {shape_text(shape)}")
    if not x.is_floating_point():
        raise UsageError(f"clips hold {str(x.dtype).removeprefix('torch.')}; positions are floating-point numbers")
    return x


def _of_array(clips: np.ndarray | Tensor, shape: tuple[int, int, int, int], batch_size: int) -> Iterator[Piece]:
    x = checked_clips(clips, shape)

    def pieces() -> Iterator[Piece]:
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size].float()
            yield Piece([str(number) for number in range(start, start + len(part))], part)

    return pieces()
