"""Pre-training: from first weights, or a run's newest checkpoint, to the exported encoder."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.networks import Networks, export, initialised
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.run import Measurement, Run, RunOptions
from skelpipe.train.running.run_log import Console, read_log
from skelpipe.train.training.knn_monitor import KnnMonitor
from skelpipe.train.training.start_weights import UNTRAINED, start_from

__all__ = ["pretrain", "pretraining_run"]

COLLAPSE = "the embeddings have nearly collapsed to one point (std {gauge} of 1)"


def pretrain(
    dataset: Dataset, provenance: Provenance, options: RunOptions, console: Console, *, start: str | None = None
) -> dict[str, Any]:
    """Train what `provenance` describes on `dataset` to the end of its recipe; go on where there is a checkpoint.

    `start` names the weights to start from, as --checkpoint does. Returns the summary that --json prints.
    """
    run, monitors = pretraining_run(dataset, provenance, options, console.say, start=start)  # before any deletion
    done = run.begin(console)
    console.say(_headline(run))
    if run.method.needs_trained_networks() and not run.provenance.start:
        console.say(UNTRAINED.format(run.provenance.pretraining.method))
    unmeasurable = monitors[provenance.view].missing()
    if options.measure_every and unmeasurable:
        console.say(unmeasurable)
    run.train(done, console)
    if run.team.is_main:
        export(run.folder, run.method, run.provenance, run.epoch)
        write_report(run.folder.path, dataset)
    return _summary(run, monitors)


def pretraining_run(
    dataset: Dataset,
    provenance: Provenance,
    options: RunOptions,
    say: Callable[[str], None],
    *,
    start: str | None = None,
) -> tuple[Run, dict[str, KnnMonitor]]:
    """Return a run that is about to begin, and what measures the networks of each of its views."""
    recipe, view, device = provenance.pretraining, provenance.view, options.device
    anchor, channels = _anchor(dataset, view), len(dataset.channels)
    method = initialised(recipe, dataset.layout, provenance.seed, view, anchor, channels)
    begun = "" if start is None else start_from(start, method, recipe, dataset, view, say)
    method = method.to(device)
    provenance = replace(provenance, views=method.streams(view), start=begun)
    monitors = {
        each: KnnMonitor(dataset, each, device, suffix="" if each == view else f"-{each}")
        for each in provenance.views
    }

    def take() -> dict[str, float]:
        """Return the kNN figure of the networks of each view."""
        return {
            monitor.name: monitor.measure(Networks.of(method, each).embedder("z"))
            for each, monitor in monitors.items()
        }

    own = monitors[view]
    measurement = Measurement(own.name, None if own.missing() else take, _epoch_line, COLLAPSE)
    return Run(dataset, method, provenance, options, measurement), monitors


def _headline(run: Run) -> str:
    """Return the line that opens a run's output."""
    recipe, provenance, steps = run.provenance.pretraining, run.provenance, len(run.loader)
    where = f"{run.team.world} ranks, {run.options.device}" if run.team.world > 1 else f"{run.options.device}"
    learned = sum(p.numel() for p in run.method.parameters() if p.requires_grad)
    begun = f" (from {provenance.start})" if provenance.start else ""
    return (
        f"{recipe.method} on {provenance.clips.dataset} ({provenance.view}): "
        f"{run.dataset.count('train')} clips, {steps} step{'s' if steps > 1 else ''} of "
        f"{recipe.batch_size} per epoch, {learned:,} weights{begun}, {where}, run {run.folder.path}"
    )


def _summary(run: Run, monitors: dict[str, KnnMonitor]) -> dict[str, Any]:
    """Return what the run came to."""
    records, name = read_log(run.folder.log), run.measurement.name
    measured = [record for record in records if name in record]
    return {
        "run": str(run.folder.path),
        "weights": str(run.folder.weights),
        "epochs": run.epoch,
        "loss": records[-1]["loss"] if records else None,
        "figures": {each.name: measured[-1][each.name] for each in monitors.values()} if measured else {},
        "best": run.best,
    }


def _anchor(dataset: Dataset, view: str) -> Callable[[], Tensor]:
    return lambda: torch.from_numpy(dataset.anchor(view))


def _epoch_line(epoch: int, last: int, learned: dict[str, float], speed: dict[str, float]) -> str:
    gauge = f", std {learned['std']:.3f}" if "std" in learned else ""
    figures = "".join(f", {name} {value:.1f} %" for name, value in learned.items() if name.startswith("knn"))
    return (
        f"epoch {epoch}/{last}: loss {learned['loss']:.4f}, lr {learned['lr']:g}{gauge}{figures}, "
        f"{speed['samples_per_s']:,.0f} samples/s ({speed['data_s']:.1f} s waiting for data, "
        f"{speed['step_s']:.1f} s in steps)"
    )
