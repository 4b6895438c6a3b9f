import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from small_disk import SmallDisk
from torch import nn

from skelpipe.errors import SkelpipeError
from skelpipe.train.running.checkpoint import (
    Checkpoint,
    capture_rng,
    newest_checkpoint,
    read_checkpoint,
    restore_rng,
    save_checkpoint,
)

CPU = torch.device("cpu")


def checkpoint(epoch: int) -> Checkpoint:
    torch.manual_seed(0)
    net = nn.Linear(40, 30)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 40)).sum().backward()
    optimiser.step()
    return Checkpoint(
        identity={"method": "skeletonclr", "view": "joint"},
        epoch=epoch,
        model=net.state_dict(),
        optimiser=optimiser.state_dict(),
        rng=capture_rng(CPU),
        loader={"seed": 0, "epoch": epoch, "step": 0, "digest": "abc", "window": None},
        best={"knn@20": 12.5, "epoch": 1},
    )


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize("mounted", [True, False])
def test_a_full_disk_says_what_is_needed(mounted: bool, disk: SmallDisk, tmp_path: Path) -> None:
    """The length of the file itself, of which tensors are the lesser part here."""
    disk = disk if mounted else SmallDisk(tmp_path, mounted=False)
    path = save_checkpoint(disk.folder, checkpoint(1))
    length = f"{path.stat().st_size / 1000:.1f} kB"
    path.unlink()
    with disk.full(4096), pytest.raises(SkelpipeError, match=f": the file needs {re.escape(length)}(, and|$)"):
        save_checkpoint(disk.folder, checkpoint(1))
    assert list(disk.folder.glob("epoch-*")) == []


def test_reads_back_what_was_saved(tmp_path: Path) -> None:
    saved = checkpoint(3)
    path = save_checkpoint(tmp_path / "new", saved)
    assert path.name == "epoch-0003.pt"
    loaded = read_checkpoint(path)
    for name in vars(saved):
        assert same(getattr(saved, name), getattr(loaded, name)), name


def test_one_within_an_epoch_lies_between_those_of_whole_epochs(tmp_path: Path) -> None:
    within = {"step": 12, "losses": torch.ones(1, 12), "logs": {}, "rng": {"cpu": torch.ones(1, 4)}}
    for epoch in (1, 2):
        save_checkpoint(tmp_path, checkpoint(epoch), keep=2)
    path = save_checkpoint(tmp_path, replace(checkpoint(2), within=within), keep=2)
    assert path.name == "epoch-0002-step-000012.pt"
    assert torch.load(path, weights_only=True)["format"] == "skelpipe-checkpoint-2"  # older readers pass over it
    found = newest_checkpoint(tmp_path, print)
    assert found is not None
    assert found[0] == path
    assert same(found[1].within, within)
    assert len(list(tmp_path.iterdir())) == 3
    later = save_checkpoint(tmp_path, replace(checkpoint(2), within={**within, "step": 13}), keep=2)
    assert path.exists()  # should the later one be damaged
    last = save_checkpoint(tmp_path, replace(checkpoint(2), within={**within, "step": 14}), keep=2)
    assert not path.exists()
    assert later.exists()
    (tmp_path / "epoch-best.pt").write_bytes(b"another's file")
    path = save_checkpoint(tmp_path, checkpoint(3), keep=2)
    assert newest_checkpoint(tmp_path, print)[0] == path  # type: ignore[index]
    assert not later.exists()
    assert not last.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-0002.pt", "epoch-0003.pt", "epoch-best.pt"]


def test_random_numbers_go_on(tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.rand(3)
    state = capture_rng(CPU)
    expected = torch.rand(4)
    torch.manual_seed(6)
    restore_rng(state, CPU)
    assert torch.rand(4).equal(expected)


def test_the_newest_stay(tmp_path: Path) -> None:
    for epoch in (1, 2, 9998, 9999, 10000, 10001):
        save_checkpoint(tmp_path, checkpoint(epoch), keep=3)
    assert {path.name for path in tmp_path.iterdir()} == {"epoch-9999.pt", "epoch-10000.pt", "epoch-10001.pt"}
    found = newest_checkpoint(tmp_path, print)
    assert found is not None
    assert found[1].epoch == 10001


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_the_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_text(path: Path) -> None:
    path.write_text("nothing of ours\n" * 100)


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def foreign_weights(path: Path) -> None:
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, path)


def only_a_tensor(path: Path) -> None:
    torch.save(torch.ones(3), path)


def incomplete(path: Path) -> None:
    torch.save({"format": "skelpipe-checkpoint-1", "epoch": 3}, path)


class Payload:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (open, (str(Payload.target), "w"))

    target = Path()


def code_inside(path: Path) -> None:
    Payload.target = path.with_name("ran")
    torch.save({"format": "skelpipe-checkpoint-1", "epoch": Payload()}, path)


def plain_pickle(path: Path) -> None:
    Payload.target = path.with_name("ran")
    path.write_bytes(pickle.dumps(Payload()))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        cut_the_last_byte,
        flip_a_weight,
        empty,
        write_text,
        another_zip,
        foreign_weights,
        only_a_tensor,
        incomplete,
        code_inside,
        plain_pickle,
    ],
)
def test_damage_is_one_clear_line_and_runs_no_code(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, checkpoint(1))
    damage(path)
    with pytest.raises(SkelpipeError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 250
    assert not (tmp_path / "ran").exists()


def test_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    truncate(save_checkpoint(tmp_path, checkpoint(2)))
    (tmp_path / "epoch-0003.pt.part").write_bytes(b"cut off by a kill")
    said: list[str] = []
    found = newest_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found[0].name == "epoch-0001.pt"
    assert len(said) == 1
    assert "epoch-0002.pt" in said[0]


def test_none_and_all_damaged(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere", print) is None
    truncate(save_checkpoint(tmp_path, checkpoint(1)))
    with pytest.raises(SkelpipeError, match="none of its 1 checkpoints can be read"):
        newest_checkpoint(tmp_path, lambda text: None)


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path, checkpoint(1))
    before = path.read_bytes()

    def full_disk(content: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(SkelpipeError, match=r"epoch-0001.pt: cannot be written"):
        save_checkpoint(tmp_path, checkpoint(1))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before
