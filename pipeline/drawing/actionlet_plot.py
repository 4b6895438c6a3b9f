"""A clip's actionlet as a picture: anchor, clip, activation and mask as strips of poses. Needs matplotlib."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.actionlet import to_frames
from skelpipe.drawing.plot import (
    METRES,
    ROW_HEIGHT,
    extent,
    new_figure,
    pose_strip,
    rows_of,
    save_figure,
    strip_width,
)
from skelpipe.drawing.sources import class_names, find_sample
from skelpipe.views import derive

if TYPE_CHECKING:
    from skelpipe.dataset import Dataset

__all__ = ["Finder", "draw_actionlet"]


class Finder(Protocol):
    """Finds the actionlets [N,T',V,M] of clips [N,C,T,V,M], and the activation behind them; `means` says whose."""

    @property
    def means(self) -> str: ...

    def __call__(self, clips: Tensor) -> Tensor: ...

    def activation(self, clips: Tensor) -> Tensor: ...


def draw_actionlet(dataset: "Dataset", identity: str | None, view: str, find: Finder, path: str | Path) -> str:
    """Draw the anchor, a sample, its activation and its actionlet below each other; return the sample's id.

    Poses are those of the joint stream, whatever the `view` that the network sees. Activations are shares of a
    body's largest. Without an id the sample is the one that `find_sample` returns.
    """
    subset, row = find_sample(dataset, identity)
    joints = dataset.reader(subset, "joint").gather(np.array([row]))
    clips = torch.from_numpy(derive(joints, view, dataset.layout))
    anchor, clip = dataset.anchor("joint"), joints[0]
    activation, mask = (_per_frame(found, clips.shape[2]) for found in (find.activation(clips), find(clips)))
    sample, name = dataset.ids(subset)[row], class_names(dataset, subset, np.array([row]))[0]
    share = float(mask[:, :, clip.any(axis=(0, 1, 2))].mean())
    rows = [
        ("static anchor, the mean training clip", anchor, None),
        (f"{sample}{f': {name}' if name else ''}", clip, None),
        ("difference activation, smoothed, as a share of its maximum", clip, activation),
        (f"actionlet: {share:.0%} of joints and frames; {find.means}", clip, mask),
    ]
    frame = extent([anchor, clip])
    figure = new_figure(strip_width(frame), ROW_HEIGHT * len(rows))
    for axes, (title, poses, shares) in zip(rows_of(figure, len(rows)), rows, strict=True):
        bar = dataset.card["units"] == METRES and shares is None
        pose_strip(axes, poses, dataset.layout, frame, bar_shown=bar, shares=shares)
        axes.set_title(title, fontsize=9, loc="left")
    save_figure(figure, path)
    return sample


def _per_frame(mask: Tensor, frames: int) -> np.ndarray:
    """Return the mask [1,T',V,M] as [frames,V,M]."""
    return to_frames(mask.movedim(3, 1), frames).movedim(1, 3)[0].numpy()
