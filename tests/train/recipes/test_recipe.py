from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from skelpipe.errors import UsageError
from skelpipe.models import build, encoders
from skelpipe.models.settings import Setting
from skelpipe.models.skeletonclr import SkeletonCLR
from skelpipe.skeleton import Layout
from skelpipe.train.recipes.recipe import (
    builtin_recipes,
    differences,
    known_keys,
    load_recipe,
    parse_recipe,
    with_overrides,
)

SKELETONCLR = load_recipe("skeletonclr")


def text_with(**changes: object) -> str:
    content = SKELETONCLR.nested() | changes
    return yaml.safe_dump(content)


def test_skeletonclr_has_the_papers_values() -> None:
    # The row of spec D9, by hand.
    assert dict(SKELETONCLR.values) == {
        "method": "skeletonclr",
        "variant": "paper",
        "frames": 50,
        "epochs": 300,
        "batch_size": 128,
        "init": "paper",
        "optimiser.name": "sgd",
        "optimiser.lr": 0.1,
        "optimiser.momentum": 0.9,
        "optimiser.weight_decay": 0.0001,
        "optimiser.warmup": 0,
        "optimiser.milestones": [250],
        "optimiser.accumulate": 1,
        "temperature": 0.07,
        "momentum": 0.999,
        "queue": 32768,
        "encoder.name": "stgcn",
        "encoder.graph": "stgcn_capped",
        "encoder.width": 16,
        "encoder.out_channels": 256,
        "encoder.dropout": 0.5,
        "head.hidden": 256,
        "head.dim": 128,
        "head.batch_norm": False,
        "augment.shear": 0.5,
        "augment.crop": 6,
    }


def test_what_the_papers_tables_call_a_recipe() -> None:
    assert SKELETONCLR.reported == "skeletonclr"
    assert load_recipe("demo").reported == ""
    assert parse_recipe(SKELETONCLR.to_yaml(), "copy") == SKELETONCLR
    # What runs of earlier versions hold there.
    assert parse_recipe(text_with(reported={"knn": {"source": "x", "joint": {"a": 1.0}}}), "old").reported == ""


@pytest.mark.parametrize("name", builtin_recipes())
def test_each_recipe_is_complete_and_survives_writing(name: str) -> None:
    recipe = load_recipe(name)
    assert list(recipe.values) == list(known_keys(recipe.method, recipe["encoder.name"]))
    assert parse_recipe(recipe.to_yaml(), "copy") == recipe


def test_a_path_is_a_recipe_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_with(epochs=7))
    assert load_recipe(str(path))["epochs"] == 7


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"'skeletonlcr'.*demo, .*skeletonclr"):
        load_recipe("skeletonlcr")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; known: method, variant, frames, epochs"),
        ({"encoder": {"wdith": 3}}, "unknown key 'encoder.wdith'.*encoder.width"),
        ({"encoder": 3}, "encoder must be a section"),
        ({"epochs": "many"}, "epochs must be a whole number"),
        ({"epochs": 3.5}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"temperature": 0}, "temperature is 0.0; it must be above 0"),
        ({"temperature": ".nan"}, "temperature must be a number"),
        ({"momentum": 1.5}, "at least 0 and at most 1"),
        ({"method": "simclr"}, "method is 'simclr'; known: skeletonclr"),
        ({"optimiser": {"milestones": [3, "x"]}}, "optimiser.milestones must be a list of whole numbers"),
        ({"reported": 3}, "reported must be the recipe's name in the papers' tables, not 3"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=f"^recipe here: .*{message}"):
        parse_recipe(text_with(**changes), "here")


def test_missing_keys_are_named() -> None:
    content = SKELETONCLR.nested()
    del content["queue"], content["encoder"]["width"]
    with pytest.raises(UsageError, match=r"missing: queue, encoder\.width"):
        parse_recipe(yaml.safe_dump(content), "here")


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "!!python/object/apply:os.getcwd []"])
def test_no_recipe_at_all(text: str) -> None:
    with pytest.raises(UsageError, match=r"^recipe here: "):
        parse_recipe(text, "here")


def test_overrides() -> None:
    recipe = with_overrides(
        SKELETONCLR,
        ["encoder.width=8", "optimiser.weight_decay=1e-5", "optimiser.milestones=[2, 4]", "head.batch_norm=true"],
        epochs=5,
        batch_size=None,
        lr=1,
    )
    changed = {key: value for key, value in recipe.values.items() if value != SKELETONCLR[key]}
    assert changed == {
        "encoder.width": 8,
        "optimiser.weight_decay": 1e-5,
        "optimiser.milestones": [2, 4],
        "head.batch_norm": True,
        "epochs": 5,
        "optimiser.lr": 1.0,
    }
    assert SKELETONCLR["epochs"] == 300


def test_another_encoder_brings_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(layout: Layout, depth: int = 3, rate: float = 0.5) -> None: ...

    settings = {"depth": Setting("int", low=1), "rate": Setting("float")}
    monkeypatch.setitem(encoders.ENCODERS, "deep", encoders.Backbone(make, settings))
    changed = with_overrides(SKELETONCLR, ["encoder.rate=0.1", "encoder.name=deep"])
    assert {key: value for key, value in changed.values.items() if key.startswith("encoder.")} == {
        "encoder.name": "deep",
        "encoder.depth": 3,
        "encoder.rate": 0.1,
    }
    assert parse_recipe(changed.to_yaml(), "copy") == changed
    with pytest.raises(UsageError, match="unknown key 'encoder.width'.*encoder.depth"):
        with_overrides(SKELETONCLR, ["encoder.name=deep", "encoder.width=8"])


def test_a_methods_section_is_required_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mining(SkeletonCLR):
        name = "mining"
        settings: ClassVar = {"start": Setting("int", low=0), "kind": Setting("str", choices=("hard", "soft"))}

    monkeypatch.setitem(build.METHODS, "mining", Mining)
    section = {"start": 150, "kind": "soft"}
    recipe = parse_recipe(text_with(method="mining", mining=section), "here")
    assert recipe.nested()["mining"] == section
    assert with_overrides(recipe, ["mining.kind=hard"])["mining.kind"] == "hard"
    for changes, message in (
        ({}, "missing: mining.start, mining.kind"),
        ({"mining": {"start": 150}}, "missing: mining.kind"),
        ({"mining": {**section, "end": 3}}, "unknown key 'mining.end'; known: .*mining.start, mining.kind"),
        ({"mining": {**section, "kind": "odd"}}, "mining.kind is 'odd'; known: hard, soft"),
        ({"mining": {**section, "start": -1}}, "mining.start is -1; it must be at least 0"),
        ({"mining": 3}, "mining must be a section"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_recipe(text_with(method="mining", **changes), "here")
    with pytest.raises(UsageError, match=r"unknown key 'mining\.\w+'"):
        parse_recipe(text_with(mining=section), "here")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method=aimclr", "give --method or --recipe"),
        ("encoder.name=x", "known: stgcn"),
        ("width=3", "unknown key 'width'"),
        ("queue", "expected KEY=VALUE"),
        ("queue=lots", "queue must be"),
    ],
)
def test_wrong_overrides(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--set.*{message}"):
        with_overrides(SKELETONCLR, [setting])


def test_differences_name_each_value() -> None:
    assert differences(SKELETONCLR, SKELETONCLR) == []
    other = with_overrides(SKELETONCLR, ["queue=64"], epochs=2)
    assert differences(SKELETONCLR, other) == ["epochs: 300, now 2", "queue: 32768, now 64"]
