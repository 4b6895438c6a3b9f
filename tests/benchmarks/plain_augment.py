"""The augmentations of spec B done one sample at a time in numpy, to measure against.

Each function takes a clip [C,T,V,M] and returns one. Straightforward, but not slow on purpose: no loop over
numbers, only over the taps of a blur and the bones of a body.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

__all__ = ["FOUR_VIEWS", "NORMAL", "STRONG", "TRIPLE", "augment"]

Step: TypeAlias = Callable[[np.ndarray, np.random.Generator], np.ndarray]

MIRROR = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]
BONES = [(1, 20), (2, 20), (4, 20), (8, 20), (3, 2), (0, 1), (5, 4), (9, 8), (6, 5), (10, 9), (12, 0), (16, 0)]
BONES += [(7, 6), (11, 10), (13, 12), (17, 16), (22, 7), (24, 11), (14, 13), (18, 17), (21, 22), (23, 24)]
BONES += [(15, 14), (19, 18)]  # child and parent, from the centre outwards


def augment(clips: np.ndarray, views: Sequence[Sequence[Step]], rng: np.random.Generator) -> list[np.ndarray]:
    """Return the views of clips [N,C,T,V,M], each [N,C,T,V,M]."""
    made: list[list[np.ndarray]] = [[] for _ in views]
    for clip in clips:
        for steps, view in zip(views, made, strict=True):
            x = clip
            for step in steps:
                x = step(x, rng)
            view.append(x)
    return [np.stack(view) for view in made]


def crop(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    frames = x.shape[1]
    p = frames // 6
    padded = np.concatenate([x[:, :p][:, ::-1], x, x[:, -p:][:, ::-1]], axis=1)
    start = rng.integers(0, 2 * p + 1)
    return padded[:, start : start + frames]


def mix_axes(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.dot(x.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def shear(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    matrix = np.eye(3) + rng.uniform(-0.5, 0.5, (3, 3)) * (1 - np.eye(3))
    return mix_axes(x, matrix.astype(np.float32))


def rotate(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angles = rng.uniform(0, 1, 3)
    main = rng.integers(0, 3)
    angles[main] = rng.uniform(0, 30)
    a, b, c = np.radians(angles)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return mix_axes(x, (about_z @ about_y @ about_x).astype(np.float32))


def spatial_flip(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x[:, :, MIRROR] if rng.random() < 0.5 else x


def temporal_flip(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x[:, ::-1] if rng.random() < 0.5 else x


def gaussian_noise(sd: float, empty: bool) -> Step:
    def noise(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= 0.5:
            return x
        field = rng.standard_normal(x.shape, dtype=np.float32) * np.float32(sd)
        return x + (field if empty else field * (x != 0).any((0, 1, 2)))

    return noise


def gaussian_blur(normalise: bool) -> Step:
    def blur(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= 0.5:
            return x
        kernel = np.exp(-(np.arange(-7, 8) ** 2) / (2 * rng.uniform(0.1, 2) ** 2)).astype(np.float32)
        kernel[kernel < 1e-20] = 0  # denormal numbers are slow
        if normalise:
            kernel /= kernel.sum()
        padded = np.pad(x, [(0, 0), (7, 7), (0, 0), (0, 0)])
        return sum(weight * padded[:, k : k + x.shape[1]] for k, weight in enumerate(kernel))

    return blur


def axis_mask(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= 0.5:
        return x
    x = x.copy()
    x[rng.integers(0, 3)] = 0
    return x


def time_rescale(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() >= 0.5:
        return x
    frames = x.shape[1]
    length = int(rng.uniform(0.5, 1.5) * frames)
    source = np.clip((np.arange(min(length, frames)) + 0.5) * frames / length - 0.5, 0, frames - 1)
    before = source.astype(int)
    share = (source - before).astype(np.float32)[:, None, None]
    resized = x[:, before] * (1 - share) + x[:, np.minimum(before + 1, frames - 1)] * share
    y = np.zeros_like(x)
    y[:, : len(before)] = resized
    return y


def bone_rescale(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    y = x.copy()
    for child, parent in BONES:
        factor = np.float32(0.5 * rng.random())
        y[:, :, child] = y[:, :, parent] + (x[:, :, child] - x[:, :, parent]) * factor
    return y


NORMAL: Sequence[Step] = (crop, shear)
EXTREME: Sequence[Step] = (
    *(*NORMAL, spatial_flip, rotate, temporal_flip),
    *(gaussian_noise(0.01, empty=False), gaussian_blur(normalise=True), axis_mask),
)
ACTIONLET: Sequence[Step] = (
    *(*NORMAL, spatial_flip, rotate),
    *(gaussian_noise(0.01, empty=True), gaussian_blur(normalise=False), axis_mask),
)
STRONG: Sequence[Step] = (
    *(*NORMAL, spatial_flip, rotate),
    *(gaussian_noise(0.05, empty=True), gaussian_blur(normalise=False), axis_mask, time_rescale, bone_rescale),
)
TRIPLE: Sequence[Sequence[Step]] = (NORMAL, NORMAL, EXTREME)  # AimCLR
FOUR_VIEWS: Sequence[Sequence[Step]] = (STRONG, ACTIONLET, NORMAL, NORMAL)  # ActCLR, as released
