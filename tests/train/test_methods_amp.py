"""An epoch with `--amp` of every method: networks in bfloat16, losses and state in float32."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors import safe_open
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.models.build import METHODS
from skelpipe.train.running.run_log import read_log

# An epoch is one step with all clips, in the second stage of a method that has one.
OWN = {
    "crosclr": ["crosclr.mining_epoch=0"],
    "aimclr": ["aimclr.mining_epoch=0"],
    "actclr": ["actclr.moco_epochs=0", "actclr.blocks=[1, 2]"],
    "skelemixclr": ["skelemixclr.blocks=[1, 2]"],
    # Its predictors normalise the head's normalised output, which magnifies rounding if there are few features.
    "skeattnclr": [
        *("skeattnclr.blocks=[1, 2]", "skeattnclr.predictor_hidden=64"),
        *("head.hidden=64", "head.dim=32"),
    ],
}
CLIPS = 24
# bfloat16 has 8 significant bits: it rounds a cosine by 2 ** -8, and a logit, with temperature 0.2, by 0.02. A
# loss is a mean over clips in float32, in which errors partly cancel: the largest difference measured was 0.004.
TOLERANCE = 2**-8 / 0.2


def tensors(state: object) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else []
    return [tensor for part in parts for tensor in tensors(part)]


@pytest.mark.parametrize("method", METHODS)
def test_an_epoch_in_bfloat16(
    method: str, tiny_dataset: Dataset, tmp_path: Path, pretrain_small: Callable[..., Result]
) -> None:
    common = ["--method", method, "--epochs", "1", "--batch-size", str(CLIPS), "--lr", "0.01", "--knn-every", "0"]
    common += [part for setting in ("init=default", *OWN.get(method, [])) for part in ("--set", setting)]
    losses = {}
    for name, options in {"wide": [], "half": ["--amp"]}.items():
        result = pretrain_small(tiny_dataset, tmp_path / name, *common, *options)
        assert result.exit_code == 0, result.output
        (record,) = read_log(tmp_path / name / "log.jsonl")
        assert all(math.isfinite(value) for value in record.values())
        losses[name] = record["loss"]
    assert losses["half"] != losses["wide"], "--amp has no effect"
    assert losses["half"] == pytest.approx(losses["wide"], rel=0, abs=TOLERANCE)

    saved = torch.load(tmp_path / "half" / "checkpoints" / "epoch-0001.pt", weights_only=True)
    for part in ("model", "optimiser"):
        floating = [tensor for tensor in tensors(saved[part]) if tensor.is_floating_point()]
        assert len(floating) > 20
        assert {tensor.dtype for tensor in floating} == {torch.float32}
        assert all(bool(tensor.isfinite().all()) for tensor in floating)
    with safe_open(tmp_path / "half" / "encoder.safetensors", framework="pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
    assert kinds <= {"F32", "I64"}
