"""Trained weights that pre-training starts from: those of another run, or of a released file."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.models.method import Method
from skelpipe.models.moco import MoCo
from skelpipe.models.weights import fill
from skelpipe.preprocess import CROSCLR
from skelpipe.train.pretrained import Networks, find_weights, load_networks, read_identity
from skelpipe.train.released import PERSONS, read_released
from skelpipe.train.subject import Trained

__all__ = ["UNTRAINED", "start_from"]

UNTRAINED = "this recipe of {} is for networks that have learned, and these have not: name some with --checkpoint"


def start_from(checkpoint: str, method: Method, dataset: Dataset, view: str, say: Callable[[str], None]) -> str:
    """Give a new method's query networks, encoder and head, the weights in what `--checkpoint` names.

    That is a run's folder, its encoder.safetensors, one of its checkpoints or a released pre-training file. Key
    networks become copies of the query's; queues and torch's global generator stay as they are. Returns what the
    weights are, with a digest of their numbers. Raises UsageError, field by field, where they were trained on
    other clips (view, frames, persons, layout, profile; the dataset may be another) or have no projection head,
    and SkelpipeError listing what differs where they do not fit the method's networks.
    """
    read: dict[str, Networks] = {}
    names: list[str] = []
    for stream in method.streams(view):
        path = find_weights(checkpoint, stream)
        with torch.random.fork_rng(devices=()):
            read[stream], name = _networks(path, dataset, stream, say)
        fill(path, Networks.of(method, stream), read[stream].state_dict())
        names.append(name)
    for contrast in method.modules():
        if isinstance(contrast, MoCo):
            contrast.key_encoder.load_state_dict(contrast.encoder.state_dict())
            contrast.key_head.load_state_dict(contrast.head.state_dict())
    return f"{' and '.join(dict.fromkeys(names))}, weights {_digest(read)}"


def _networks(path: Path, dataset: Dataset, stream: str, say: Callable[[str], None]) -> tuple[Networks, str]:
    """Return a file's networks for a view, and what they are called."""
    released = read_released(path)
    if released is None:
        identity, epoch = read_identity(path)
        trained = Trained(identity.streams, identity.frames, identity.persons, identity.layout, identity.profile)
        _check(path, trained, dataset, stream)
        name = f"{identity.recipe.method}, {epoch} epochs on {identity.dataset}"
        return load_networks(path, identity, dataset.layout, stream), name
    views = released.views
    if not views:
        say(f"{path} does not say which view it was trained on: taken as {stream}")
        views = (stream,)
    trained = Trained(views, released.frames, PERSONS, released.layout.name, CROSCLR)
    _check(path, trained, dataset, stream)
    branch = released.branch(stream)
    if branch.head is None:
        raise UsageError(f"{path}: comes from a linear evaluation and has no projection head to start from")
    return Networks(branch.encoder, branch.head), f"{released.method} as released"


def _check(path: Path, trained: Trained, dataset: Dataset, stream: str) -> None:
    if found := trained.misfits(dataset, stream):
        raise UsageError(f"{path} does not fit {dataset.path}: {'; '.join(found)}")


def _digest(networks: Mapping[str, Networks]) -> str:
    """Return twelve hexadecimal digits that tell weights apart."""
    content = hashlib.sha256()
    for stream, network in networks.items():
        for name, value in network.state_dict().items():
            content.update(f"{stream} {name} {value.dtype} {tuple(value.shape)}".encode())
            content.update(value.detach().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
