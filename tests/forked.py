"""Processes for tests of training, as forks of one process that has imported everything.

A new process imports torch and all that an optimiser needs for seconds, which is not what these tests are about.
`Starter` has the parent of the forks; run as a script, this file is that parent. That the scripts also start as
processes of their own is tested in test_ranks.py (under torchrun) and test_reproduce.py.
"""

import atexit
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WAIT = 300  # seconds until a test gives up; nothing here takes more than a few


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


class Started:
    """Processes that run, or have run: exit codes, output, the rows each got."""

    def __init__(self, starter: "Starter", pids: list[int], prefixes: list[Path]) -> None:
        self.pids, self.prefixes = pids, prefixes
        self._starter = starter

    def codes(self) -> list[int]:
        """Wait until all have ended; return their exit codes."""
        return [self._starter.order(pid) for pid in self.pids]

    def wait_until_held(self, rank: int) -> None:
        deadline = time.monotonic() + WAIT
        while not self.prefixes[rank].with_suffix(".held").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def text(self, rank: int, end: str = "err") -> str:
        return self.prefixes[rank].with_suffix(f".{end}").read_text()

    def errors(self) -> list[str]:
        lines = [line for r in range(len(self.pids)) for line in self.text(r).splitlines()]
        return [line for line in lines if line.startswith("Error:") or "Traceback" in line]

    def modules(self, rank: int) -> set[str]:
        """Return the modules that a process had imported when it ended."""
        return set(self.prefixes[rank].with_suffix(".modules").read_text().splitlines())

    def rows(self, rank: int) -> list[list[int]]:
        """Return the rows of each batch that a rank got."""
        return [json.loads(line)[2] for line in self.prefixes[rank].with_suffix(".index").read_text().splitlines()]

    def batches(self) -> dict[tuple[int, int], list[int]]:
        """Return the rows of each (epoch, step), the ranks' shares one after another."""
        found: dict[tuple[int, int], list[int]] = {}
        for prefix in self.prefixes:
            for line in prefix.with_suffix(".index").read_text().splitlines():
                epoch, step, rows = json.loads(line)
                found.setdefault((epoch, step), []).extend(rows)
        return found


class Starter:
    """Starts scripts of `train` by forks of one process, each as a rank of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def order(self, order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        task: str,
        world: int,
        arguments: list[str],
        *,
        hold: dict[int, str] | None = None,
        signalled: dict[int, str] | None = None,
        **other: list[str],
    ) -> Started:
        """Start `world` ranks of train/TASK.py with the environment of now.

        `hold` stops a rank at a batch, `signalled` sends it a signal there, `rank_1=[...]` gives one rank more
        arguments.
        """
        self._count += 1
        common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        prefixes = [self._folder / f"{self._count}-{rank}" for rank in range(world)]
        order = [
            {
                "task": task,
                "arguments": [*arguments, *other.get(f"rank_{rank}", [])],
                "prefix": str(prefix),
                "environment": {
                    **os.environ,
                    **(common if world > 1 else {}),
                    "OMP_NUM_THREADS": "1",
                    "RANK": str(rank),
                    "LOCAL_RANK": str(rank),
                },
                "hold_at": hold and hold.get(rank),
                "signalled_at": signalled and signalled.get(rank),
            }
            for rank, prefix in enumerate(prefixes)
        ]
        return Started(self, self.order(order), prefixes)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Read one JSON order a line and answer with one line.

    An order is either a list of processes to start, as `Starter.start` makes it, answered by their ids, or such an
    id, answered by its exit code once it has ended.
    """

    import numpy as np

    from skelpipe.dataset.gather import Pieces
    from skelpipe.train.commands import knn, linear, pretrain  # noqa: F401
    from skelpipe.train.papers.tables import builtin_papers, load_paper
    from skelpipe.train.running import requests

    requests.LOOK_SECONDS = 0.0  # ranks look for signals at every step
    rows = np.zeros((2, 1), np.float32)
    Pieces([rows], rows.dtype).copy(np.arange(2), rows)  # the first compiled call imports half of numba
    for name in builtin_papers():
        load_paper(name)  # and keeps it
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer: Any
        if isinstance(order, list):
            answer = []
            for process in order:
                if child := os.fork():
                    answer.append(child)
                else:
                    become(process)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(order, 0)[1])
        print(json.dumps(answer), flush=True)


def become(process: dict[str, Any]) -> None:
    """Run a script in this fork, with its output in PREFIX.out and PREFIX.err, and end as a process does."""
    os.environ.clear()
    os.environ.update(process["environment"])
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    for number, end in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{process['prefix']}.{end}", os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    last_value_counts()
    atexit.register(lambda: Path(f"{process['prefix']}.modules").write_text("\n".join(sys.modules)))
    watch(Path(f"{process['prefix']}.index"), process["hold_at"], process["signalled_at"] or "")
    if process["task"] == "embed":
        save_features(process["arguments"])
    else:
        importlib.import_module(f"skelpipe.train.{process['task']}").main(process["arguments"])
    sys.exit()


def last_value_counts() -> None:
    """Let a test's own words follow the defaults that it is given, as in `conftest.py`."""
    from skelpipe.cli.command import Command

    Command.refuse_several = lambda *_: None  # type: ignore[method-assign]


def watch(path: Path, hold_at: str | None, signalled_at: str) -> None:
    """Write down each batch this rank gets: epoch, step, rows.

    It stops for good at the batch "EPOCH STEP" of `hold_at`, and gets a signal at that of "EPOCH STEP NUMBER".
    """
    from skelpipe.loader import Batch, Loader

    place, _, number = signalled_at.rpartition(" ")
    plain = Loader.__iter__

    def noting(loader: Loader) -> Iterator[Batch]:
        for batch in plain(loader):
            with open(path, "a") as file:
                file.write(json.dumps([batch.epoch, batch.step, batch.index.tolist()]) + "\n")
            if f"{batch.epoch} {batch.step}" == hold_at:
                path.with_suffix(".held").touch()
                time.sleep(3600)
            if f"{batch.epoch} {batch.step}" == place:
                signal.raise_signal(int(number))
            yield batch

    Loader.__iter__ = noting  # type: ignore[method-assign]


def save_features(arguments: list[str]) -> None:
    """Save what `embed` returns on this rank, for the network in a file."""
    import torch

    from skelpipe.dataset import Dataset
    from skelpipe.train.evaluation.embedding import embed
    from skelpipe.train.running.ranks import ranks

    shards, out, *sizes = arguments
    team = ranks()
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(5), torch.nn.Tanh())
    dataset = Dataset.open(shards)
    network(torch.zeros(1, *dataset.shape))
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.sin(torch.arange(parameter.numel()) + float(i)).view(parameter.shape))
    for size in sizes:
        found = embed(network, dataset, "test", "joint", device=torch.device("cpu"), batch_size=int(size))
        torch.save([found.features, found.labels], f"{out}-{size}-{team.rank}.pt")
    team.barrier()


if __name__ == "__main__":
    serve()
