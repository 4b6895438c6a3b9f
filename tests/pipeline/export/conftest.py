"""Datasets to export: 3D and 2D, with and without scores."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

FLAT = """name: street
title: Street
reader: npy
layout: coco-17
bodies: 2
axes: T,M,V,C
channels: [{channels}]
units: pixels
name_pattern: 's(?P<subject>\\d+)_a(?P<action>\\d)_(?P<take>\\d+)'
suffix: .npy
classes: [wave, sit down, throw]
splits: {{xsub: {{field: subject, train: [0, 1, 2]}}}}
terms: none
"""


@pytest.fixture(scope="session")
def datasets(
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., list[object]],
    ntu_names: Callable[..., list[str]],
    with_scores: Callable[[Path, Path], Path],
) -> dict[str, Dataset]:
    """By kind: `solid` (NTU-60 xsub, [3,10,25,2]), `solid-scored`, `flat` (COCO joints), `flat-scored`.

    Every other clip has one body. Tests must not change them.
    """
    root = tmp_path_factory.mktemp("export")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=3, subjects=(1, 2, 3))):
        (root / "raw" / f"{name}.skeleton").write_text(
            skeleton_text(moving_bodies(seed, 9 + seed % 5, 1 + seed % 2))
        )
    prepare(load_manifest("ntu60"), [root / "raw"], root / "solid", Options("xsub", 10, 2, 4), quiet=True)
    with_scores(root / "solid", root / "solid-scored")
    rng = np.random.default_rng(6)
    for kind, channels in (("flat", "x, y"), ("flat-scored", "x, y, score")):
        raw = root / f"raw-{kind}"
        raw.mkdir()
        for n in range(9):
            pose = rng.normal(size=(12, 1 + n % 2, 17, 2)) * 30 + 200
            score = rng.random((12, 1 + n % 2, 17, 1)) * 0.9 + 0.05
            parts = [pose, score] if "score" in channels else [pose]
            np.save(raw / f"s{n % 4}_a{1 + n % 3}_{n}.npy", np.concatenate(parts, axis=3).astype(np.float32))
        (root / f"{kind}.yaml").write_text(FLAT.format(channels=channels))
        options = Options("xsub", 10, 2, 4)
        prepare(load_manifest(str(root / f"{kind}.yaml")), [raw], root / kind, options, quiet=True)
    return {kind: Dataset.open(root / kind) for kind in ("solid", "solid-scored", "flat", "flat-scored")}


@pytest.fixture(scope="session")
def joints() -> Callable[..., np.ndarray]:
    """The joint clips of a subset as stored, [N,C,T,V,M]."""

    def read(dataset: Dataset, subset: str, view: str = "joint") -> np.ndarray:
        return dataset.reader(subset, view).gather(np.arange(dataset.count(subset)))

    return read
