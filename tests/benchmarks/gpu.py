"""All that is worth measuring on a GPU, in one command and ten minutes, as one JSON.

    make bench-gpu
    python tests/benchmarks/gpu.py --out bench-gpu.json --minutes 10
    python tests/benchmarks/gpu.py --out tiny.json --device cpu --tiny aimclr

docs/gpu.md says how to read it. The file is written anew after every part, so that a run that is ended leaves what
it has; what fails or does not fit in the time is there with the reason.
"""

import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
import torch
import torch.distributed as dist
from budgets import LAST, RECIPES
from launches import Launches
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from skelpipe.bench.augmentations import augment_rows, graph_rows
from skelpipe.bench.streams import loader_rows, stream_rows
from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.bench.workload import Workload
from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.files import replacing
from skelpipe.loader import Batch, Loader, Stream
from skelpipe.models.method import Method, Progress
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.loop import Stepper, build_optimiser, train_epoch
from skelpipe.train.running.networks import initialised
from skelpipe.train.running.run import compile_networks
from skelpipe.train.running.step_graph import CudaRecorder, Outcome, StepGraph

__all__ = ["Session", "main"]

CLOSE: Final = 1e-6  # relative difference of a step in float64 on two devices
COMPILED: Final = 75.0  # seconds that compiling a method may take: another is begun only if they are left


@dataclass(frozen=True)
class Size:
    """How much is measured: what is enough for a GPU, or for a test on a CPU."""

    batch: int = 128
    clips: int = 4096
    seconds: float = 2.0  # per rate
    turns: int = 5
    copied: int = 2**30  # bytes
    matrix: int = 8192
    settings: tuple[str, ...] = ()
    backend: str = "inductor"


SMALL: Final = (
    "encoder.width=4",
    "encoder.out_channels=16",
    "queue=32",
    "head.hidden=8",
    "head.dim=8",
    "frames=48",
)
TINY: Final = Size(4, 12, 0.0, 1, 2**16, 32, SMALL, "eager")


@dataclass
class Session:
    """One run: a device, sizes, names of recipes, and the time at which no further part begins."""

    device: torch.device
    size: Size
    names: Sequence[str]
    folder: Path
    ends: float

    def parts(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield names of the parts and what measures them, the most important first."""
        yield "machine", self.machine
        yield "ceilings", self.ceilings
        for name in self.names:
            yield f"equality.{name}", lambda name=name: self.equality(name)
        for name in self.names:
            for precision in ("bfloat16", "float32"):
                for way in ("eager", "graph"):
                    yield f"rates.{name}.{precision}.{way}", self._rate(name, precision, way)
        yield "loader", self.loader
        yield "augmentation", self.augmentation
        yield "dali", self.dali
        yield "messages", self.messages
        for name in self.names:
            for way in ("compiled", "compiled graph"):
                yield f"rates.{name}.bfloat16.{way}", self._rate(name, "bfloat16", way)

    def machine(self) -> dict[str, Any]:
        found = {"device": str(self.device), "torch": torch.__version__, "python": platform.python_version()}
        if self.device.type != "cuda":
            return found
        facts = torch.cuda.get_device_properties(self.device)
        memory = facts.total_memory / 2**30
        return {**found, "gpu": facts.name, "memory_gib": memory, "gpus": torch.cuda.device_count()}

    def ceilings(self) -> dict[str, float]:
        """Measure what the card does at best: bytes copied, products of matrices, launches."""
        number, side = self.size.copied // 4, self.size.matrix
        given, into = (torch.ones(number, device=self.device) for _ in range(2))
        found = {"copied_gb_per_s": 8e-9 * number / self.seconds_of(lambda: into.copy_(given))}
        for dtype in (torch.float32, torch.bfloat16):
            a, b = (torch.randn(side, side, device=self.device).to(dtype) for _ in range(2))
            seconds = self.seconds_of(lambda a=a, b=b: a @ b)
            found[f"matmul_{str(dtype).removeprefix('torch.')}_tflop_per_s"] = 2e-12 * side**3 / seconds
        few = torch.zeros(8, device=self.device)
        found["launch_us"] = 1e4 * self.seconds_of(lambda: [few.add_(1) for _ in range(100)])
        return found

    def equality(self, name: str) -> dict[str, Any]:
        """Compare a step on the CPU and on the device: views in float32, loss and gradients in float64."""
        recipe = self.recipe(name, "encoder.dropout=0", "init=default")
        found = []
        for device in (torch.device("cpu"), self.device):
            method = self.method(recipe, device)
            batch = self.batch(method, device)
            found.append((method.double(), batch))
        (here, of_cpu), (there, of_device) = found
        made = [
            float((mine - theirs.cpu()).abs().max())
            for mine, theirs in zip(of_cpu.views.values(), of_device.views.values(), strict=True)
        ]
        losses, gradients = [], []
        for method, device in ((here, torch.device("cpu")), (there, self.device)):
            step = method(_moved(of_cpu, device, torch.float64))
            step.loss.backward()
            losses.append(float(step.loss.detach()))
            gradients.append([each.grad.cpu() for each in method.parameters() if each.grad is not None])
        apart = max(
            float((mine - theirs).norm() / mine.norm().clamp(min=1e-12))
            for mine, theirs in zip(*gradients, strict=True)
        )
        loss = abs(losses[0] - losses[1]) / abs(losses[0])
        worst = max(loss, apart)
        return {"views": max(made), "loss": loss, "gradients": apart, "equal": worst < CLOSE and max(made) < 1e-4}

    def rate(self, name: str, precision: str, way: str) -> dict[str, float]:
        """Measure steps on one batch in the device's memory, views and loader left out."""
        if "graph" in way and self.device.type != "cuda":
            raise NotHereError("a CPU has no CUDA graphs")
        recipe, amp = self.recipe(name), precision == "bfloat16"
        method = self.method(recipe, self.device)
        batch = self.batch(method, self.device)
        if "compiled" in way:
            compile_networks(method, backend=self.size.backend)
        optimiser = build_optimiser(method, recipe.optimiser)
        stepper = Stepper(method, optimiser, self.late(recipe), 1, 1)

        def work(given: Batch) -> Outcome:
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=amp):
                step = method(given)
            stepper.learn(0, step.loss)
            return step.loss.detach(), {}

        take = work
        if "graph" in way:
            graph = StepGraph(method, optimiser, CudaRecorder(self.device))
            take = partial(graph.step, work)
        begun = time.perf_counter()
        for _ in range(5 if "graph" in way else 1):
            take(batch)
        self.wait()
        first = time.perf_counter() - begun
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        seconds = self.seconds_of(lambda: take(batch))
        found = {"ms": 1e3 * seconds, "clips_per_s": len(batch) / seconds, "first_s": first}
        if self.device.type == "cuda":
            found["peak_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        if way == "eager":
            with FlopCounterMode(display=False) as flops:
                work(batch)
            counted = Launches(host=self.device.type == "cpu")
            with counted.of("step"):
                work(batch)
            found |= {
                "kernels": counted.total.kernels,
                "tflop_per_s": 1e-12 * flops.get_total_flops() / seconds,
                "gb_per_s": 1e-9 * counted.total.moved / seconds,
            }
        return found

    def loader(self) -> dict[str, dict[str, float]]:
        """Train for an epoch of each recipe: how much of the time the loop waits for its loader."""
        found = {}
        for name in self.names:
            recipe = self.recipe(name)
            method = self.method(recipe, self.device)
            loader = self.loader_of(method, self.device)
            start = self.late(recipe)
            done = train_epoch(
                method,
                build_optimiser(method, recipe.optimiser),
                loader,
                replace(start, steps=len(loader)),
                device=self.device,
                amp=True,
                accumulate=1,
                ids=self.dataset(recipe.frames).ids("train"),
                working=lambda step, speed: None,
            )
            loader.close()
            assert done is not None
            found[name] = {**done.speed, "share": done.speed["data_s"] / done.speed["epoch_s"]}
        return found

    def augmentation(self) -> list[dict[str, Any]]:
        """Return the rows of `skelpipe bench` on the device."""
        workload = Workload(self.dataset(64), self.size.batch, self.device, self.size.seconds)
        makers = (augment_rows, loader_rows, stream_rows, graph_rows)
        rows = [measure() for rows_of in makers for measure in rows_of(workload)]
        return [row.to_plain() for row in rows if row is not None]

    def dali(self) -> dict[str, float]:
        """Measure an epoch of clips alone, read by DALI's pipeline and by the native reader."""
        if find_spec("nvidia") is None or find_spec("nvidia.dali") is None:
            raise NotHereError("DALI is not installed: pip install 'skelpipe[dali]'")
        found = {}
        for reader in ("dali", "native"):
            stream = Stream(self.dataset(64), "train", ["joint"], self.size.batch, seed=0)
            loader = Loader(stream, self.device, {"clip": None}, reader=reader)
            for number, _ in enumerate(loader):
                if not number:
                    begun = time.perf_counter()
            self.wait()
            loader.close()
            found[f"{reader}_clips_per_s"] = number * self.size.batch / (time.perf_counter() - begun)
        return found

    def messages(self) -> dict[str, Any]:
        """Measure sums over all GPUs: NCCL with a process for each, gloo on a CPU."""
        world = torch.cuda.device_count() if self.device.type == "cuda" else 1
        address, result = f"file://{self.folder}/store", self.folder / "messages.json"
        if world > 1:
            torch.multiprocessing.spawn(_sums, (world, address, "cuda", self.size, str(result)), world)
        else:
            _sums(0, 1, address, self.device.type, self.size, str(result))
        return {"ranks": world, **json.loads(result.read_text("utf-8"))}

    def recipe(self, name: str, *settings: str) -> PretrainRecipe:
        return with_overrides(load_recipe(name), [*self.size.settings, *settings])

    @cached_property
    def dataset(self) -> Callable[[int], Dataset]:
        return cache(lambda frames: synthetic_clips(self.folder / str(frames), frames, self.size.clips))

    def late(self, recipe: PretrainRecipe) -> Progress:
        return Progress(round(LAST * recipe.epochs), recipe.epochs, 0, 1)

    def method(self, recipe: PretrainRecipe, device: torch.device) -> Method:
        """Return a method in its last stage, of the same weights on every device."""
        dataset = self.dataset(recipe.frames)
        anchor = torch.from_numpy(dataset.anchor("joint"))
        method = initialised(recipe, dataset.layout, 0, anchor=lambda: anchor).to(device).train()
        method.advance(self.late(recipe))
        self._frames = recipe.frames
        return method

    def loader_of(self, method: Method, device: torch.device) -> Loader:
        stream = Stream(self.dataset(self._frames), "train", ["joint"], self.size.batch, seed=0, drop_last=True)
        return Loader(stream, device, method.views())

    def batch(self, method: Method, device: torch.device) -> Batch:
        loader = self.loader_of(method, device)
        try:
            return next(iter(loader))
        finally:
            loader.close()

    def seconds_of(self, work: Callable[[], Any]) -> float:
        """Return the seconds that one call takes, the median of several groups that each last until it is done."""
        work()
        self.wait()
        found = []
        for _ in range(self.size.turns):
            calls, begun = 0, time.perf_counter()
            while not calls or time.perf_counter() - begun < self.size.seconds / self.size.turns:
                work()
                calls += 1
                if calls % 20 == 0:
                    self.wait()  # no more than so many calls wait in the queue
            self.wait()
            found.append((time.perf_counter() - begun) / calls)
        return statistics.median(found)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _rate(self, name: str, precision: str, way: str) -> Callable[[], dict[str, float]]:
        def measured() -> dict[str, float]:
            if "compiled" in way and time.monotonic() + COMPILED > self.ends:
                raise NotHereError("out of time")
            return self.rate(name, precision, way)

        return measured


class NotHereError(Exception):
    """Why something is not measured."""


def _moved(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    moved = batch.to(device)
    return _with_views(moved, {name: each.to(dtype) for name, each in moved.views.items()})


def _with_views(batch: Batch, views: dict[str, Tensor]) -> Batch:
    """Return the batch with other clips."""
    return Batch(views, batch.label, batch.index, batch.epoch, batch.step, batch.extras)


def _sums(rank: int, world: int, address: str, kind: str, size: Size, result: str) -> None:
    """Sum gradients of a network and a large tensor over all ranks; rank 0 writes GB/s and ms."""
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=world)
    try:
        found: dict[str, Any] = {"backend": backend}
        for name, number in (("gradients", min(10**6, size.copied // 4)), ("large", size.copied // 16)):
            x = torch.ones(number, device=device)
            dist.all_reduce(x)
            turns = 20 if size.seconds else 1
            if kind == "cuda":
                torch.cuda.synchronize(device)
            begun = time.perf_counter()
            for _ in range(turns):
                dist.all_reduce(x)
            if kind == "cuda":
                torch.cuda.synchronize(device)
            seconds = (time.perf_counter() - begun) / turns
            found[name] = {"bytes": 4 * number, "ms": 1e3 * seconds, "gb_per_s": 4e-9 * number / seconds}
            found[name]["right"] = bool((x == float(world) ** (turns + 1)).all())
        if rank == 0:
            Path(result).write_text(json.dumps(found), "utf-8")
    finally:
        dist.destroy_process_group()


def measure(session: Session, write: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure part by part; `write` gets all that is known after each."""
    found: dict[str, Any] = {"size": asdict(session.size)}
    for path, part in session.parts():
        begun = time.monotonic()
        if begun > session.ends:
            content: Any = {"missing": "out of time"}
        else:
            try:
                content = part()
            except NotHereError as error:
                content = {"missing": str(error)}
            except Exception as error:  # the other parts are worth having
                content = {"failed": f"{type(error).__name__}: {error}"}
        *above, last = path.split(".")
        place = found
        for name in above:
            place = place.setdefault(name, {})
        place[last] = content
        found.setdefault("seconds", {})[path] = round(time.monotonic() - begun, 1)
        write(found)
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(RECIPES))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The JSON file to write.")
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:N, or cpu for a trial.")
@click.option("--minutes", type=float, default=9.0, show_default=True, help="No part begins after them.")
@click.option("--tiny", is_flag=True, help="Tiny networks and few clips: to see whether everything runs.")
def main(names: tuple[str, ...], out: Path, device: str, minutes: float, tiny: bool) -> None:
    """Measure the methods named, or all, on a GPU."""

    def write(found: dict[str, Any]) -> None:
        with replacing(out) as file:
            file.write(json.dumps(found, indent=1).encode())

    with tempfile.TemporaryDirectory() as folder:
        size, ends = TINY if tiny else Size(), time.monotonic() + 60 * minutes
        session = Session(resolve_device(device), size, names or RECIPES, Path(folder), ends)
        found = measure(session, write)
    failed = [path for path, content in _leaves(found) if "failed" in content]
    print(f"{out}: {', '.join(found)}" + (f"; failed: {', '.join(failed)}" if failed else ""))


def _leaves(found: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, content in found.items():
        if isinstance(content, dict):
            yield f"{path}{name}", content
            yield from _leaves(content, f"{path}{name}.")


if __name__ == "__main__":
    main()
