"""Files beside recordings and datasets that strangers hand on: recipes, lists, anchors, HDF5, scores, weights."""

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzzing import seeds

from skelpipe.dataset.anchor_file import read_anchor
from skelpipe.dataset.hdf5 import check_facts, map_hdf5
from skelpipe.prepare.hdf5_writer import write_hdf5
from skelpipe.prepare.split_file import read_split_file
from skelpipe.raw.collections.contents import Request
from skelpipe.raw.collections.formats import find_contents
from skelpipe.raw.source import RawFile

__all__ = [
    "ANCHOR",
    "SPLIT_LIST",
    "anchor",
    "annotations",
    "graph_arrays",
    "hdf5_file",
    "hdf5_seed",
    "importing",
    "recipe",
    "recipe_seeds",
    "scores",
    "scores_seed",
    "split_list",
    "torch_file",
    "torch_seeds",
]

NAME = "file"
SHAPE = (3, 2, seeds.JOINTS, 2)
IDS = ["a", "b", "c"]
ANCHOR = seeds.npy(np.arange(36, dtype=np.float32).reshape(SHAPE))
SPLIT_LIST = b"Training videos:\n0002-L, 0002-M,\n\nValidation videos:\n0003-L,0004-R\n"

Place = Callable[[bytes], Path]


def anchor(content: bytes) -> object:
    """What is taken is what numpy reads."""
    found = read_anchor(content, SHAPE, NAME)
    plain = np.load(io.BytesIO(content), allow_pickle=False)
    assert found.dtype == plain.dtype
    assert found.tobytes() == plain.tobytes()
    return found


def split_list(path: Path) -> object:
    """No id that is taken is missing in the file, nor in both lists."""
    train, test = read_split_file(path)
    text = path.read_text("utf-8-sig")
    assert all(each in text for each in train | test)
    assert not train & test
    return train


@cache
def recipe_seeds() -> tuple[bytes, ...]:
    from skelpipe.train.recipes import builtin

    return tuple(
        (builtin.FOLDER / f"{name}.yaml").read_bytes() for name in ("skeletonclr", "skelemixclr", "actclr")
    )


def recipe(path: Path) -> object:
    """What is taken is the same once it was written and read again."""
    from skelpipe.train.recipes.reader import load_recipe, parse_recipe, to_yaml

    found = load_recipe(str(path))
    assert parse_recipe(to_yaml(found), NAME) == found
    return found


@cache
def hdf5_seed(folder: Path) -> bytes:
    path = folder / "seed.h5"
    clips = {"joint": [np.arange(108, dtype=np.float32).reshape(3, *SHAPE)]}
    write_hdf5(path, IDS, np.arange(3), clips, SHAPE, "float32", _card(), subset="train")
    content = path.read_bytes()
    path.unlink()
    return content


def _card() -> dict[str, Any]:
    layout = {"name": "small", "joints": list(seeds.SMALL.joints)}
    facts = {"name": "n", "title": "t", "split": "s", "digest": "ab" * 32, "classes": ["a", "b", "c"]}
    return {**facts, "profile": {"name": "crosclr", "version": 1}, "shape": list(SHAPE), "layout": layout}


def hdf5_file(path: Path) -> object:
    """What is taken are bytes of the file."""
    found = np.concatenate(map_hdf5(path, "joint", IDS, SHAPE, "float32"))
    assert found.tobytes() in path.read_bytes()
    list(check_facts(path, _card(), "train"))
    return found


@cache
def scores_seed(folder: Path) -> bytes:
    from skelpipe.train.evaluation.outcome import ABOUT, Scores, write_scores

    about = {**dict.fromkeys(ABOUT, "x"), "classes": json.dumps(["a", "b"])}
    matrix = np.array([[0.1, 0.9], [0.7, 0.3], [0.5, 0.25]], np.float32)
    write_scores(folder / "seed.parquet", Scores(IDS, np.array([1, 0, 1]), matrix, about))
    content = (folder / "seed.parquet").read_bytes()
    (folder / "seed.parquet").unlink()
    return content


def scores(path: Path) -> object:
    """What is taken is what pyarrow reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from skelpipe.train.evaluation.outcome import read_scores

    found = read_scores(path)
    try:
        plain = pq.read_table(path, use_threads=False, memory_map=False).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise AssertionError(f"taken, and pyarrow refuses it: {error!r}") from None
    assert found.ids == plain["id"]
    assert found.labels.tolist() == plain["label"]
    assert np.array_equal(found.scores, np.array(plain["score"], np.float32))
    return found


@cache
def torch_seeds() -> tuple[bytes, ...]:
    import torch

    found = []
    for new in (True, False):
        file = io.BytesIO()
        torch.save(
            {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)},
            file,
            _use_new_zipfile_serialization=new,
        )
        found.append(file.getvalue())
    return tuple(found)


def torch_file(path: Path) -> object:
    """What is taken has names and tensors."""
    import torch

    from skelpipe.models.statefile import read_state

    found = read_state(path)
    assert all(isinstance(name, str) and torch.is_tensor(each) for name, each in found.items())
    return found


def annotations() -> bytes:
    """A file of pyskl."""
    clips = [
        {
            "frame_dir": name,
            "label": n,
            "total_frames": seeds.FRAMES,
            "keypoint": seeds.XYZ.transpose(1, 0, 2, 3).astype(np.float32),
        }
        for n, name in enumerate(IDS)
    ]
    return seeds.as_pickle(4, {"split": {"train": ["a", "b"], "test": ["c"]}, "annotations": clips})


def graph_arrays() -> bytes:
    """A file of CTR-GCN: arrays of clips and classes."""
    file = io.BytesIO()
    rng = np.random.default_rng(4)
    arrays = {f"x_{name}": rng.normal(size=(3, 4, 150)).astype(np.float32) for name in ("train", "test")}
    np.savez(file, **arrays, **{f"y_{name}": np.eye(3, dtype=np.float32) for name in ("train", "test")})
    return file.getvalue()


def importing(path: Path) -> object:
    """Look a file through as `import` does."""
    status = path.stat()
    file = RawFile(path.name, str(path), status.st_size, status.st_mtime_ns)
    return find_contents(Request([file]), None)[1].entries
