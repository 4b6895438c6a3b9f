"""How the released code of the papers names its weights; from names alone to what belongs where.

Verified on a real file: AimCLR's linear evaluation (`encoder_q.*`, `fc` a 1x1 convolution). The names of the
other files follow from the released code and were not seen in a file: CrosSCLR's encoders a view, of which
motion and bone end in the joint's head (spec G9); SkeleMixCLR's head with normalisation; ActCLR's heads, which
are linear in older versions and 1x1 convolutions in newer ones; SkeAttnCLR's `backbone`, `neck` and predictors.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

__all__ = [
    "BACKBONE",
    "NECK",
    "PREDICTOR",
    "VIEWS",
    "Faults",
    "Sections",
    "kind_of",
    "stgcn_key",
    "take_apart",
    "under",
]

VIEWS = {"": "joint", "_motion": "motion", "_bone": "bone"}  # by what an encoder's name ends with
BACKBONE, NECK, PREDICTOR = "backbone.", "neck.", "predictor."  # of SkeAttnCLR
QUEUE = re.compile(r"queue(_ptr)?(_(motion|bone|z|p|c|s|ns))?|queue_label")
SPARE = re.compile(r"predictor_(p|c|s|ns)")  # predictors of what z does not need

BLOCK = re.compile(r"blocks\.(\d+)\.(.+)\.(\w+)")
PARTS = {
    "spatial.maps": "gcn.conv",
    "spatial_norm": "tcn.0",
    "temporal": "tcn.2",
    "temporal_norm": "tcn.3",
    "shortcut": "residual.0",
    "shortcut_norm": "residual.1",
}


@dataclass
class Faults:
    """What is wrong with a file's keys, gathered so that all of it can be told at once."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        groups = {"missing": self.missing, "unexpected": self.unexpected, "mismatched": self.mismatched}
        return "; ".join(f"{title}: {', '.join(names)}" for title, names in groups.items() if names)

    def compare(self, prefix: str, found: Iterable[str], expected: Iterable[str]) -> None:
        """Note which names under a prefix are missing and which are there without need."""
        found, expected = set(found), set(expected)
        self.missing += [prefix + name for name in sorted(expected - found)]
        self.unexpected += [prefix + name for name in sorted(found - expected)]


@dataclass(frozen=True)
class Sections:
    """A state dict taken apart: query encoders by the end of their name, and SkeAttnCLR's predictor of z.

    `pretraining` says whether the file has what only pre-training needs, such as key encoders and queues.
    """

    encoders: Mapping[str, Mapping[str, Tensor]]
    predictor: Mapping[str, Tensor]
    pretraining: bool


def take_apart(state: Mapping[str, Tensor], faults: Faults) -> Sections:
    """Sort the keys of a file. Key encoders must be made like the query's, and are dropped, as queues are."""
    if all(key.startswith("module.") for key in state):  # saved from `nn.DataParallel`
        state = {key.removeprefix("module."): value for key, value in state.items()}
    queries: dict[str, dict[str, Tensor]] = {}
    keys: dict[str, dict[str, Tensor]] = {}
    predictors: dict[str, dict[str, Tensor]] = {}
    pretraining = False
    for key, value in state.items():
        top, _, rest = key.partition(".")
        if rest and top.removeprefix("encoder_q") in VIEWS:
            queries.setdefault(top.removeprefix("encoder_q"), {})[rest] = value
            continue
        pretraining = True
        if rest and top.removeprefix("encoder_k") in VIEWS:
            keys.setdefault(top.removeprefix("encoder_k"), {})[rest] = value
        elif rest and (key.startswith(PREDICTOR) or SPARE.fullmatch(top)):
            predictors.setdefault(top, {})[rest] = value
        elif not QUEUE.fullmatch(key):
            faults.unexpected.append(key)
    for end, names in keys.items():
        faults.compare(f"encoder_k{end}.", names, queries.get(end, {}))
    main = predictors.pop("predictor", {})
    for name, spare in predictors.items():
        faults.compare(f"{name}.", spare, main)
    return Sections(queries, main, pretraining)


def stgcn_key(name: str) -> str:
    """Return the released code's name for a tensor of our `STGCN`."""
    if name == "adjacency":
        return "A"
    block = BLOCK.fullmatch(name)
    if block is None:
        return name.replace("input_norm", "data_bn")
    number, part, leaf = block.groups()
    if leaf == "importance":
        return f"edge_importance.{number}"
    return f"st_gcn_networks.{number}.{PARTS[part]}.{leaf}"


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def kind_of(tensor: Tensor) -> str:
    """Return type and shape as messages have them, such as `float32[48, 3]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
