"""The released checkpoints of AimCLR, CrosSCLR, SkeleMixCLR, ActCLR, SkeAttnCLR and MsMCLR, with strict key
mapping."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.front.arguments import path_text
from skelpipe.models.graph import VARIANTS, adjacency
from skelpipe.models.released.heads import build_layers, build_neck, check_attentions
from skelpipe.models.released.keys import (
    ATTENTIONS,
    BACKBONE,
    NECK,
    PREDICTOR,
    VIEWS,
    Faults,
    Sections,
    split_sections,
    stgcn_key,
    with_prefix,
)
from skelpipe.models.statefile import read_state
from skelpipe.models.stgcn import STGCN
from skelpipe.models.weights import dtype_and_shape
from skelpipe.skeleton import Layout, layout

__all__ = ["Branch", "ReleasedCheckpoint", "load_released"]

LAYOUT = "kinect-v2-25"  # of all datasets that the papers train on
FRAMES = {"stgcn_capped": 50, "agcn": 64}  # frames per clip: the code with one graph also has one clip length
METHOD_NAMES = ("skeletonclr", "aimclr", "actclr", "crosclr", "crossclr", "skelemixclr", "skeattnclr", "msmclr")
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Branch:
    """The networks for one view, in evaluation mode, with `head` (pre-training) or `classifier` (linear
    evaluation).

    The encoder maps clips [N,C,T,V,M] to h [N,D], the head h to z (not normalised), the classifier h to scores.
    """

    encoder: STGCN
    head: nn.Module | None
    classifier: nn.Linear | None


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """The content of a released checkpoint.

    `branches` maps views to networks where the file has one encoder per view (CrosSCLR); a file with one encoder
    does not say its view, and its branch is called "". `kind` is "pretrain" or "linear" (linear evaluation, with a
    classifier). `method` is found from keys and file name; SkeletonCLR, AimCLR and ActCLR name their weights
    alike. `frames` is the clip length that the paper trains with, `classes` the number of the classifier's
    classes.
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
        """The views that the file names; empty where it names none."""
        return tuple(view for view in self.branches if view)

    @property
    def layout(self) -> Layout:
        return self.branch().encoder.layout

    def branch(self, view: str | None = None) -> Branch:
        """Return the networks for a view, by default the first; UsageError where the file has none for it."""
        if view is None or not self.views:
            return next(iter(self.branches.values()))
        if view not in self.branches:
            raise UsageError(f"{self.path}: has networks for {' and '.join(self.views)}, not for {view}")
        return self.branches[view]


def load_released(path: str | Path) -> ReleasedCheckpoint:
    """Read a released checkpoint of an ST-GCN of any width; see `skelpipe.models.released.keys` for the formats.

    The file is of pre-training (query encoder and head) or of linear evaluation (encoder and classifier). Raises
    SkelpipeError naming every key that is missing, unexpected or of another shape, and where the file holds code
    or another network. Draws nothing from torch's global generator.
    """
    path = Path(path_text(path, "the path of a released file"))
    faults = Faults()
    sections = split_sections(read_state(path), faults)
    if not sections.encoders:
        raise SkelpipeError(
            f"{path}: is not a released checkpoint: it has no encoder_q.* among {_first_names(faults)}"
        )
    for suffix, encoder in sections.encoders.items():
        if not any("st_gcn_networks." in name for name in encoder):
            raise SkelpipeError(
                f"{path}: encoder_q{suffix} is not an ST-GCN (it has {next(iter(encoder))}); "
                "other networks cannot be read"
            )
    suffixes = [suffix for suffix in VIEWS if suffix in sections.encoders]
    several = len(suffixes) > 1
    branches = {VIEWS[suffix] if several else "": _branch(suffix, sections, faults) for suffix in suffixes}
    if str(faults):
        raise SkelpipeError(f"{path}: its keys are not those of the released code: {faults}")
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


def _branch(suffix: str, sections: Sections, faults: Faults) -> Branch:
    state, prefix = sections.encoders[suffix], f"encoder_q{suffix}."
    head: nn.Sequential | None = None
    neck: Tensors | None = None
    if any(name.startswith(BACKBONE) for name in state):  # SkeAttnCLR's
        neck = with_prefix(state, NECK)
        faults.unexpected += [prefix + name for name in state if not name.startswith((BACKBONE, NECK))]
        state, prefix = with_prefix(state, BACKBONE), prefix + BACKBONE
    else:
        faults.unexpected += [PREDICTOR + name for name in sections.predictor]
    body = {name: value for name, value in state.items() if not name.startswith(("fc.", *ATTENTIONS))}
    encoder = _encoder(body, prefix, faults)
    attentions = {name: value for name, value in state.items() if name.startswith(ATTENTIONS)}
    if attentions:
        check_attentions(attentions, prefix, faults, encoder.feature_dim)
    one = neck is not None or not sections.pretraining
    top = build_layers(with_prefix(state, "fc."), f"{prefix}fc.", faults, encoder.feature_dim, one=one)
    if neck is not None:
        head = build_neck(neck, sections, faults, encoder.feature_dim)
    if sections.pretraining:  # SkeAttnCLR's files of pre-training hold an untrained classifier too
        return Branch(encoder, (head or top).eval(), None)
    classifier = top[0].eval()
    return Branch(encoder, None, classifier if isinstance(classifier, nn.Linear) else None)


def _encoder(state: Tensors, prefix: str, faults: Faults) -> STGCN:
    """Build an ST-GCN of the size that the tensors have, with these weights."""

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
    expected = {name: value for name, value in encoder.state_dict().items() if name != "adjacency"}
    names = {name: stgcn_key(name) for name in expected}
    faults.compare(prefix, state, [*names.values(), "A"])
    fitting = {}
    for name, released_name in names.items():
        if released_name not in state:
            continue
        value = state[released_name]
        if expected[name].ndim == 2 and value.ndim == 4 and value.shape[2:] == (1, 1):
            value = value.flatten(1)  # a 1x1 convolution
        if dtype_and_shape(value) != dtype_and_shape(expected[name]):
            faults.mismatch(prefix + released_name, value, expected[name])
        else:
            fitting[name] = value
    encoder.load_state_dict(fitting, strict=False)
    return encoder


def _graph(state: Tensors, prefix: str, body: Layout, faults: Faults) -> str:
    """Return the name of the graph in buffer A. The encoder has our own: they differ by rounding at most."""
    given = state.get("A")
    if given is None:
        return "stgcn_capped"  # A is among the missing names already
    for variant in VARIANTS:
        ours = adjacency(body, variant)
        if variant in FRAMES and given.shape == ours.shape and torch.allclose(given.float(), ours, atol=1e-6):
            return variant
    faults.mismatched.append(
        f"{prefix}A is {dtype_and_shape(given)}, none of the graphs {', '.join(FRAMES)} of {body.name}"
    )
    return "stgcn_capped"


def _method(path: Path, sections: Sections, graph: str) -> str:
    if any(name.startswith(NECK) for encoder in sections.encoders.values() for name in encoder):
        return "skeattnclr"
    if any(name.startswith(ATTENTIONS) for encoder in sections.encoders.values() for name in encoder):
        return "msmclr"
    if len(sections.encoders) > 1:
        return "crosclr"
    named = [name for name in METHOD_NAMES if name in path.name.lower()]
    if named:
        return "crosclr" if named[0] == "crossclr" else named[0]
    return "skelemixclr" if graph == "agcn" else "skeletonclr, aimclr or actclr"


def _first_names(faults: Faults) -> str:
    names = faults.unexpected
    return f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "its keys"
