"""Starts ranks for tests. What all need is imported once; each rank is a fork of this process.

Reads one JSON order a line from stdin and answers with one line. An order is either a list of ranks to start, each
{"environment", "task", "arguments", "prefix"}, answered by their process ids, or such an id, answered by its exit
code once it has ended.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard

from skelpipe.cli.command import Command
from skelpipe.dataset import Dataset
from skelpipe.loader import Batch, Loader
from skelpipe.train import knn, pretrain
from skelpipe.train.evaluation.embedding import embed
from skelpipe.train.running import requests
from skelpipe.train.running.ranks import ranks

requests.LOOK_SECONDS = 0.0  # ranks look for signals at every step


def start(rank: dict[str, Any]) -> int:
    """Fork a rank, with its output in PREFIX.out and PREFIX.err."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.environ.update(rank["environment"])
        for number, end in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{rank['prefix']}.{end}", os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        last_value_counts()
        watch(Path(f"{rank['prefix']}.index"), os.environ.get("HOLD_AT"), os.environ.get("SIGNALLED_AT", ""))
        {"pretrain": pretrain.main, "knn": knn.main, "embed": save_features}[rank["task"]](rank["arguments"])
        code = 0
    except SystemExit as end_:
        code = end_.code if isinstance(end_.code, int) else int(end_.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def last_value_counts() -> None:
    """Let a test's own words follow the defaults that it is given, as in `conftest.py`."""
    Command.refuse_several = lambda *_: None  # type: ignore[method-assign]


def watch(path: Path, hold_at: str | None, signalled_at: str) -> None:
    """Write down each batch this rank gets: epoch, step, rows.

    It stops for good at the batch "EPOCH STEP" of `hold_at`, and gets a signal at that of "EPOCH STEP NUMBER".
    """
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


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if isinstance(order, list):
            answer: Any = [start(rank) for rank in order]
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(order, 0)[1])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
