"""A trained network as one graph to run elsewhere, and what has to be known to use it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from skelpipe import __version__
from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.skeleton import Layout
from skelpipe.train.evaluation.recogniser import open_recogniser
from skelpipe.train.evaluation.trained_weights import LABELLED, TrainedNetwork, find_trained
from skelpipe.train.evaluation.weights_hash import WeightsHash
from skelpipe.train.running.provenance import ClipFacts
from skelpipe.views import derive

__all__ = ["FEWEST", "DeployedNetwork", "open_network"]

FEWEST = 8  # frames, where their number is free: two strides of 2 and a kernel must fit


class ClassScores(nn.Module):
    """Joint clips [N,C,T,V,M] to class scores [N,K]: the mean over the networks of several views."""

    def __init__(self, networks: Mapping[str, nn.Module], skeleton: Layout) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.skeleton = skeleton

    def forward(self, clips: Tensor) -> Tensor:
        scores = [network(derive(clips, view, self.skeleton)) for view, network in self.networks.items()]
        return torch.stack(scores).mean(dim=0) if len(scores) > 1 else scores[0]


class Features(nn.Module):
    """Joint clips [N,C,T,V,M] to h [N,D], the pooled features, and to their projection z where there is a head."""

    def __init__(self, encoder: nn.Module, head: nn.Module | None, view: str, skeleton: Layout) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.view = view
        self.skeleton = skeleton

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        h = self.encoder(derive(clips, self.view, self.skeleton))
        return (h,) if self.head is None else (h, self.head(h))


@dataclass(frozen=True)
class DeployedNetwork:
    """`module` maps joint clips, float32 [N,C,T,V,M], to the tensors that `outputs` names.

    The graph derives its view from the joints. `shape` is (C, T, V, M) as the weights were trained; with
    `free_frames` T may be any number from `FEWEST` up. `facts` are plain values by name: kind, layout, joints,
    frames, bodies, channels, profile, view, classes, skelpipe version, sha256 of the weights. `digest` is that
    of the dataset whose clips the weights were trained on; empty where a released file does not tell.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    shape: tuple[int, int, int, int]
    free_frames: bool
    facts: Mapping[str, Any]
    digest: str = ""

    def about(self) -> dict[str, Any]:
        """Return the facts, and how many frames a clip may have."""
        return {**self.facts, "frames_allowed": f"{FEWEST} or more" if self.free_frames else str(self.shape[1])}

    def metadata(self) -> dict[str, str]:
        """Return what `about` says as texts, what is no text as JSON."""
        return {
            name: value if isinstance(value, str) else json.dumps(value) for name, value in self.about().items()
        }


def open_network(
    checkpoint: str, dataset: str | None, view: str | None, frames: int | None, say: Callable[[str], None]
) -> DeployedNetwork:
    """Return the classifier or the encoder of a run folder, an exported file, a checkpoint or a released file.

    `dataset` names the manifest of recordings whose layout is not built in, `view` and `frames` give what a
    released file does not say. Raises UsageError where they contradict what it says, and for a file that holds no
    network.
    """
    weights = find_trained(checkpoint, view, "h", say)
    released, clips = weights.released, weights.provenance.clips
    if weights.kind == LABELLED or (released is not None and released.kind == "linear"):
        return replace(_classifier(checkpoint, dataset, view, frames, say), digest=clips.digest)
    weights.require_view()
    if released is None and frames is not None and frames != clips.frames:
        raise UsageError(f"{weights.path}: frames: trained on {clips.frames}, asked for {frames}")
    skeleton = weights.layout(load_manifest(dataset) if dataset else None)
    return replace(_encoder(clips, weights.load(skeleton), frames, skeleton), digest=clips.digest)


def _classifier(
    checkpoint: str, dataset: str | None, view: str | None, frames: int | None, say: Callable[[str], None]
) -> DeployedNetwork:
    found = open_recogniser(checkpoint, dataset, view, frames, say)
    skeleton, channels = found.manifest.layout, found.manifest.stored_channels
    parts = dict(found.networks.items())
    encoders = [part[0] for part in parts.values() if isinstance(part, nn.Sequential)]
    facts = {
        "views": list(parts),
        "profile": found.profile,
        "dtype": found.dtype,
        "dataset": found.manifest.name,
        "classes": list(found.classes),
    }
    return _deployed(
        ClassScores(parts, skeleton),
        ("scores",),
        "classifier",
        (len(channels), found.frames, len(skeleton), found.bodies),
        encoders,
        skeleton,
        {**facts, "channels": list(channels)},
    )


def _encoder(clips: ClipFacts, network: TrainedNetwork, frames: int | None, skeleton: Layout) -> DeployedNetwork:
    encoder, head, view = network.encoder, network.head, network.view
    facts = {"views": [view], "profile": clips.profile, "dataset": clips.dataset, "weights_of": network.name}
    return _deployed(
        Features(encoder, head, view, skeleton),
        ("h",) if head is None else ("h", "z"),
        "encoder",
        (len(clips.channels), frames or clips.frames, len(skeleton), clips.bodies),
        [encoder],
        skeleton,
        {**facts, "channels": list(clips.channels)},
    )


def _deployed(
    module: nn.Module,
    outputs: tuple[str, ...],
    kind: str,
    shape: tuple[int, int, int, int],
    encoders: list[nn.Module],
    skeleton: Layout,
    facts: Mapping[str, Any],
) -> DeployedNetwork:
    module = module.float().cpu().eval().requires_grad_(False)
    # A recurrent network is unrolled, or read from its first to its last frame: the number is part of the graph.
    free = shape[1] >= FEWEST and all(getattr(encoder, "free_frames", True) for encoder in encoders)
    about = {
        "skelpipe": __version__,
        "kind": kind,
        "input": "clips: joints, float32 [N,C,T,V,M], preprocessed by the profile; the graph derives its view",
        "outputs": list(outputs),
        "layout": skeleton.name,
        "joints": list(skeleton.joints),
        "frames": shape[1],
        "bodies": shape[3],
        **facts,
        "weights_sha256": WeightsHash.of(module).digest,
    }
    return DeployedNetwork(module, outputs, shape, free, about)
