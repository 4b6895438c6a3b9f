"""Runs of the authors that are continued: files of their names give the next step, and misfits are named."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from skelpipe.errors import UsageError
from skelpipe.models import build_method
from skelpipe.models.method import Method, Progress
from skelpipe.models.released.method_state import released_method_state
from skelpipe.skeleton import layout

sys.path.append(str(Path(__file__).parents[1]))
import plain_steps as plain

# From our names to the authors': what stands in the file.
BLOCKS = {
    "spatial.maps": "gcn.conv",
    "spatial_norm": "tcn.0",
    "temporal": "tcn.2",
    "temporal_norm": "tcn.3",
    "shortcut": "residual.0",
    "shortcut_norm": "residual.1",
}
NECK = {"attention.norm": "norm0", "attention.qkv": "Attn.qkv", "attention.proj": "Attn.proj"}


def theirs(name: str, attention: bool) -> str:
    """The authors' name of a tensor; with `attention` it is in a file of SkeAttnCLR."""
    if found := re.fullmatch(r"predictors\.(\w+)\.(.+)", name):
        return {"z": "predictor", "s": "predictor_p", "ns": "predictor_c"}[found[1]] + f".mlp.{found[2]}"
    if found := re.fullmatch(r"attention\.motion\.(\w+)\.(\w+)", name):
        return f"encoder_q.m2a.conv_{found[1]}.{found[2]}"
    if found := re.fullmatch(r"(attention\.\w+)\.(\w+)", name):
        return f"encoder_q.neck.{NECK[found[1]]}.{found[2]}"
    part, rest = re.fullmatch(r"mocos?\.(?:(?:joint|motion|bone)\.)?(\w+)\.?(.*)", name).groups()
    view = re.match(r"mocos\.(motion|bone)", name)
    suffix = f"_{view[1]}" if view else ""
    if part in ("queue", "pointer"):
        return {"queue": "queue", "pointer": "queue_ptr"}[part] + (suffix or ("_z" if attention else ""))
    encoder = f"encoder_{'k' if part.startswith('key_') else 'q'}{suffix}."
    if part.endswith("head"):
        return encoder + ("neck.proj.mlp." if attention else "fc.") + rest
    encoder += "backbone." if attention else ""
    if found := re.fullmatch(r"blocks\.(\d+)\.spatial\.importance", rest):
        return f"{encoder}edge_importance.{found[1]}"
    if found := re.fullmatch(r"blocks\.(\d+)\.(.+)\.(\w+)", rest):
        return f"{encoder}st_gcn_networks.{found[1]}.{BLOCKS[found[2]]}.{found[3]}"
    return encoder + rest.replace("input_norm", "data_bn").replace("adjacency", "A")


def released_file(path: Path, state: Mapping[str, Tensor], attention: bool = False, **changes: Any) -> Path:
    """Write a state as a file of the authors; `changes` are other values, or None for what is left out."""
    content = {theirs(name, attention): shaped_as_theirs(name, value) for name, value in state.items()}
    content |= {name.replace("__", "."): value for name, value in changes.items()}
    torch.save({name: value.contiguous() for name, value in content.items() if value is not None}, path)
    return path


def shaped_as_theirs(name: str, value: Tensor) -> Tensor:
    """Weights of convolutions of size 1, queues with a column per key, pointers in an array of one."""
    if value.ndim == 2 and ("attention.motion." in name or name.endswith(("maps.weight", "shortcut.weight"))):
        return value[:, :, None, None]
    if name.endswith("queue"):
        return value.T
    return value.reshape(1) if name.endswith("pointer") else value


def small(name: str, **changes: Any) -> tuple[Method, dict[str, Tensor]]:
    """A method, and a state of it that its weights are not: float32, the pointer at row 5."""
    recipe = {"method": name, **plain.RUNS[name][1], **changes}
    method = build_method(recipe, layout("kinect-v2-25"))
    own = method.state_dict()
    state = plain.drawn({each: x.shape for each, x in own.items()})
    state = {each: x.float() for each, x in state.items()}
    return method, {
        each: state.get(each, torch.tensor(5) if each.endswith("pointer") else x) for each, x in own.items()
    }


@pytest.mark.parametrize("name", ["skeletonclr", "aimclr", "skelemixclr", "msmclr"])
def test_the_next_step_is_the_papers(name: str, tmp_path: Path) -> None:
    method, state = small(name)
    method.continue_from(
        released_method_state(released_file(tmp_path / "model.pt", state), method, method.streams("joint"))
    )
    method.double().train().advance(Progress(epoch=0, epochs=6, step=0, steps=1))
    given = plain.clips_of(plain.RUNS[name][2], 0)
    step = method(SimpleNamespace(views=given, extras=given))
    weights = {each: x.double() for each, x in state.items() if x.is_floating_point()}
    weights = {each: x for each, x in weights.items() if not each.endswith("adjacency")}
    loss, _, after = plain.two_steps(name, weights, 1)[0]
    assert float(step.loss.detach()) == pytest.approx(loss, rel=1e-9)
    for each in [each for each in after if each.endswith(("queue", "pointer"))]:
        torch.testing.assert_close(method.state_dict()[each], after[each], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("crosclr", {}),
        ("aimclr", {"aimclr": {"views": 3}}),
        ("skeattnclr", {"encoder": {**plain.SMALL["encoder"], "graph": "agcn"}}),
        ("actclr", {"actclr": {"moco_epochs": 0}}),
    ],
)
def test_the_whole_state_of_the_released_variant(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    base = plain.RUNS.get(name, plain.RUNS["skeletonclr"])[1]
    method = build_method({"method": name, **base, **changes, "variant": "released"}, layout("kinect-v2-25"))
    torch.manual_seed(3)
    once: dict[int, Tensor] = {}  # a tensor that the method has twice has one value
    state = {
        each: once.setdefault(id(x), x.detach() if each.endswith(("adjacency", "tracked")) else drawn_like(x))
        for each, x in method.state_dict(keep_vars=True).items()
    }
    path = released_file(tmp_path / "model.pt", state, attention=name == "skeattnclr")
    method.continue_from(released_method_state(path, method, method.streams("joint")))
    found = method.state_dict()
    assert all(torch.equal(found[each], value) for each, value in state.items())
    if name == "actclr":  # its stage does not begin anew
        method.advance(Progress(epoch=0, epochs=6, step=0, steps=1))
        assert torch.equal(method.moco.queue, state["moco.queue"])
        assert torch.equal(method.moco.key_head[0].weight, state["moco.key_head.0.weight"])


def drawn_like(x: Tensor) -> Tensor:
    return torch.rand(x.shape) if x.is_floating_point() else torch.tensor(5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_k__fc__0__weight": None}, "missing: encoder_k.fc.0.weight"),
        ({"queue": None}, "missing: queue$"),
        ({"queue_ptr": None}, "missing: queue_ptr$"),
        ({"queue": torch.rand(4, 24)}, r"queue holds 24 keys, the recipe's queue 7 \(--set queue=24\)"),
        ({"queue": torch.rand(6, 7)}, r"mismatched: queue is float32\[7, 6\], not float32\[7, 4\]"),
        ({"queue_ptr": torch.tensor([-1])}, "queue_ptr is -1"),
        ({"queue_ptr": torch.tensor([1, 2])}, r"queue_ptr is int64\[2\], not int64\[\]"),
        (
            {"encoder_k__data_bn__weight": torch.rand(3)},
            r"encoder_k.data_bn.weight is float32\[3\], not float32\[75\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    method, state = small("skeletonclr")
    path = released_file(tmp_path / "model.pt", state, **changes)
    with pytest.raises(UsageError, match=f"model.pt: this run cannot continue its run: .*{message}"):
        released_method_state(path, method, ("joint",))


def test_a_shared_head_must_be_one(tmp_path: Path) -> None:
    recipe = {"method": "crosclr", **plain.RUNS["crosclr"][1], "variant": "released"}
    method = build_method(recipe, layout("kinect-v2-25"))
    other = {"encoder_q_bone__fc__2__0__bias": torch.rand(6)}
    path = released_file(tmp_path / "model.pt", method.state_dict(), **other)
    with pytest.raises(UsageError, match=r"mocos.joint.head.0.bias and mocos.bone.head.2.0.bias are one tensor"):
        released_method_state(path, method, method.streams("joint"))


def test_other_backbones_are_refused(tmp_path: Path) -> None:
    _, state = small("skeletonclr")
    path = released_file(tmp_path / "model.pt", state)
    other, _ = small("skeletonclr", encoder={"name": "bigru", "hidden": 4, "layers": 1})
    with pytest.raises(UsageError, match=r"released files hold an ST-GCN"):
        released_method_state(path, other, ("joint",))


def test_names_of_a_parallel_run(tmp_path: Path) -> None:
    method, state = small("skeletonclr")
    content = torch.load(released_file(tmp_path / "model.pt", state), weights_only=True)
    torch.save({f"module.{name}": value for name, value in content.items()}, tmp_path / "parallel.pt")
    found = released_method_state(tmp_path / "parallel.pt", method, ("joint",))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[each], value) for each, value in state.items())
