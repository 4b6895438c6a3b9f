"""The released checkpoints of AimCLR, CrosSCLR, SkeleMixCLR, ActCLR and SkeAttnCLR, with strict key mapping."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models.graph import VARIANTS, adjacency
from skelpipe.models.released.heads import build_layers, build_neck
from skelpipe.models.released.keys import (
    BACKBONE,
    NECK,
    PREDICTOR,
    VIEWS,
    Faults,
    Sections,
    kind_of,
    stgcn_key,
    take_apart,
    under,
)
from skelpipe.models.statefile import read_state
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import Layout, layout

__all__ = ["Branch", "ReleasedCheckpoint", "load_released"]

LAYOUT = "kinect-v2-25"  # of all that the papers train on
FRAMES = {"stgcn_capped": 50, "agcn": 64}  # spec D9: those who took the one graph took the one length
NAMED = ("skeletonclr", "aimclr", "actclr", "crosclr", "crossclr", "skelemixclr", "skeattnclr", "msmclr")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Branch:
    """The networks for one view, in evaluation mode. A pre-training file has a `head`, the other a `classifier`.

    The encoder maps clips [N,C,T,V,M] to h [N,D], the head h to z (not normalised), the classifier h to scores.
    """

    encoder: STGCN
    head: nn.Module | None
    classifier: nn.Linear | None


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """What a released file holds.

    `branches` are by view where the file has an encoder a view (CrosSCLR); a file of one encoder does not say
    its view, and its branch is called "". `kind` is "pretrain" or "linear" (evaluation, with a classifier).
    `method` is what keys and file name tell; SkeletonCLR, AimCLR and ActCLR name everything alike. `frames` is
    the number its papers train with, `classes` that of the classifier.
    """

    path: Path
    method: str
    kind: str
    width: int
    graph: str
    frames: int
    classes: int | None
    branches: Mapping[str, Branch]

    @property
    def views(self) -> tuple[str, ...]:
        """The views that the file names; none where it does not say."""
        return tuple(view for view in self.branches if view)

    @property
    def layout(self) -> Layout:
        return self.branch().encoder.layout

    def branch(self, view: str | None = None) -> Branch:
        """Return the networks for a view, the first where none is named; UsageError where there are none."""
        if view is None or not self.views:
            return next(iter(self.branches.values()))
        if view not in self.branches:
            raise UsageError(f"{self.path}: has networks for {' and '.join(self.views)}, not for {view}")
        return self.branches[view]


def load_released(path: str | Path) -> ReleasedCheckpoint:
    """Read a file of the papers' released code; `skelpipe.models.released.keys` says what is known of them.

    Pre-training files (query encoder and head) and those of linear evaluation (encoder and classifier), of
    ST-GCN in any width. Raises SkelpipeError naming every key that is missing, unexpected or of another shape,
    and where the file holds code or another network. torch's global generator stays where it is.
    """
    path = Path(path)
    faults = Faults()
    sections = take_apart(read_state(path), faults)
    if not sections.encoders:
        raise SkelpipeError(f"{path}: no file of the papers' code: it has no encoder_q.* among {_some(faults)}")
    for end, encoder in sections.encoders.items():
        if not any("st_gcn_networks." in name for name in encoder):
            raise SkelpipeError(
                f"{path}: encoder_q{end} is no ST-GCN (it has {next(iter(encoder))}); no other can be read"
            )
    ends = [end for end in VIEWS if end in sections.encoders]
    several = len(ends) > 1
    branches = {VIEWS[end] if several else "": _branch(end, sections, faults) for end in ends}
    if str(faults):
        raise SkelpipeError(f"{path}: its keys are not those of the papers' code: {faults}")
    first = next(iter(branches.values()))
    classes = {branch.classifier.out_features for branch in branches.values() if branch.classifier}
    if len(classes) > 1 or len({branch.encoder.graph for branch in branches.values()}) > 1:
        raise SkelpipeError(f"{path}: its encoders differ in graph or classes")
    return ReleasedCheckpoint(
        path=path,
        method=_method(path, sections, first.encoder.graph),
        kind="pretrain" if sections.pretraining else "linear",
        width=len(first.encoder.state_dict()["blocks.0.spatial_norm.weight"]),
        graph=first.encoder.graph,
        frames=FRAMES[first.encoder.graph],
        classes=classes.pop() if classes else None,
        branches=branches,
    )


def _branch(end: str, sections: Sections, faults: Faults) -> Branch:
    state, prefix = sections.encoders[end], f"encoder_q{end}."
    head: nn.Sequential | None = None
    neck: Tensors | None = None
    if any(name.startswith(BACKBONE) for name in state):  # SkeAttnCLR's
        neck = under(state, NECK)
        faults.unexpected += [prefix + name for name in state if not name.startswith((BACKBONE, NECK))]
        state, prefix = under(state, BACKBONE), prefix + BACKBONE
    else:
        faults.unexpected += [PREDICTOR + name for name in sections.predictor]
    body = {name: value for name, value in state.items() if not name.startswith("fc.")}
    encoder = _encoder(body, prefix, faults)
    one = neck is not None or not sections.pretraining
    top = build_layers(under(state, "fc."), f"{prefix}fc.", faults, encoder.feature_dim, one=one)
    if neck is not None:
        head = build_neck(neck, sections, faults, encoder.feature_dim)
    if sections.pretraining:  # where SkeAttnCLR's files have a classifier that nothing has trained
        return Branch(encoder, (head or top).eval(), None)
    classifier = top[0].eval()
    return Branch(encoder, None, classifier if isinstance(classifier, nn.Linear) else None)


def _encoder(state: Tensors, prefix: str, faults: Faults) -> STGCN:
    """Build the ST-GCN of the size that the tensors have, and fill it."""

    def size(name: str, otherwise: int) -> int:
        return len(state[name]) if name in state and state[name].ndim else otherwise

    body = layout(LAYOUT)
    graph = _graph(state, prefix, body, faults)
    with torch.random.fork_rng(devices=()):
        encoder = STGCN(
            body,
            graph,
            width=size("st_gcn_networks.0.tcn.0.weight", 16),
            out_channels=size("st_gcn_networks.9.tcn.0.weight", 256),
        ).eval()
    wanted = {name: value for name, value in encoder.state_dict().items() if name != "adjacency"}
    names = {name: stgcn_key(name) for name in wanted}
    faults.compare(prefix, state, [*names.values(), "A"])
    fitting = {}
    for name, theirs in names.items():
        if theirs not in state:
            continue
        value = state[theirs]
        if wanted[name].ndim == 2 and value.ndim == 4 and value.shape[2:] == (1, 1):
            value = value.flatten(1)  # a 1x1 convolution
        if kind_of(value) != kind_of(wanted[name]):
            faults.mismatched.append(f"{prefix}{theirs} is {kind_of(value)}, not {kind_of(wanted[name])}")
        else:
            fitting[name] = value
    encoder.load_state_dict(fitting, strict=False)
    return encoder


def _graph(state: Tensors, prefix: str, body: Layout, faults: Faults) -> str:
    """Return which graph the buffer A is. Ours takes its place: they differ by rounding at most."""
    given = state.get("A")
    if given is None:
        return "stgcn_capped"  # it is noted as missing
    for variant in VARIANTS:
        ours = adjacency(body, variant)
        if variant in FRAMES and given.shape == ours.shape and torch.allclose(given.float(), ours, atol=1e-6):
            return variant
    faults.mismatched.append(
        f"{prefix}A is {kind_of(given)}, none of the graphs {', '.join(FRAMES)} of {body.name}"
    )
    return "stgcn_capped"


def _method(path: Path, sections: Sections, graph: str) -> str:
    if any(name.startswith(NECK) for encoder in sections.encoders.values() for name in encoder):
        return "skeattnclr"
    if len(sections.encoders) > 1:
        return "crosclr"
    said = [name for name in NAMED if name in path.name.lower()]
    if said:
        return "crosclr" if said[0] == "crossclr" else said[0]
    return "skelemixclr" if graph == "agcn" else "skeletonclr, aimclr or actclr"


def _some(faults: Faults) -> str:
    names = faults.unexpected
    return f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "its keys"
