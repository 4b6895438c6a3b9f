"""Pre-training: from first weights, or a run's newest checkpoint, to the exported encoder."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from skelpipe.dataset import Dataset, JoinedDataset
from skelpipe.dataset.joined import parts_of
from skelpipe.front.descriptions import counted
from skelpipe.loader.stream import weights_of
from skelpipe.ownership import check_owned
from skelpipe.train.reporting.logged import log_outcome
from skelpipe.train.reporting.report import write_report
from skelpipe.train.running.networks import Networks, export, initialised
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.run import Measurement, Run, RunOptions
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console, read_log
from skelpipe.train.training.knn_monitor import KnnMonitor
from skelpipe.train.training.start_weights import UNTRAINED, start_from

__all__ = ["pretrain", "pretraining_run"]

COLLAPSE = "the embeddings have nearly collapsed to one point (std {gauge} of 1)"


def pretrain(
    dataset: Dataset,
    provenance: Provenance,
    options: RunOptions,
    console: Console,
    *,
    start: str | None = None,
    with_keys: bool = False,
) -> dict[str, Any]:
    """Train what `provenance` describes on `dataset` to the end of its recipe; go on where there is a checkpoint.

    `start` names the weights to start from, as --checkpoint does; `with_keys` continues their run, as --with-keys
    does. Returns the summary that --json prints.
    """
    # Before any deletion.
    run, monitors = pretraining_run(dataset, provenance, options, console.say, start=start, with_keys=with_keys)
    done = run.begin(console)
    console.say(_headline(run))
    if run.method.needs_trained_networks() and not run.provenance.start:
        console.say(UNTRAINED.format(run.provenance.pretraining.method))
    for monitor in monitors if options.measure_every else ():
        if monitor.view == provenance.view and (reason := monitor.missing()):
            console.say(reason)
    run.train(done, console)
    if run.team.is_main:
        check_owned(run.folder.path)
        export(run.folder, run.method, run.provenance, run.epoch)
        write_report(run.folder.path, dataset)
        log_outcome(run.folder.path, trained=True)
    return _summary(run, monitors)


def pretraining_run(
    dataset: Dataset,
    provenance: Provenance,
    options: RunOptions,
    say: Callable[[str], None],
    *,
    start: str | None = None,
    with_keys: bool = False,
) -> tuple[Run, list[KnnMonitor]]:
    """Return a run that is about to begin, and what measures the networks of each of its views on each dataset."""
    recipe, view, device = provenance.pretraining, provenance.view, options.device
    anchor, channels = _anchor(dataset, view), len(dataset.channels)
    method = initialised(recipe, dataset.layout, provenance.seed, view, anchor, channels)
    begun = "" if start is None else start_from(start, method, recipe, dataset, view, say, with_keys=with_keys)
    method = method.to(device)
    views, weights = method.streams(view), weights_of(dataset) or ()
    provenance = replace(provenance, views=views, start=begun, weights=weights)
    monitors = _monitors(dataset, view, views, device)
    usable = [monitor for monitor in monitors if not monitor.missing()]

    def take() -> dict[str, float]:
        """Return the kNN figure of the networks of each view, on each dataset."""
        return {each.name: each.measure(Networks.of(method, each.view).embedder("z")) for each in usable}

    counts = next((each for each in usable if each.view == view), None)
    name = monitors[0].name if counts is None else counts.name

    def keep(epoch: int) -> None:
        """Write the weights of this epoch, whose figure is the highest so far."""
        export(RunFolder(options.out).best, method, provenance, epoch)

    measurement = Measurement(name, None if counts is None else take, _epoch_line, COLLAPSE, keep)
    return Run(dataset, method, provenance, options, measurement), monitors


def _monitors(dataset: Dataset, view: str, views: Sequence[str], device: torch.device) -> list[KnnMonitor]:
    """Return a monitor for each dataset and view, that of the first dataset and the run's own view first."""
    names = dataset.part_names if isinstance(dataset, JoinedDataset) else ("",)
    return [
        KnnMonitor(part, each, device, suffix=f"-{name}" * (number > 0) + f"-{each}" * (each != view), of=name)
        for number, (name, part) in enumerate(zip(names, parts_of(dataset), strict=True))
        for each in sorted(views, key=lambda other: other != view)
    ]


def _headline(run: Run) -> str:
    """Return the line that opens a run's output."""
    recipe, provenance, steps = run.provenance.pretraining, run.provenance, len(run.loader)
    where = f"{run.team.world} ranks, {run.options.device}" if run.team.world > 1 else f"{run.options.device}"
    learned = sum(p.numel() for p in run.method.parameters() if p.requires_grad)
    begun = f" (from {provenance.start})" if provenance.start else ""
    weights = (
        f" with weights {', '.join(f'{each:g}' for each in provenance.weights)}" if provenance.weights else ""
    )
    return (
        f"{recipe.method} on {provenance.clips.dataset}{weights} ({provenance.view}): "
        f"{counted(run.dataset.count('train'), 'clip')}, {counted(steps, 'step')} of "
        f"{recipe.batch_size} per epoch, {learned:,} weights{begun}, {where}, run {run.folder.path}"
    )


def _summary(run: Run, monitors: list[KnnMonitor]) -> dict[str, Any]:
    """Return what the run came to."""
    records, name = read_log(run.folder.log), run.measurement.name
    measured = [record for record in records if name in record]
    return {
        "run": str(run.folder.path),
        "weights": str(run.folder.weights),
        "epochs": run.epoch,
        "loss": records[-1]["loss"] if records else None,
        "figures": {each.name: measured[-1][each.name] for each in monitors if each.name in measured[-1]}
        if measured
        else {},
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
