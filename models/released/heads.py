"""Heads and classifiers of released checkpoints, built from their keys."""

from collections.abc import Mapping

from torch import Tensor, nn

from skelpipe.models.released.keys import NECK, PREDICTOR, Faults, Sections, kind_of, under

__all__ = ["build_layers", "build_neck"]

Tensors = Mapping[str, Tensor]

# Where the layers of an `fc` stand, and what is between them: SkeletonCLR's, SkeleMixCLR's with normalisation,
# and those of CrosSCLR's motion and bone encoders, which end in the whole head of the joint encoder.
ARRANGEMENTS: Mapping[tuple[str, ...], str] = {
    ("",): "L",
    ("0.", "2."): "LRL",
    ("0.", "1.", "3."): "LNRL",
    ("0.", "2.0.", "2.2."): "LRLRL",
}
# What SkeAttnCLR keeps beside the projector and does not need for z.
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
    """Build the layers of an `fc`, filled; `one` allows a single linear layer and nothing else.

    `bias` says whether linear layers have one. What does not fit goes to `faults`, and the layers are then of
    no use.
    """
    places = tuple(sorted({name[: name.rfind(".") + 1] for name in state}))
    kinds = ARRANGEMENTS.get(places)
    if kinds is None or (one and kinds != "L"):
        faults.unexpected += [prefix + name for name in sorted(state)]
        faults.missing += [f"{prefix}weight"] if one or not state else []
        return nn.Sequential(nn.Identity())
    modules: list[nn.Module] = []
    remaining = iter(places)
    for kind in kinds:
        if kind == "R":
            modules.append(nn.ReLU())
            continue
        place = next(remaining)
        module: nn.Module
        if kind == "L":
            module = _linear(under(state, place), prefix + place, faults, in_dim, bias)
        else:
            module = _filled(nn.BatchNorm1d(in_dim), under(state, place), prefix + place, faults)
        in_dim = module.out_features if isinstance(module, nn.Linear) else in_dim
        modules.append(module)
    return nn.Sequential(*modules)


def build_neck(neck: Tensors, sections: Sections, faults: Faults, in_dim: int) -> nn.Sequential:
    """Build SkeAttnCLR's head: projector, then in a pre-training file the query's predictor."""
    prefix = f"encoder_q.{NECK}"
    projector, spare = under(neck, "proj."), under(neck, "proj_obj.")
    faults.compare(prefix, (name for name in neck if not name.startswith(("proj.", "proj_obj."))), NECK_REST)
    faults.compare(f"{prefix}proj_obj.", spare, projector)
    head = _mlp(projector, f"{prefix}proj.", faults, in_dim)
    if not sections.pretraining:
        return head
    last = head[-1]
    width = last.out_features if isinstance(last, nn.Linear) else in_dim
    return nn.Sequential(*head, *_mlp(sections.predictor, PREDICTOR, faults, width))


def _mlp(state: Tensors, prefix: str, faults: Faults, in_dim: int) -> nn.Sequential:
    faults.unexpected += [prefix + name for name in state if not name.startswith(MLP)]
    return build_layers(under(state, MLP), prefix + MLP, faults, in_dim, bias=False)


def _linear(state: Tensors, prefix: str, faults: Faults, in_dim: int, bias: bool) -> nn.Module:
    """Build a linear layer, written as such or as a convolution of size 1."""
    weight = state.get("weight")
    if weight is None or weight.ndim < 2 or weight.shape[1] != in_dim or weight.shape[2:].numel() != 1:
        found = "missing" if weight is None else kind_of(weight)
        faults.mismatched.append(f"{prefix}weight is {found}, not a map from {in_dim} channels")
        return nn.Identity()
    layer = nn.utils.skip_init(nn.Linear, in_dim, len(weight), bias=bias)
    return _filled(layer, {**state, "weight": weight.flatten(1)}, prefix, faults)


def _filled(layer: nn.Module, state: Tensors, prefix: str, faults: Faults) -> nn.Module:
    """Load a state into a layer as far as it fits; note where it does not."""
    wanted = layer.state_dict()
    faults.compare(prefix, state, wanted)
    fitting = {}
    for name in (name for name in wanted if name in state):
        if kind_of(state[name]) == kind_of(wanted[name]):
            fitting[name] = state[name]
        else:
            faults.mismatched.append(f"{prefix}{name} is {kind_of(state[name])}, not {kind_of(wanted[name])}")
    layer.load_state_dict(fitting, strict=False)
    return layer
