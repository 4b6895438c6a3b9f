"""A whole step of training recorded once as a CUDA graph, and replayed: one launch in place of hundreds.

A graph repeats the kernels that it was recorded with, on the same memory and with the same numbers of the host:
the learning rate, the momentum of a key network, the stage of a method. Where one of them changes, the step is
recorded again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError
from skelpipe.loader import Batch
from skelpipe.models.method import Method
from skelpipe.models.moco import MoCo

__all__ = ["CudaRecorder", "Outcome", "Recorder", "StepGraph"]

Outcome: TypeAlias = tuple[Tensor, dict[str, Tensor]]  # the loss of a step and its logs
Work: TypeAlias = Callable[[], Outcome]

WARM: Final = 3  # steps before the first record: libraries choose their kernels, optimisers make their state
CHANGES: Final = 4  # consecutive steps whose numbers may all differ before a graph is given up


class Recorder(Protocol):
    """Runs work as it will be recorded, and records it without running it."""

    def run(self, work: Work) -> Outcome: ...

    def record(self, work: Work) -> tuple[Callable[[], None], Outcome]:
        """Return what replays the work, and its outcome, which each replay overwrites."""
        ...


class CudaRecorder:
    """Records on a stream of its own, as `torch.cuda.CUDAGraph` requires."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)

    def run(self, work: Work) -> Outcome:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outcome = work()
        current.wait_stream(self._stream)
        return outcome

    def record(self, work: Work) -> tuple[Callable[[], None], Outcome]:
        graph = torch.cuda.CUDAGraph()
        # The thread that reads ahead allocates and copies meanwhile: its calls are not this graph's.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            outcome = work()
        return graph.replay, outcome


@dataclass
class _Recorded:
    """A graph, the batch whose memory it reads, its outcome, and the numbers that it was recorded with."""

    replay: Callable[[], None]
    batch: Batch
    outcome: Outcome
    numbers: dict[str, Any]


class StepGraph:
    """Takes the steps of a run by a graph, with the outcome that they have without one.

    The first steps, and those after numbers of the host have changed, run as they are, on the recorder's stream.
    All batches have one shape.
    """

    def __init__(self, method: Method, optimiser: torch.optim.Optimizer, recorder: Recorder) -> None:
        self._method, self._optimiser, self._recorder = method, optimiser, recorder
        self._recorded: _Recorded | None = None
        self._before: dict[str, Any] = {}
        self._alike = 0  # steps so far that had the numbers of the last one
        self._changed = 0  # steps so far, each with other numbers than the one before

    def step(self, work: Callable[[Batch], Outcome], batch: Batch) -> Outcome:
        """Do `work(batch)`, which is forward, backward, optimiser and what follows, and the same at every step.

        Raises SkelpipeError where a graph cannot be kept for it.
        """
        numbers = numbers_of(self._method, self._optimiser)
        self._compare(numbers)
        if self._recorded is not None and self._recorded.numbers != numbers:
            self._recorded = None  # its memory is free before that of the next is taken
        if self._recorded is None:
            if self._alike < WARM:
                return self._recorder.run(lambda: work(batch))
            self._recorded = self._record(work, batch, numbers)
        _copy(batch, self._recorded.batch)
        self._recorded.replay()
        loss, logs = self._recorded.outcome
        return loss.clone(), {name: each.clone() for name, each in logs.items()}

    def _record(self, work: Callable[[Batch], Outcome], batch: Batch, numbers: dict[str, Any]) -> _Recorded:
        kept = _like(batch)
        self._optimiser.zero_grad(set_to_none=True)  # gradients are to lie in the graph's memory
        replay, outcome = self._recorder.record(lambda: work(kept))
        return _Recorded(replay, kept, outcome, numbers)

    def _compare(self, numbers: dict[str, Any]) -> None:
        """Count how long the numbers have been as they are; SkelpipeError where they change with every step."""
        same = numbers == self._before
        self._alike, self._changed = (self._alike + 1, 0) if same else (0, self._changed + 1)
        if self._changed > CHANGES:
            names = [name for name, value in numbers.items() if self._before.get(name) != value]
            raise SkelpipeError(
                f"a CUDA graph holds one value of {', '.join(names)}, which changes with every step here: train "
                "without --cuda-graph"
            )
        self._before = numbers


def numbers_of(method: Method, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the numbers of the host, by name, that a step of a method may depend on."""
    found: dict[str, Any] = {}
    for name, module in method.named_modules():
        if module is method or isinstance(module, MoCo):
            found |= {f"{name}.{key}".lstrip("."): value for key, value in _plain(module)}
    for number, group in enumerate(optimiser.param_groups):
        found |= {f"optimiser.{number}.{key}": value for key, value in group.items() if key != "params"}
    return found


def _plain(module: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in vars(module).items() if isinstance(value, bool | int | float | str))


def _like(batch: Batch) -> Batch:
    def copies(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: each.clone() for name, each in given.items()}

    return Batch(
        views=copies(batch.views),
        label=batch.label.clone(),
        index=batch.index.clone(),
        epoch=batch.epoch,
        step=batch.step,
        extras=copies(batch.extras),
    )


def _copy(batch: Batch, kept: Batch) -> None:
    """Write the clips of a batch into the memory that a graph reads."""
    given, into = _tensors(batch), _tensors(kept)
    if [each.shape for each in given] != [each.shape for each in into]:
        raise SkelpipeError("a CUDA graph takes batches of one size: train without --cuda-graph")
    with torch.no_grad():
        torch._foreach_copy_(into, given)


def _tensors(batch: Batch) -> list[Tensor]:
    return [*batch.views.values(), *batch.extras.values(), batch.label, batch.index]
