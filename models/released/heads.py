"""Heads and classifiers of released checkpoints, built from their keys."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from skelpipe.models.batch_norm import BatchNorm1d
from skelpipe.models.released.keys import NECK, PREDICTOR, Faults, Sections, with_prefix
from skelpipe.models.weights import dtype_and_shape

__all__ = ["build_layers", "build_neck", "check_attentions"]

Tensors = Mapping[str, Tensor]

# The layers of a head by the names of those with weights: L a linear layer, N normalisation, R a ReLU. In order:
# a classifier, the heads of SkeletonCLR and SkeleMixCLR, and that of CrosSCLR's motion and bone encoders, which
# ends in the whole head of the joint encoder (divergence `crosclr-shared-head`).
ARRANGEMENTS: Mapping[tuple[str, ...], str] = {
    ("",): "L",
    ("0.", "2."): "LRL",
    ("0.", "1.", "3."): "LNRL",
    ("0.", "2.0.", "2.2."): "LRLRL",
}
# SkeAttnCLR's weights beside the projector, which z does not need.
NECK_REST = (
    "norm0.weight",
    "norm0.bias",
    "Attn.qkv.weight",
    "Attn.qkv.bias",
    "Attn.proj.weight",
    "Attn.proj.bias",
)
MLP = "mlp."


def build_layers(
    state: Tensors, prefix: str, faults: Faults, in_dim: int, *, one: bool = False, bias: bool = True
) -> nn.Sequential:
    """Build the layers of a head with their weights; with `one`, only a single linear layer is allowed.

    `bias` says whether linear layers have one. What does not fit is added to `faults`; do not use the layers then.
    """
    names = tuple(sorted({name[: name.rfind(".") + 1] for name in state}))
    kinds = ARRANGEMENTS.get(names)
    if kinds is None or (one and kinds != "L"):
        faults.unexpected += [prefix + name for name in sorted(state)]
        faults.missing += [f"{prefix}weight"] if one or not state else []
        return nn.Sequential(nn.Identity())
    modules: list[nn.Module] = []
    remaining = iter(names)
    for kind in kinds:
        if kind == "R":
            modules.append(nn.ReLU())
            continue
        name = next(remaining)
        module: nn.Module
        if kind == "L":
            module = _linear(with_prefix(state, name), prefix + name, faults, in_dim, bias)
        else:
            module = _filled(BatchNorm1d(in_dim), with_prefix(state, name), prefix + name, faults)
        in_dim = module.out_features if isinstance(module, nn.Linear) else in_dim
        modules.append(module)
    return nn.Sequential(*modules)


def build_neck(neck: Tensors, sections: Sections, faults: Faults, in_dim: int) -> nn.Sequential:
    """Build SkeAttnCLR's head: the projector and, in a pre-training file, the predictor behind it."""
    prefix = f"encoder_q.{NECK}"
    projector, spare = with_prefix(neck, "proj."), with_prefix(neck, "proj_obj.")
    faults.compare(prefix, (name for name in neck if not name.startswith(("proj.", "proj_obj."))), NECK_REST)
    faults.compare(f"{prefix}proj_obj.", spare, projector)
    head = _mlp(projector, f"{prefix}proj.", faults, in_dim)
    if not sections.pretraining:
        return head
    last = head[-1]
    width = last.out_features if isinstance(last, nn.Linear) else in_dim
    return nn.Sequential(*head, *_mlp(sections.predictor, PREDICTOR, faults, width))


def check_attentions(state: Tensors, prefix: str, faults: Faults, channels: int) -> None:
    """Add to `faults` what does not fit in MsMCLR's two attention modules on `channels` channels.

    Evaluation needs neither.
    """
    inner, half = (
        len(state[name]) if name in state and state[name].ndim else 1
        for name in ("m2a.conv_down.bias", "dropout.fcn.0.bias")
    )
    modules: Mapping[str, nn.Module] = {
        "m2a.conv_down": nn.Conv2d(channels, inner, 1, device="meta"),
        "m2a.conv_up": nn.Conv2d(inner, channels, 1, device="meta"),
        "dropout.fcn.0": nn.Conv2d(channels, half, 1, device="meta"),
        "dropout.fcn.1": BatchNorm1d(half),
        "dropout.conv_t": nn.Conv2d(half, channels, 1, device="meta"),
        "dropout.conv_v": nn.Conv2d(half, channels, 1, device="meta"),
    }
    known = {f"{name}.{key}" for name, module in modules.items() for key in module.state_dict()}
    faults.compare(prefix, state, known)
    for name, module in modules.items():
        for key, expected in module.state_dict().items():
            found = state.get(f"{name}.{key}", expected)
            if dtype_and_shape(found) != dtype_and_shape(expected):
                faults.mismatch(f"{prefix}{name}.{key}", found, expected)


def _mlp(state: Tensors, prefix: str, faults: Faults, in_dim: int) -> nn.Sequential:
    faults.unexpected += [prefix + name for name in state if not name.startswith(MLP)]
    return build_layers(with_prefix(state, MLP), prefix + MLP, faults, in_dim, bias=False)


def _linear(state: Tensors, prefix: str, faults: Faults, in_dim: int, bias: bool) -> nn.Module:
    """Build a linear layer from a state of `nn.Linear` or of a convolution of size 1."""
    weight = state.get("weight")
    if weight is None or weight.ndim < 2 or weight.shape[1] != in_dim or weight.shape[2:].numel() != 1:
        found = "missing" if weight is None else dtype_and_shape(weight)
        faults.mismatched.append(f"{prefix}weight is {found}, not a map from {in_dim} channels")
        return nn.Identity()
    # Not by `skip_init`: `to_empty` imports sympy, for half a second.
    layer = nn.Linear(in_dim, len(weight), bias=bias, device="meta")
    layer.load_state_dict({name: torch.empty(x.shape) for name, x in layer.state_dict().items()}, assign=True)
    return _filled(layer, {**state, "weight": weight.flatten(1)}, prefix, faults)


def _filled(layer: nn.Module, state: Tensors, prefix: str, faults: Faults) -> nn.Module:
    """Load the tensors that fit into a layer; add the others to `faults`."""
    expected = layer.state_dict()
    faults.compare(prefix, state, expected)
    fitting = {}
    for name in (name for name in expected if name in state):
        if dtype_and_shape(state[name]) == dtype_and_shape(expected[name]):
            fitting[name] = state[name]
        else:
            faults.mismatch(prefix + name, state[name], expected[name])
    layer.load_state_dict(fitting, strict=False)
    return layer
