"""Fixtures for methods: recorded steps of the authors' code, repeated by ours."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isnan
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from skelpipe.models import build_method
from skelpipe.models.method import Method, Progress, Step
from skelpipe.models.moco import MoCo
from skelpipe.skeleton import layout


@dataclass
class Clips:
    """A batch as methods see it."""

    views: dict[str, Tensor]
    extras: dict[str, Tensor]


class Replay:
    """A method with the weights of a recording; `step` repeats a recorded step.

    `worst` is the greatest difference so far, by quantity and, within it, by step. What was made in the step, such
    as maps and positives, is caught by name in `seen` where `watch` says so: {"eadm": "eadm"} keeps what the
    function `eadm` of the method's module returned. `settings` are settings of the method that the recording does
    not name. Call it within `float64`.
    """

    def __init__(
        self, recording: Any, watch: dict[str, str] | None = None, change: float = 0.0, **settings: Any
    ) -> None:
        self.recording, self.options = recording, recording.options
        self.layout = layout(self.options["layout"])
        torch.manual_seed(0)
        recipe = self.options["recipe"]
        recipe = {**recipe, recipe["method"]: {**recipe.get(recipe["method"], {}), **settings}}
        method = build_method(recipe, self.layout, self.options["view"])
        self.method: Method = method.double().train()
        self.watch = watch or {}
        self.seen: dict[str, Tensor] = {}
        self.worst: dict[str, float] = {}
        state = recording.group("start")
        for name in (name for name in state if name.endswith("adjacency")):
            self.compare("graph", self.method.state_dict()[name], state[name])
        loaded = self.method.load_state_dict(state, strict=False)
        assert not loaded.unexpected_keys
        assert all(name.endswith("num_batches_tracked") for name in loaded.missing_keys)
        self.trained, self.keys, self.stats = (
            recording.names(f"names/{name}") for name in ("trained", "key", "stats")
        )
        self._names_are_all()
        if change:
            with torch.no_grad():
                next(self.method.parameters()).view(-1)[0] += change
        settings = {name: value for name, value in self.options["optimiser"].items() if name != "name"}
        learned = [each for each in self.method.parameters() if each.requires_grad]
        self.optimiser = torch.optim.SGD(learned, **settings)

    @property
    def steps(self) -> range:
        """The numbers of the recorded steps."""
        return range(len(self.options["steps"]))

    def compare(self, quantity: str, found: Any, wanted: Any) -> None:
        """Note the greatest difference of two arrays; a difference of shapes is infinite."""
        found, wanted = (torch.as_tensor(each).detach().double() for each in (found, wanted))
        apart = (found - wanted).abs().max() if found.shape == wanted.shape else torch.tensor(torch.inf)
        self._note(quantity, float(apart))

    def compare_summary(self, quantity: str, found: Tensor, wanted: Tensor) -> None:
        """Compare an array with the summary of another."""
        self._compare_rows(quantity, [summary(found, len(wanted) - 2)], wanted[None])

    def step(self, number: int, batch: Clips) -> Step:
        """Take a step and compare everything that all recordings of methods have."""
        at, method = f"step{number}", self.method
        method.advance(Progress(**self.options["steps"][number]))
        step = self._forward(batch)
        self.compare("loss", step.loss, self.recording[f"{at}/loss"])
        for name, log in self.options["parts"].items():
            if log in step.logs and f"{at}/part/{name}" in self.recording:
                self.compare(f"part {name}", step.logs[log], self.recording[f"{at}/part/{name}"])
        self.optimiser.zero_grad()
        step.loss.backward()
        own = dict(method.named_parameters(remove_duplicate=False))
        gradients = [own[name].grad for name in self.trained]
        shown = [
            summary(torch.zeros_like(own[name]) if gradient is None else gradient, 8)
            for name, gradient in zip(self.trained, gradients, strict=True)
        ]
        self._compare_rows("gradients", shown, self.recording[f"{at}/grad"])
        self.optimiser.step()
        method.finish()
        state = method.state_dict()
        for quantity, names, recorded in (
            ("weights", self.trained, "trained"),
            ("key weights", self.keys, "key"),
            ("running statistics", self.stats, "stats"),
        ):
            wanted = self.recording[f"{at}/{recorded}"]
            self._compare_rows(quantity, [summary(state[name], 0) for name in names], wanted)
        for name, rows in self.recording.group(f"{at}/queue").items():
            queue, first = state[f"{name}.queue"], int(self.recording[f"{at}/queue_at/{name}"])
            self.compare("queue", queue[(first + torch.arange(len(rows))) % len(queue)], rows)
            self.compare("pointer", state[f"{name}.pointer"], self.recording[f"{at}/pointer/{name}"])
        if f"{at}/momentum" in self.recording:
            assert isinstance(method.moco, MoCo)
            self.compare("momentum", method.moco.momentum, self.recording[f"{at}/momentum"])
        return step

    def _forward(self, batch: Clips) -> Step:
        module = sys.modules[type(self.method).__module__]
        with ExitStack() as stack:
            for name, function in self.watch.items():
                real = getattr(module, function)
                stack.enter_context(mock.patch.object(module, function, self._caught(name, real)))
            return self.method(Clips({name: x.clone() for name, x in batch.views.items()}, batch.extras))

    def _caught(self, name: str, real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*given: Any, **options: Any) -> Tensor:
            self.seen[name] = real(*given, **options)
            return self.seen[name]

        return call

    def _names_are_all(self) -> None:
        """Check that the rows of summaries are those of everything that the method learns or updates."""
        own = dict(self.method.named_parameters(remove_duplicate=False))
        buffers = {name for name, each in self.method.named_buffers() if each.is_floating_point()}

        def same(names: Sequence[str], chosen: Callable[[Tensor], bool]) -> bool:
            return {id(own[name]) for name in names} == {id(each) for each in own.values() if chosen(each)}

        assert same(self.trained, lambda each: each.requires_grad)
        assert same(self.keys, lambda each: not each.requires_grad)
        assert {each for each in buffers if "running_" in each} == set(self.stats)

    def _compare_rows(self, quantity: str, found: Sequence[np.ndarray], wanted: Tensor) -> None:
        """Compare summaries [rows, 2 + n]; sums relative to the absolute sum where that is above 1."""
        apart = (torch.from_numpy(np.stack(found)) - wanted).abs()
        apart[:, :2] /= wanted[:, 1:2].clamp(min=1)
        self._note(quantity, float(apart.max()))

    def _note(self, quantity: str, value: float) -> None:
        value = torch.inf if isnan(value) else value
        self.worst[quantity] = max(value, self.worst.get(quantity, 0.0))


def summary(x: Tensor, places: int) -> np.ndarray:
    """Return sum, absolute sum and the entries at `places` flat places of an array."""
    flat = x.detach().double().numpy().reshape(-1)
    at = [i * (flat.size - 1) // (places - 1) for i in range(places)]
    return np.concatenate([[flat.sum(), np.abs(flat).sum()], flat[np.array(at, dtype=int)]])


@pytest.fixture
def replay(recording: Callable[[str], Any], float64: None) -> Callable[..., Replay]:
    """A function that builds the method of a recorded run, with its weights; see `Replay`."""
    return lambda name, *given, **options: Replay(recording(name), *given, **options)


@pytest.fixture(scope="session")
def clips_of() -> type[Clips]:
    """The class of a batch: `clips_of(views, extras)`."""
    return Clips
