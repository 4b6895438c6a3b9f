"""A small dataset of synthetic clips, to measure with where there is no other."""

from pathlib import Path
from typing import Final

import numpy as np

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.skeleton import layout

__all__ = ["synthetic_clips"]

LAYOUT: Final = "kinect-v2-25"
SECOND_BODY_EVERY: Final = 5
MANIFEST: Final = rf"""name: synthetic
title: Synthetic clips
reader: npy
layout: {LAYOUT}
bodies: 2
name_pattern: '(?P<take>\d+)-(?P<group>[ab])-(?P<action>[a-z]+)'
suffix: .npy
classes: [drift]
splits: {{all: {{field: group, train: [a]}}}}
terms: Random numbers.
"""


def synthetic_clips(folder: Path, frames: int, count: int) -> Dataset:
    """Prepare `count` clips of `frames` frames in `folder`, all for training, and open the dataset.

    The joints drift at random. Every fifth clip has a second body, about as in NTU RGB+D.
    """
    raw, rng = folder / "raw", np.random.default_rng(0)
    raw.mkdir(parents=True)
    (folder / "synthetic.yaml").write_text(MANIFEST, "utf-8")
    joints = len(layout(LAYOUT))
    for number in range(count):
        bodies = 1 + (number % SECOND_BODY_EVERY == 0)
        rest = rng.standard_normal((bodies, joints, 3), np.float32)
        drift = rng.standard_normal((frames, bodies, joints, 3), np.float32).cumsum(0) / 50
        np.save(raw / f"{number:06}-a-drift.npy", rest + drift)
    options = Options("all", frames=frames, shard_size=256)
    prepare(load_manifest(str(folder / "synthetic.yaml")), [raw], folder / "dataset", options, quiet=True)
    return Dataset.open(folder / "dataset")
