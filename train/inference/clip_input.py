"""What is given to a network as clips: arrays, datasets, or raw recordings."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.progress import progress
from skelpipe.storage import open_filesystem
from skelpipe.train.inference.clip_maker import ClipMaker
from skelpipe.train.inference.recordings import recordings

__all__ = ["Clips", "Piece", "as_dataset", "pieces_of"]

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
    names = [given] if isinstance(given, str | Path) else list(given)
    if wrong := [each for each in names if not isinstance(each, str | Path)]:
        raise UsageError(
            f"expected clips [N,C,T,V,M] as one array, a dataset, or paths and URLs of recordings, "
            f"not {type(wrong[0]).__name__}"
        )
    if not names:
        raise UsageError("there are no recordings: the list of names is empty")
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


def _of_array(clips: np.ndarray | Tensor, shape: tuple[int, int, int, int], batch_size: int) -> Iterator[Piece]:
    x = torch.as_tensor(clips)
    if x.ndim != 5 or tuple(x.shape[1:]) != shape:
        wanted = "[N," + ",".join(map(str, shape)) + "]"
        raise UsageError(f"clips have the shape {list(x.shape)}; this network takes joint clips {wanted}")
    if not x.is_floating_point():
        raise UsageError(f"clips hold {str(x.dtype).removeprefix('torch.')}; positions are floating-point numbers")

    def pieces() -> Iterator[Piece]:
        for start in range(0, len(x), batch_size):
            part = x[start : start + batch_size].float()
            yield Piece([str(number) for number in range(start, start + len(part))], part)

    return pieces()
