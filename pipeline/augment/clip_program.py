"""The steps of a chain as one program, which does to each clip all that is asked while it is in the cache.

A batch does not fit in the cache: if each step went over the whole batch, most time would go into reading and
writing. Results are those of the kernels one after another, bit-identical.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.clip_kernels import (
    REACH,
    ROWS,
    blur_clip,
    fill_boxes_in,
    interpolate_clip,
    kernel,
    mix_clip,
    noise_clip,
    scale_axes_of,
    scale_bones_of,
    zero_joints_of,
)
from skelpipe.augment.cpu_kernels import usable
from skelpipe.augment.kept_memory import kept_empty
from skelpipe.dataset.byte_kernels import numbers_at, prefetch_pages
from skelpipe.dataset.mapped_clips import MappedClips, addresses_of
from skelpipe.views import POSITIONS

__all__ = [
    "BLUR",
    "BONES",
    "BOXES",
    "MASK",
    "MOST",
    "NOISE",
    "TIME",
    "WEIGH",
    "ClipOp",
    "Part",
    "Program",
    "program",
    "run_together",
]

NOISE: Final = 0
BLUR: Final = 1
WEIGH: Final = 2
TIME: Final = 3
BONES: Final = 4
MASK: Final = 5
BOXES: Final = 6

NO_ROW: Final = np.empty((0, 2), np.int64)
NO_POOL: Final = np.empty(0, np.float32)

MOST: Final = 4  # programs that run together
CLIPS: Final = 4  # that are in the cache, with what is made of them


@dataclass(frozen=True, slots=True)
class Part:
    """One step of a program: its code, and per clip real numbers, float32[N,r], and whole ones, int64[N,w].

    | code | reals | wholes |
    |---|---|---|
    | NOISE | standard deviation | where the window of the pool starts; `flag`: on absent bodies too |
    | BLUR | the weights of frames 0 .. 7 away | whether it is on |
    | WEIGH | one for each axis | |
    | TIME | weights of the frame, of the next | whether it is on, the frames |
    | BONES | factors of joints | |
    | MASK | | first frame, number of frames, 1 for each joint that is masked |
    | BOXES | | where the window of the pool starts, the joints |
    """

    code: int
    reals: Sequence[Tensor] = ()
    wholes: Sequence[Tensor] = ()
    flag: bool = False
    pool: Tensor | None = None
    bones: Tensor | None = None


@runtime_checkable
class ClipOp(Protocol):
    """An operation that can be a step of a program."""

    def part(self, params: Any, shape: Sequence[int]) -> Part: ...


@dataclass(slots=True)
class Program:
    """What `program` made of the first `count` steps of a chain, for all clips of one or several batches."""

    count: int
    mixing: tuple[np.ndarray, ...]
    codes: np.ndarray
    reals: np.ndarray
    wholes: np.ndarray
    bones: np.ndarray = field(default_factory=lambda: NO_ROW)
    normal: np.ndarray = field(default_factory=lambda: NO_POOL)
    uniform: np.ndarray = field(default_factory=lambda: NO_POOL)

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """All of it, in the order in which the kernels take it."""
        drawn = (*self.mixing, self.codes, self.reals, self.wholes)
        return (*drawn, self.bones, self.normal, self.uniform)

    def run(self, x: Tensor | MappedClips, first: int = 0) -> Tensor:
        """Return the clips [N,C,T,V,M] changed by what was drawn for the clips from number `first` on.

        Raises IndexError for a frame, joint or number of a pool that does not exist, ValueError for clips that the
        program was not made for.
        """
        return run_together([self], x, first)[0]


def run_together(programs: Sequence[Program], x: Tensor | MappedClips, first: int = 0) -> list[Tensor]:
    """Return the clips [N,C,T,V,M] changed by each of at most `MOST` programs; each clip is read from memory once.

    `first` and the errors are those of `Program.run`.
    """
    n, c, t, v, m = x.shape
    for each in programs:
        drawn, frames = each.mixing[0].shape
        if frames != t or first + n > drawn or each.mixing[2].shape[1] not in (0, v):
            raise ValueError(f"what was drawn for {drawn} clips of {frames} frames does not fit {tuple(x.shape)}")
    made = [kept_empty(x.shape) for _ in programs]
    rows = [y.view(n, c, t, v * m).numpy() for y in made]
    arrays = [each.arrays for each in programs]
    spare = MOST - len(programs)  # a tuple of another length would be another kernel
    kept = x if isinstance(x, MappedClips) else x.contiguous()  # as long as its addresses are used
    rest = (*rows, *rows[:1] * spare), (*arrays, *arrays[:1] * spare)
    if not _run(m, addresses_of(kept), first, len(programs), *rest):
        raise IndexError(f"a frame, joint or number was chosen that clips of {tuple(x.shape)} do not have")
    return made


def program(fold: Any, parts: Sequence[Part], count: int, shape: Sequence[int]) -> Program | None:
    """Return the program that mixes axes as the Fold `fold` does, then does `parts`; None where it cannot.

    `shape` is [N,C,T,V,M] of all clips drawn for, `count` the number of the chain's steps that this is.
    """
    n, c, t, v, _ = shape
    if fold.matrix is None or fold.weights is not None or c < POSITIONS or 0 in shape:
        return None
    if not usable(fold.matrix, *(real for part in parts for real in part.reals)):
        return None
    frames = torch.arange(t).expand(n, t) if fold.frames is None else fold.frames
    joints = torch.empty(n, 0, dtype=torch.int64) if fold.joints is None else fold.joints
    around = fold.at_centre is not None
    centre = fold.centre if around else torch.empty(0, dtype=torch.int64)
    mixing = (frames, fold.matrix, joints, centre, fold.at_centre if around else fold.matrix)
    if fold.matrix.shape != (n, 3, 3) or frames.shape != (n, t) or any(len(each) not in (0, n) for each in mixing):
        raise ValueError(f"parameters do not fit clips of {tuple(shape)}")
    codes: list[list[int]] = []
    reals, wholes = [torch.empty(n, 0)], [torch.empty(n, 0, dtype=torch.int64)]
    made: dict[str, np.ndarray] = {}
    for part in parts:
        codes.append([part.code, _width(reals), _width(wholes), part.flag])
        reals += [each.reshape(n, -1) for each in part.reals]
        wholes += [each.reshape(n, -1).to(torch.int64) for each in part.wholes]
        if part.bones is not None:
            if part.bones.numel() and not 0 <= int(part.bones.min()) <= int(part.bones.max()) < v:
                raise IndexError(f"clips of {v} joints lack a joint of the bones")
            made["bones"] = part.bones.contiguous().numpy()
        if part.pool is not None:
            name = "normal" if part.code == NOISE else "uniform"
            if len(made.get(name, part.pool)) != len(part.pool):
                return None  # windows of different pools
            made[name] = part.pool.numpy()
    return Program(
        count,
        tuple(each.contiguous().numpy() for each in mixing),
        np.array(codes, np.int64).reshape(-1, 4),
        torch.cat(reals, 1).numpy(),
        torch.cat(wholes, 1).numpy(),
        **made,
    )


def _width(tables: Sequence[Tensor]) -> int:
    return sum(each.shape[1] for each in tables)


@kernel
def _run(bodies: int, where: np.ndarray, first: int, count: int, made: Any, programs: Any) -> bool:
    clips, channels, frames, width = made[0].shape
    size = channels * frames * width
    row, words = np.empty(width, np.float32), np.empty(width // bodies, np.int64)
    memory = np.zeros((frames + 2 * REACH) * width + 2 * frames * width, np.float32)
    weight, seen = np.empty(ROWS * width, np.float32), np.empty(width, np.int32)
    for low in range(0, clips, CLIPS):
        high = min(low + CLIPS, clips)
        for i in range(high, min(high + CLIPS, clips)):
            prefetch_pages(where[i], 4 * size)
        for j in range(count):
            y = made[j]
            chosen, matrix, joints, centre, at_centre, codes, reals, wholes, bones, normal, uniform = programs[j]
            for i in range(low, high):
                n, x, to = first + i, numbers_at(where[i], size).reshape((channels, frames, width)), y[i]
                around, mixed = centre[n:], at_centre[n]
                if not mix_clip(bodies, x, to, matrix[n], chosen[n], joints[n], around, mixed, row, words):
                    return False
                real, whole = reals[n], wholes[n]
                if len(codes) and not _finish(
                    bodies, to, codes, real, whole, bones, normal, uniform, memory, weight, seen
                ):
                    return False
    return True


@kernel
def _finish(
    bodies: int,
    y: np.ndarray,
    codes: np.ndarray,
    reals: np.ndarray,
    wholes: np.ndarray,
    bones: np.ndarray,
    normal: np.ndarray,
    uniform: np.ndarray,
    memory: np.ndarray,
    weight: np.ndarray,
    seen: np.ndarray,
) -> bool:
    channels, frames, width = y.shape
    size = frames * width
    padded = memory[: size + 2 * REACH * width]
    before = memory[len(padded) : len(padded) + size]
    after = memory[len(padded) + size :]
    numbers = min(channels, POSITIONS) * size
    skip = np.zeros(POSITIONS, np.bool_)
    for s in range(len(codes)):
        code, real, whole = codes[s, 0], codes[s, 1], codes[s, 2]
        if code == NOISE:
            start = wholes[whole]
            if reals[real] == 0:
                continue
            if start < 0 or start + numbers > len(normal):
                return False
            _find_masked(codes, s, reals, skip)
            field, empty = normal[start : start + numbers], codes[s, 3] != 0
            noise_clip(bodies, empty, y, reals[real], field, skip, weight, seen)
        elif code == BLUR:
            if wholes[whole]:
                _find_masked(codes, s, reals, skip)
                blur_clip(y, reals[real : real + REACH + 1], skip, padded)
        elif code == WEIGH:
            scale_axes_of(y, reals[real : real + POSITIONS])
        elif code == TIME:
            if wholes[whole]:
                first = wholes[whole + 1 : whole + 1 + frames]
                for t in range(frames):
                    if first[t] < 0 or first[t] >= frames:
                        return False
                p, q = reals[real : real + frames], reals[real + frames : real + 2 * frames]
                interpolate_clip(y, first, p, q, before.reshape((frames, width)))
        elif code == BONES:
            scale_bones_of(bodies, y, reals[real : real + width // bodies], bones, before, after)
        elif code == MASK:
            joints = wholes[whole + 2 : whole + 2 + width // bodies]
            zero_joints_of(bodies, y, joints, wholes[whole], wholes[whole + 1])
        else:
            last = codes[s + 1, 2] if s + 1 < len(codes) else len(wholes)
            joints, start = wholes[whole + 1 : last], wholes[whole]
            units = min(channels, POSITIONS) * frames * len(joints) * bodies
            if start < 0 or start + units > len(uniform):
                return False
            for k in range(len(joints)):
                if joints[k] < 0 or joints[k] >= width // bodies:
                    return False
            fill_boxes_in(bodies, y, joints, uniform[start : start + units])
    return True


@kernel
def _find_masked(codes: np.ndarray, s: int, reals: np.ndarray, skip: np.ndarray) -> None:
    """Set `skip` where an axis becomes 0 before anything but noise and blur, so that step s need not change it."""
    for c in range(POSITIONS):
        skip[c] = False
    for later in range(s + 1, len(codes)):
        if codes[later, 0] == WEIGH:
            for c in range(POSITIONS):
                skip[c] |= reals[codes[later, 1] + c] == 0
        elif codes[later, 0] != NOISE and codes[later, 0] != BLUR:
            return
