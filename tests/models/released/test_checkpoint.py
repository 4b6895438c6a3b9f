"""Released checkpoints: files with the released code's names load and agree; wrong keys are named."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models import load_released
from skelpipe.models.released.keys import stgcn_key
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout

BONES = [(1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11)]
BONES += [(13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (23, 8)]
BONES += [(24, 25), (25, 12)]
X = torch.randn(3, 3, 13, 25, 2, generator=torch.Generator().manual_seed(1))


def capped() -> Tensor:
    """The graph of CrosSCLR, AimCLR and ActCLR, where only joints 2, 3, 5, 9 are one bone from 21."""
    near = {1, 2, 4, 8}
    rank = [0 if v == 20 else 1 if v in near else 2 for v in range(25)]
    links = np.eye(25)
    for child, parent in BONES:
        links[child - 1, parent - 1] = links[parent - 1, child - 1] = 1
    links = links / links.sum(0)
    graph = np.zeros((3, 25, 25))
    for v in range(25):
        for w in range(25):
            graph[0 if v == w else 2 if rank[v] < rank[w] else 1, v, w] = links[v, w]
    return torch.from_numpy(graph).float()


def agcn() -> Tensor:
    graph = np.zeros((3, 25, 25))
    graph[0] = np.eye(25)
    for child, parent in BONES:
        graph[1, parent - 1, child - 1] = 1
        graph[2, child - 1, parent - 1] = 1
    return torch.from_numpy(graph / np.maximum(graph.sum(1, keepdims=True), 1)).float()


class Graph(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, 3 * c_out, 1)


class Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int, first: bool) -> None:
        super().__init__()
        self.gcn = Graph(c_in, c_out)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(c_out),
        )
        self.first = first
        if not first and (c_in != c_out or stride != 1):
            self.residual = nn.Sequential(nn.Conv2d(c_in, c_out, 1, (stride, 1)), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        y = self.gcn.conv(x).unflatten(1, (3, -1))
        y = self.tcn(torch.einsum("nkctv,kvw->nctw", y, graph))
        if not self.first:
            y = y + (self.residual(x) if hasattr(self, "residual") else x)
        return F.relu(y)


class Plain(nn.Module):
    """A plain ST-GCN with the names of released checkpoints; `fc` is the head or classifier."""

    def __init__(self, graph: Tensor, width: int, fc: nn.Module, out: int = 32) -> None:
        super().__init__()
        self.register_buffer("A", graph)
        self.data_bn = nn.BatchNorm1d(75)
        h = width
        steps = [(3, h, 1), (h, h, 1), (h, h, 1), (h, h, 1), (h, 2 * h, 2), (2 * h, 2 * h, 1), (2 * h, 2 * h, 1)]
        steps += [(2 * h, 4 * h, 2), (4 * h, 4 * h, 1), (4 * h, out, 1)]
        self.st_gcn_networks = nn.ModuleList(Block(*step, first=i == 0) for i, step in enumerate(steps))
        self.fc = fc
        self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones(3, 25, 25)) for _ in steps)

    def pooled(self, x: Tensor) -> Tensor:
        clips, axes, frames, joints, bodies = x.shape
        y = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(clips * bodies, joints * axes, frames))
        y = y.view(clips * bodies, joints, axes, frames).permute(0, 2, 3, 1)
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            y = block(y, self.A * importance)
        return y.mean((2, 3)).view(clips, bodies, -1).mean(1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pooled(x)
        convolutions = any(isinstance(part, nn.Conv2d) for part in self.fc.modules())
        return self.fc(h[:, :, None, None])[:, :, 0, 0] if convolutions else self.fc(h)


def mlp(*, norm: bool = False, conv: bool = False, out: int = 32, dim: int = 12) -> nn.Sequential:
    def layer(a: int, b: int) -> nn.Module:
        return nn.Conv2d(a, b, 1) if conv else nn.Linear(a, b)

    between = [nn.BatchNorm1d(out)] if norm else []
    return nn.Sequential(layer(out, out), *between, nn.ReLU(), layer(out, dim))


def shaken(module: nn.Module) -> nn.Module:
    """Give every number in the file, except in graphs, a random value."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                buffer.normal_(std=0.3)
    return module.eval()


def pair(query: nn.Module, **more: nn.Module) -> nn.Module:
    """A pre-training model: query and key encoder, queue and pointer."""
    model = nn.Module()
    model.encoder_q, model.encoder_k = query, copy.deepcopy(query)
    for name, module in more.items():
        setattr(model, name, module)
    for ending in ("", "_motion", "_bone"):
        if hasattr(model, f"encoder_q{ending}"):
            model.register_buffer(f"queue{ending}", torch.randn(12, 64))
            model.register_buffer(f"queue_ptr{ending}", torch.zeros(1, dtype=torch.long))
    return shaken(model)


def only(query: nn.Module) -> nn.Module:
    model = nn.Module()
    model.encoder_q = query
    return shaken(model)


def saved(path: Path, model: nn.Module) -> Path:
    torch.save(model.state_dict(), path)
    return path


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-4 * max(1.0, float(expected.detach().abs().max())))


@pytest.mark.parametrize(
    ("graph", "fc", "name", "frames"),
    [
        (capped, mlp, "skeletonclr, aimclr or actclr", 50),
        (capped, lambda: mlp(conv=True), "skeletonclr, aimclr or actclr", 50),
        (agcn, lambda: mlp(norm=True), "skelemixclr", 64),
        (capped, lambda: nn.Linear(32, 12), "skeletonclr, aimclr or actclr", 50),
    ],
)
def test_pretraining_files(
    tmp_path: Path, graph: Callable[[], Tensor], fc: Callable[[], nn.Module], name: str, frames: int
) -> None:
    model = pair(Plain(graph(), 4, fc()))
    loaded = load_released(saved(tmp_path / "epoch300_model.pt", model))
    assert (loaded.kind, loaded.method, loaded.frames, loaded.width) == ("pretrain", name, frames, 4)
    assert loaded.graph == ("agcn" if graph is agcn else "stgcn_capped")
    assert (loaded.classes, loaded.views) == (None, ())
    branch = loaded.branch("bone")  # a file with one encoder does not say its view
    assert close(branch.encoder(X), model.encoder_q.pooled(X))
    assert close(branch.head(branch.encoder(X)), model.encoder_q(X))
    assert branch.classifier is None


@pytest.mark.parametrize("width", [16, 64])
def test_the_released_widths(tmp_path: Path, width: int) -> None:
    model = only(Plain(agcn(), width, nn.Linear(256, 120), out=256))
    loaded = load_released(saved(tmp_path / "model.pt", model))
    assert (loaded.kind, loaded.width, loaded.classes) == ("linear", width, 120)
    count = sum(
        p.numel() for p in [*loaded.branch().encoder.parameters(), *loaded.branch().classifier.parameters()]
    )
    assert count == sum(p.numel() for p in model.parameters())
    x = X[:1, :, :8]
    assert close(loaded.branch().classifier(loaded.branch().encoder(x)), model.encoder_q(x))


def test_linear_file_saved_from_data_parallel_in_the_old_format(tmp_path: Path) -> None:
    model = only(Plain(capped(), 4, nn.Conv2d(32, 60, 1)))
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    path = tmp_path / "actclr_linear.pt"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    loaded = load_released(path)
    assert (loaded.kind, loaded.method, loaded.classes) == ("linear", "actclr", 60)
    assert close(loaded.branch().classifier(loaded.branch().encoder(X)), model.encoder_q(X))
    assert not loaded.branch().encoder.training
    assert loaded.branch().head is None


def test_crosclr_keeps_its_three_encoders_apart(tmp_path: Path) -> None:
    joint = Plain(capped(), 4, mlp())
    others = {}
    for view in ("motion", "bone"):  # each ends in the joint encoder's whole head
        query = Plain(capped(), 4, nn.Sequential(nn.Linear(32, 32), nn.ReLU(), joint.fc))
        others[f"encoder_q_{view}"], others[f"encoder_k_{view}"] = query, copy.deepcopy(query)
    model = pair(joint, **others)
    loaded = load_released(saved(tmp_path / "x.pt", model))
    assert (loaded.method, loaded.views) == ("crosclr", ("joint", "motion", "bone"))
    for view in loaded.views:
        plain = getattr(model, "encoder_q" if view == "joint" else f"encoder_q_{view}")
        branch = loaded.branch(view)
        assert close(branch.head(branch.encoder(X)), plain(X))
    assert loaded.branch() is loaded.branch("joint")

    model = only(Plain(capped(), 4, nn.Linear(32, 60)))
    model.encoder_q_motion = shaken(Plain(capped(), 4, nn.Linear(32, 60)))
    loaded = load_released(saved(tmp_path / "y.pt", model))
    assert (loaded.kind, loaded.views) == ("linear", ("joint", "motion"))
    assert close(loaded.branch("motion").classifier(loaded.branch("motion").encoder(X)), model.encoder_q_motion(X))
    with pytest.raises(UsageError, match="has networks for joint and motion, not for bone"):
        loaded.branch("bone")


class Mlp1d(nn.Module):
    def __init__(self, a: int, hidden: int, b: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv1d(a, hidden, 1, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Conv1d(hidden, b, 1, bias=False),
        )


def attentive(classes: int) -> nn.Module:
    """SkeAttnCLR's encoder: a backbone with a classifier, and a neck."""
    encoder, neck, attention = nn.Module(), nn.Module(), nn.Module()
    attention.qkv, attention.proj = nn.Linear(32, 96), nn.Linear(32, 32)
    neck.norm0, neck.Attn = nn.LayerNorm(32), attention
    neck.proj, neck.proj_obj = Mlp1d(32, 32, 12), Mlp1d(32, 32, 12)
    encoder.backbone, encoder.neck = Plain(agcn(), 8, nn.Linear(32, classes)), neck
    return encoder


@pytest.mark.parametrize("endings", [("_p", "_c"), ("_s", "_ns")])
def test_skeattnclr(tmp_path: Path, endings: tuple[str, str]) -> None:
    model = pair(attentive(60), **{f"predictor{end}": Mlp1d(12, 32, 12) for end in ("", *endings)})
    del model.queue, model.queue_ptr
    for end in ("z", "p", "c"):
        model.register_buffer(f"queue_{end}", torch.randn(12, 64))
        model.register_buffer(f"queue_ptr_{end}", torch.zeros(1, dtype=torch.long))
    loaded = load_released(saved(tmp_path / "x.pt", model))
    assert (loaded.method, loaded.kind, loaded.width, loaded.frames) == ("skeattnclr", "pretrain", 8, 64)
    h = model.encoder_q.backbone.pooled(X)
    z = model.predictor.mlp(model.encoder_q.neck.proj.mlp(h[:, :, None]))[:, :, 0]
    branch = loaded.branch()
    assert close(branch.head(branch.encoder(X)), z)
    assert (branch.classifier, loaded.classes) == (None, None)  # the classifier in the file was never trained

    model = only(attentive(60))
    loaded = load_released(saved(tmp_path / "y.pt", model))
    assert (loaded.kind, loaded.classes) == ("linear", 60)
    assert close(loaded.branch().classifier(loaded.branch().encoder(X)), model.encoder_q.backbone(X))


class MultiScale(Plain):
    """MsMCLR's encoder: an attention module that is used in training, and one that is never used."""

    def __init__(self, fc: nn.Module) -> None:
        super().__init__(capped(), 4, fc)
        self.dropout, self.m2a = nn.Module(), nn.Module()
        self.dropout.fcn = nn.Sequential(nn.Conv2d(32, 16, 1), nn.BatchNorm2d(16), nn.Hardswish())
        self.dropout.conv_t, self.dropout.conv_v = nn.Conv2d(16, 32, 1), nn.Conv2d(16, 32, 1)
        self.m2a.modules_list = nn.ModuleList([nn.Identity()])
        self.m2a.conv_down, self.m2a.conv_up = nn.Conv2d(32, 4, 1), nn.Conv2d(4, 32, 1)


def test_msmclr(tmp_path: Path) -> None:
    model = pair(MultiScale(mlp()))
    loaded = load_released(saved(tmp_path / "epoch300_model.pt", model))
    assert (loaded.method, loaded.kind, loaded.frames) == ("msmclr", "pretrain", 50)
    branch = loaded.branch()
    assert close(branch.head(branch.encoder(X)), model.encoder_q(X))

    model = only(MultiScale(nn.Linear(32, 60)))
    loaded = load_released(saved(tmp_path / "linear.pt", model))
    assert (loaded.method, loaded.kind, loaded.classes) == ("msmclr", "linear", 60)
    assert close(loaded.branch().classifier(loaded.branch().encoder(X)), model.encoder_q(X))

    del model.encoder_q.m2a.conv_up.bias
    model.encoder_q.m2a.conv_left = nn.Conv2d(1, 1, 1, bias=False)
    model.encoder_q.dropout.conv_t = nn.Conv2d(16, 31, 1, bias=False)
    with pytest.raises(SkelpipeError) as caught:
        load_released(saved(tmp_path / "wrong.pt", model))
    missing, unexpected, mismatched = str(caught.value).split("; ")
    assert "encoder_q.dropout.conv_t.bias, encoder_q.m2a.conv_up.bias" in missing
    assert unexpected.endswith("encoder_q.m2a.conv_left.weight")
    assert "encoder_q.dropout.conv_t.weight is float32[31, 16, 1, 1], not float32[32, 16, 1, 1]" in mismatched


def test_loading_draws_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pt", only(Plain(capped(), 4, nn.Linear(32, 60))))
    torch.manual_seed(3)
    load_released(path)
    after = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(3))


def test_the_real_file(shared: Path) -> None:
    loaded = load_released(shared / "data/checkpoints/aimclr_ntu60_xview_joint_linear.pt")
    assert (loaded.method, loaded.kind, loaded.graph) == ("aimclr", "linear", "stgcn_capped")
    assert (loaded.width, loaded.frames, loaded.classes, loaded.views) == (16, 50, 60, ())
    branch = loaded.branch()
    with np.load(shared / "facts/golden_ntu.npz") as facts, torch.no_grad():
        logits = branch.classifier(branch.encoder(torch.from_numpy(facts["clip"])))
        assert np.abs(logits.numpy() - facts["aimclr_linear_logits"]).max() < 1e-4


def encoder(name: str) -> dict[str, Tensor]:
    state = STGCN(layout("kinect-v2-25"), width=4, out_channels=32).state_dict()
    found = {f"{name}.{stgcn_key(key)}": value for key, value in state.items()}
    return {key: value[..., None, None] if value.ndim == 2 else value for key, value in found.items()}


def linear() -> dict[str, Tensor]:
    return {**encoder("encoder_q"), "encoder_q.fc.weight": torch.rand(60, 32), "encoder_q.fc.bias": torch.rand(60)}


def pretraining() -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name in ("encoder_q", "encoder_k"):
        state |= encoder(name)
        for layer, rows in ((0, 32), (2, 12)):
            state[f"{name}.fc.{layer}.weight"] = torch.rand(rows, 32)
            state[f"{name}.fc.{layer}.bias"] = torch.rand(rows)
    return {**state, "queue": torch.rand(12, 64), "queue_ptr": torch.zeros(1, dtype=torch.long)}


@pytest.mark.parametrize("make", [linear, pretraining])
def test_files_without_wrong_keys_load(tmp_path: Path, make: object) -> None:
    torch.save(make(), tmp_path / "x.pt")  # type: ignore[operator]
    assert load_released(tmp_path / "x.pt").width == 4


def test_every_wrong_key_is_named(tmp_path: Path) -> None:
    state = pretraining()
    del state["encoder_q.st_gcn_networks.3.tcn.2.bias"], state["encoder_q.edge_importance.9"]
    del state["encoder_k.data_bn.weight"], state["encoder_q.fc.2.bias"]
    state["encoder_q.attention.weight"] = torch.zeros(2)
    state["teacher.weight"] = torch.zeros(2)
    state["predictor.mlp.0.weight"] = torch.zeros(2, 2, 1)
    state["encoder_q.data_bn.bias"] = torch.zeros(60)
    state["encoder_q.st_gcn_networks.0.gcn.conv.weight"] = torch.zeros(12, 3, 9, 1)
    path = tmp_path / "x.pt"
    torch.save(state, path)
    with pytest.raises(SkelpipeError) as caught:
        load_released(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    missing, unexpected, mismatched = message.split("; ")
    for name in ("q.st_gcn_networks.3.tcn.2.bias", "q.edge_importance.9", "k.data_bn.weight", "q.fc.2.bias"):
        assert f"encoder_{name}" in missing
    for name in ("encoder_q.attention.weight", "teacher.weight", "predictor.mlp.0.weight"):
        assert name in unexpected
    assert "encoder_q.data_bn.bias is float32[60], not float32[75]" in mismatched
    assert "encoder_q.st_gcn_networks.0.gcn.conv.weight is float32[12, 3, 9, 1]" in mismatched


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_q.A": torch.rand(3, 25, 25)}, "A is float32.3, 25, 25., none of the graphs stgcn_capped, agcn"),
        ({"encoder_q.A": torch.rand(3, 17, 17)}, "none of the graphs"),
        ({"encoder_q.fc.weight": torch.rand(60, 48)}, "fc.weight is float32.60, 48., not a map from 32 channels"),
        ({"encoder_q.fc.weight": torch.rand(60, 32, 3, 1)}, "not a map from 32 channels"),
        ({"encoder_q.fc.bias": torch.rand(59)}, r"fc.bias is float32\[59\], not float32\[60\]"),
        ({"encoder_q.fc.1.weight": torch.rand(60, 48)}, "unexpected: .*fc.1.weight.*fc.bias"),
        ({"encoder_q.data_bn.bias": torch.rand(75).half()}, r"float16\[75\], not float32\[75\]"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: dict[str, Tensor], message: str) -> None:
    state = linear()
    torch.save({**state, **change}, tmp_path / "x.pt")
    with pytest.raises(SkelpipeError, match=message):
        load_released(tmp_path / "x.pt")


def test_other_networks_are_named(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "x.pt")
    with pytest.raises(SkelpipeError, match=r"no encoder_q\.\* among weight, bias"):
        load_released(tmp_path / "x.pt")
    torch.save({"encoder_q.backbone.encoder.gru.weight_ih_l0": torch.zeros(3, 3)}, tmp_path / "y.pt")
    with pytest.raises(SkelpipeError, match=r"encoder_q is not an ST-GCN \(it has backbone.encoder.gru"):
        load_released(tmp_path / "y.pt")
