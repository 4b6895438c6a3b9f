import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import nn

from skelpipe.cli import main as skelpipe
from skelpipe.manifest_file import load_manifest
from skelpipe.models.released.keys import stgcn_key
from skelpipe.models.stgcn import STGCN
from skelpipe.skeleton import layout
from skelpipe.train.commands.predict import clips_of
from skelpipe.train.evaluation.recogniser import Recogniser, open_recogniser
from skelpipe.train.inference.recordings import find_recordings
from skelpipe.train.predict import main

REAL = "data/checkpoints/aimclr_ntu60_xview_joint_linear.pt"
RECORDINGS = ("S001C001P001R001A001", "S001C001P001R001A003", "S001C001P001R001A050")


def run(*options: str) -> Result:
    return CliRunner().invoke(main, ["--device", "cpu", *options])


def opened(path: str | Path, view: str | None = None) -> Recogniser:
    return open_recogniser(str(path), None, view, None, print)


def predicted(*options: str) -> list[dict]:
    result = run("--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["recordings"]


def state(classes: int, ending: str = "") -> dict[str, torch.Tensor]:
    encoder = STGCN(layout("kinect-v2-25"), "agcn", width=4, out_channels=16)
    found = {f"encoder_q{ending}.{stgcn_key(name)}": value for name, value in encoder.state_dict().items()}
    found = {name: value[..., None, None] if value.ndim == 2 else value for name, value in found.items()}
    classifier = nn.Linear(16, classes).state_dict()
    return found | {f"encoder_q{ending}.fc.{name}": value for name, value in classifier.items()}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """A maker of a linear evaluation's file with so many classes."""

    def make(classes: int, *endings: str) -> str:
        torch.manual_seed(classes)
        path = tmp_path_factory.mktemp("released") / "linear.pt"
        content = state(classes)
        for ending in endings:
            content |= state(classes, ending)
        torch.save(content, path)
        return str(path)

    return make


@pytest.fixture
def raw(raw_folder: Callable[..., Path]) -> list[str]:
    root = raw_folder(["S001C001P001R001A001", "S001C001P001R001A002"], bodies=2)
    return [str(path) for path in sorted(root.glob("*.skeleton"))]


def test_the_real_recordings_are_what_they_show(shared: Path, tmp_path: Path) -> None:
    strangers = []
    for number, name in enumerate(RECORDINGS):  # the names tell nothing
        strangers.append(str(tmp_path / f"video {number}.skeleton"))
        shutil.copyfile(shared / "data/ntu" / f"{name}.skeleton", strangers[-1])
    found = predicted("--checkpoint", str(shared / REAL), *strangers)
    assert [entry["id"] for entry in found] == ["video 0", "video 1", "video 2"]
    first = [entry["top"][0] for entry in found]
    assert [(action["action"], action["name"]) for action in first] == [
        (1, "drink water"),
        (3, "brushing teeth"),
        (50, "punching/slapping other person"),
    ]
    with np.load(shared / "facts/golden_ntu.npz") as facts:
        logits = facts["aimclr_linear_logits"].astype(float)
    for entry, row in zip(found, logits, strict=True):
        wanted = np.exp(row) / np.exp(row).sum()
        assert [action["action"] - 1 for action in entry["top"]] == np.argsort(-row)[:5].tolist()
        for action in entry["top"]:
            assert action["probability"] == pytest.approx(wanted[action["action"] - 1], abs=2e-3)


def bodies_of(path: Path) -> np.ndarray:
    """Return the first two bodies that each frame of a `.skeleton` file lists, [T,M,V,3], zeros for none."""
    words = iter(path.read_text().split())
    frames = np.zeros((int(next(words)), 2, 25, 3))
    for frame in frames:
        for body in range(int(next(words))):
            head = [next(words) for _ in range(10)]
            assert len(head) == 10
            for joint in range(int(next(words))):
                values = [float(next(words)) for _ in range(12)]
                if body < 2:
                    frame[body, joint] = values[:3]
    return frames


def as_stgcn(folder: Path, recordings: dict[str, np.ndarray]) -> None:
    """Write `val_data.npy` and `val_label.pkl` as st-gcn's tools/ntu_gendata.py does."""
    data = np.zeros((len(recordings), 3, 300, 25, 2), np.float32)
    for row, frames in zip(data, recordings.values(), strict=True):
        row[:, : len(frames)] = frames.transpose(3, 0, 2, 1)
    np.save(folder / "val_data.npy", data)
    names = [f"{name}.skeleton" for name in recordings]
    (folder / "val_label.pkl").write_bytes(pickle.dumps((names, [int(name[-3:]) - 1 for name in recordings])))


def as_ctrgcn(folder: Path, recordings: dict[str, np.ndarray]) -> None:
    """Write an .npz as CTR-GCN's data/ntu/seq_transformation.py does, but for its choice among bodies."""
    x, y = np.zeros((len(recordings), 300, 150), np.float32), np.zeros((len(recordings), 60))
    for row, one_hot, (name, frames) in zip(x, y, recordings.items(), strict=True):
        absent = ~frames.any(axis=(2, 3))
        centred = frames - frames[~absent[:, 0]][0, 0, 1]
        centred[absent] = 0
        row[: len(frames)] = centred.reshape(len(frames), 150)
        one_hot[int(name[-3:]) - 1] = 1
    np.savez(folder / "NTU60_CV.npz", x_test=x, y_test=y, x_train=x[:0], y_train=y[:0])


@pytest.mark.parametrize("kind", ["stgcn-npy", "ctrgcn-npz"])
def test_real_recordings_imported_are_what_they_show(shared: Path, tmp_path: Path, kind: str) -> None:
    paths = {name: shared / "data/ntu" / f"{name}.skeleton" for name in RECORDINGS}
    recordings = {name: bodies_of(path) for name, path in paths.items()}
    (as_stgcn if kind == "stgcn-npy" else as_ctrgcn)(tmp_path, recordings)
    dataset = str(tmp_path / "ds")
    options = ["--profile", "crosclr", "--frames", "50", "--workers", "1", "--out", dataset]
    result = CliRunner().invoke(skelpipe, ["import", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    ids = RECORDINGS if kind == "stgcn-npy" else ["test_0", "test_1", "test_2"]
    imported = predicted("--checkpoint", str(shared / REAL), "--shards", dataset, *ids)
    raw = predicted("--checkpoint", str(shared / REAL), *map(str, paths.values()))
    for one, other in zip(imported, raw, strict=True):
        assert [action["action"] for action in one["top"]] == [action["action"] for action in other["top"]]
        for a, b in zip(one["top"], other["top"], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


def test_clips_of_a_dataset_are_named_by_id(released: Callable[..., str], raw: list[str], tmp_path: Path) -> None:
    for out, frames in (("ds", 64), ("short", 20)):
        words = ["prepare", "--dataset", "ntu60", "--split", "xsub", "--raw", str(Path(raw[0]).parent)]
        words += ["--out", str(tmp_path / out), "--frames", str(frames), "--workers", "1"]
        assert CliRunner().invoke(skelpipe, words).exit_code == 0
    path, shards = released(60), str(tmp_path / "ds")
    everything = predicted("--checkpoint", path, "--shards", shards)
    assert everything == predicted("--checkpoint", path, *raw)
    second = predicted("--checkpoint", path, "--shards", shards, "S001C001P001R001A002")
    assert [entry["id"] for entry in second] == ["S001C001P001R001A002"]
    result = run("--checkpoint", path, "--shards", shards, "S001C001P001R001A009")
    assert (result.exit_code, "has no clip 'S001C001P001R001A009'" in result.stderr) == (2, True)
    result = run("--checkpoint", path, "--shards", str(tmp_path / "short"))
    assert (result.exit_code, "frames: trained on 64, found 20" in result.stderr) == (2, True)
    result = run("--checkpoint", path)
    assert (result.exit_code, "name the raw files, or a dataset with --shards" in result.stderr) == (2, True)


def test_the_real_scores_are_those_of_the_released_code(shared: Path) -> None:
    recogniser = opened(shared / REAL)
    paths = [str(shared / "data/ntu" / f"{name}.skeleton") for name in RECORDINGS]
    clips = clips_of(find_recordings(paths, recogniser.manifest), recogniser)
    with np.load(shared / "facts/golden_ntu.npz") as facts:
        wanted = facts["aimclr_linear_logits"]
        from_raw = recogniser.scores(torch.from_numpy(clips))
        from_golden = recogniser.scores(torch.from_numpy(facts["clip"]))
    assert np.abs(from_raw.numpy() - wanted).max() < 1e-2
    assert np.abs(from_golden.numpy() - wanted).max() < 1e-4


def test_text_shows_five_actions_a_recording(released: Callable[..., str], raw: list[str]) -> None:
    result = run("--checkpoint", released(60), *raw)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 12
    assert (lines[0], lines[6]) == ("S001C001P001R001A001", "S001C001P001R001A002")
    top = predicted("--checkpoint", released(60), *raw)[1]["top"]
    for line, action in zip(lines[7:], top, strict=True):
        assert line.split() == [
            str(action["action"]),
            *action["name"].split(),
            f"{100 * action['probability']:.2f}",
            "%",
        ]
    assert "does not say which view it was trained on: taken as joint" in result.stderr


def test_classes_tell_the_dataset(released: Callable[..., str], raw: list[str]) -> None:
    names = load_manifest("ntu120").classes
    top = predicted("--checkpoint", released(120), raw[0])[0]["top"]
    assert all(names[action["action"] - 1] == action["name"] for action in top)
    assert sum(action["probability"] for action in top) <= 1
    result = run("--checkpoint", released(51), raw[0])
    assert (result.exit_code, "of which dataset are its 51 classes?" in result.stderr) == (2, True)
    result = run("--checkpoint", released(60), "--dataset", "ntu120", raw[0])
    assert (result.exit_code, "has 60 classes, ntu120 has 120" in result.stderr) == (2, True)
    result = run("--checkpoint", released(20), "--dataset", "msr-action3d", raw[0])
    assert (result.exit_code, "is for kinect-v2-25, msr-action3d for" in result.stderr) == (2, True)


def test_several_encoders_vote_and_a_view_names_one(released: Callable[..., str], raw: list[str]) -> None:
    path = released(60, "_motion", "_bone")
    recogniser = opened(path)
    clips = torch.from_numpy(clips_of(find_recordings(raw, recogniser.manifest), recogniser))
    single = {view: opened(path, view).scores(clips) for view in ("joint", "motion", "bone")}
    mean = (single["joint"] + single["motion"] + single["bone"]) / 3
    options = {"": mean, "motion": single["motion"]}
    for view, logits in options.items():
        found = predicted("--checkpoint", path, *(["--view", view] if view else []), *raw)
        wanted = torch.softmax(logits.double(), dim=1)
        for entry, row in zip(found, wanted, strict=True):
            for action in entry["top"]:
                assert action["probability"] == pytest.approx(float(row[action["action"] - 1]), rel=1e-4)
    assert not torch.allclose(single["bone"], single["joint"], atol=1e-6)
    assert recogniser.frames == 64  # the graph tells the paper, the paper its frames


def test_frames_can_be_named(released: Callable[..., str], raw: list[str]) -> None:
    path = released(60)
    assert predicted("--checkpoint", path, "--frames", "64", raw[0]) == predicted("--checkpoint", path, raw[0])
    assert predicted("--checkpoint", path, "--frames", "20", raw[0]) != predicted("--checkpoint", path, raw[0])


def test_batches_do_not_change_the_result(
    released: Callable[..., str], raw: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = released(60)
    at_once = predicted("--checkpoint", path, *raw)
    monkeypatch.setattr("skelpipe.train.commands.predict.BATCH", 1)
    for one, other in zip(predicted("--checkpoint", path, *raw), at_once, strict=True):
        assert one["id"] == other["id"]
        for a, b in zip(one["top"], other["top"], strict=True):
            assert a == {**b, "probability": pytest.approx(b["probability"], rel=1e-4)}


def test_files_without_a_classifier_are_refused(tmp_path: Path, raw: list[str]) -> None:
    save_file(state(60), tmp_path / "encoder.safetensors", {"method": "aimclr"})
    torch.save({"format": "skelpipe-checkpoint-1"}, tmp_path / "epoch-0001.pt")
    pretraining = {name.replace("encoder_q", "encoder_k"): value for name, value in state(128).items()}
    torch.save({**state(128), **pretraining}, tmp_path / "pretext.pt")
    for name in ("encoder.safetensors", "epoch-0001.pt", "pretext.pt"):
        result = run("--checkpoint", str(tmp_path / name), raw[0])
        assert result.exit_code == 2
        assert f"{name}: holds no classifier" in result.stderr
    result = run("--checkpoint", str(tmp_path / "none.pt"), raw[0])
    assert (result.exit_code, "none.pt: there is no such run or file" in result.stderr) == (2, True)


def test_bad_recordings_are_named(released: Callable[..., str], raw: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.skeleton").write_text("2\n0\n0\n")
    text = Path(raw[0]).read_text()
    (tmp_path / "cut.skeleton").write_text(text[: len(text) // 2])
    for name, message in (
        ("empty.skeleton", "empty.skeleton: no body in any of its 2 frames"),
        ("cut.skeleton", "cut.skeleton"),
        ("none.skeleton", "none.skeleton"),
    ):
        result = run("--checkpoint", released(60), raw[0], str(tmp_path / name))
        assert result.exit_code == 1
        assert message in result.stderr.splitlines()[-1]
        assert result.stdout == ""


def test_weights_that_are_not_finite_are_an_error(released: Callable[..., str], raw: list[str]) -> None:
    path = released(60)
    content = torch.load(path, weights_only=True)
    content["encoder_q.fc.bias"][3] = float("nan")
    torch.save(content, path)
    result = run("--checkpoint", path, raw[0])
    assert result.exit_code == 1
    assert "the scores are not finite" in result.stderr
