"""One `.npy` file per clip, [T,M,V,C], in `train/` and `test/`, with `metadata.csv`, as on Hugging Face's hub."""

import csv
from io import TextIOWrapper
from pathlib import Path

from skelpipe.export.arrays import write_blocks
from skelpipe.export.clips import Clips
from skelpipe.manifest import SUBSETS
from skelpipe.sample_ids import file_stem

__all__ = ["npy_names", "write_npy"]

METADATA = "metadata.csv"


def npy_names(clips: Clips) -> list[str]:
    """Return the table and the folders of the subsets that hold clips."""
    return [METADATA, *(subset for subset in SUBSETS if clips.dataset.count(subset))]


def write_npy(clips: Clips, folder: Path, dtype: str) -> list[str]:
    """Write the clips as `dtype`; `metadata.csv` has file name, label, class and split of each."""
    dataset, numbers = clips.dataset, clips.numbers
    with open(folder / METADATA, "wb") as binary, TextIOWrapper(binary, "utf-8", newline="") as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["file_name", "label", "class", "split"])
        for subset in SUBSETS:
            for block in clips.blocks(subset):
                (folder / subset).mkdir(exist_ok=True)
                arrays = clips.chosen(block.clips, numbers).transpose(0, 2, 4, 3, 1)
                for recording, label, array in zip(block.names, block.labels.tolist(), arrays, strict=True):
                    name = f"{subset}/{file_stem(recording)}.npy"
                    with open(folder / name, "wb") as file:
                        write_blocks(file, array.shape, dtype, [array])
                    known = ["", ""] if label < 0 else [label, dataset.classes[label]]
                    table.writerow([name, *known, subset])
    _, frames, joints, bodies = dataset.shape
    return [f"{METADATA}: {', '.join(numbers)} of each joint, {dtype} [{frames},{bodies},{joints},{len(numbers)}]"]
