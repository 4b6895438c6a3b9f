"""The views of recipes without their methods: the same as the methods', and what is said of mistakes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from skelpipe.augment.chain import Chain
from skelpipe.augment.named_chains import METHODS as WITH_VIEWS
from skelpipe.errors import UsageError
from skelpipe.loader.recipe_views import read_recipe_views
from skelpipe.loader.view_recipes import Marked
from skelpipe.models.build import METHODS, build_method
from skelpipe.models.method import Progress
from skelpipe.skeleton import layout
from skelpipe.train.recipes.reader import builtin_recipes, load_recipe, to_yaml, with_overrides

KINECT = layout("kinect-v2-25")
SMALL = ["encoder.width=4", "encoder.out_channels=8", "head.hidden=8", "head.dim=8", "queue=16"]


def operators(content: Any) -> Any:
    """Return what makes a view, where it can be compared."""
    op = content.augmentation if isinstance(content, Marked) else getattr(content, "op", content)
    if isinstance(op, Chain):
        return op.ops, op.first, op.curriculum and op.curriculum.stages
    return type(op)


def test_every_method_has_its_views_in_the_table() -> None:
    assert set(WITH_VIEWS) == set(METHODS)


@pytest.mark.parametrize("name", builtin_recipes())
def test_they_are_those_that_the_method_trains_with(name: str, tmp_path: Path) -> None:
    recipe = with_overrides(load_recipe(name), [*SMALL, "views.key.crop=4"])
    method = build_method(recipe, KINECT, anchor=lambda: torch.zeros(3, 64, 25, 2))
    method.advance(Progress(recipe.epochs - 1, recipe.epochs, 1, 2))
    path = tmp_path / "my.yaml"
    path.write_text(to_yaml(recipe))
    found = read_recipe_views(str(path)).recipes(KINECT, "joint", lambda clips: clips)
    trained = method.views()
    if name == "actclr-released":  # whose network makes the other two itself, during the step
        assert list(found) == [*trained, "query", "blend"]
    else:
        assert list(found) == list(trained)
    for view, content in trained.items():
        assert operators(found[view]) == operators(content), view


def test_the_view_of_training_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        "protocol: finetune\naugment: {name: aimclr-extreme, shear: 0.2}\nviews: {clip: {blur: off}}\n"
    )
    made = read_recipe_views(str(path)).recipes(KINECT, "joint", lambda clips: clips)["clip"]
    assert [type(op).__name__ for op in made.ops][-2:] == ["GaussianNoise", "AxisMask"]  # type: ignore[union-attr]
    assert read_recipe_views("finetune").recipes(KINECT, "joint", lambda x: x)["clip"].ops == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: aimclr\nviews: {extrem: []}", r"unknown key 'views.extrem'; did you mean 'views.extreme'"),
        ("method: aimclr\nviews: []", r"views must be a section of `key: value` lines, not \[\]"),
        ("method: simclr", r"method is 'simclr'; known: .*aimclr"),
        ("method: aimclr\nvariant: published", r"variant is 'published'; known: paper, released"),
        ("method: aimclr\naugment: {shaer: 1}", r"unknown key 'augment.shaer'; did you mean 'augment.shear'"),
        ("protocol: linear", r"method is nothing; known"),
        ("- 1", r"expected `key: value` lines, found \[1\]"),
    ],
)
def test_wrong_recipes_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe_views(str(path))
    assert "my.yaml" in str(caught.value)


def test_unknown_recipes_and_wrong_regions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe 'aimcrl': did you mean 'aimclr'"):
        read_recipe_views("aimcrl")
    path = tmp_path / "my.yaml"
    path.write_text("method: skelemixclr\nskelemixclr: {parts: [3, 2]}")
    with pytest.raises(UsageError, match=r"skelemixclr.parts must be \[least, most\]"):
        read_recipe_views(str(path)).recipes(KINECT, "joint", lambda clips: clips)
