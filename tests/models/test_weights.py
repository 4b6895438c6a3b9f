"""Exported encoders: complete files with metadata, strict loading, and no unpickling."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from skelpipe.errors import SkelpipeError
from skelpipe.models.stgcn import STGCN
from skelpipe.models.weights import export_encoder, load_encoder
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
FACTS = {"view": "bone", "frames": "64", "recipe": '{"method": "skeletonclr"}'}


def encoder(width: int = 4, graph: str = "stgcn_capped") -> STGCN:
    return STGCN(KINECT, graph, width=width, out_channels=16)


@pytest.mark.parametrize("length", [0x280, 0x380, 0x480])
def test_headers_of_any_length(tmp_path: Path, length: int) -> None:
    """A file begins with the length of its header: these lengths look like the first bytes of a pickle."""
    source, target = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    for padding in range(length):
        export_encoder(tmp_path / "e.safetensors", source, {"recipe": "x" * padding})
        if int.from_bytes((tmp_path / "e.safetensors").read_bytes()[:8], "little") == length:
            break
    else:
        pytest.fail("no padding gives this length")
    load_encoder(tmp_path / "e.safetensors", target)
    assert torch.equal(source.weight, target.weight)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "encoder.safetensors"
    export_encoder(path, encoder(), FACTS)
    return path


def test_round_trip(tmp_path: Path) -> None:
    source, target = encoder(), encoder()
    x = torch.randn(2, 3, 16, 25, 1)
    source(x)  # changes the running statistics, which the file must hold too
    export_encoder(tmp_path / "e.safetensors", source, FACTS)
    assert load_encoder(tmp_path / "e.safetensors", target) == FACTS
    assert torch.equal(source.eval()(x), target.eval()(x))
    # and with safetensors itself
    assert set(safetensors.torch.load_file(tmp_path / "e.safetensors")) == set(source.state_dict())


def test_same_content_same_bytes(tmp_path: Path) -> None:
    facts = {f"fact {letter}": letter * size for size, letter in enumerate("hgfedcba")}
    source, content = encoder(), set()
    for _ in range(5):
        export_encoder(tmp_path / "e", source, facts)
        content.add((tmp_path / "e").read_bytes())
    assert len(content) == 1
    assert load_encoder(tmp_path / "e", encoder()) == facts


def test_failed_write_leaves_the_old_file(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = exported.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SkelpipeError, match=r"encoder.safetensors: cannot be written: the disk is full"):
        export_encoder(exported, encoder(), {})
    assert exported.read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == ["encoder.safetensors"]


def test_every_difference_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = encoder().state_dict()
    del state["blocks.0.temporal.bias"]
    state["fc.weight"] = torch.zeros(60, 16)
    state["blocks.1.temporal.bias"] = torch.zeros(9)
    state["blocks.2.temporal.bias"] = state["blocks.2.temporal.bias"].half()
    safetensors.torch.save_file(state, tmp_path / "other")
    target = encoder()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(SkelpipeError) as caught:
        load_encoder(tmp_path / "other", target)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'other'}: ")
    assert "missing: blocks.0.temporal.bias;" in message
    assert "unexpected: fc.weight;" in message
    assert "blocks.1.temporal.bias is float32[9], not float32[4]" in message
    assert "blocks.2.temporal.bias is float16[4], not float32[4]" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_other_width_and_other_graph_are_refused(exported: Path) -> None:
    with pytest.raises(SkelpipeError, match=r"mismatched: blocks\.0\.spatial\.maps\.bias is"):
        load_encoder(exported, encoder(width=6))
    with pytest.raises(SkelpipeError, match="different constants: adjacency"):
        load_encoder(exported, encoder(graph="agcn"))


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_truncated_file(exported: Path, share: float) -> None:
    content = exported.read_bytes()
    exported.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SkelpipeError, match=r"encoder\.safetensors: no safetensors file, or a damaged one"):
        load_encoder(exported, encoder())


@pytest.mark.parametrize("content", [b"hello, this is a text file\n" * 9, bytes(100), b"\xff" * 64])
def test_other_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SkelpipeError, match="no safetensors file") as caught:
        load_encoder(tmp_path / "x", encoder())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save(encoder().state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SkelpipeError, match=r"model\.pt: this is a pickled PyTorch file.*\.safetensors"):
        load_encoder(path, encoder())


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SkelpipeError, match=r"none: cannot read the encoder: No such file"):
        load_encoder(tmp_path / "none", encoder())
    with pytest.raises(SkelpipeError, match="cannot read the encoder"):
        load_encoder(tmp_path, encoder())
