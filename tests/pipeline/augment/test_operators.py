"""The operators by name: every class has a name, every parameter a setting, and the documentation has them all."""

import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

import skelpipe.augment
from skelpipe.augment.operators import OPERATORS, Chosen, Operator, Strength
from skelpipe.errors import UsageError
from skelpipe.settings import nested
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")
PAGE = (Path(__file__).parents[3] / "docs" / "augmentation.md").read_text("utf-8")
WITHOUT_A_NAME = {"SkeletonAdaIN", "SkeletonMix"}  # they act on finished views of the method that has them


def chosen(name: str, released: bool = False) -> Chosen:
    return Chosen(name, Strength(released=released).settings(name), "my.yaml", name)


def test_every_operator_has_a_name() -> None:
    found = set()
    for module in iter_modules(skelpipe.augment.__path__):
        loaded = import_module(f"skelpipe.augment.{module.name}")
        for name, kind in inspect.getmembers(loaded, inspect.isclass):
            own = kind.__module__ == loaded.__name__ and not getattr(kind, "_is_protocol", False)
            if own and hasattr(kind, "apply") and hasattr(kind, "sample") and module.name != "chain":
                found.add(name)
    assert {operator.kind.__name__ for operator in OPERATORS.values()} == found - WITHOUT_A_NAME  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "operator"), OPERATORS.items())
def test_the_settings_are_the_parameters_with_their_defaults(name: str, operator: Operator) -> None:
    parameters = dict(inspect.signature(operator.kind).parameters)
    parameters.pop("layout", None)
    wanted = {"p" if key == "probability" else key: each.default for key, each in parameters.items()}
    settings = nested(chosen(name).settings)
    assert {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()} == wanted
    made, plain = chosen(name).op(KINECT), operator.kind(**({"layout": KINECT} if needs_layout(operator) else {}))
    assert type(made) is type(plain)
    if name != "skelemix":  # whose class compares by identity
        assert made == plain
    assert set(operator.main) | set(operator.released) <= set(settings)


def needs_layout(operator: Operator) -> bool:
    return "layout" in inspect.signature(operator.kind).parameters


@pytest.mark.parametrize("name", OPERATORS)
def test_the_documentation_lists_every_setting_with_its_default(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \| (`.*) \|$", PAGE, re.M)

    listed = re.findall(r"`([\w-]+)` (\[[^]]*\]|[^,|]+)", row.split("|")[0])

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else str(value)

    assert {key: value.strip() for key, value in listed} == {
        key: text(value) for key, value in nested(chosen(name).settings).items()
    }


def test_a_bare_value_is_the_main_setting() -> None:
    assert nested(chosen("shear").tuned(0.3).settings) == {"amplitude": 0.3}
    assert nested(chosen("rotate").tuned(90).settings) == {"main": 90.0, "other": 1.0}
    assert nested(chosen("joint-mask").tuned([2, 4]).settings) == {"fewest": 2, "most": 4, "p": 0.5}
    assert nested(chosen("noise").tuned({"p": 1}).settings) == {"sd": 0.01, "p": 1.0, "empty": False}
    assert nested(chosen("noise", released=True).tuned(0.05).settings)["empty"] is True
    assert chosen("noise").tuned(True) == chosen("noise") == chosen("noise").tuned(None)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shear", "x", r"my.yaml: shear.amplitude must be a number, not 'x'"),
        ("shear", -1, r"my.yaml: shear: amplitude is -1; it must be between 0 and 10"),
        ("crop", 2.5, r"crop.ratio must be a whole number"),
        ("spatial-flip", {"p": 2}, r"spatial-flip.p is 2; it must be at most 1"),
        ("rotate", {"mian": 3}, r"unknown key 'rotate.mian'; did you mean 'rotate.main'.*rotate.other"),
        ("blur", 3, r"blur is 3; it must be \[low, high\] or settings by name: low, high, p, normalise"),
        ("joint-mask", [5, 3], r"joint-mask: a joint mask cannot cover 5 to 3 joints"),
        ("skelemix", 3, r"skelemix is 3; it must be settings by name: parts, blocks"),
        ("skelemix", {"parts": [3, 2]}, r"skelemix.parts must be \[least, most\], not \[3, 2\]"),
        ("noise", {"empty": 3}, r"noise.empty must be true or false"),
    ],
)
def test_wrong_values_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(name).tuned(value)


def test_a_missing_layout_and_a_layout_that_does_not_fit_are_said() -> None:
    with pytest.raises(UsageError, match="my.yaml: spatial-flip: .*layout"):
        chosen("spatial-flip").op(None)
    with pytest.raises(UsageError, match="my.yaml: skelemix: .*9 of 5 body parts"):
        chosen("skelemix").tuned({"parts": [2, 9]}).op(KINECT)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("crop", 0, "ratio 0 changes nothing: leave it out, or say off"),
        ("crop", 1000, "ratio is 1000; it must be between 0 and 100"),
        ("shear", 0, "amplitude 0 changes nothing"),
        ("shear", 99, "amplitude is 99; it must be between 0 and 10"),
        ("centred-shear", 99, "amplitude is 99"),
        ("rotate", {"main": 0, "other": 0}, "main and other 0 changes nothing"),
        ("rotate", -30, "main is -30; it must be between 0 and 360"),
        ("noise", 0, "sd 0 changes nothing"),
        ("noise", 99, "sd is 99"),
        ("blur", [1, 99], "high is 99; it must be between 0 and 15"),
        ("joint-mask", [0, 0], "most 0 changes nothing"),
        ("number-mask", 0, "share 0 changes nothing"),
        ("joint-noise", 0, "count 0 changes nothing"),
        ("time-rescale", [1, 99], "high is 99"),
        ("bone-rescale", -1, "strength is -1"),
        ("bone-rescale", 0, "strength 0 changes nothing"),
        ("skelemix", {"random_joints": [1, 2]}, "random_joints are those of cropping random"),
        *(
            (name, {"p": 0}, "p 0 changes nothing")
            for name in ("spatial-flip", "temporal-flip", "axis-mask", "blur")
        ),
    ],
)
def test_values_without_effect_or_meaning_are_refused(name: str, value: Any, fault: str) -> None:
    with pytest.raises(UsageError, match=rf"^my\.yaml: {name}: .*{fault}"):
        chosen(name).tuned(value).op(KINECT)


@pytest.mark.parametrize(("name", "value"), [("joint-noise", 99), ("joint-mask", [5, 26])])
def test_no_more_joints_than_the_layout_has(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^my\.yaml: {name}: \w+ is \d+; kinect-v2-25 has 25 joints$"):
        chosen(name).tuned(value).op(KINECT)
    most = 25 if name == "joint-noise" else [5, 25]
    chosen(name).tuned(most).op(KINECT)
