"""Whether a preempted training equals one that was never stopped: 200 signals at random moments.

    OMP_NUM_THREADS=1 python tests/benchmarks/preemptions.py --out preempted
    OMP_NUM_THREADS=1 python tests/benchmarks/preemptions.py --out preempted --count 20 --ranks 2

Each training is a fork of one process that has imported everything. It gets SIGTERM or SIGUSR1 at a random moment,
goes on with --resume, is preempted again, and so on until it is done; then recipe, log, weights and the last
checkpoint are compared, bit for bit, with those of an uninterrupted training. Every second training also saves by
the clock (--save-every) after nearly every step. With several ranks the signal goes to one of them, and each
normalises its own share (--batch-norm rank). Printed are the moments that were hit,
of which those outside of the training itself do not count, and what was found.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
import torch
from click.testing import CliRunner
from safetensors import safe_open

from skelpipe.cli import main as skelpipe
from skelpipe.train import pretrain
from skelpipe.train.running import requests
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.ranks import ranks as this_rank

SIZES: Final = {"encoder.width": 2, "encoder.out_channels": 8, "head.hidden": 8, "head.dim": 8, "queue": 20}
EPOCHS: Final = 6
ENDED_BY: Final = (signal.SIGTERM, signal.SIGUSR1)
PREEMPTED: Final = 143


def prepare(folder: Path) -> Path:
    """Synthesise and prepare a dataset of 24 training clips, once; return its path."""
    if not (folder / "dataset" / "dataset.json").exists():
        few = ["--dataset", "ntu60", "--subjects", "4", "--actions", "4", "--repeats", "1"]
        split = ["--dataset", "ntu60", "--split", "xsub", "--frames", "8", "--raw", str(folder / "raw")]
        synth = ["synth", *few, "--out", str(folder / "raw")]
        for words in (synth, ["prepare", *split, "--out", str(folder / "dataset")]):
            result = CliRunner().invoke(skelpipe, [*words, "--workers", "1"])
            if result.exit_code:
                raise click.ClickException(result.output)
    return folder / "dataset"


def start(arguments: list[str], ranks: int, said: Path) -> list[int]:
    """Fork the ranks of a training, whose output goes to a file; return their process ids."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        this_rank.cache_clear()  # the process that forks is one of one
        try:
            if ranks > 1:
                names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
            output = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            for number in (1, 2):
                os.dup2(output, number)
            pretrain.main(arguments)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return children


def ended(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def content(run: Path) -> dict[str, Any]:
    """Return all that two equal runs have in common: bytes of texts, and bits of every number."""

    def bits(state: Any) -> Any:
        if isinstance(state, torch.Tensor):
            return str(state.dtype), tuple(state.shape), state.numpy().tobytes()
        if isinstance(state, dict):
            return {key: bits(value) for key, value in state.items()}
        return [bits(value) for value in state] if isinstance(state, list | tuple) else state

    with safe_open(run / "encoder.safetensors", framework="pt") as file:
        weights = {name: bits(file.get_tensor(name)) for name in file.keys()} | file.metadata()  # noqa: SIM118
    last = vars(read_checkpoint(run / "checkpoints" / f"epoch-{EPOCHS:04}.pt"))
    return {
        "recipe": (run / "recipe.yaml").read_bytes(),
        "log": (run / "log.jsonl").read_bytes(),
        "weights": weights,
        "checkpoint": {name: bits(value) for name, value in last.items()},
    }


def moment(said: str) -> str:
    """Return where a preempted training stopped, in a word."""
    if found := re.search(r"stopped after epoch \d+, step (\d+) of (\d+)", said):
        return "before a measurement or in it" if found[1] == found[2] else "within an epoch"
    return "between epochs or while saving"


def wait_for_training(said: Path) -> None:
    """Wait until a training has said what it trains, or for five seconds."""
    until = time.monotonic() + 5.0
    while time.monotonic() < until and not (said.exists() and b" per epoch" in said.read_bytes()):
        time.sleep(0.002)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to work in.")
@click.option("--count", default=200, show_default=True, help="Preemptions.")
@click.option("--ranks", default=1, show_default=True, help="Processes of each training.")
@click.option("--seed", default=0, show_default=True, help="Seed of the moments.")
def main(out: Path, count: int, ranks: int, seed: int) -> None:
    """Preempt a small training `count` times at random moments; exit with 1 unless all end as if never stopped."""
    torch.set_num_threads(1)
    requests.LOOK_SECONDS = 0.01  # as long steps would have it: a look at each few steps
    draw, dataset = random.Random(seed), prepare(out)
    options = ["--shards", str(dataset), "--device", "cpu", "--batch-size", "6", "--epochs", str(EPOCHS)]
    options += ["--knn-every", "2", "--batch-norm", "rank" if ranks > 1 else "global"]
    options += [word for name, value in SIZES.items() for word in ("--set", f"{name}={value}")]

    def train(folder: Path, *more: str) -> list[int]:
        return start([*options, "--out", str(folder), *more], ranks, out / "said.txt")

    whole, warm = out / "whole", out / "warm"
    for folder in (whole, warm):
        shutil.rmtree(folder, ignore_errors=True)
    # Loads what is loaded at its first use, once for all.
    CliRunner().invoke(pretrain.main, [*options, "--save-every", "2", "--out", str(warm)])
    begun = time.monotonic()
    if any(ended(train(whole, "--save-every", "2"))):
        raise click.ClickException((out / "said.txt").read_text("utf-8"))
    lasted, wanted = time.monotonic() - begun, content(whole)
    moments: Counter[str] = Counter()
    others: Counter[str] = Counter()
    signals: Counter[str] = Counter()
    trainings, different, begun = 0, 0, time.monotonic()
    while sum(moments.values()) < count:
        folder, codes = out / "preempted", [PREEMPTED]
        shutil.rmtree(folder, ignore_errors=True)
        often = ["--save-every", "0.001s" if trainings % 2 else "2"]
        while codes[0] == PREEMPTED:
            (out / "said.txt").unlink(missing_ok=True)
            children = train(folder, "--resume", *often)
            if draw.random() < 0.9:
                wait_for_training(out / "said.txt")
            time.sleep(draw.uniform(0.0, lasted))
            number = draw.choice(ENDED_BY)
            os.kill(draw.choice(children), number)  # one that has ended is waited for below, and not another's yet
            codes = ended(children)
            said = (out / "said.txt").read_text("utf-8")
            if codes[0] == PREEMPTED or codes[0] < 0:
                others["before or after training"] += "stopped after" not in said
                moments.update([moment(said)] if "stopped after" in said else [])
                signals[signal.Signals(number).name] += 1
                codes = [PREEMPTED]
            elif any(codes):
                raise click.ClickException(f"exit codes {codes}: {said}")
        trainings += 1
        different += content(folder) != wanted
    took = time.monotonic() - begun
    result = {
        "preemptions": sum(moments.values()),
        "ranks": ranks,
        "trainings": trainings,
        "different": different,
        "moments": moments,
        "not counted": others,
        "signals": signals,
        "seconds_per_preemption": round(took / sum(signals.values()), 2),
    }
    click.echo(json.dumps(result))
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
