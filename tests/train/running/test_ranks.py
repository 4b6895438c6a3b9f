"""Ranks that are processes: what they leave behind, how they go on in another number, how they end."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from forked import WAIT, Started, Starter
from safetensors.torch import load_file

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.pretrain import main
from skelpipe.train.running import run as running
from skelpipe.train.running.ranks import Ranks, ranks, together
from skelpipe.train.running.run_log import read_log

SCRIPT = Path(__file__).parents[3] / "train" / "pretrain.py"
EPOCHS, STEPS, CLIPS = 3, 3, 24
RUN = ["--epochs", str(EPOCHS), "--save-every", "1", "--knn-every", str(EPOCHS)]
Pretrain = Callable[..., Result]


@pytest.fixture(scope="module")
def arguments(tiny_dataset: Dataset, small_options: list[str]) -> Callable[..., list[str]]:
    def make(out: Path, *more: str) -> list[str]:
        return ["--shards", str(tiny_dataset.path), "--out", str(out), *small_options, *RUN, *more]

    return make


@pytest.fixture(scope="module")
def pair(
    starter: Starter, arguments: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Started]:
    """A run of two ranks that nothing disturbs; nobody writes to it."""
    out = tmp_path_factory.mktemp("runs") / "pair"
    started = starter.start("pretrain", 2, arguments(out, "--json"))
    assert started.codes() == [0, 0], started.text(0)
    return out, started


def test_rank_0_alone_writes_and_prints(pair: tuple[Path, Started]) -> None:
    out, started = pair
    assert json.loads(started.text(0, "out"))["epochs"] == EPOCHS
    assert "24 clips, 3 steps of 8 per epoch" in started.text(0)
    assert "2 ranks" in started.text(0)
    assert started.text(1, "out") == started.text(1) == ""
    assert not {"torch._dynamo", "sympy"} & started.modules(1)  # torch's compiler, which takes seconds to import
    assert [record["epoch"] for record in read_log(out / "log.jsonl")] == [1, 2, 3]
    assert not (out / "tensorboard").exists()
    assert (out / "encoder.safetensors").is_file()


def test_two_ranks_train_as_one(
    starter: Starter,
    tiny_dataset: Dataset,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    pretrain_small: Pretrain,
) -> None:
    """Without dropout, in float32, through the command; `test_shared_batches.py` has float64 and all methods."""
    same = ["--epochs", "1", "--batch-size", "9", "--set", "encoder.dropout=0", "--lr", "0.001"]
    started = starter.start("pretrain", 2, arguments(tmp_path / "two", *same, "--knn-every", "1"))
    assert pretrain_small(tiny_dataset, tmp_path / "one", *same, "--knn-every", "1").exit_code == 0
    assert started.codes() == [0, 0], started.text(0)
    assert [{len(rows) for rows in started.rows(rank)} for rank in (0, 1)] == [{4}, {5}]
    found, wanted = (read_log(tmp_path / name / "log.jsonl")[0] for name in ("two", "one"))
    assert found.keys() == wanted.keys()
    for name in ("loss", "top1", "lr"):
        assert found[name] == pytest.approx(wanted[name], rel=1e-3)
    two, one = (load_file(tmp_path / name / "encoder.safetensors") for name in ("two", "one"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


def test_an_epoch_holds_every_clip_once(pair: tuple[Path, Started]) -> None:
    batches = pair[1].batches()
    assert sorted(batches) == [(epoch, step) for epoch in range(EPOCHS) for step in range(STEPS)]
    for epoch in range(EPOCHS):
        assert sorted(row for step in range(STEPS) for row in batches[epoch, step]) == list(range(CLIPS))


def test_killed_runs_go_on_with_any_number_of_ranks(
    pair: tuple[Path, Started],
    starter: Starter,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    same_run: Callable[..., None],
) -> None:
    whole, wanted = pair[0], pair[1].batches()
    out = tmp_path / "killed"
    begun = starter.start("pretrain", 2, arguments(out), hold={1: "1 1"})
    begun.wait_until_held(1)
    killed = time.monotonic()
    os.kill(begun.pids[1], signal.SIGKILL)
    assert begun.codes() == [1, -signal.SIGKILL]
    assert time.monotonic() - killed < 120
    assert len(begun.errors()) == 1
    said = f"another rank has ended: rank 1 of 2 (process {begun.pids[1]} on {socket.gethostname()}) was killed by"
    assert f"{said} SIGKILL. --resume continues" in begun.errors()[0]
    assert not (out / "encoder.safetensors").exists()

    shutil.copytree(out, tmp_path / "four")
    same = starter.start("pretrain", 2, arguments(out, "--resume"))
    assert same.codes() == [0, 0], same.text(0)
    same_run(whole, out, epoch=EPOCHS)
    assert same.batches() == {place: rows for place, rows in wanted.items() if place[0] >= 1}

    # Now four go on, one is killed in the next epoch, which all others say, and a single one ends it.
    four = starter.start("pretrain", 4, arguments(tmp_path / "four", "--resume"), hold={0: "2 1"})
    four.wait_until_held(0)
    os.kill(four.pids[0], signal.SIGKILL)
    assert four.codes() == [-signal.SIGKILL, 1, 1, 1]
    assert all(f"rank 0 of 4 (process {four.pids[0]} on" in four.text(rank).splitlines()[-1] for rank in (1, 2, 3))
    last = starter.start("pretrain", 1, arguments(tmp_path / "four", "--resume"))
    assert last.codes() == [0], last.text(0)
    assert "2 epochs are done" in last.text(0)
    for step in range(STEPS):
        assert four.batches()[1, step] == wanted[1, step]
        assert last.batches()[2, step] == wanted[2, step]
    assert [record["epoch"] for record in read_log(tmp_path / "four" / "log.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("protocol", "gone", "batch", "more"),
    [("knn", 1, "0 0", []), ("linear", 0, "0 1", ["--batch-size", "6"])],
)
def test_a_killed_rank_of_an_evaluation_is_named(
    protocol: str, gone: int, batch: str, more: list[str], starter: Starter, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    options = ["--baseline", "raw", "--augment", *more, "--out", str(tmp_path / "out")]
    begun = starter.start(
        protocol, 2, ["--shards", str(tiny_dataset.path), "--device", "cpu", *options], hold={gone: batch}
    )
    begun.wait_until_held(gone)
    killed = time.monotonic()
    os.kill(begun.pids[gone], signal.SIGKILL)
    assert begun.codes() == [-signal.SIGKILL if rank == gone else 1 for rank in (0, 1)]
    assert time.monotonic() - killed < 60
    last = begun.text(1 - gone).splitlines()[-1]
    assert f"rank {gone} of 2 (process {begun.pids[gone]} on {socket.gethostname()}) was killed" in last
    assert last.endswith(". nothing is kept: start all ranks again")  # they have no --resume
    assert not (tmp_path / "out" / "result.json").exists()


def test_a_signal_to_one_rank_stops_all_at_the_same_step(
    pair: tuple[Path, Started],
    starter: Starter,
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    same_run: Callable[..., None],
) -> None:
    out, number = tmp_path / "stopped", signal.SIGTERM
    often = ["--save-every", "0.001s"]
    stopped = starter.start("pretrain", 2, arguments(out, *often), signalled={1: f"1 0 {number.value}"})
    assert stopped.codes() == [143] * 2, stopped.text(0)
    assert stopped.errors() == []
    said = [line for line in stopped.text(0).splitlines() if number.name in line]
    assert len(said) == 1
    assert (
        f"{number.name}: stopped after epoch 2, step 1 of 3; {out}/checkpoints/epoch-0001-step-000001.pt"
        in said[0]
    )
    same = starter.start("pretrain", 2, arguments(out, "--resume", *often))
    assert same.codes() == [0, 0], same.text(0)
    assert "1 epochs are done, and 1 of 3 steps" in same.text(0)
    same_run(pair[0], out, epoch=EPOCHS)
    assert stopped.batches() | same.batches() == pair[1].batches()


def test_one_rank_that_fails_ends_all_with_one_line(
    starter: Starter, arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    cases = {
        "there is no recipe 'nonsense'": (["--recipe", "nonsense"], [], 2),
        "rank 1 has another dataset, recipe or option than rank 0": ([], ["--seed", "1"], 1),
        "rank 1 of 2: there is no device 'tpu'": ([], ["--device", "tpu"], 2),
    }
    begun = [
        starter.start("pretrain", 2, arguments(tmp_path / str(i), *both), rank_1=second)
        for i, (both, second, _) in enumerate(cases.values())
    ]
    for started, (text, (_, _, code)) in zip(begun, cases.items(), strict=True):
        codes = started.codes()
        assert code in codes
        assert 0 not in codes
        assert len([line for line in started.errors() if "another rank has ended" not in line]) == 1
        assert "Traceback" not in "".join(started.errors())
        assert any(text in line for line in started.errors())
    assert not list(tmp_path.iterdir())


def test_every_rank_has_all_embeddings_to_the_bit(starter: Starter, tiny_dataset: Dataset, tmp_path: Path) -> None:
    sizes = ["256", "7", "24"]  # one batch for two ranks; four, the last of them shorter; one that is just full
    for world in (1, 2):
        out = str(tmp_path / str(world))
        started = starter.start("embed", world, [str(tiny_dataset.path), out, *sizes])
        assert started.codes() == [0] * world, started.text(0)
    for size in sizes:
        features, labels = torch.load(tmp_path / f"1-{size}-0.pt", weights_only=True)
        assert features.shape == (24, 5)
        assert labels.tolist() == [int(name[-3:]) - 1 for name in tiny_dataset.ids("test")]
        for rank in (0, 1):
            found = torch.load(tmp_path / f"2-{size}-{rank}.pt", weights_only=True)
            assert torch.equal(found[0], features)
            assert torch.equal(found[1], labels)


def test_torchrun_starts_killed_ranks_again(
    pair: tuple[Path, Started],
    tmp_path: Path,
    arguments: Callable[..., list[str]],
    single: dict[str, str],
    same_run: Callable[..., None],
) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "1"]
    command = [*launcher, "--nproc-per-node", "2", str(SCRIPT), *arguments(tmp_path / "run", "--json", "--resume")]
    with open(tmp_path / "out", "w") as out, open(tmp_path / "err", "w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=single)
        deadline = time.monotonic() + WAIT
        while not (tmp_path / "run" / "checkpoints" / "epoch-0001.pt").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(workers[1]), signal.SIGKILL)
        code = process.wait(WAIT)
    said = (tmp_path / "err").read_text()
    assert code == 0, said
    told = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    assert "--resume continues" in told[0]
    assert "resuming from" in said
    assert json.loads((tmp_path / "out").read_text())["epochs"] == EPOCHS  # nobody else printed
    same_run(pair[0], tmp_path / "run", epoch=EPOCHS)


def test_a_dataset_that_is_replaced_ends_the_run(
    tiny_dataset: Dataset,
    make_dataset: Callable[..., Dataset],
    ntu_names: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_options: list[str],
    same_run: Callable[..., None],
) -> None:
    other = make_dataset(ntu_names(actions=3, subjects=(1, 3)))
    shards, out, whole = tmp_path / "set", tmp_path / "run", tmp_path / "whole"
    shutil.copytree(tiny_dataset.path, shards)
    card = (shards / "dataset.json").read_bytes()
    plain = running.save_checkpoint

    def replacing(folder: Path, checkpoint: Any, keep: int) -> Path:
        (shards / "dataset.json").write_bytes((other.path / "dataset.json").read_bytes())
        return plain(folder, checkpoint, keep)

    def run(out: Path, *options: str) -> Result:
        given = ["--shards", str(shards), "--out", str(out), *small_options, *RUN]
        return CliRunner().invoke(main, [*given, *options])

    monkeypatch.setattr(running, "save_checkpoint", replacing)
    stopped = run(out)
    assert stopped.exit_code == 1
    assert "was replaced during the run" in stopped.stderr
    assert tiny_dataset.digest in stopped.stderr
    assert other.digest in stopped.stderr
    assert [record["epoch"] for record in read_log(out / "log.jsonl")] == [1]
    monkeypatch.setattr(running, "save_checkpoint", plain)
    assert run(out, "--resume").exit_code != 0  # it is not that dataset yet
    (shards / "dataset.json").write_bytes(card)
    assert run(out, "--resume").exit_code == 0
    assert run(whole).exit_code == 0
    same_run(whole, out, epoch=EPOCHS)


def test_alone_nothing_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")  # as with one process under torchrun
    ranks.cache_clear()
    team = ranks()
    x = torch.randn(3, 2)
    assert (team.rank, team.world, team.is_main) == (0, 1, True)
    assert team.gather(x) is x
    assert team.sum(x) is x
    assert team.send(b"a") == b"a"
    with pytest.raises(SkelpipeError, match="as it is"):
        team.on_main(lambda: (_ for _ in ()).throw(SkelpipeError("as it is")))
    assert together(lambda: 5)() == 5


@pytest.mark.parametrize("size", [0, 1, 2, 5, 8, 31])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_shares_are_those_of_the_stream(size: int, world: int) -> None:
    teams = [Ranks(rank, world) for rank in range(world)]
    assert [row for team in teams for row in team.own(size)] == list(range(size))
    assert [len(team.own(size)) for team in teams] == teams[0].shares(size)
    assert max(teams[0].shares(size)) - min(teams[0].shares(size)) <= 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', and must be a number"),
        ({"WORLD_SIZE": "2"}, "RANK is None, and must be a number"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "MASTER_ADDR is not set: start the ranks with torchrun"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK is 2"),
    ],
)
def test_half_an_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ranks.cache_clear()
    with pytest.raises(UsageError) as caught:
        ranks()
    assert message in str(caught.value)
