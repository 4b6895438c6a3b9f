"""Lightning's Trainer on loaders: every clip of every epoch once, on one process and two, and after a resume."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from skelpipe.augment.chain import chain
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.lightning import DataModule
from skelpipe.loader import Batch, Loader, Stream

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises on loggers and on workers
RECIPE = {"query": chain("normal"), "plain": None}
CLIPS, BATCH, STEPS = 24, 4, 6
Seen = tuple[int, int, int, list[int], float]  # Lightning's epoch; epoch, step, rows and clips of the batch


class Noting(LightningModule):
    """Notes its batches, in a file of its rank."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.out, self.weight = out, torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        self._note("train", [self.current_epoch, *seen(batch, "query")])
        return self.weight * batch.query.mean()

    def validation_step(self, batch: Batch, _: int) -> None:
        if not self.trainer.sanity_checking:
            self._note("val", [self.current_epoch, *seen(batch, "clip")])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def _note(self, name: str, row: list[Any]) -> None:
        self.out.mkdir(exist_ok=True)
        with (self.out / f"{name}-{self.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def seen(batch: Batch, view: str) -> tuple[int, int, list[int], float]:
    return batch.epoch, batch.step, batch.index.tolist(), float(batch.views[view].double().sum())


def rows(out: Path, name: str = "train", rank: int = 0) -> list[list[Any]]:
    return [json.loads(line) for line in (out / f"{name}-{rank}.jsonl").read_text().splitlines()]


def trainer(epochs: int, *callbacks: Any, **options: Any) -> Trainer:
    options = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": bool(callbacks), **options}
    return Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def saving(out: Path) -> ModelCheckpoint:
    """Checkpoints within the second epoch and after it."""
    return ModelCheckpoint(out, "{step}", every_n_train_steps=4, save_top_k=-1, save_on_train_epoch_end=False)


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[list[Any]]:
    """The batches of three epochs, as our own loop has them."""
    loader = Loader(Stream(Dataset.open(folder), "train", ["joint"], BATCH, seed=3), "cpu", RECIPE, view="bone")
    found = [[epoch, *seen(batch, "query")] for epoch in range(3) for batch in loader]
    loader.close()
    return found


@pytest.fixture
def made(folder: Path) -> DataModule:
    return DataModule(folder, RECIPE, BATCH, view="bone", seed=3)


def test_a_loader_trains_on_every_epoch(folder: Path, tmp_path: Path) -> None:
    """Without validation, where Lightning asks for no batch after the last: six epochs of equal steps."""
    loader = Loader(Stream(Dataset.open(folder), "train", ["joint"], BATCH), "cpu", RECIPE)
    trainer(6).fit(Noting(tmp_path), loader)
    found = rows(tmp_path)
    assert [row[:3] for row in found] == [[epoch, epoch, step] for epoch in range(6) for step in range(STEPS)]
    for epoch in range(6):
        clips = [row for each in found if each[0] == epoch for row in each[3]]
        assert sorted(clips) == list(range(CLIPS))
    assert (loader.state()["epoch"], loader.state()["step"]) == (6, 0)
    loader.close()


def test_it_has_the_batches_of_a_loader_and_evaluates_on_all_clips(
    made: DataModule, expected: list[list[Any]], tmp_path: Path
) -> None:
    """Also after Lightning's trial of the first validation batches."""
    model = Noting(tmp_path)
    trainer(3).fit(model, datamodule=made)
    assert rows(tmp_path) == expected
    found = rows(tmp_path, "val")
    assert [[row[0], *row[3]] for row in found] == [
        [epoch, *range(first, first + BATCH)] for epoch in range(3) for first in (0, 4, 8)
    ]
    assert not made._loaders
    assert made.state_dict()["epoch"] == 3


@pytest.mark.parametrize("step", [8, 12])
def test_a_checkpoint_goes_on_with_the_next_batch(
    made: DataModule, folder: Path, expected: list[list[Any]], tmp_path: Path, step: int
) -> None:
    """In the middle of an epoch and between two."""
    trainer(2, saving(tmp_path)).fit(Noting(tmp_path / "first"), datamodule=made)
    other = DataModule(folder, RECIPE, BATCH, view="bone", seed=3)
    path = tmp_path / f"step={step}.ckpt"
    trainer(3).fit(Noting(tmp_path / "second"), datamodule=other, ckpt_path=path)
    assert rows(tmp_path / "second") == expected[step:]


def test_two_processes_share_every_batch_and_one_goes_on(
    made: DataModule, folder: Path, expected: list[list[Any]], tmp_path: Path
) -> None:
    two = trainer(2, saving(tmp_path), devices=2, strategy="ddp_fork")
    two.fit(Noting(tmp_path / "two"), datamodule=made)
    first, second = rows(tmp_path / "two"), rows(tmp_path / "two", rank=1)
    assert [a[:3] for a in first] == [b[:3] for b in second] == [row[:3] for row in expected[:12]]
    assert [a[3] + b[3] for a, b in zip(first, second, strict=True)] == [row[3] for row in expected[:12]]
    other = DataModule(folder, RECIPE, BATCH, view="bone", seed=3)
    trainer(2).fit(Noting(tmp_path / "one"), datamodule=other, ckpt_path=tmp_path / "step=8.ckpt")
    assert rows(tmp_path / "one") == expected[8:12]


def test_wrong_views_and_batches_are_refused_when_it_is_made(folder: Path) -> None:
    for recipe in (chain("normal"), [chain("normal")], {"query": "normal"}, {"label": None}):
        with pytest.raises(UsageError):
            DataModule(folder, recipe, 4)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch_size is 0"):
        DataModule(folder, {"clip": None}, 0)
    with pytest.raises(UsageError, match="there is no view 'bones'; there are: joint, bone, motion"):
        DataModule(folder, {"clip": None}, 4, view="bones")
    with pytest.raises(UsageError, match="seed is None"):
        DataModule(folder, {"clip": None}, 4, seed=None)  # type: ignore[arg-type]


def test_printed_it_tells_its_facts(folder: Path) -> None:
    text = repr(DataModule(folder, {"query": None, "key": None}, 4, view="bone"))
    assert text.startswith(
        "<DataModule: view bone, global batches of 4, views query, key, evaluated on test, of <Data"
    )
