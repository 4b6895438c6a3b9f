"""Parts of a method: the recipe's values reach them, and each is new."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skelpipe.augment.chain import chain
from skelpipe.augment.draws import Draws
from skelpipe.errors import UsageError
from skelpipe.models import build, build_method
from skelpipe.models.build import recipe_of
from skelpipe.models.method import Method
from skelpipe.models.parts import ContrastSettings, HeadSettings, MethodRecipe, Parts, projection_head
from skelpipe.models.settings.tables import METHOD_SETTINGS
from skelpipe.settings import Amount, Bounds
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
RECIPE: dict[str, Any] = {
    "method": "skeletonclr",
    "variant": "released",
    "encoder": {"name": "stgcn", "width": 4, "out_channels": 24},
    "head": {"hidden": 20, "dim": 12, "batch_norm": True},
    "augment": {"shear": 0.25, "crop": 4},
    "queue": 40,
    "momentum": 0.99,
    "temperature": 0.2,
}


TOP: dict[str, Any] = {
    "head": HeadSettings(hidden=20, dim=12, batch_norm=True),
    "queue": 40,
    "momentum": 0.99,
    "temperature": 0.2,
}


def parts_of(recipe: dict[str, Any], view: str = "joint") -> Parts:
    return Parts(recipe_of(MethodRecipe, recipe, "recipe"), KINECT, view)


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in module.parameters()]


def test_plain_values() -> None:
    parts = parts_of(RECIPE, "bone")
    assert (parts.layout, parts.view) == (KINECT, "bone")
    assert (parts.recipe.variant, parts.recipe.settings.temperature) == ("released", 0.2)
    assert parts.augment == {"shear": 0.25, "crop": 4}
    assert parts.anchor is None


def test_heads_fit_the_backbone_by_default() -> None:
    parts = parts_of(RECIPE)
    assert shapes(parts.head()) == [(20, 24), (20,), (20,), (20,), (12, 20), (12,)]
    assert shapes(parts.head(7))[0] == (20, 7)


def test_feature_dim_draws_nothing() -> None:
    parts = parts_of(RECIPE)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert parts.feature_dim == 24
    assert torch.rand(3).equal(expected)


def test_every_part_is_new() -> None:
    parts = parts_of(RECIPE)
    assert not torch.equal(parts.encoder().blocks[3].temporal.weight, parts.encoder().blocks[3].temporal.weight)
    first, second = parts.moco(), parts.moco()
    assert not torch.equal(first.queue, second.queue)
    assert first.queue.shape == (40, 12)
    assert first.momentum == 0.99


def test_moco_takes_given_networks() -> None:
    parts = parts_of(RECIPE)
    encoder = parts.encoder()
    head = parts.head()
    moco = parts.moco(encoder, head)
    assert moco.encoder is encoder
    assert moco.head is head
    assert shapes(parts.moco(encoder).head)[0] == (20, 24)


def test_chains_have_the_recipes_strength() -> None:
    draws, clips = Draws(0, 0, torch.arange(4)), torch.randn(4, 3, 12, 25, 2)
    found = parts_of(RECIPE).view_chain("query", "normal")(clips, draws)
    assert torch.equal(found, chain("normal", shear=0.25, crop=4)(clips, draws))


def test_views_have_the_recipes_operators() -> None:
    parts = parts_of({**RECIPE, "views": {"query": ["normal", "rotate"], "key": {"shear": False}}})
    query, key = parts.view_chain("query", "normal"), parts.view_chain("key", "normal", first=3)
    assert query.ops == chain(["normal", "rotate"], shear=0.25, crop=4).ops
    assert (key.ops, key.first) == (query.ops[:1], 3)
    assert parts.view_chain("query", "normal") is query  # alike, so that a report shows them once
    thinned = parts.view_chain("query", "actclr-actionlet", curriculum=True, begins=2)
    assert thinned.curriculum is not None
    assert (thinned.curriculum.always, thinned.curriculum.begins) == (2, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "best"}, "variant is 'best'; known: paper, released"),
        ({"augment": {"sheer": 1}}, "unknown key 'augment.sheer'; did you mean 'augment.shear'"),
        ({"augment": {"crop": 0}}, "augment.crop is 0; it must be at least 1"),
        ({"head": {"batch_norm": 1}}, "head.batch_norm must be true or false"),
    ],
)
def test_wrong_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parts_of({**RECIPE, **change})


@dataclass(frozen=True, kw_only=True)
class AnchoredSettings(ContrastSettings):
    weight: Amount = 2.0
    steps: Bounds = field(default_factory=lambda: [1, 2])


class Anchored(Method):
    """Keeps the arguments that it is built with."""

    name = "anchored"
    Settings = AnchoredSettings

    def __init__(self, parts: Parts, settings: Any) -> None:
        super().__init__()
        self.parts, self.given = parts, settings

    @classmethod
    def build(cls, parts: Parts, settings: Any) -> "Anchored":
        return cls(parts, settings)


def test_a_method_gets_its_section_checked_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.METHODS, "anchored", Anchored)
    monkeypatch.setitem(METHOD_SETTINGS, "anchored", Anchored.Settings)

    def anchor() -> Tensor:
        return torch.ones(3)

    recipe = {**RECIPE, "method": "anchored", "anchored": {"weight": 1, "steps": [3, 4]}}
    built = build_method(recipe, KINECT, "motion", anchor)
    assert isinstance(built, Anchored)
    assert built.given == AnchoredSettings(weight=1.0, steps=[3, 4], **TOP)
    assert built.parts.view == "motion"
    assert built.parts.anchor is anchor
    for section, message in (
        ({"weight": -1}, "anchored.weight is -1; it must be at least 0"),
        ({"weight": 1, "steps": [0]}, "anchored.steps is 0; it must be at least 1"),
        ({"width": 1}, "unknown key 'anchored.width'; did you mean 'anchored.weight'"),
    ):
        with pytest.raises(UsageError, match=message):
            build_method({**recipe, "anchored": section}, KINECT)
    plain = build_method({**RECIPE, "method": "anchored"}, KINECT)
    assert isinstance(plain, Anchored)
    assert plain.given == AnchoredSettings(**TOP)


def test_plain_head_is_two_linear_maps_with_a_relu_between() -> None:
    head = projection_head(6, 5, 4)
    (w1, b1), (w2, b2) = ((m.weight, m.bias) for m in head if isinstance(m, nn.Linear))
    h = torch.randn(7, 6)
    assert torch.allclose(head(h), F.relu(h @ w1.T + b1) @ w2.T + b2, atol=1e-6)
    assert sum(p.numel() for p in projection_head(256, 256, 128).parameters()) == 256 * 257 + 128 * 257


def test_head_with_batch_norm() -> None:
    head = projection_head(6, 5, 4, batch_norm=True)
    first, last = (m for m in head if isinstance(m, nn.Linear))
    h = torch.randn(9, 6)
    hidden = first(h)
    hidden = (hidden - hidden.mean(0)) / torch.sqrt(hidden.var(0, correction=0) + 1e-5)
    assert torch.allclose(head(h), last(F.relu(hidden)), atol=1e-5)
