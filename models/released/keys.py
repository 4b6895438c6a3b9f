"""How the released code names the weights in its checkpoints.

Verified on a real file: AimCLR's linear evaluation (`encoder_q.*`, `fc` a 1x1 convolution). The other names are
taken from the released code and were not checked on a file: CrosSCLR's one encoder per view, where motion and bone
end in the joint's head (divergence `crosclr-shared-head`); SkeleMixCLR's head with normalisation; ActCLR's heads,
linear in older versions and 1x1 convolutions in newer ones; SkeAttnCLR's `backbone`, `neck` and predictors; two
attention modules in MsMCLR's encoders, `m2a`, which acts in training, and `dropout`, which is never used.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from skelpipe.models.weights import dtype_and_shape

__all__ = [
    "ATTENTIONS",
    "BACKBONE",
    "NECK",
    "PREDICTOR",
    "VIEWS",
    "Faults",
    "Sections",
    "split_sections",
    "stgcn_key",
    "with_prefix",
]

VIEWS = {"": "joint", "_motion": "motion", "_bone": "bone"}  # by the suffix of an encoder's name
BACKBONE, NECK, PREDICTOR = "backbone.", "neck.", "predictor."  # of SkeAttnCLR
ATTENTIONS = ("m2a.", "dropout.")  # of MsMCLR (divergence `msmclr-parameters`)
QUEUE = re.compile(r"queue(_ptr)?(_(motion|bone|z|p|c|s|ns))?|queue_label")
OTHER_PREDICTOR = re.compile(r"predictor_(p|c|s|ns)")  # which z does not need

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
    """The wrong keys of a file, collected so that one message names all of them."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        groups = {"missing": self.missing, "unexpected": self.unexpected, "mismatched": self.mismatched}
        return "; ".join(f"{title}: {', '.join(names)}" for title, names in groups.items() if names)

    def compare(self, prefix: str, found: Iterable[str], expected: Iterable[str]) -> None:
        """Add the expected names that are missing and the names that are not expected; `prefix` goes before
        each."""
        found, expected = set(found), set(expected)
        self.missing += [prefix + name for name in sorted(expected - found)]
        self.unexpected += [prefix + name for name in sorted(found - expected)]

    def mismatch(self, name: str, found: Tensor, expected: Tensor) -> None:
        """Add a name whose tensor has another type or shape than expected."""
        self.mismatched.append(f"{name} is {dtype_and_shape(found)}, not {dtype_and_shape(expected)}")


@dataclass(frozen=True)
class Sections:
    """A state dict in sections: query encoders by the suffix of their name, and SkeAttnCLR's predictor of z.

    `pretraining` says whether the file has keys that only pre-training needs, such as key encoders and queues.
    """

    encoders: Mapping[str, Mapping[str, Tensor]]
    predictor: Mapping[str, Tensor]
    pretraining: bool


def split_sections(state: Mapping[str, Tensor], faults: Faults) -> Sections:
    """Return the sections of a file. Key encoders must have the names of the query's; they and queues are
    dropped."""
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
        elif rest and (key.startswith(PREDICTOR) or OTHER_PREDICTOR.fullmatch(top)):
            predictors.setdefault(top, {})[rest] = value
        elif not QUEUE.fullmatch(key):
            faults.unexpected.append(key)
    for suffix, names in keys.items():
        faults.compare(f"encoder_k{suffix}.", names, queries.get(suffix, {}))
    main = predictors.pop("predictor", {})
    for name, other in predictors.items():
        faults.compare(f"{name}.", other, main)
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


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
