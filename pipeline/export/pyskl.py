"""A pickle as pyskl and MMAction2 read it: `split` with lists of names, and `annotations`, a list of dicts.

An annotation has `frame_dir` (the name), `label` from 0, `total_frames`, `keypoint` [M,T,V,3], or of 2D poses
[M,T,V,2] with `keypoint_score` [M,T,V] where there are scores (kennymckormick/pyskl, tools/data/README.md). M are
the bodies up to the last one that is present. Pictures have y downwards, our clips have it upwards: y of 2D poses
is reversed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from skelpipe.export.clips import Clips, plain_name
from skelpipe.export.pickles import array_part, dict_part, part, write_pickle
from skelpipe.manifest import SUBSETS

__all__ = ["pyskl_names", "write_pyskl"]

PARTS = {"train": "train", "test": "val"}
Y = 1


def pyskl_names(clips: Clips) -> list[str]:
    """Return the name of the pickle, such as `ntu60-xsub_3danno.pkl`."""
    dataset = clips.dataset
    return [plain_name(f"{dataset.name}-{dataset.split}") + f"_{2 if clips.flat else 3}danno.pkl"]


def write_pyskl(clips: Clips, folder: Path, dtype: str) -> list[str]:
    """Write the pickle, its arrays as `dtype`; annotation by annotation, so that memory stays small.

    Whoever reads it needs all of it in memory, since it is one dict.
    """
    clips.need_labels("pyskl-pkl")
    numbers = clips.numbers if clips.flat else clips.three
    dataset = clips.dataset
    name = pyskl_names(clips)[0]
    split = {f"{dataset.split}_{PARTS[subset]}": clips.names(subset) for subset in SUBSETS}
    with open(folder / name, "wb") as file:
        write_pickle(file, {"split": split}, "annotations", _annotations(clips, numbers, dtype))
    score = ", and keypoint_score" if "score" in numbers else ""
    axes = [each for each in numbers if each != "score"]
    said = [
        f"{name}: keypoint {dtype} [M,{dataset.frames},{dataset.shape[2]},{len(axes)}], {', '.join(axes)}{score}"
    ]
    return [*said, f"{name}: splits {' and '.join(split)}"]


def _annotations(clips: Clips, numbers: tuple[str, ...], dtype: str) -> Iterator[bytes]:
    for subset in SUBSETS:
        for block in clips.blocks(subset):
            arrays = clips.chosen(block.clips, numbers).transpose(0, 4, 2, 3, 1)  # [n,M,T,V,C]
            for name, label, array in zip(block.names, block.labels.tolist(), arrays, strict=True):
                present = np.flatnonzero(array.any(axis=(1, 2, 3)))
                yield _annotation(name, label, array[: present[-1] + 1 if len(present) else 1], numbers, dtype)


def _annotation(name: str, label: int, array: np.ndarray, numbers: tuple[str, ...], dtype: str) -> bytes:
    axes = [n for n, number in enumerate(numbers) if number != "score"]
    keypoint = array[..., axes].astype(dtype)
    if "z" not in numbers:
        keypoint[..., Y] *= -1
    facts = {
        "frame_dir": part(name),
        "label": part(label),
        "total_frames": part(array.shape[1]),
        "keypoint": array_part(keypoint),
    }
    if "score" in numbers:
        facts["keypoint_score"] = array_part(array[..., numbers.index("score")].astype(dtype))
    return dict_part(facts)
