"""CTR-GCN's arrays in one .npz: `x_train` [N,T,M*V*3], `y_train` one-hot, and the same of the test subset.

Its feeder (Uason-Chen/CTR-GCN, feeders/feeder_ntu.py) reads x as [N,T,M,V,C] with two bodies of 25 joints, and
takes the frames that are not zero.
"""

import csv
import zipfile
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

import numpy as np

from skelpipe.export.arrays import padded, write_blocks
from skelpipe.export.clips import Clips, plain_name
from skelpipe.manifest import SUBSETS

__all__ = ["NAMES_FILE", "ctrgcn_names", "write_ctrgcn"]

NAMES = {
    ("ntu60", "xsub"): "NTU60_CS.npz",
    ("ntu60", "xview"): "NTU60_CV.npz",
    ("ntu120", "xsub"): "NTU120_CSub.npz",
    ("ntu120", "xset"): "NTU120_CSet.npz",
}
NAMES_FILE = "samples.csv"
NTU_JOINTS, NTU_BODIES = 25, 2  # what its feeder takes for granted
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can hold: the same clips give the same bytes


def ctrgcn_names(clips: Clips) -> list[str]:
    """Return the name of the .npz, which for NTU RGB+D is CTR-GCN's, and of the list of samples."""
    dataset = clips.dataset
    own = plain_name(f"{dataset.name}-{dataset.split}") + ".npz"
    return [NAMES.get((dataset.name, dataset.split), own), NAMES_FILE]


def write_ctrgcn(clips: Clips, folder: Path, frames: int) -> list[str]:
    """Write the .npz, and the ids of its rows as a table, since it has no place for them."""
    clips.need_labels("ctrgcn-npz")
    numbers = clips.three
    dataset = clips.dataset
    _, own, joints, bodies = dataset.shape
    if joints == NTU_JOINTS:
        bodies = max(bodies, NTU_BODIES)
    length = max(own, frames)
    name = ctrgcn_names(clips)[0]
    said = [f"{name}: x float32 [N,{length},{bodies * joints * 3}], {', '.join(numbers)} of each joint, y one-hot"]
    if joints == NTU_JOINTS and bodies > NTU_BODIES:
        said.append(f"{name}: CTR-GCN's feeder takes 2 bodies, here are {bodies}")
    classes = np.eye(len(dataset.classes))
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for subset in SUBSETS:
            count = dataset.count(subset)
            with archive.open(zipfile.ZipInfo(f"x_{subset}.npy", EPOCH), "w", force_zip64=True) as file:
                shape = (count, length, bodies * joints * 3)
                write_blocks(file, shape, "float32", _rows(clips, subset, numbers, length, bodies))
            with archive.open(zipfile.ZipInfo(f"y_{subset}.npy", EPOCH), "w", force_zip64=True) as file:
                write_blocks(file, (count, len(classes)), "float64", [classes[dataset.labels(subset)]])
    _write_names(clips, folder / NAMES_FILE)
    return said


def _rows(clips: Clips, subset: str, numbers: tuple[str, ...], frames: int, bodies: int) -> Iterator[np.ndarray]:
    for block in clips.blocks(subset):
        x = clips.chosen(block.clips, numbers).transpose(0, 2, 4, 3, 1)  # [n,T,M,V,C]
        x = np.pad(x, [(0, 0), (0, 0), (0, bodies - x.shape[2]), (0, 0), (0, 0)])
        yield padded(x.reshape(*x.shape[:2], -1), frames, axis=1)


def _write_names(clips: Clips, path: Path) -> None:
    dataset = clips.dataset
    with open(path, "wb") as binary, TextIOWrapper(binary, "utf-8", newline="") as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["array", "row", "id", "label", "class"])
        for subset in SUBSETS:
            rows = zip(clips.names(subset), dataset.labels(subset).tolist(), strict=True)
            table.writerows(
                [f"x_{subset}", row, identity, label, dataset.classes[label]]
                for row, (identity, label) in enumerate(rows)
            )
