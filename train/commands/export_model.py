"""The work of `train/export_model.py`, where it is described, once the options are checked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.door.visible import visible_lines
from skelpipe.errors import UsageError
from skelpipe.manifest import SUBSETS
from skelpipe.ownership import hold
from skelpipe.train.evaluation.deployed_network import DeployedNetwork, open_network
from skelpipe.train.evaluation.fused_network import fused_network
from skelpipe.train.evaluation.fusion import equal_weights, find_dataset, parse_weights
from skelpipe.train.evaluation.model_file import Check, export_network
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.script_options import check_file

__all__ = ["run"]

CHECKED = 16  # clips


def stored_clips(dataset: Dataset, network: DeployedNetwork) -> Tensor:
    """Return the first joint clips of a dataset, float32 [n,C,T,V,M]; UsageError where they are made otherwise."""
    facts = network.facts
    both = {
        "layout": (facts["layout"], dataset.layout.name),
        "preprocessing profile": (facts["profile"], dataset.profile),
        "shape [C,T,V,M]": (list(network.shape), list(dataset.shape)),
    }
    if wrong := [f"{name}: trained on {was}, found {now}" for name, (was, now) in both.items() if was != now]:
        raise UsageError(f"{dataset.path}: does not fit the weights: {'; '.join(wrong)}")
    subset = next(each for each in reversed(SUBSETS) if dataset.count(each))
    return torch.from_numpy(dataset.reader(subset, "joint").gather(np.arange(min(CHECKED, dataset.count(subset)))))


def checked_clips(shards: str | None, network: DeployedNetwork) -> tuple[Tensor, str]:
    """Return clips to check the file on, and what they are: of `shards`, or the training's own if here.

    "Here" is $SKELPIPE_SHARDS, the current folder and `data/`. Where it is not, clips are drawn.
    """
    if shards is not None:
        dataset: Dataset | None = Dataset.open(shards)
    else:
        dataset = find_dataset(None, network.digest) if network.digest else None
    if dataset is None:
        return drawn_clips(network), "drawn clips"
    return stored_clips(dataset, network), f"clips of {dataset.path}"


def drawn_clips(network: DeployedNetwork) -> Tensor:
    """Return clips of joints that wander at random, in metres, for where there are no real ones."""
    steps = torch.randn(CHECKED, *network.shape, generator=torch.Generator().manual_seed(0))
    return 0.3 * steps[:, :, :1] + 0.02 * steps.cumsum(dim=2)


def summary(path: Path, to: str, check: Check, clips: str) -> dict[str, Any]:
    """Return what --json prints."""
    checked = None
    if check.by:
        of = {"clips": f"{check.clips} {clips}", "difference": check.difference, "largest": check.largest}
        checked = {"by": check.by, **of}
    return {"file": str(path), "format": to, "bytes": path.stat().st_size, **check.about, "checked": checked}


def lines(result: dict[str, Any]) -> list[str]:
    """Return the result as lines for people."""
    channels, joints = len(result["channels"]), len(result["joints"])
    size = f"[N,{channels},{result['frames']},{joints},{result['bodies']}]"
    any_frames = (
        "" if result["frames_allowed"] == str(result["frames"]) else f", or {result['frames_allowed']} frames"
    )
    text = [
        f"{result['file']}: {result['kind']}, {result['bytes'] / 1e6:.1f} MB",
        f"clips float32 {size}{any_frames}, profile {result['profile']} -> {', '.join(result['outputs'])}",
    ]
    if (checked := result["checked"]) is None:
        return [*text, "not checked: onnxruntime is not installed (pip install 'skelpipe[onnx]')"]
    return [
        *text,
        f"checked with {checked['by']} on {checked['clips']}: the largest difference is "
        f"{checked['difference']:.1e}, of numbers up to {checked['largest']:.3g}",
    ]


def opened(
    checkpoints: Sequence[str], weights: str | None, dataset: str | None, view: str | None, frames: int | None
) -> DeployedNetwork:
    """Return the network of a run or file, or the classifiers of several as one."""
    say = Console().say
    if len(checkpoints) == 1:
        return open_network(checkpoints[0], dataset, view, frames, say)
    if view is not None:
        raise UsageError("--view is for one run: several have one view each")
    networks = [open_network(each, dataset, None, frames, say) for each in checkpoints]
    views = ["+".join(network.facts["views"]) for network in networks]
    values = equal_weights(len(views)).values if weights is None else parse_weights(weights, views).values
    if weights is None:
        say(f"the scores of {', '.join(views)} are added with equal weights (--weights says otherwise)")
    return fused_network(networks, checkpoints, values)


def run(
    checkpoints: tuple[str, ...],
    weights: str | None,
    to: str,
    out: Path,
    overwrite: bool,
    shards: str | None,
    dataset: str | None,
    view: str | None,
    frames: int | None,
    as_json: bool,
) -> None:
    """Do what the command asks for."""
    hold(out, file=True)
    check_file(out, overwrite=overwrite)  # what is there by now
    network = opened(checkpoints, weights, dataset, view, frames)
    clips, called = checked_clips(shards, network)
    check = export_network(network, to, out, clips)
    result = summary(out, to, check, called)
    click.echo(json.dumps(result) if as_json else visible_lines(lines(result)))
