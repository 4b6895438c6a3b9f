"""PyTorch files are read without running code in them."""

import os
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.models import load_released
from skelpipe.models.statefile import read_state
from skelpipe.models.weights import export_encoder


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_state_of_either_format(tmp_path: Path, zipped: bool) -> None:
    state = nn.Linear(3, 4).state_dict()
    torch.save(state, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    found = read_state(tmp_path / "x")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    torch.save({"a": Payload(tmp_path / "ran")}, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(SkelpipeError, match=r"x\.pt: holds the Python object \w+\.mkdir beside tensors") as caught:
        read_state(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(
        SkelpipeError, match=r"the Python object torch\.nn\.modules\.linear\.Linear.*state dict alone"
    ):
        read_state(tmp_path / "x.pt")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.97])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated(tmp_path: Path, share: float, zipped: bool) -> None:
    torch.save(nn.Linear(30, 40).state_dict(), tmp_path / "x", _use_new_zipfile_serialization=zipped)
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content[: int(share * len(content))])
    with pytest.raises(SkelpipeError, match="x: damaged, or not a PyTorch file"):
        read_state(tmp_path / "x")


def test_other_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("some text\n" * 20)
    with pytest.raises(SkelpipeError, match="not a PyTorch file"):
        read_state(tmp_path / "x")
    for content, message in (
        ([1], "no state dict"),
        ({}, "no state dict"),
        ({"a": 1, 2: 3}, "a, 2 is not a named tensor"),
    ):
        torch.save(content, tmp_path / "x")
        with pytest.raises(SkelpipeError, match=message):
            read_state(tmp_path / "x")
    with pytest.raises(SkelpipeError, match="none: cannot be read: No such file"):
        read_state(tmp_path / "none")


def test_what_skelpipe_wrote_is_told_from_a_released_file(tmp_path: Path) -> None:
    weights, checkpoint = tmp_path / "encoder.safetensors", tmp_path / "epoch-0001.pt"
    export_encoder(weights, nn.Linear(2, 2), {"method": "aimclr"})
    torch.save({"format": "skelpipe-checkpoint-1", "model": nn.Linear(2, 2).state_dict()}, checkpoint)
    for path, what in ((weights, "a safetensors file"), (checkpoint, "a checkpoint"), (tmp_path, "a folder")):
        with pytest.raises(UsageError, match=rf"{path.name}: is {what}.*skelpipe\.Encoder\.load") as caught:
            load_released(path)
        assert "could run code" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_that_inflates_is_refused(tmp_path: Path) -> None:
    """torch.save does not compress; a file of a kilobyte could stand for any amount of memory."""
    torch.save({"weight": torch.zeros(1 << 20)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member))
    assert read_state(tmp_path / "plain.pt")["weight"].shape == (1 << 20,)
    with pytest.raises(SkelpipeError, match=r"bomb\.pt: its members are compressed"):
        read_state(tmp_path / "bomb.pt")
