"""The arrays of st-gcn and 2s-AGCN: `SPLIT/train_data.npy` [N,C,T,V,M], `SPLIT/train_label.pkl`, and `val_...`.

A label file is the pickle of two lists, names and labels from 0 (yysijie/st-gcn, tools/ntu_gendata.py; its feeder
returns both). 2s-AGCN calls the arrays of its streams `train_data_bone.npy` and `train_data_joint_motion.npy`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skelpipe.export.arrays import padded, write_blocks
from skelpipe.export.clips import Clips, plain_name
from skelpipe.export.pickles import START, STOP, TUPLE2, part

__all__ = ["stgcn_names", "write_stgcn"]

PARTS = {"train": "train", "test": "val"}
STREAMS = {"joint": "data", "bone": "data_bone", "motion": "data_joint_motion"}
NTU = ("ntu60", "ntu120")


def stgcn_names(clips: Clips) -> list[str]:
    """Return the folder of the split."""
    return [plain_name(clips.dataset.split)]


def write_stgcn(clips: Clips, folder: Path, frames: int) -> list[str]:
    """Write array and label file of both subsets. With scores and 3D poses C is 4."""
    clips.need_labels("stgcn-npy")
    dataset = clips.dataset
    numbers = clips.numbers if clips.scored else clips.three
    _, own, joints, bodies = dataset.shape
    length = max(own, frames)
    inside = folder / stgcn_names(clips)[0]
    inside.mkdir()
    said = []
    for subset, name in PARTS.items():
        shape = (dataset.count(subset), len(numbers), length, joints, bodies)
        array = f"{name}_{STREAMS[clips.view]}.npy"
        with open(inside / array, "wb") as file:
            write_blocks(file, shape, "float32", _rows(clips, subset, numbers, length))
        ending = ".skeleton" if dataset.name in NTU else ""
        names = [own + ending for own in clips.names(subset)]
        content = part(names) + part(dataset.labels(subset).tolist()) + TUPLE2
        (inside / f"{name}_label.pkl").write_bytes(START + content + STOP)
        said.append(f"{inside.name}/{array}: float32 {list(shape)}, {', '.join(numbers)}")
    return said


def _rows(clips: Clips, subset: str, numbers: tuple[str, ...], frames: int) -> Iterator[np.ndarray]:
    for block in clips.blocks(subset):
        yield padded(clips.chosen(block.clips, numbers), frames, axis=2)
