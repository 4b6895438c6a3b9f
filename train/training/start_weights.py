"""Trained weights that pre-training starts from: those of another run, or of a released file."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.front.descriptions import counted
from skelpipe.models.build import build_method
from skelpipe.models.method import Method
from skelpipe.models.moco import MoCo
from skelpipe.models.released.method_state import released_method_state
from skelpipe.models.statefile import is_torch_file
from skelpipe.models.weights import load_state, misfits
from skelpipe.settings import flat
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.checkpoint import newest_checkpoint, read_checkpoint
from skelpipe.train.running.networks import Networks, find_weights, load_networks, read_provenance
from skelpipe.train.running.released_networks import read_released, released_provenance
from skelpipe.train.running.run_folder import RunFolder

__all__ = ["UNTRAINED", "start_from"]

PREDICTORS, PREDICTOR_HIDDEN = "skeattnclr.predictors", "skeattnclr.predictor_hidden"  # part of that method's head
UNTRAINED = "this recipe of {} starts from trained networks, and these are not: name some with --checkpoint"


def start_from(
    checkpoint: str,
    method: Method,
    recipe: PretrainRecipe,
    dataset: Dataset,
    view: str,
    say: Callable[[str], None],
    *,
    with_keys: bool = False,
) -> str:
    """Fill a new method's query networks, encoder and head, with the weights that `--checkpoint` names.

    `recipe` is the method's. The weights are those of a run folder, an encoder.safetensors, a checkpoint or a
    released pre-training file. Key networks become copies of the query's; queues and torch's global generator do
    not change. `with_keys` takes key networks, queues and what else the method learns from a checkpoint or a
    released file too, so that its run is continued.

    Returns a description of the weights with a digest of their numbers. Raises UsageError, field by field, where
    they were trained on other clips (view, frames, bodies, layout, profile; the dataset may be another), have no
    projection head or are of other networks than the recipe's; SkelpipeError that lists the
    tensors where settings do not tell.
    """
    if with_keys:
        checkpoint = str(_whole(checkpoint))
    read: dict[str, nn.Module] = {}
    names: list[str] = []
    streams = method.streams(view)
    for stream in streams:
        path = find_weights(checkpoint, stream)
        with torch.random.fork_rng(devices=()):
            start = _start(path, dataset, stream, say)
        if not start.views and len(streams) > 1:
            raise UsageError(
                f"{path}: has the networks of one view and does not say which, this run trains "
                f"{len(streams)}: {', '.join(streams)}"
            )
        _fill(path, Networks.of(method, stream), start, recipe)
        read[stream] = start.networks
        names.append(start.name)
    if with_keys:
        method.continue_from(_state(Path(checkpoint), method, dataset, view))
        return f"{' and '.join(dict.fromkeys(names))}, with keys, weights {_digest({view: method})}"
    for contrast in method.modules():
        if isinstance(contrast, MoCo):
            contrast.key_encoder.load_state_dict(contrast.encoder.state_dict())
            contrast.key_head.load_state_dict(contrast.head.state_dict())
    return f"{' and '.join(dict.fromkeys(names))}, weights {_digest(read)}"


@dataclass(frozen=True)
class _Start:
    """A file's networks for a view, their description, the views that the file names, and their settings."""

    networks: Networks
    name: str
    views: tuple[str, ...]
    made_with: Mapping[str, Any]


def _start(path: Path, dataset: Dataset, stream: str, say: Callable[[str], None]) -> _Start:
    released = read_released(path)
    if released is None:
        provenance, epoch = read_provenance(path)
        provenance.check(path, dataset, stream)
        name = f"{provenance.pretraining.method}, {counted(epoch, 'epoch')} on {provenance.clips.dataset}"
        networks = load_networks(path, provenance, dataset.layout, stream)
        return _Start(networks, name, provenance.views, _of_networks(provenance.pretraining))
    released_provenance(released, stream).check(path, dataset, stream)
    branch = released.branch(stream)
    if branch.head is None:
        raise UsageError(f"{path}: comes from a linear evaluation and has no projection head to start from")
    if not released.views:
        say(f"{path} does not say which view it was trained on: taken as {stream}")
    made_with = {
        "encoder.name": "stgcn",
        "encoder.graph": released.graph,
        "encoder.width": released.width,
        PREDICTORS: "three" if released.method == "skeattnclr" else "none",
    }
    return _Start(
        Networks(branch.encoder, branch.head), f"{released.method} as released", released.views, made_with
    )


def _of_networks(recipe: PretrainRecipe) -> dict[str, Any]:
    """Return the settings that decide the shapes of a recipe's encoder and head."""
    values = flat(recipe.content())
    shaping = {key: value for key, value in values.items() if key.startswith(("encoder.", "head."))}
    for name in ("encoder.dropout", "encoder.absent_bodies"):
        shaping.pop(name, None)
    predictors = values.get(PREDICTORS, "none")
    if predictors == "variant":
        predictors = "three" if recipe.variant == "released" else "none"
    if predictors == "three":
        shaping[PREDICTOR_HIDDEN] = values.get(PREDICTOR_HIDDEN) or values["head.hidden"]
    return shaping | {PREDICTORS: predictors}


def _fill(path: Path, networks: Networks, start: _Start, recipe: PretrainRecipe) -> None:
    try:
        load_state(path, networks, start.networks.state_dict())
    except SkelpipeError:
        mine = _of_networks(recipe)
        other = [
            f"{key}: {was}, this run has {mine.get(key, 'none')}"
            for key, was in start.made_with.items()
            if mine.get(key) != was
        ]
        if not other:
            raise
        raise UsageError(f"{path}: its networks are not this run's: {'; '.join(other)}") from None


def _whole(checkpoint: str) -> Path:
    """Return the file of a run that holds key networks and queues; UsageError where there is none."""
    path = Path(checkpoint)
    if path.is_dir():
        found = newest_checkpoint(RunFolder(path).checkpoints, lambda text: None)
        if found is None:
            raise UsageError(f"{path}: holds no checkpoint, which alone has key networks and queues")
        return found[0]
    path = find_weights(checkpoint)
    if not is_torch_file(path):
        raise UsageError(
            f"{path}: has no key network and no queue; --with-keys takes them from a run's checkpoint or from a "
            "released file of pre-training"
        )
    return path


def _state(path: Path, method: Method, dataset: Dataset, view: str) -> dict[str, Tensor]:
    """Return the whole state of a checkpoint's method, or of a released file, under the names of `method`."""
    streams = method.streams(view)
    if read_released(path) is not None:
        return released_method_state(path, method, streams)
    provenance, _ = read_provenance(path)
    with torch.random.fork_rng(devices=()):
        other = build_method(
            provenance.pretraining, dataset.layout, provenance.view, channels=len(provenance.clips.channels)
        )
    state = read_checkpoint(path).model
    for stream in streams:
        theirs, ours = other.contrast(stream)[0], method.contrast(stream)[0]
        state = {
            name.replace(f"{theirs}.", f"{ours}.", 1) if name.startswith(f"{theirs}.") else name: value
            for name, value in state.items()
        }
    if differences := misfits(state, method):
        raise UsageError(f"{path}: this run cannot continue its run: {'; '.join(differences)}")
    return state


def _digest(networks: Mapping[str, nn.Module]) -> str:
    """Return twelve hexadecimal digits that tell weights apart."""
    content = hashlib.sha256()
    for stream, network in networks.items():
        for name, value in network.state_dict().items():
            content.update(f"{stream} {name} {value.dtype} {tuple(value.shape)}".encode())
            content.update(value.detach().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
