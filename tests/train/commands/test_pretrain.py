"""How a recipe is fitted to a dataset."""

from collections.abc import Callable

import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError
from skelpipe.train.commands.pretrain import fit_recipe
from skelpipe.train.recipes.reader import load_recipe


def test_the_recipe_gives_way_to_the_dataset(tiny_dataset: Dataset) -> None:
    said: list[str] = []
    fitted = fit_recipe(load_recipe("skeletonclr"), tiny_dataset, said.append)
    assert (fitted.frames, fitted.batch_size, fitted.settings.queue) == (8, 24, 32768)
    assert len(said) == 3
    assert "50 frames" in said[0]
    assert "training on 8" in said[0]
    assert "lowered to 24" in said[1]
    assert "queue of 32768 is larger than the 24" in said[2]
    again: list[str] = []
    assert fit_recipe(fitted, tiny_dataset, again.append) == fitted
    assert len(again) == 1


def test_no_training_clips_is_an_error(
    make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    only_test = make_dataset(ntu_names(actions=1, subjects=(3,)))
    with pytest.raises(DatasetError, match="the train subset is empty"):
        fit_recipe(load_recipe("demo"), only_test, print)
