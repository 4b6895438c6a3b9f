"""What a preview shows of a view is what a loader yields for training."""

from typing import Any

import numpy as np
import torch

from skelpipe.augment.chain import chain
from skelpipe.augment.skelemix import SkeleMix
from skelpipe.dataset import Dataset
from skelpipe.drawing.previewed import preview
from skelpipe.loader import Loader
from skelpipe.loader.stream import Stream
from skelpipe.loader.view_recipes import Mats, On


def drawn(panel: Any) -> np.ndarray:
    """A panel's bodies as [C,T,V,M], absent ones as zeros."""
    return np.nan_to_num(panel.points.transpose(3, 1, 2, 0))


def test_a_view_is_the_one_of_training(dataset: Dataset) -> None:
    views = {"query": chain("normal"), "extreme": chain("aimclr-extreme", layout=dataset.layout)}
    count = dataset.count("train")
    stream = Stream(dataset, "train", ["joint"], count, seed=5)
    loader = Loader(stream, torch.device("cpu"), views)
    for epoch in range(2):
        batch = next(iter(loader))
        for row in (0, count - 1):
            place = int((batch.index == row).nonzero())
            shown = preview(dataset, views, dataset.ids("train")[row], seed=5, epoch=epoch)
            assert [each.names for each in shown] == [("query",), ("extreme",)]
            for each in shown:
                expected = batch.views[each.names[0]][place].numpy()
                bodies = [m for m in range(expected.shape[3]) if expected[..., m].any()]
                np.testing.assert_allclose(drawn(each.scene.panels[1]), expected[..., bodies], atol=1e-6)
        if epoch == 0:
            loader.close()
            state = stream.state() | {"epoch": 1, "step": 0}
            stream = Stream(dataset, "train", ["joint"], count, seed=5)
            stream.load_state(state)
            loader = Loader(stream, torch.device("cpu"), views)
    loader.close()


def test_the_clip_before_is_the_stored_one_and_steps_are_in_order(dataset: Dataset) -> None:
    identity = dataset.ids("test")[1]
    shown = preview(dataset, {"query": chain("normal"), "plain": None}, identity)
    stored = dataset.reader("test", "joint").gather(np.array([1]))[0]
    for each in shown:
        np.testing.assert_allclose(drawn(each.scene.panels[0]), stored, atol=1e-6)
        assert each.scene.id == identity
    assert [step.split(" ", 1)[1] for step in shown[0].steps] == ["crop", "shear"]
    assert shown[1].steps == {"as stored": "no augmentation"}
    np.testing.assert_allclose(drawn(shown[1].scene.panels[1]), stored, atol=1e-6)


def test_views_of_one_recipe_are_shown_once(dataset: Dataset) -> None:
    normal = chain("normal")
    shown = preview(dataset, {"query": normal, "extreme": chain("normal"), "key": normal})
    assert [each.names for each in shown] == [("query", "key"), ("extreme",)]


def test_marked_joints_of_a_mix_are_the_donors(dataset: Dataset) -> None:
    """Outside the mask is the clip itself; inside it another clip of the dataset, at the same frames."""
    mixed = On("query", SkeleMix(dataset.layout, (2, 3), (1, 1)))
    shown = preview(dataset, {"query": None, "mixed": mixed}, dataset.ids("train")[0], seed=3)
    after = shown[1].scene.panels[1]
    assert after.marked is not None
    marked = after.marked.transpose(1, 2, 0)  # [T,V,M]
    assert 0 < marked.sum() < marked.size
    every = dataset.reader("train", "joint").gather(np.arange(dataset.count("train")))
    clip = drawn(after)
    np.testing.assert_allclose(clip[:, ~marked], every[0][:, ~marked], atol=1e-6)
    gaps = [np.abs(clip[:, marked] - other[:, marked]).max() for other in every]
    assert min(gaps[1:]) < 1e-6 < gaps[0]


def test_an_actionlet_needs_no_network(dataset: Dataset) -> None:
    def network(clips: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked for")

    shown = preview(
        dataset, {"act": chain("normal"), "non": chain("normal"), "query": Mats("act", "non", network)}
    )
    query = shown[-1]
    marked = query.scene.panels[1].marked
    assert marked is not None
    _, non, joined = (drawn(each.scene.panels[1]) for each in shown)
    inside = marked.transpose(1, 2, 0)
    np.testing.assert_allclose(joined[:, ~inside], non[:, ~inside], atol=1e-5)
    assert np.abs(joined[:, inside] - non[:, inside]).max() > 1e-3
    assert "stand-in" in query.steps["MATS"]
