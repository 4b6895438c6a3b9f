"""Released checkpoints that do not fit: every key that is missing, unknown or of another shape is named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError
from skelpipe.models import load_released
from skelpipe.models.released.keys import stgcn_key
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout


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
def test_the_files_that_the_faults_are_put_into_are_whole(tmp_path: Path, make: object) -> None:
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
