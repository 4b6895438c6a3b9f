"""Fixtures for all tests: synthetic recordings, and the real ones where `shared` lies beside the checkout."""

import hashlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from skelpipe.cli.command import Command
from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD, card_digest
from skelpipe.dataset.tar_shard import TAIL, Geometry, index_text, new_block
from skelpipe.manifest import SUBSETS
from skelpipe.views import VIEWS, derive

# No deadline: compilation and a busy machine make first runs slow. Derandomised: a run can be repeated.
settings.register_profile(
    "skelpipe", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("skelpipe")

# A shell starts a background command of a script (`make test &`) with SIGINT ignored, and every program that the
# tests start would inherit that: Ctrl-C could not end it. What is handled here instead is at its default there.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"
sys.path.append(str(Path(__file__).parent))  # tests import forked.py


# Tests exchange bytes of shards on purpose, and must write nothing into the user's cache.
os.environ.setdefault("SKELPIPE_CHECK_SHARDS", "no")
# What a command prints does not depend on who was the first to compile its kernels: as if that were said already.
os.environ["SKELPIPE_COMPILING"] = os.devnull


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: for networks this small, more threads only cost time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")
def words_override_defaults() -> Iterator[None]:
    """Let the last value of an option count: fixtures give defaults, and a test's own words follow them.

    That a command refuses several values is tested in tests/pipeline/cli/test_command.py.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Command, "refuse_several", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and golden arrays; tests that need it skip where it is missing."""
    if not (SHARED / "data" / "ntu").is_dir():
        pytest.skip(f"the real recordings are not here: {SHARED} is missing")
    return SHARED


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Any]:
    """A small disk that can be filled: a `SmallDisk` of small_disk.py."""
    from small_disk import small_disk

    with small_disk(tmp_path / "small") as made:
        yield made


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts scripts of `train` as processes, without the seconds of their imports: a `Starter` of forked.py."""
    from forked import Starter

    starter = Starter(tmp_path_factory.mktemp("started"))
    yield starter
    starter.close()


class Recording:
    """Numbers of the authors' code in a file of `shared/facts/steps`; its README says what they are.

    Floats are read in float64, masks in float32. `unread` has the names of the arrays that no test has read yet.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as content:
            self._arrays = {name: content[name] for name in content.files}
        self.options: dict[str, Any] = json.loads(str(self._arrays.pop("options")))
        self.unread = set(self._arrays)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> torch.Tensor:
        self.unread.discard(name)
        found = torch.from_numpy(self._arrays[name])
        if not found.is_floating_point():
            return found
        return found.float() if "/mask/" in name and not name.startswith("start/") else found.double()

    def names(self, name: str) -> list[str]:
        """Return an array of names."""
        self.unread.discard(name)
        return [str(each) for each in self._arrays[name]]

    def group(self, start: str) -> dict[str, torch.Tensor]:
        """Return all arrays whose names begin with START/, by the rest of their names."""
        found = [name for name in self._arrays if name.startswith(f"{start}/")]
        return {name.removeprefix(f"{start}/"): self[name] for name in found}


@pytest.fixture(scope="session")
def recording() -> Callable[[str], Recording]:
    """A function that reads a recording by its name, and skips the test where the recordings are missing."""
    folder = SHARED / "facts" / "steps"

    def read(name: str) -> Recording:
        if not folder.is_dir():
            pytest.skip(f"the recorded steps of the authors' code are not here: {folder} is missing")
        return Recording(folder / f"{name}.npz")

    return read


@pytest.fixture
def float64() -> Iterator[None]:
    """Make new tensors float64, as operators have constants of their own."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


Bodies = Sequence[tuple[int, np.ndarray]]  # (id, joint positions [V,3]) of one frame


@pytest.fixture(scope="session")
def skeleton_text() -> Callable[..., str]:
    """A function that writes frames of (id, [25,3]) bodies as `.skeleton` text."""

    def write(frames: Sequence[Bodies], end: str = "\n") -> str:
        lines = [str(len(frames))]
        for bodies in frames:
            lines.append(str(len(bodies)))
            for identity, joints in bodies:
                lines.append(f"{identity} 0 1 1 0 0 0 0.01 -0.02 2")
                lines.append(str(len(joints)))
                for x, y, z in joints:
                    lines.append(f"{x:.7g} {y:.7g} {z:.7g} 250.1 200.2 900.3 500.4 0.1 0.2 0.3 0.9 2")
        return end.join(lines) + end

    return write


@pytest.fixture(scope="session")
def moving_bodies() -> Callable[..., list[Bodies]]:
    """A function that makes smooth random recordings from a seed: `frames` frames of `bodies` bodies."""

    def make(seed: int, frames: int = 20, bodies: int = 1) -> list[Bodies]:
        rng = np.random.default_rng(seed)
        rest = rng.normal(size=(bodies, 25, 3)) * 0.4 + [0, 0, 3]
        drift = rng.normal(size=(bodies, 25, 3)) * 0.02
        ids = [72057594037930000 + int(i) for i in rng.integers(0, 9999, bodies)]
        return [[(ids[m], rest[m] + t * drift[m]) for m in range(bodies)] for t in range(frames)]

    return make


@pytest.fixture
def raw_folder(
    tmp_path: Path, skeleton_text: Callable[..., str], moving_bodies: Callable[..., list[Bodies]]
) -> Callable[..., Path]:
    """A function that makes a folder of small NTU recordings with the given names."""

    def make(names: Sequence[str], folder: str = "raw", frames: int = 12, bodies: int = 1) -> Path:
        root = tmp_path / folder
        root.mkdir(parents=True, exist_ok=True)
        for seed, name in enumerate(names):
            text = skeleton_text(moving_bodies(seed, frames + seed % 5, bodies))
            (root / f"{name}.skeleton").write_text(text)
        return root

    return make


@pytest.fixture(scope="session")
def ntu_names() -> Callable[..., list[str]]:
    """A function that makes recording names which fall in both subsets of every NTU split."""

    def make(actions: int = 3, subjects: Sequence[int] = (1, 3), setups: Sequence[int] = (1, 2)) -> list[str]:
        return [
            f"S{setup:03}C{camera:03}P{subject:03}R001A{action:03}"
            for setup in setups
            for camera in (1, 2)
            for subject in subjects
            for action in range(1, actions + 1)
        ]

    return make


@pytest.fixture(scope="session")
def with_scores() -> Callable[[Path, Path], Path]:
    """A function that writes a dataset again with a random score per joint, 0 in absent bodies."""

    def write(source: Path, out: Path) -> Path:
        shutil.copytree(source, out)
        dataset = Dataset.open(source)
        card = json.loads((source / CARD).read_text())
        shape, dtype = (4, *dataset.shape[1:]), np.dtype(card["dtype"])
        card |= {"shape": list(shape), "channels": ["x", "y", "z", "score"]}
        rng = np.random.default_rng(4)
        for subset in SUBSETS:
            clips = dataset.reader(subset, "joint").gather(np.arange(dataset.count(subset)))
            here = clips.any(axis=(1, 3), keepdims=True)
            scores = rng.random((len(clips), 1, *shape[1:]), np.float32) * here
            joints = np.concatenate([clips, scores], axis=1).astype(dtype).astype(np.float32)
            if subset == "train":
                mean = joints.mean(axis=0)
            start = 0
            for shard in card["splits"][subset]["shards"]:
                rows = slice(start, start := start + shard["samples"])
                ids, labels = dataset.ids(subset)[rows], dataset.labels(subset)[rows].tolist()
                for view in VIEWS:
                    geometry = Geometry(view, shape, card["dtype"])
                    block = new_block(geometry, ids, labels)
                    geometry.arrays(block)[:] = derive(joints[rows], view, dataset.layout)
                    tar = block.tobytes() + TAIL
                    index = index_text(geometry, ids, labels).encode()
                    path = out / subset / view / f"{shard['name']}.tar"
                    path.write_bytes(tar)
                    path.with_suffix(".idx").write_bytes(index)
                    hashes = {"sha256": tar, "idx_sha256": index}
                    facts = {name: hashlib.sha256(content).hexdigest() for name, content in hashes.items()}
                    shard["views"][view] = {"bytes": len(tar), **facts}
                    entry = {"stride": geometry.stride, "data_offset": geometry.data_offset}
                    card["views"][view] |= entry
        for view in VIEWS:
            path = out / "anchors" / f"{view}.npy"
            np.save(path, derive(mean, view, dataset.layout))
            card["anchors"][view]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        card["digest"] = card_digest(card)
        (out / CARD).write_text(json.dumps(card))
        return out

    return write
