"""Windows over untrimmed videos, and a class for every frame of them."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError, SkelpipeError, UsageError
from skelpipe.prepare import Options, prepare
from skelpipe.preprocess import crosclr
from skelpipe.raw import Recording
from skelpipe.schema import load_manifest
from skelpipe.skeleton import layout
from skelpipe.train import segment, segmenter
from skelpipe.train.outcome import read_scores
from skelpipe.train.ranks import Ranks
from skelpipe.train.recipe import load_recipe, parse_recipe
from skelpipe.train.segment import main
from skelpipe.train.segmenter import Plan, frame_scores, train_segmenter
from skelpipe.train.subject import Subject
from skelpipe.train.timeline import Timeline, class_colours, draw_timelines
from skelpipe.train.windows import Windows
from skelpipe.views import derive

FRAMES = 10  # of a clip
CPU = torch.device("cpu")
ROWS = "3,21,90,2\n7,111,180,2\n3,186,200,1\n"
VIDEOS = {"0002-L": 230, "0003-M": 205, "0004-R": 240, "0291-M": 220, "0292-L": 40}  # the last two are test videos
TWO_BODIES = slice(60, 100)  # frames that show a second body


def positions(seed: int, frames: int) -> np.ndarray:
    """Two bodies [F,2,25,3]: action 3 lifts the arms, action 7 bends the legs; the rest is standing and noise."""
    rng = np.random.default_rng(seed)
    pose = np.random.default_rng(7).normal(0, 0.4, (2, 25, 3)) + np.array([0, 0, 3])
    xyz = np.tile(pose, (frames, 1, 1, 1)) + rng.normal(0, 0.02, (frames, 2, 25, 3))
    xyz[20:90, 0, 4:12, 1] += 1.0
    xyz[185:200, 0, 4:12, 1] += 1.0
    xyz[110:180, 0, 12:20, 1] += 1.0
    hidden = np.ones(frames, bool)
    hidden[TWO_BODIES] = False
    xyz[hidden, 1] = 0
    return xyz.round(6)


@pytest.fixture(scope="module")
def untrimmed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """PKU-MMD I xsub with three training and two test videos, one of them shorter than a window."""
    root = tmp_path_factory.mktemp("pku")
    for kind in ("skeleton", "label"):
        (root / "raw" / kind).mkdir(parents=True)
    for seed, (name, frames) in enumerate(VIDEOS.items()):
        lines = [" ".join(f"{value:.6f}" for value in frame.ravel()) for frame in positions(seed, frames)]
        (root / "raw" / "skeleton" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        (root / "raw" / "label" / f"{name}.txt").write_text(ROWS if frames > 100 else "3,21,30,2\n")
    options = Options("xsub", frames=FRAMES, untrimmed=True)
    prepare(load_manifest("pkummd1"), [root / "raw"], root / "ds", options, quiet=True)
    return Dataset.open(root / "ds")


def truth(frames: int) -> list[int]:
    """The class of every frame, from the label file."""
    spans = [(3, 21, 90), (7, 111, 180), (3, 186, 200)] if frames > 100 else [(3, 21, 30)]
    return [next((label for label, a, b in spans if a <= f <= b), 0) for f in range(1, frames + 1)]


def window_by_hand(frame: int, frames: int, length: int) -> list[int]:
    """The frames of the window around one: walk outwards, and move back in where the video ends."""
    window = list(range(frame - length // 2, frame - length // 2 + length))
    while window[-1] >= frames and window[0] > 0:
        window = [f - 1 for f in window]
    while window[0] < 0:
        window = [f + 1 for f in window]
    return [f for f in window if f < frames]


def clip_by_hand(seed: int, frames: int, chosen: list[int]) -> np.ndarray:
    piece = positions(seed, frames)[chosen]
    counts = np.array([2 if f in range(TWO_BODIES.start, TWO_BODIES.stop) else 1 for f in chosen], np.int32)
    bodies = np.concatenate([frame[:count] for frame, count in zip(piece, counts, strict=True)])
    out = np.empty((3, FRAMES, 25, 2), np.float32)
    recording = Recording(counts, np.zeros(len(bodies), np.int64), bodies)
    crosclr(recording, layout("kinect-v2-25"), FRAMES, 2, out)
    return out


@pytest.mark.parametrize("length", [64, 15])
def test_the_window_of_every_frame(untrimmed: Dataset, length: int) -> None:
    windows = Windows(untrimmed, "test", "joint", length)
    assert windows.ids == ["0291-M", "0292-L"]
    assert len(windows) == 260
    assert windows.labels.tolist() == truth(220) + truth(40)
    assert windows.names()[0] == "0291-M:1"
    assert windows.names()[-1] == "0292-L:40"
    rows = np.array([0, 5, 31, 32, 70, 100, 187, 188, 219, 220, 240, 259])
    clips = windows.clips(rows).numpy()
    middles = windows.middles(rows)
    for row, clip, middle in zip(rows.tolist(), clips, middles.tolist(), strict=True):
        seed, frames, first = (3, 220, 0) if row < 220 else (4, 40, 220)
        chosen = window_by_hand(row - first, frames, length)
        assert len(chosen) == min(length, frames)
        np.testing.assert_allclose(clip, clip_by_hand(seed, frames, chosen), atol=2e-5)
        assert middle - first == chosen[len(chosen) // 2]
    inside = rows[(rows >= 32) & (rows <= 187)]
    assert windows.middles(inside).tolist() == inside.tolist()


@pytest.mark.parametrize("view", ["bone", "motion"])
def test_windows_of_other_views(untrimmed: Dataset, view: str) -> None:
    rows = np.array([3, 80, 230])
    joint = Windows(untrimmed, "test", "joint").clips(rows)
    found = Windows(untrimmed, "test", view).clips(rows)
    np.testing.assert_array_equal(found.numpy(), derive(joint.numpy(), view, untrimmed.layout))


def test_draws_are_even_repeatable_and_new_in_every_epoch(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint", 2)
    drawn = windows.draw(20_000, seed=1, epoch=3)
    assert drawn.tolist() == windows.draw(20_000, seed=1, epoch=3).tolist()
    assert drawn.tolist() != windows.draw(20_000, seed=1, epoch=4).tolist()
    assert drawn.tolist() != windows.draw(20_000, seed=2, epoch=3).tolist()
    ends = [230, 435, 675]
    assert [int((drawn < end).sum()) for end in ends] == [20_000, 40_000, 60_000]  # as many of each video
    assert set(drawn.tolist()) == set(windows.middles(np.arange(675)).tolist())
    halves = (drawn[:20_000] < 115).mean()
    assert abs(halves - 0.5) < 0.02


@pytest.mark.parametrize("stride", [1, 7, 300])
def test_a_stride_takes_the_middle_of_each_block(untrimmed: Dataset, stride: int) -> None:
    rows, which = Windows(untrimmed, "test", "joint").spread(stride)
    expected, block_of = [], []
    for first, frames in ((0, 220), (220, 40)):
        for start in range(0, frames, stride):
            block = list(range(start, min(start + stride, frames)))
            block_of += [len(expected)] * len(block)
            expected.append(first + block[len(block) // 2])
    assert rows.tolist() == expected
    assert which.tolist() == block_of


class Tiny(nn.Module):
    """An encoder small enough to be followed by hand, with what evaluation must not touch: BN and dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.mix = nn.Linear(3 * 25, 12)
        self.norm = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.5)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        pooled = clips.mean(dim=(2, 4)).flatten(1)
        return torch.relu(self.drop(self.norm(self.mix(pooled))))


def bits(module: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def test_training_is_sgd_on_the_drawn_windows(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint")
    encoder = Tiny().eval()
    plan = Plan(epochs=3, batch_size=10, lr=0.5, milestones=(2,), windows=7, seed=5)
    head, log = train_segmenter(encoder, 12, 52, windows, plan, CPU)

    torch.manual_seed(5)
    fresh = nn.Linear(12, 52)
    nn.init.normal_(fresh.weight, 0, 0.02)
    weight, bias = fresh.weight.detach().double().numpy(), np.zeros(52)
    moving = [np.zeros_like(weight), np.zeros_like(bias)]
    for epoch, rate in ((1, 0.5), (2, 0.5), (3, 0.05)):
        losses = []
        rows = windows.draw(7, 5, epoch)
        rows = rows[segmenter.epoch_order(5, epoch, [21])]
        for batch in (rows[:10], rows[10:20], rows[20:]):
            with torch.no_grad():
                h = encoder(windows.clips(batch)).double().numpy()
            logits = h @ weight.T + bias
            shares = np.exp(logits - logits.max(1, keepdims=True))
            shares /= shares.sum(1, keepdims=True)
            labels = windows.labels[batch]
            losses.append(-np.log(shares[np.arange(len(batch)), labels]).mean())
            shares[np.arange(len(batch)), labels] -= 1
            gradients = (shares.T @ h / len(batch), shares.mean(0))
            moving = [0.9 * old + new for old, new in zip(moving, gradients, strict=True)]
            weight, bias = weight - rate * moving[0], bias - rate * moving[1]
        assert log[epoch - 1]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        assert log[epoch - 1]["lr"] == pytest.approx(rate)
    np.testing.assert_allclose(head.weight.detach().numpy(), weight, atol=1e-4)
    np.testing.assert_allclose(head.bias.detach().numpy(), bias, atol=1e-4)


def test_the_encoder_moves_only_when_it_is_finetuned(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint")
    encoder = Tiny()
    before = bits(encoder)
    train_segmenter(encoder, 12, 52, windows, Plan(epochs=1, windows=4), CPU)
    assert bits(encoder) == before
    train_segmenter(encoder, 12, 52, windows, Plan(epochs=1, windows=4, finetune=True), CPU)
    assert {name for name, value in bits(encoder).items() if value != before[name]} == set(before)


def test_a_loss_that_is_not_finite_ends_the_run(untrimmed: Dataset) -> None:
    windows = Windows(untrimmed, "train", "joint")
    with pytest.raises(SkelpipeError, match=r"in epoch \d+: a lower --lr may help"):
        train_segmenter(nn.Flatten(), 1500, 52, windows, Plan(epochs=9, windows=9, lr=1e38), CPU)


def test_every_frame_gets_the_scores_of_its_window(untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, encoder, head = Windows(untrimmed, "test", "joint"), Tiny(), nn.Linear(12, 52)
    found = frame_scores(encoder, head, windows, CPU, quiet=True)
    assert found.shape == (260, 52)
    assert encoder.training  # left as it was
    encoder.eval()
    with torch.no_grad():
        for row in (0, 50, 219, 220, 259):
            alone = head(encoder(windows.clips(np.array([row]))))[0]
            np.testing.assert_allclose(found[row], alone.numpy(), atol=1e-5)
    monkeypatch.setattr(segmenter, "SCORED", 33)
    np.testing.assert_allclose(frame_scores(encoder, head, windows, CPU, quiet=True), found, atol=1e-5)
    strided = frame_scores(encoder, head, windows, CPU, stride=9, quiet=True)
    np.testing.assert_allclose(strided[9:18], np.tile(found[13], (9, 1)), atol=1e-5)
    np.testing.assert_allclose(strided[216:220], np.tile(found[218], (4, 1)), atol=1e-5)


OPTIONS = ["--device", "cpu", "--epochs", "2", "--windows", "4", "--stride", "10"]


def run(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["--shards", str(dataset.path), "--out", str(out), *OPTIONS, *options])


@pytest.fixture(scope="module")
def outcome(untrimmed: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A run on raw coordinates that learns something, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "raw"
    result = run(
        untrimmed, out, "--baseline", "raw", "--json", "--epochs", "12", "--windows", "16", "--stride", "2"
    )
    assert result.exit_code == 0, result.output
    return out, result


def test_a_run_learns_and_says_so(outcome: tuple[Path, Result]) -> None:
    out, result = outcome
    found = json.loads(result.stdout)
    assert json.loads((out / "result.json").read_text()) == found
    scores = read_scores(out / "scores.parquet")
    assert scores.about["protocol"] == "segment"
    assert scores.classes[0] == "background"
    assert len(scores.classes) == 52
    assert scores.labels.tolist() == truth(220) + truth(40)
    right = [int(row.argmax()) == label for row, label in zip(scores.scores, scores.labels, strict=True)]
    assert found["figures"]["acc"] == pytest.approx(100 * sum(right) / 260)
    assert found["background"] == pytest.approx(100 * (truth(220) + truth(40)).count(0) / 260)
    assert found["figures"]["acc"] > found["background"] + 15
    assert found["videos"] == {"train": 3, "test": 2}
    assert found["frames"] == {"train": 675, "test": 260}
    assert found["reported"] is None
    assert len((out / "log.jsonl").read_text().splitlines()) == 12


def test_the_papers_figures_stand_beside(outcome: tuple[Path, Result]) -> None:
    table = "{source: a table, joint: {pkummd2-xview: %s}}"
    said = f"reported:\n  segment-acc: {table % 51.29}\n  segment-miou: {table % 21.38}\n"
    values = load_recipe("demo").to_yaml() + said
    flat = nn.Flatten()
    subject = Subject(flat, flat, 1, "x", "joint", "h", recipe=parse_recipe(values, "here"))
    found = segment.published(subject, "pkummd2-xview")
    assert found == {"acc": 51.29, "miou": 21.38, "source": "a table"}
    assert segment.published(subject, "pkummd1-xview") is None
    text = "\n".join(segment.lines({**json.loads(outcome[1].stdout), "reported": found}))
    assert "reported 21.38 % (a table)" in text
    assert text.count("reported") == 2


def test_segments_tell_every_frame(outcome: tuple[Path, Result]) -> None:
    out, _ = outcome
    scores = read_scores(out / "scores.parquet")
    rows = list(csv.DictReader((out / "segments.csv").open()))
    spelled: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        frames = spelled.setdefault((row["video"], row["kind"]), [])
        assert int(row["first"]) == len(frames) + 1
        frames += [int(row["class"])] * (int(row["last"]) - int(row["first"]) + 1)
        assert row["name"] == scores.classes[int(row["class"])]
    assert spelled["0291-M", "truth"] == truth(220)
    assert spelled["0292-L", "truth"] == truth(40)
    predicted = scores.predicted.tolist()
    assert spelled["0291-M", "predicted"] == predicted[:220]
    assert spelled["0292-L", "predicted"] == predicted[220:]


def test_a_finished_run_is_not_overwritten_unasked(untrimmed: Dataset, outcome: tuple[Path, Result]) -> None:
    again = run(untrimmed, outcome[0], "--baseline", "raw")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_what_cannot_be_segmented_is_one_line(untrimmed: Dataset, tiny_dataset: Dataset, tmp_path: Path) -> None:
    trimmed = run(tiny_dataset, tmp_path / "a", "--baseline", "raw")
    assert trimmed.exit_code == 1
    assert "holds no untrimmed videos: prepare it with --untrimmed" in trimmed.stderr
    unknown = run(untrimmed, tmp_path / "a", "--baseline", "raw", "--video", "0300-L")
    assert unknown.exit_code == 2
    assert "--video 0300-L: there is no such test video; there are: 0291-M, 0292-L" in unknown.stderr
    assert not (tmp_path / "a").exists()


def test_a_split_without_videos_is_an_error(untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {"videos": 0, "frames": 0, "shards": []}
    monkeypatch.setitem(untrimmed.card["untrimmed"], "train", empty)
    with pytest.raises(DatasetError, match="no untrimmed video in the train split"):
        Windows(untrimmed, "train", "joint")


class OneOfTwo(Ranks):
    """A rank that reaches nobody: what it gathers is its own."""

    def gather(self, x: torch.Tensor, counts: Sequence[int] | None = None) -> torch.Tensor:
        return x

    def on_main(self, action: Callable[[], None]) -> None:
        if self.is_main:
            action()


def test_ranks_score_whole_batches_each(untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, encoder, head = Windows(untrimmed, "test", "joint"), Tiny(), nn.Linear(12, 52)
    monkeypatch.setattr(segmenter, "SCORED", 50)  # 260 frames: three batches of 50 each, the last one of 10
    alone = frame_scores(encoder, head, windows, CPU, quiet=True)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(segmenter, "ranks", lambda rank=rank: OneOfTwo(rank, 2))
        shares.append(frame_scores(encoder, head, windows, CPU, quiet=True))
    assert [len(share) for share in shares] == [150, 110]
    np.testing.assert_array_equal(np.concatenate(shares), alone)


def test_of_several_ranks_one_writes(untrimmed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "ranks", lambda: OneOfTwo(1, 2))
    assert run(untrimmed, tmp_path / "a", "--baseline", "raw", "--epochs", "1").exit_code == 0
    assert not (tmp_path / "a").exists()


def test_an_encoder_is_finetuned_by_one_process(untrimmed: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "ranks", lambda: OneOfTwo(0, 2))
    windows = Windows(untrimmed, "train", "joint")
    with pytest.raises(UsageError, match="start it without torchrun"):
        train_segmenter(Tiny(), 12, 52, windows, Plan(finetune=True), CPU)


def pixels(path: Path) -> set[str]:
    """The colours of a picture, as #rrggbb."""
    image = pytest.importorskip("PIL.Image")
    rgb = np.asarray(image.open(path).convert("RGB")).astype(np.int64)
    return {f"#{colour:06x}" for colour in np.unique(rgb @ [65536, 256, 1]).tolist()}


def test_a_timeline_shows_the_classes_that_occur(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    labels = np.array([0] * 50 + [2] * 80 + [4] * 70)
    shown = [Timeline("a", labels, np.roll(labels, 9)), Timeline("b", labels[60:], np.zeros(140, np.int64))]
    names = ["background", "one", "two", "three", "four"]
    assert draw_timelines(shown, names, "title", tmp_path / "t.png")
    found = pixels(tmp_path / "t.png")
    assert [colour in found for colour in class_colours(5)] == [True, False, True, False, True]


def test_colours_of_52_classes_differ() -> None:
    colours = class_colours(52)
    assert len(set(colours)) == 52
    near = np.array([list(bytes.fromhex(colour[1:])) for colour in colours], float)
    gaps = np.abs(near[:, None] - near[None]).sum(2) + 999 * np.eye(52)
    assert gaps.min() > 12


def test_without_matplotlib_the_figures_stay(
    untrimmed: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run(untrimmed, tmp_path / "a", "--baseline", "raw", "--epochs", "1")
    assert result.exit_code == 0, result.output
    assert "no picture: drawing needs matplotlib" in result.stderr
    assert (tmp_path / "a" / "segments.csv").is_file()
    assert not (tmp_path / "a" / "timelines.png").exists()
