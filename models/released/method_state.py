"""The state of a whole method from a released file of pre-training, so that its run can be continued.

Beside the query networks such a file holds the key networks, a queue [dim, K] for each view, and what else the
method learns: SkeAttnCLR's predictors and attention (whose queue is `queue_z`), MsMCLR's attention.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.models.method import Method
from skelpipe.models.released.keys import BACKBONE, NECK, PREDICTOR, VIEWS, Faults, stgcn_key
from skelpipe.models.statefile import read_state
from skelpipe.models.stgcn import STGCN
from skelpipe.models.weights import dtype_and_shape

__all__ = ["released_method_state"]

# Beside the networks of queries and keys: from the start of our names to what theirs may be.
BESIDE: Mapping[str, tuple[str, ...]] = {
    "predictors.z.": (f"{PREDICTOR}mlp.",),
    "predictors.s.": ("predictor_p.mlp.", "predictor_s.mlp."),
    "predictors.ns.": ("predictor_c.mlp.", "predictor_ns.mlp."),
    "attention.norm.": (f"encoder_q.{NECK}norm0.",),
    "attention.qkv.": (f"encoder_q.{NECK}Attn.qkv.",),
    "attention.proj.": (f"encoder_q.{NECK}Attn.proj.",),
    "attention.motion.down.": ("encoder_q.m2a.conv_down.",),
    "attention.motion.up.": ("encoder_q.m2a.conv_up.",),
}
SIDES = {"encoder.": "q", "head.": "q", "key_encoder.": "k", "key_head.": "k"}


def released_method_state(path: str | Path, method: Method, views: Sequence[str]) -> dict[str, Tensor]:
    """Return what a released file holds of a method's state, under the method's names, in its shapes.

    `views` are the method's streams; with one, the file's only encoder is meant. The graph is the method's own.
    Raises UsageError, naming the entries of the file, where it lacks one or one does not fit, such as a queue of
    another length than the recipe's.
    """
    path = Path(path)
    content, faults, state = read_state(path), Faults(), {}
    if all(name.startswith("module.") for name in content):  # saved from `nn.DataParallel`
        content = {name.removeprefix("module."): value for name, value in content.items()}
    for name, theirs, wanted in _names(method, views):
        if name.endswith("adjacency"):
            state[name] = wanted
            continue
        found = next((each for each in theirs if each in content), None)
        if found is None:
            faults.missing.append(theirs[0] if theirs else f"what this method has as {name}")
            continue
        value = _shaped(name, content[found], wanted)
        if name.endswith("queue") and value.shape[1:] == wanted.shape[1:] and len(value) != len(wanted):
            faults.mismatched.append(
                f"{found} holds {len(value)} keys, the recipe's queue {len(wanted)} (--set queue={len(value)})"
            )
        elif dtype_and_shape(value) != dtype_and_shape(wanted):
            faults.mismatch(found, value, wanted)
        elif name.endswith("pointer") and int(value) < 0:
            faults.mismatched.append(f"{found} is {int(value)}")
        state[name] = value
    if not str(faults):
        faults.mismatched += _unequal(method, state)
    if str(faults):
        raise UsageError(f"{path}: this run cannot continue its run: {faults}")
    for name in [name for name in state if name.endswith("pointer")]:
        state[name] = state[name] % len(state[f"{name.removesuffix('pointer')}queue"])
    return state


def _names(method: Method, views: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...], Tensor]]:
    """Yield the names of the method's state, what a file may call each, and its present value."""
    networks: dict[str, str] = {}  # from the name of each `MoCo` to the suffix of its view's names
    for view in views:
        name, contrast = method.contrast(view)
        if not isinstance(contrast.encoder, STGCN):
            raise UsageError(
                "released files hold an ST-GCN: only a run whose encoder.name is stgcn continues theirs"
            )
        networks[name] = {other: suffix for suffix, other in VIEWS.items()}[view] if len(views) > 1 else ""
    for name, value in method.state_dict().items():
        at = next((each for each in networks if name.startswith(f"{each}.")), None)
        if at is not None:
            yield name, tuple(_of_contrast(name.removeprefix(f"{at}."), networks[at])), value
            continue
        starts = next((start for start in BESIDE if name.startswith(start)), "")
        yield name, tuple(theirs + name.removeprefix(starts) for theirs in BESIDE.get(starts, ())), value


def _of_contrast(name: str, suffix: str) -> Iterator[str]:
    """Yield what a file may call a tensor of a `MoCo`."""
    if name in ("queue", "pointer"):
        stem = "queue" if name == "queue" else "queue_ptr"
        yield from (f"{stem}{suffix}", *([] if suffix else [f"{stem}_z"]))
        return
    part = next(each for each in SIDES if name.startswith(each))
    rest, encoder = name.removeprefix(part), f"encoder_{SIDES[part]}{suffix}."
    if part.endswith("head."):
        yield from (f"{encoder}fc.{rest}", f"{encoder}{NECK}proj.mlp.{rest}")
    else:
        yield from (f"{encoder}{stgcn_key(rest)}", f"{encoder}{BACKBONE}{stgcn_key(rest)}")


def _shaped(name: str, value: Tensor, wanted: Tensor) -> Tensor:
    """Return a file's tensor as we have it: convolutions of size 1 as matrices, one key per row of a queue."""
    if name.endswith("queue") and value.ndim == 2:
        return value.T.contiguous()
    if name.endswith("pointer") and value.shape == (1,):
        return value[0]
    if wanted.ndim == 2 and value.ndim == 4 and value.shape[2:] == (1, 1):
        return value.flatten(1)
    return value


def _unequal(method: Method, state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of a tensor that the method has once, and the file twice with other values."""
    first: dict[int, str] = {}
    found = []
    for name, value in method.state_dict(keep_vars=True).items():
        one = first.setdefault(id(value), name)
        if not torch.equal(state[one], state[name]):
            found.append(f"{one} and {name} are one tensor here and differ there")
    return found
