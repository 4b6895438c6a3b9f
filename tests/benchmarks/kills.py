"""Whether what is killed at a random moment and run again equals what was never disturbed.

    OMP_NUM_THREADS=1 python tests/benchmarks/kills.py --out killed
    OMP_NUM_THREADS=1 python tests/benchmarks/kills.py --out killed --count 20 --kind train-2 --kind prepare-1

Each command is a fork of one process that has imported everything. It is killed by SIGKILL at a random moment, of
several ranks one. After each kill a dataset that stands is verified; then the same command is run again, killed in
a third of the cases once more, and at last left alone. Its result is compared with that of an undisturbed run: all
bytes of a dataset, recipe, log, weights and the last checkpoint of a training, the scores of an evaluation.
Of two ranks the one that was left must say in its last line, within ten seconds, which one was killed.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import torch
from click.testing import CliRunner
from preemptions import EPOCHS, SIZES, content
from preemptions import prepare as small_dataset

from skelpipe.cli import main as skelpipe
from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.train import knn, pretrain
from skelpipe.train.running.ranks import ranks as this_rank

NOTICED_SECONDS: Final = 10.0
KILLED: Final = -signal.SIGKILL


@dataclass
class Kind:
    """A command to kill: what runs it into a folder, in so many ranks; what of the folder is compared."""

    name: str
    main: Callable[..., Any]
    arguments: Callable[[Path], list[str]]
    compared: Callable[[Path], Any]
    ranks: int = 1
    lasts: float = 0.0
    wanted: Any = None
    counts: Counter[str] = field(default_factory=Counter)
    draw: random.Random = field(default_factory=random.Random)


def files_of(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a dataset."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def result_of(folder: Path) -> dict[str, Any]:
    """Return what an evaluation leaves, without the name of its folder."""
    result = json.loads((folder / "result.json").read_text("utf-8"))
    del result["run"]
    return {"result": result} | {
        name: (folder / name).read_bytes() for name in ("scores.parquet", "confusion.csv")
    }


def start(kind: Kind, out: Path, said: Path) -> list[int]:
    """Fork the ranks of a command, whose output goes to SAID.RANK; return their process ids."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(kind.ranks):
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        try:
            os.setpgid(0, 0)  # its workers can be waited for
            this_rank.cache_clear()  # the process that forks is one of one
            if kind.ranks > 1:
                names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": kind.ranks, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1")
            output = os.open(f"{said}.{rank}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            for number in (1, 2):
                os.dup2(output, number)
            kind.main(kind.arguments(out))
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    return children


def ended(children: list[int], seconds: float) -> dict[int, int]:
    """Wait so long for processes; return the exit codes, without those that still run."""
    codes: dict[int, int] = {}
    until = time.monotonic() + seconds
    while len(codes) < len(children) and time.monotonic() < until:
        for child in children:
            if child not in codes and (found := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(found[1])
        time.sleep(0.002)
    return codes


def kill_once(kind: Kind, out: Path, said: Path, draw: random.Random) -> bool:
    """Run the command and kill it, or one of its ranks; return whether it was still running."""
    children = start(kind, out, said)
    time.sleep(draw.uniform(0.0, kind.lasts))
    killed = draw.randrange(kind.ranks)
    os.kill(children[killed], signal.SIGKILL)
    others = [child for child in children if child != children[killed]]
    codes = ended(others, NOTICED_SECONDS)
    for child in others:
        if child not in codes:
            kind.counts["hang"] += 1
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    hit = os.waitstatus_to_exitcode(os.waitpid(children[killed], 0)[1]) == KILLED
    kind.counts["kills" if hit else "too late"] += 1
    if hit and others and any(codes.values()):
        left = 1 - killed
        last = Path(f"{said}.{left}").read_text("utf-8").splitlines()[-1:]
        named = bool(last) and f"rank {killed} of {kind.ranks} " in last[0]
        kind.counts["named" if named else "not named"] += 1
        if not named:
            click.echo(f"{kind.name}: rank {left} said last: {last}", err=True)
    return hit


def turn(kind: Kind, count: int, folder: Path, draw: random.Random) -> None:
    """Kill a command once or more, of `count` times in all, run it to its end, and compare the result."""
    said, out = folder / "said", folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    kill_once(kind, out, said, draw)
    while draw.random() < 1 / 3 and kind.counts["kills"] < count:
        kill_once(kind, out, said, draw)
    if (out / "dataset.json").exists() and damages(Dataset.open(out), quiet=True):
        kind.counts["damaged"] += 1
    codes = ended(start(kind, out, said), 600)
    if any(codes.values()):
        kind.counts["failed"] += 1
        click.echo(f"{kind.name}: {codes}: {Path(f'{said}.0').read_text('utf-8')[-2000:]}", err=True)
    else:
        kind.counts["same" if kind.compared(out) == kind.wanted else "different"] += 1


def kinds_in(folder: Path, dataset: Path) -> list[Kind]:
    """Return all commands, which read what is in `folder`."""
    split = ["--dataset", "ntu60", "--split", "xsub", "--frames", "8", "--shard-size", "4"]
    options = ["--shards", str(dataset), "--device", "cpu", "--batch-size", "6", "--epochs", str(EPOCHS)]
    options += ["--knn-every", "2", "--save-every", "1", "--resume"]
    options += [word for name, value in SIZES.items() for word in ("--set", f"{name}={value}")]
    exported, weights = folder / "exported", folder / "whole-train-1" / "encoder.safetensors"
    kinds = []
    for workers in ("1", "2"):
        end = ["--workers", workers]

        def prepare(out: Path, end: list[str] = end) -> list[str]:
            return ["prepare", *split, "--raw", str(folder / "raw"), "--out", str(out), *end]

        def importing(out: Path, end: list[str] = end) -> list[str]:
            return ["import", str(exported), "--frames", "8", "--shard-size", "4", "--out", str(out), *end]

        def copy(out: Path, end: list[str] = end) -> list[str]:
            return ["copy", str(dataset), str(out), *end]

        kinds += [
            Kind(f"prepare-{workers}", skelpipe, prepare, files_of),
            Kind(f"import-{workers}", skelpipe, importing, files_of),
            Kind(f"copy-{workers}", skelpipe, copy, files_of),
        ]
    for ranks in (1, 2):
        extra = ["--batch-norm", "rank"] if ranks > 1 else []

        def train(out: Path, extra: list[str] = extra) -> list[str]:
            return [*options, *extra, "--out", str(out)]

        def evaluate(out: Path) -> list[str]:
            return [
                "--shards",
                str(dataset),
                "--checkpoint",
                str(weights),
                "--device",
                "cpu",
                "--overwrite",
                "--out",
                str(out),
            ]

        kinds += [
            Kind(f"train-{ranks}", pretrain.main, train, content, ranks),
            Kind(f"evaluate-{ranks}", knn.main, evaluate, result_of, ranks),
        ]
    return kinds


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to work in.")
@click.option("--count", default=50, show_default=True, help="Kills of each kind.")
@click.option("--kind", "only", multiple=True, help="Kinds to try, such as copy-2 or train-1 [default: all].")
@click.option("--seed", default=0, show_default=True, help="Seed of the moments.")
def main(out: Path, count: int, only: tuple[str, ...], seed: int) -> None:
    """Kill commands at random moments; exit with 1 unless all end as if they never were."""
    torch.set_num_threads(1)
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    dataset = small_dataset(out)
    if not (out / "exported").exists():
        words = ["export", str(dataset), "--to", "pyskl-pkl", "--out", str(out / "exported")]
        skelpipe(words, standalone_mode=False)
    kinds = kinds_in(out, dataset)
    for kind in kinds:
        evaluated = kind.name == "train-1" and any(name.startswith("evaluate") for name in only)
        if only and kind.name not in only and not evaluated:
            continue
        folder = out / f"whole-{kind.name}"
        shutil.rmtree(folder, ignore_errors=True)
        if kind.name.endswith("-1"):  # loads and compiles in this process what the forks need
            CliRunner().invoke(kind.main, kind.arguments(folder))
            shutil.rmtree(folder, ignore_errors=True)
        begun = time.monotonic()
        codes = ended(start(kind, folder, out / "said"), 600)
        kind.lasts = time.monotonic() - begun
        if any(codes.values()):
            raise click.ClickException(f"{kind.name}: {(out / 'said.0').read_text('utf-8')[-2000:]}")
        kind.wanted = kind.compared(out / f"whole-{kind.name}")
    chosen = [kind for kind in kinds if not only or kind.name in only]
    for kind in chosen:
        kind.draw.seed(f"{seed} {kind.name}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):  # either prints what was found until then
        while unfinished := [kind for kind in chosen if kind.counts["kills"] < count]:
            for kind in unfinished:
                turn(kind, count, out, kind.draw)
    columns = ("kills", "too late", "same", "different", "damaged", "failed", "hang", "named", "not named")
    click.echo("| command | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    wrong = 0
    for kind in chosen:
        click.echo(f"| {kind.name} | " + " | ".join(str(kind.counts[column]) for column in columns) + " |")
        wrong += sum(kind.counts[column] for column in ("different", "damaged", "failed", "hang", "not named"))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
