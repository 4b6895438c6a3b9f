"""Exact resume: a stream that is stopped at any step and resumed yields the batches of an uninterrupted one.

Tested with different numbers of ranks and readers before and after, numbers of shards (fewer than ranks, and one
per sample), batch sizes and steps to stop at. Augmented clips are compared bit by bit.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.augment.chain import chain
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.loader import Batch, Loader
from skelpipe.loader.epoch_order import epoch_order
from skelpipe.loader.stream import Stream
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

CPU = torch.device("cpu")
SHARDS = {"one shard": 100, "fewer shards than ranks": 6, "one shard per sample": 1}  # clips per shard
CLIPS, SEED = 12, 5
WORLDS = st.sampled_from([1, 2, 3, 4])
READERS = st.sampled_from(["native", "native", "dali"])
Seen = tuple[list[int], bytes]  # rows and clips of a global batch


@pytest.fixture(scope="module", params=SHARDS)
def folder(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., Any],
    ntu_names: Callable[..., list[str]],
) -> Path:
    root: Path = tmp_path_factory.mktemp("resume")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=3, subjects=(1,))):  # all of the train subset
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 8)))
    options = Options(split="xsub", frames=8, bodies=1, shard_size=SHARDS[request.param])
    prepare(load_manifest("ntu60"), [root / "raw"], root / "set", options, quiet=True)
    dataset = Dataset.open(root / "set")
    assert dataset.count("train") == CLIPS
    assert len(dataset.shards("train")) == -(-CLIPS // SHARDS[request.param])
    return root / "set"


class Team:
    """The loaders of all ranks of a run, each with its own dataset object, as in separate processes."""

    def __init__(self, folder: Path, world: int, reader: str, batch: int, window: int | None, drop: bool) -> None:
        self.loaders = []
        for rank in range(world):
            dataset = Dataset.open(folder)
            stream = Stream(
                dataset,
                "train",
                ["joint"],
                batch,
                seed=SEED,
                window=window,
                drop_last=drop,
                rank=rank,
                world=world,
            )
            views = {"clip": None, "moved": chain("normal", layout=dataset.layout)}
            self.loaders.append(Loader(stream, CPU, views, reader=reader))

    def epoch(self, steps: int | None = None) -> list[Seen]:
        """Return the rest of an epoch, or its next `steps` batches, with the ranks' shares joined."""
        iterators = [iter(loader) for loader in self.loaders]
        seen: list[Seen] = []
        while steps is None or len(seen) < steps:
            shares = [next(iterator, None) for iterator in iterators]
            if shares[0] is None:
                assert all(share is None for share in shares), "some ranks have more steps than others"
                return seen
            seen.append(joined([share for share in shares if share is not None]))
            assert len(shares) == len(self.loaders)
        for loader in self.loaders:
            loader.close()
        return seen

    def load_state(self, state: dict[str, Any]) -> None:
        for loader in self.loaders:
            loader.load_state(state)


def joined(shares: list[Batch]) -> Seen:
    clips = [torch.cat([share.views[name] for share in shares]) for name in ("clip", "moved")]
    rows = [row for share in shares for row in share.index.tolist()]
    return rows, b"".join(clip.numpy().tobytes() for clip in clips)


@settings(max_examples=12)
@given(data=st.data(), before=WORLDS, after=WORLDS, first=READERS, second=READERS)
def test_any_ranks_and_readers_continue_where_others_stopped(
    folder: Path, data: st.DataObject, before: int, after: int, first: str, second: str
) -> None:
    drop = data.draw(st.booleans(), "drop_last")
    batch = data.draw(st.integers(max(before, after), CLIPS), "batch")
    window = data.draw(st.none() | st.integers(1, 3), "window")
    alone = Team(folder, 1, "native", batch, window, drop)
    expected = [alone.epoch() for _ in range(3)]
    steps = len(expected[0])
    assert steps == (CLIPS // batch if drop else -(-CLIPS // batch))

    sizes = Dataset.open(folder).shard_sizes("train")
    for epoch, batches in enumerate(expected):  # each clip once, in the order of `epoch_order`
        rows = [row for seen, _ in batches for row in seen]
        assert rows == epoch_order(SEED, epoch, sizes, window).tolist()[: len(rows)]
        assert len(set(rows)) == len(rows) == (steps * batch if drop else CLIPS)

    stopped = Team(folder, before, first, batch, window, drop)
    assert stopped.epoch() == expected[0]
    cut = data.draw(st.integers(0, steps), "cut")
    assert stopped.epoch(cut) == expected[1][:cut]
    states = [json.loads(json.dumps(loader.state())) for loader in stopped.loaders]
    assert states == [states[0]] * before, "the state depends on the rank"
    resumed = Team(folder, after, second, batch, window, drop)
    resumed.load_state(states[0])
    if cut < steps:  # otherwise the next epoch begins at once
        assert resumed.epoch() == expected[1][cut:]
    assert resumed.epoch() == expected[2]


def test_a_batch_that_cannot_be_shared_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="a global batch of 3 cannot be shared by 4 ranks"):
        Team(folder, 4, "native", 3, None, True)
