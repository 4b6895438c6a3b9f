"""Lists of operators: names, shorthands, changes of a chain, and what is said of mistakes."""

from typing import Any

import pytest
import torch

from skelpipe.augment.chain import chain
from skelpipe.augment.crop import Crop
from skelpipe.augment.draws import Draws
from skelpipe.augment.gaussian_blur import GaussianBlur
from skelpipe.augment.gaussian_noise import GaussianNoise
from skelpipe.augment.named_chains import CHAINS
from skelpipe.augment.op_lists import check_views, read_ops, view_ops
from skelpipe.augment.operators import Strength
from skelpipe.augment.rotate import Rotate
from skelpipe.augment.shear import Shear
from skelpipe.errors import UsageError
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
EXTREME = ["crop", "shear", "spatial-flip", "rotate", "temporal-flip", "noise", "blur", "axis-mask"]


def names(content: Any, strength: Strength | None = None) -> list[str]:
    return [op.name for op in read_ops(content, strength or Strength(), "my.yaml", "views.x")]


def test_a_list_names_operators_with_their_settings() -> None:
    ops = chain([{"shear": 0.3}, "crop", {"rotate": {"other": 2}}, {"noise": 0.05}], crop=4).ops
    assert ops == (Shear(0.3), Crop(4), Rotate(30, 2), GaussianNoise(0.05))
    assert chain([], layout=KINECT).ops == ()
    assert chain(["noise", "blur"], variant="released").ops == (
        GaussianNoise(empty=True),
        GaussianBlur(normalise=False),
    )
    assert chain([{"blur": {"normalise": True}}], variant="released").ops == (GaussianBlur(),)


def test_a_chain_in_a_list_stands_for_its_operators() -> None:
    assert names(["normal", "rotate"]) == ["crop", "shear", "rotate"]
    assert names("aimclr-extreme") == EXTREME == names(["aimclr-extreme"])
    assert names("aimclr-extreme", Strength(released=True)) == [n for n in EXTREME if n != "temporal-flip"]
    assert names("skelemix") == ["crop", "shear", "skelemix"]
    assert names(["skelemix"]) == ["skelemix"]  # an operator comes before the chain of its name


def test_changes_leave_out_and_tune() -> None:
    assert names({"chain": "aimclr-extreme", "rotate": False, "blur": False}) == [
        name for name in EXTREME if name not in ("rotate", "blur")
    ]
    tuned = chain({"chain": "aimclr-extreme", "spatial-flip": {"p": 0.3}, "shear": 0.2}, layout=KINECT).ops
    plain = chain("aimclr-extreme", layout=KINECT).ops
    assert tuned[2].probability == 0.3  # type: ignore[attr-defined]
    assert tuned[1] == Shear(0.2)
    assert tuned[3:] == plain[3:]
    assert names({"chain": ["crop", "noise", "noise"], "noise": False}) == ["crop"]


def test_views_have_their_default_and_changes_of_it() -> None:
    views = {"a": {"rotate": False}, "b": ["crop"], "c": "normal"}
    assert view_ops(views, "a", "aimclr-extreme") == {"chain": "aimclr-extreme", "rotate": False}
    assert view_ops(views, "b", "normal") == ["crop"]
    assert view_ops(views, "d", "normal") == "normal"
    found = check_views(views, dict.fromkeys("abcd", "aimclr-extreme"), Strength(), "my.yaml")
    assert [len(found[name]) for name in "abcd"] == [7, 1, 2, 8]
    with pytest.raises(UsageError, match=r"my.yaml: unknown key 'views.extrem'; did you mean 'views.extreme'"):
        check_views({"extrem": []}, {"extreme": "normal"}, Strength(), "my.yaml")


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("name", [name for name in CHAINS if name not in ("skelemix", "actclr-noise")])
def test_a_chain_written_out_draws_the_same(name: str, variant: str) -> None:
    strength = Strength(0.3, 4, variant == "released")
    written = [{op.name: op.settings.__dict__} for op in read_ops(name, strength, "my.yaml", "x")]
    clips, draws = torch.randn(4, 3, 16, 25, 2), Draws(3, 1, torch.arange(4))
    own = chain(written, layout=KINECT, variant=variant)
    assert torch.equal(
        own(clips, draws), chain(name, layout=KINECT, variant=variant, shear=0.3, crop=4)(clips, draws)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("norml", r"my.yaml: views.x is 'norml'; did you mean 'normal'\? known chains: .*aimclr-extreme"),
        (["shaer"], r"my.yaml: views.x: there is no operator 'shaer'; did you mean 'shear'\? operators: .*crop"),
        ({"chain": "aimclr-extreme", "rotat": False}, r"views.x has no operator 'rotat'; did you mean 'rotate'"),
        ({"chain": "normal", "noise": 0.1}, r"it has: crop, shear; to add it.*\[crop, shear, noise\]"),
        ({"chain": "actclr-non-actionlet", "noise": 0.1}, r"views.x has noise 2 times"),
        ({"rotate": False}, r"the key 'chain'"),
        (5, r"views.x must be a list of operators, the name of a chain, or changes by operator, not 5"),
        ([{"normal": 3}], r"views.x: 'normal' is a chain, which has no settings in a list"),
        ([3], r"views.x holds 3; an entry is an operator's name or \{name: value\}"),
        ([{"shear": 1, "crop": 3}], r"views.x holds"),
        ([{"shear": "x"}], r"my.yaml: views.x.shear.amplitude must be a number"),
    ],
)
def test_mistakes_are_answered_with_what_there_is(content: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_ops(content, Strength(), "my.yaml", "views.x")
