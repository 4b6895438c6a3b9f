"""Scores in drawings: joints of low scores are faint, in pages and GIFs, and the words say so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skelpipe.augment.chain import chain
from skelpipe.dataset import Dataset
from skelpipe.drawing.augmented import Choice
from skelpipe.drawing.compared import compared_scene
from skelpipe.drawing.gif import write_gif
from skelpipe.drawing.page import page
from skelpipe.drawing.previewed import preview
from skelpipe.drawing.scene import Scene, make_panel, recording_clip, score_facts
from skelpipe.drawing.sources import dataset_scene
from skelpipe.drawing.svg import looping_svg
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, skeleton_text, moving_bodies, ntu_names, with_scores) -> Dataset:
    root = tmp_path_factory.mktemp("scored")
    (root / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=2)):
        (root / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 12, 1 + seed % 2)))
    prepare(load_manifest("ntu60"), [root / "raw"], root / "ds", Options("xsub", 44, shard_size=7), quiet=True)
    return Dataset.open(with_scores(root / "ds", root / "with"))


@pytest.mark.parametrize("view", ["joint", "bone", "motion"])
def test_a_page_has_the_opacity_of_every_joint(dataset: Dataset, read_page, view: str) -> None:
    scene = dataset_scene(dataset, None, view)
    found = read_page(page(scene)).clip["panels"][0]["opacity"]
    of_view = "joint" if view == "motion" else view
    score = dataset.reader("test", of_view).gather(np.array([0]))[0, 3].transpose(2, 0, 1)
    score = score[[body.any() for body in score]]
    np.testing.assert_allclose(found, 0.15 + 0.85 * score, atol=0.0051)
    low, mean = score.min(), score.mean()
    assert scene.facts["scores"] == (
        f"{low:.2f} to {score.max():.2f}, mean {mean:.2f}; the lower the score of a joint, the fainter it is drawn"
    )


def test_a_page_without_scores_says_nothing_of_them(dataset: Dataset, read_page, make_scene) -> None:
    scene = make_scene()
    assert scene.opacities == (None,)
    assert "opacity" not in read_page(page(scene)).clip["panels"][0]
    assert score_facts(scene.panels) == {}


@pytest.mark.parametrize("name", ["normal", "aimclr-extreme", "msmclr-strong", "skelemix", "skeletonmix", "mats"])
def test_augmented_clips(dataset: Dataset, read_page, name: str) -> None:
    scene = compared_scene(dataset, None, "joint", Choice(name, "paper", 0, 0))
    before, after = read_page(page(scene)).clip["panels"]
    assert np.shape(before["opacity"]) == np.shape(after["opacity"])
    assert "fainter" in scene.facts["scores"]


def test_previews_of_reports(dataset: Dataset) -> None:
    (shown,) = preview(dataset, {"query": chain("normal"), "key": None})[:1]
    assert looping_svg(shown.scene, 1).startswith("<svg")


def test_a_gif_draws_joints_of_low_scores_fainter(tmp_path: Path) -> None:
    """The same clip with scores of 1 and of 0: the second has hardly any dark pixels."""
    rng = np.random.default_rng(0)
    pose = rng.normal(size=(3, 1, 25, 1)) * 0.4 + np.zeros((3, 2, 25, 1))
    darkest = []
    for score in (1.0, 0.0):
        clip = np.concatenate([pose, np.full((1, 2, 25, 1), score)])
        panel = make_panel("joint", clip, clip, KINECT, ("body 1",))
        facts = dict.fromkeys(("dataset", "view", "frames", "bodies", "units"), "-")
        write_gif(Scene("S1", "wave", facts, KINECT, 30.0, (panel,)), tmp_path / "a.gif", quiet=True)
        with Image.open(tmp_path / "a.gif") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        colourful = pixels.max(axis=2) - pixels.min(axis=2)
        darkest.append((colourful > 100).sum())
    assert darkest[1] < darkest[0] / 2  # the legend keeps its colours


def test_scores_above_one_are_drawn_relative_to_the_greatest() -> None:
    counts, ids = np.array([1, 1]), np.array([0, 0])
    xyz, scores = np.ones((2, 25, 3)), np.full((2, 25), 2.0)
    scores[0, 3] = 0.5
    clip, bodies = recording_clip(counts, ids, xyz, scores)
    assert clip.shape == (4, 2, 25, 1)
    panel = make_panel("joint", clip, clip, KINECT, bodies)
    (opacity,) = Scene("S1", "", {}, KINECT, 30.0, (panel,)).opacities
    assert opacity[0, 0, 3] == pytest.approx(0.15 + 0.85 * 0.25)
    assert opacity[0, 1].tolist() == [1.0] * 25
