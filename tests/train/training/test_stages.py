"""A method with all that a method may have: stages with views of their own, a momentum schedule, mining state,
work after the optimiser, networks for two views. Whatever it does, a run that is stopped and resumed equals one
that was not."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors import safe_open
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.loader.view_recipes import On
from skelpipe.models import build
from skelpipe.models.losses import contrastive_logits, positive_first
from skelpipe.models.method import Method, Parts, Progress, Step, ViewBatch, ViewRecipes
from skelpipe.models.settings import ContrastSettings
from skelpipe.models.settings.tables import METHOD_SETTINGS
from skelpipe.settings import Amount, Whole
from skelpipe.train.knn import main as knn
from skelpipe.train.recipes.reader import load_recipe
from skelpipe.train.running.run_log import read_log
from skelpipe.train.training import pretraining
from skelpipe.views import derive


@dataclass(frozen=True, kw_only=True)
class ToySettings(ContrastSettings):
    late: Whole = 0
    weight: Amount = 1.0


class Toy(Method):
    name: ClassVar[str] = "toy"
    Settings: ClassVar[type] = ToySettings
    depends_on_run_length: ClassVar[bool] = True
    stop_at: ClassVar[int | None] = None  # batches after which it is interrupted
    momenta: ClassVar[list[float]] = []
    seen: Tensor
    common: Tensor

    def __init__(self, parts: Parts, settings: ToySettings) -> None:
        super().__init__()
        self.parts, self.late, self.weight = parts, settings.late, settings.weight
        self.joint, self.bone = parts.moco(), parts.moco()
        self.augmentation = parts.view_chain("query", "normal")
        self.mining = False
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("common", torch.zeros(parts.dim))

    @classmethod
    def build(cls, parts: Parts, settings: ToySettings) -> Self:
        return cls(parts, settings)

    def views(self) -> ViewRecipes:
        pair = {"query": self.augmentation, "key": self.augmentation}
        return {**pair, "twice": On("query", self.augmentation, stage="joint")} if self.mining else pair

    def advance(self, progress: Progress) -> None:
        self.mining = progress.epoch >= self.late
        share = (progress.epoch * progress.steps + progress.step) / (progress.epochs * progress.steps)
        self.joint.momentum = 1 - 0.5 * (math.cos(math.pi * share) + 1) / 2
        Toy.momenta.append(self.joint.momentum)

    def forward(self, batch: ViewBatch) -> Step:
        if int(self.seen) == Toy.stop_at:
            raise KeyboardInterrupt
        assert ("twice" in batch.views) == self.mining
        q, k = self._step(self.joint, batch.views["query"], batch.views["key"])
        bones = [derive(batch.views[name], "bone", self.parts.layout) for name in ("query", "key")]
        p, other = self._step(self.bone, *bones)
        pairs = ((q, k, self.joint), (p, other, self.bone))
        logits = [contrastive_logits(u, v, moco.queue.clone(), 0.2) for u, v, moco in pairs]
        loss = positive_first(logits[0]) + positive_first(logits[1])
        if self.mining:
            loss = loss + self.weight * (self.joint.query(batch.views["twice"]) @ self.common.clone()).mean()
        self.joint.enqueue(k)
        self.bone.enqueue(other)
        self.common.lerp_(q.detach().mean(dim=0), 0.5)
        self.seen.add_(1)
        return Step(loss, embeddings=q.detach(), keys=k, logs={"loss": loss.detach()})

    def finish(self) -> None:
        self.bone.update_key()

    def streams(self, view: str) -> tuple[str, ...]:
        return ("joint", "bone")

    def networks(self, view: str) -> tuple[nn.Module, nn.Module]:
        moco = {"joint": self.joint, "bone": self.bone}[view]
        return moco.encoder, moco.head

    def _step(self, moco: nn.Module, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        q = moco.query(query)
        if moco is self.joint:
            moco.update_key()
        return q, moco.key(key)


@pytest.fixture(scope="module", autouse=True)
def known() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build.METHODS, "toy", Toy)
        patch.setitem(METHOD_SETTINGS, "toy", Toy.Settings)
        yield


@pytest.fixture(scope="module")
def train(
    tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, pretrain_small: Callable[..., Result]
) -> Callable[..., Result]:
    content = load_recipe("skeletonclr").content() | {"method": "toy", "toy": {"late": 2, "weight": 0.5}}
    content["init"], content["optimiser"]["lr"] = "default", 0.02
    recipe = tmp_path_factory.mktemp("recipe") / "toy.yaml"
    recipe.write_text(yaml.safe_dump(content))

    def run(out: Path, accumulate: int, *options: str, stop_at: int | None = None) -> Result:
        Toy.stop_at = stop_at
        settings = ["--set", f"optimiser.accumulate={accumulate}", "--set", "optimiser.warmup=2"]
        arguments = ["--recipe", str(recipe), "--epochs", "4", "--knn-every", "2", *settings, *options]
        return pretrain_small(tiny_dataset, out, *arguments)

    return run


@pytest.fixture(scope="module")
def whole(train: Callable[..., Result], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Uninterrupted runs of four epochs of three batches, by batches a step."""
    folders = {accumulate: tmp_path_factory.mktemp("whole") / str(accumulate) for accumulate in (1, 2)}
    for accumulate, folder in folders.items():
        result = train(folder, accumulate)
        assert result.exit_code == 0, result.output
    return folders


@pytest.mark.parametrize(
    ("accumulate", "stop_at", "save_every"),
    [
        (1, 5, 1),  # in the first stage
        (1, 6, 1),  # before the first batch of the second, whose views differ
        (1, 8, 1),
        (1, 10, 2),  # back to the border of the stages
        (2, 7, 1),  # between the batches of a step
        (2, 11, 3),
    ],
)
def test_stopped_and_resumed_equals_uninterrupted(
    whole: dict[int, Path],
    train: Callable[..., Result],
    same_run: Callable[..., None],
    tmp_path: Path,
    accumulate: int,
    stop_at: int,
    save_every: int,
) -> None:
    save = ["--save-every", str(save_every)]
    assert train(tmp_path / "run", accumulate, *save, stop_at=stop_at).exit_code != 0
    assert not (tmp_path / "run" / "encoder.safetensors").exists()
    result = train(tmp_path / "run", accumulate, *save, "--resume")
    assert result.exit_code == 0, result.output
    done = stop_at // 3 // save_every * save_every
    assert f"{done} epochs are done" in result.stderr
    same_run(whole[accumulate], tmp_path / "run", epoch=4)


def test_the_rate_rises_over_the_first_epochs(whole: dict[int, Path]) -> None:
    log = read_log(whole[1] / "log.jsonl")
    assert [record["lr"] for record in log] == [0.01, 0.02, 0.02, 0.002]
    assert all(0 < record["std"] < 2 for record in log)  # the gauge is taken though the method logs none


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 3), (2, 2)])
def test_the_momentum_follows_the_optimisers_steps(
    train: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int, steps: int
) -> None:
    monkeypatch.setattr(pretraining, "write_report", lambda *_: None)  # which sets up a method of its own
    Toy.momenta.clear()
    assert train(tmp_path / "run", accumulate, "--knn-every", "0").exit_code == 0
    total = 4 * steps  # the schedule of SkeAttnCLR (Hua et al. 2023, section 3.1), from 0.5
    assert Toy.momenta == [1 - 0.5 * (math.cos(math.pi * it / total) + 1) / 2 for it in range(total)]


def test_both_views_networks_are_exported_watched_and_judged(
    whole: dict[int, Path], tiny_dataset: Dataset
) -> None:
    run = whole[1]
    log = read_log(run / "log.jsonl")
    assert [["knn@20" in record, "knn@20-bone" in record] for record in log] == [[False] * 2, [True] * 2] * 2
    streams = {}
    for name in ("encoder.safetensors", "encoder-bone.safetensors"):
        with safe_open(run / name, framework="pt") as file:
            streams[name] = (file.metadata()["view"], file.metadata()["streams"])
    assert list(streams.values()) == [("joint", "joint"), ("joint", "bone")]
    for checkpoint in (run, run / "checkpoints" / "epoch-0004.pt"):
        for view, name in (("joint", "knn@20"), ("bone", "knn@20-bone")):
            arguments = ["--shards", str(tiny_dataset.path), "--checkpoint", str(checkpoint), "--view", view]
            found = json.loads(CliRunner().invoke(knn, [*arguments, "--json", "--device", "cpu"]).stdout)
            assert found["figures"]["knn@20"] == log[-1][name]
    arguments = ["--shards", str(tiny_dataset.path), "--view", "motion", "--checkpoint"]
    refused = CliRunner().invoke(knn, [*arguments, str(run / "checkpoints" / "epoch-0004.pt")])
    assert refused.exit_code == 2
    assert "view: trained on joint and bone, asked for motion" in refused.stderr


def test_a_run_whose_schedule_spans_it_cannot_be_lengthened(
    whole: dict[int, Path], train: Callable[..., Result]
) -> None:
    result = train(whole[1], 1, "--epochs", "6", "--resume")
    assert result.exit_code == 2
    assert "epochs: 4, now 6" in result.stderr
