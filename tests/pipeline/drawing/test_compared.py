"""`skelpipe show --augment`: the second panel is the clip augmented by the operators, with the same draws."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from skelpipe import views
from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.mats import carried
from skelpipe.augment.named_chains import CHAINS
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.augment.skeleton_adain import SkeletonAdaIN
from skelpipe.augment.skeleton_mix import SkeletonMix
from skelpipe.cli.prepare import prepare
from skelpipe.cli.show import show
from skelpipe.dataset import Dataset
from skelpipe.drawing.augmented import NAMES
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
PARENTS = list(KINECT.parents)
FRAMES = 48
SEED, EPOCH, ROW = 7, 5, 2
DRAWN = ("--seed", SEED, "--epoch", EPOCH)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: Any, skeleton_text: Any, moving_bodies: Any, ntu_names: Any) -> Any:
    """The folder of a prepared dataset of clips long enough to be mixed; half have two bodies."""
    root = tmp_path_factory.mktemp("clips")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=2)):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 20, 1 + seed % 2)))
    words = ["--dataset", "ntu60", "--split", "xsub", "--raw", root / "raw", "--out", root / "small"]
    done = CliRunner().invoke(prepare, [*map(str, words), "--frames", str(FRAMES), "--workers", "1"])
    assert done.exit_code == 0, done.output
    return root / "small"


@pytest.fixture
def dataset(prepared: Any, tmp_path: Any) -> Dataset:
    """The dataset, where a command finds it without an option."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "small").symlink_to(prepared)
    return Dataset.open(tmp_path / "data" / "small")


@pytest.fixture
def drawn(run: Any, dataset: Dataset, read_page: Any) -> Callable[..., tuple[dict, dict]]:
    """Draw sample ROW for training; return the output of the command and the numbers of its page."""

    def draw(name: str, *words: Any) -> tuple[dict, dict]:
        wanted = dataset.ids("train")[ROW]
        done = run("--id", wanted, "--augment", name, *DRAWN, "--out", "clip.html", "--json", *words)
        assert done.exit_code == 0, done.output
        said = json.loads(done.stdout)
        return said, read_page((dataset.path.parents[1] / said["out"]).read_text("utf-8")).clip

    return draw


def read(dataset: Dataset, rows: list[int]) -> Tensor:
    return torch.from_numpy(dataset.reader("train", "joint").gather(np.array(rows)))


def draws(rows: list[int], slot: int = 0) -> Draws:
    return Draws(SEED, EPOCH, torch.tensor(rows), slot)


def donor_of(said: dict, dataset: Dataset) -> int:
    return dataset.ids("train").index(said["facts"]["donor"].split(":")[0])


def check(clip: dict, points_of: Any, panel: int, view: str, expected: np.ndarray) -> None:
    """Compare what a panel draws with a clip [C,T,V,M] of the view; absent bodies are not drawn at all."""
    wanted = expected.astype(float).transpose(3, 1, 2, 0)
    wanted = wanted[[body.any() for body in wanted]]
    got = points_of(clip, "arrows" if view == "motion" else "points", panel)
    if view == "bone":
        got = got - got[:, :, PARENTS]
    assert len(got) == len(wanted)
    np.testing.assert_allclose(np.nan_to_num(got), wanted, rtol=0, atol=0.0011 if view == "bone" else 0.00051)


def marks_of(clip: dict) -> np.ndarray:
    """The marked joints of the second panel, bool [B,F,V]."""
    marked = clip["panels"][1]["marked"]
    return np.array([[np.isin(np.arange(25), joints) for joints in body] for body in marked])


@pytest.mark.parametrize(
    ("variant", "view"), [("paper", "joint"), ("paper", "bone"), ("paper", "motion"), ("released", "joint")]
)
@pytest.mark.parametrize("name", [name for name in CHAINS if name != "skelemix"])  # a mix: see below
def test_second_panel_is_what_the_chain_makes_of_the_first(
    drawn: Any, dataset: Dataset, points_of: Any, name: str, variant: str, view: str
) -> None:
    _, clip = drawn(name, "--variant", variant, "--view", view)
    x = read(dataset, [ROW])
    ops = chain(name, layout=KINECT, variant=variant)
    after = views.derive(ops.apply(x, ops.sample(draws([ROW]), x.shape)), view, KINECT)
    check(clip, points_of, 0, view, views.derive(x, view, KINECT)[0].numpy())
    check(clip, points_of, 1, view, after[0].numpy())
    assert clip["panels"][1]["marked"] is None


@pytest.mark.parametrize("view", ["joint", "bone", "motion"])
@pytest.mark.parametrize(("name", "slot"), [("skelemix", 2), ("skeletonmix", 1)])
def test_mixes_show_donor_and_region(
    drawn: Any, dataset: Dataset, points_of: Any, name: str, slot: int, view: str
) -> None:
    said, clip = drawn(name, "--view", view)
    rows = [ROW, donor_of(said, dataset)]
    assert rows[0] != rows[1]
    query = views.derive(chain("normal")(read(dataset, rows), draws(rows)), view, KINECT)
    op: SkeleMix | SkeletonMix = SkeleMix(KINECT) if name == "skelemix" else SkeletonMix(KINECT)
    mixed = op.mix(query, op.sample(draws(rows, slot), query.shape))
    check(clip, points_of, 1, view, mixed.clip[0].numpy())
    region = mixed.region[0].numpy() > 0
    assert region.any()
    assert all((body == region).all() for body in marks_of(clip))
    assert "donor" in clip["panels"][1]["means"]
    assert clip["panels"][0]["marked"] is None


def moving(x: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Which joints of motion x [C,T,V,M] differ most from the anchor's, bool [T,V,M], by loops."""
    _, frames, joints, bodies = x.shape
    out = np.zeros((frames, joints, bodies), bool)
    for m in range(bodies):
        if not x[..., m].any():
            continue
        apart = np.sqrt(((x[..., m].astype(float) - anchor[..., m]) ** 2).sum(0))
        blocks = np.array([apart[t : t + 4].mean(0) for t in range(0, frames, 4)])
        spread = np.zeros_like(blocks)
        for v in range(joints):
            near = {v, PARENTS[v], *(child for child in range(joints) if PARENTS[child] == v)}
            spread[:, v] = np.mean([blocks[:, w] for w in near], axis=0)
        out[..., m] = np.repeat(spread > 0.5 * spread.max(), 4, axis=0)[:frames]
    return out


@pytest.mark.parametrize("view", ["joint", "motion"])
def test_mats_combines_its_views_by_the_moving_joints(
    drawn: Any, dataset: Dataset, points_of: Any, view: str
) -> None:
    said, clip = drawn("mats", "--view", view)
    rows = [ROW, donor_of(said, dataset)]
    eight = chain("actclr-actionlet", layout=KINECT)
    clips = read(dataset, rows)
    moves = eight.sample(draws(rows, 0), clips.shape)
    spread = views.derive(eight.apply(clips, moves), view, KINECT)
    style, mix = SkeletonAdaIN(KINECT, view), SkeletonMix(KINECT)
    act = style.apply(spread, style.sample(draws(rows, 1), spread.shape))
    louder = GaussianNoise(0.05)
    noisy = louder.apply(act, louder.sample(draws(rows, 2).child(len(eight)), act.shape))
    non = mix.apply(noisy, mix.sample(draws(rows, 3), noisy.shape))
    found = [moving(views.motion(clip).numpy(), dataset.anchor("motion")) for clip in clips]  # of clips as read
    mask = carried(torch.from_numpy(np.stack(found)).float(), eight, moves)[0].numpy() > 0
    assert 0 < mask.mean() < 0.9
    check(clip, points_of, 1, view, np.where(mask, act[0].numpy(), non[0].numpy()))
    there = [m for m in range(2) if read(dataset, [ROW])[0, ..., m].any()]
    np.testing.assert_array_equal(marks_of(clip), mask.transpose(2, 0, 1)[there])
    assert "motion differs most from that of the mean clip" in said["facts"]["query: MATS"]


def test_an_absent_body_is_neither_drawn_nor_marked(run: Any, dataset: Dataset, read_page: Any) -> None:
    alone = next(i for i in range(8) if not read(dataset, [i])[..., 1].any())
    wanted = dataset.ids("train")[alone]
    assert run("--id", wanted, "--augment", "mats", "--out", "clip.html").exit_code == 0
    clip = read_page((dataset.path.parents[1] / "clip.html").read_text("utf-8")).clip
    second = clip["panels"][1]
    if len(second["points"]) == 2:  # the second body came from the donor by Skeleton Mix
        assert not any(second["marked"][1])
    assert all(pose is None for body in clip["panels"][0]["points"][1:] for pose in body)


def test_a_curriculum_leaves_out_what_training_leaves_out(drawn: Any, dataset: Dataset, points_of: Any) -> None:
    name = "actclr-non-actionlet"
    said, clip = drawn(name, "--variant", "released", "--epoch", 150)
    ops = chain(name, layout=KINECT, variant="released", curriculum=True)
    x = read(dataset, [ROW])
    params = ops.sample(Draws(SEED, 150, torch.tensor([ROW])), x.shape)
    check(clip, points_of, 1, "joint", ops.apply(x, params)[0].numpy())
    left_out = [fact == "left out in this epoch" for fact in said["facts"].values()][-len(ops) :]
    assert left_out == [drawn is None for drawn in params]
    assert 0 < sum(left_out) < len(ops) - 2


def test_a_raw_file_is_prepared_and_then_augmented(
    run: Any, raw_file: Any, tmp_path: Any, read_page: Any, points_of: Any
) -> None:
    done = run(raw_file, "--augment", "normal", "--seed", 3, "--out", "clip.html")
    assert done.exit_code == 0, done.output
    clip = read_page((tmp_path / "clip.html").read_text("utf-8")).clip
    before = np.nan_to_num(points_of(clip))
    words = ["--dataset", "ntu60", "--split", "xsub", "--raw", tmp_path, "--out", tmp_path / "ds"]
    assert CliRunner().invoke(prepare, [*map(str, words), "--workers", "1"]).exit_code == 0
    side = "train" if Dataset.open(tmp_path / "ds").count("train") else "test"
    x = torch.from_numpy(Dataset.open(tmp_path / "ds").reader(side, "joint").gather(np.array([0])))
    np.testing.assert_allclose(before, x[0].permute(3, 1, 2, 0), atol=0.00051)
    after = chain("normal")(x, Draws(3, 0, torch.tensor([0])))[0]
    np.testing.assert_allclose(np.nan_to_num(points_of(clip, panel=1)), after.permute(3, 1, 2, 0), atol=0.00051)


def test_facts_say_what_was_drawn(run: Any, drawn: Any, dataset: Dataset, read_page: Any) -> None:
    said, _ = drawn("aimclr-extreme", "--out", "clip.html")
    text = read_page((dataset.path.parents[1] / "clip.html").read_text("utf-8")).texts
    for name, fact in said["facts"].items():
        assert name in text["dt#"]
        assert fact in text["dd#"]
    ops = chain("aimclr-extreme", layout=KINECT)
    params = ops.sample(draws([ROW]), torch.Size((1, 3, FRAMES, 25, 2)))
    assert said["facts"]["1 crop"].startswith(f"start {int(params[0]['start'])};")  # type: ignore[index]
    degrees = [f"{math.degrees(a):.1f}" for a in params[3]["angle"][0].tolist()]  # type: ignore[index]
    assert all(number in said["facts"]["4 rotate"] for number in degrees)
    result = run("--id", dataset.ids("train")[ROW], "--augment", "aimclr-extreme", *DRAWN, "--out", "clip.html")
    assert all(f"  {fact}" in result.stdout for fact in said["facts"].values())


def test_words_of_axis_mask_and_flips_are_those_of_the_picture(
    run: Any, dataset: Dataset, read_page: Any, points_of: Any
) -> None:
    """Over many epochs every outcome occurs, and the words say what the picture shows."""
    facts = set()
    for epoch in range(12):
        done = run("--augment", "aimclr-extreme", "--epoch", epoch, "--out", "clip.html", "--json")
        fact = json.loads(done.stdout)["facts"]["8 axis mask"]
        points = points_of(read_page((dataset.path.parents[1] / "clip.html").read_text("utf-8")).clip, panel=1)
        flat = [axis for i, axis in enumerate("xyz") if (np.nan_to_num(points[..., i]) == 0).all()]
        assert fact == (f"{flat[0]} is zero" if flat else "off")
        facts.add(fact)
    assert len(facts) >= 3


def test_same_draws_same_bytes_other_epoch_other_picture(run: Any, dataset: Dataset) -> None:
    def drawn(*words: Any) -> bytes:
        assert run("--augment", "normal", "--out", "clip.html", *words).exit_code == 0
        return (dataset.path.parents[1] / "clip.html").read_bytes()

    first = drawn("--epoch", 1)
    assert drawn("--epoch", 1) == first
    assert drawn("--epoch", 2) != first
    assert drawn("--epoch", 1, "--seed", 1) != first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("RAW", "--augment", "skelemix"), "needs a dataset (--shards), from which its donor comes"),
        (("RAW", "--augment", "mats"), "needs a dataset (--shards), from which its average motion comes"),
        (("--augment", "mixup"), "no augmentation is called 'mixup'; known: normal"),
        (("--augment", "normal", "--recipe", "aimcrl"), "no recipe 'aimcrl': did you mean 'aimclr'?"),
        (("--augment", "extrem", "--recipe", "aimclr"), "no view 'extrem'; did you mean 'extreme'?"),
        (("--augment", "[rotat]"), "--augment: list: there is no operator 'rotat'; did you mean 'rotate'?"),
        (("--augment", "{chain: normal, rotate: 9}"), "--augment: list has no operator 'rotate'"),
        (
            ("--augment", "key", "--recipe", "aimclr", "--checkpoint", "run", "--out", "key.png"),
            "a picture shows the actionlet of --augment mats, not a view of --recipe",
        ),
        (("--recipe", "aimclr"), "--recipe is for an augmentation: name one with --augment"),
        (
            ("--augment", "query", "--recipe", "aimclr", "--variant", "released"),
            "a recipe says its variant itself",
        ),
        (("--seed", "3"), "--seed is for an augmentation: name one with --augment"),
        (("--variant", "released"), "--variant is for an augmentation"),
        (("--augment", "normal", "--epoch", "-1"), "-1 is not in the range x>=0"),
    ],
)
def test_impossible_drawings_are_refused(
    run: Any, dataset: Dataset, raw_file: Any, words: tuple[str, ...], message: str
) -> None:
    done = run(*(raw_file if word == "RAW" else word for word in words))
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())
    assert not list(dataset.path.parents[1].glob("*.html"))


def test_a_mix_needs_a_second_clip_and_enough_frames(
    run: Any, tmp_path: Any, raw_folder: Any, dataset: Dataset
) -> None:
    for name, frames in (("alone", 48), ("short", 40)):
        raw = raw_folder(["S001C001P001R001A001", *(["S001C001P001R001A002"] if name == "short" else [])], name)
        words = ["--dataset", "ntu60", "--split", "xsub", "--raw", raw, "--out", tmp_path / f"{name}-ds"]
        prepared = CliRunner().invoke(prepare, [*map(str, words), "--frames", str(frames), "--workers", "1"])
        assert prepared.exit_code == 0, prepared.output
    alone = run("--shards", tmp_path / "alone-ds", "--augment", "skelemix")
    assert alone.exit_code == 2
    assert "skelemix needs a second clip of the same subset, and there is none" in alone.output
    short = run("--shards", tmp_path / "short-ds", "--augment", "skelemix")
    assert short.exit_code == 2
    assert "prepare at least 44 frames" in short.output


def test_a_video_is_refused(run: Any, tmp_path: Any) -> None:
    (tmp_path / "0002-L.txt").write_text(" ".join(["0.1"] * 150) + "\n")
    done = run("0002-L.txt", "--dataset", "pkummd1", "--augment", "normal")
    assert done.exit_code == 2
    assert "a video of several actions" in done.output


def test_every_augmentation_can_be_named() -> None:
    option = next(option for option in show.params if option.name == "augment")
    assert all(f"{name}, " in option.help for name in NAMES)  # type: ignore[attr-defined]
    assert set(CHAINS) < set(NAMES)
