"""Reading, overriding and comparing recipes, and what is said about one that is wrong."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import yaml

from skelpipe.errors import UsageError
from skelpipe.models import build, encoders
from skelpipe.models.build import METHODS
from skelpipe.models.method import Method
from skelpipe.models.parts import ContrastSettings
from skelpipe.models.settings import BackboneSettings, tables
from skelpipe.settings import Amount, Count, Whole, flat, top_keys
from skelpipe.train.recipes.reader import (
    builtin_recipes,
    differences,
    load_recipe,
    parse_recipe,
    to_yaml,
    with_overrides,
)
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe, PretrainRecipe

SKELETONCLR = load_recipe("skeletonclr")


def text_with(**changes: object) -> str:
    return yaml.safe_dump(SKELETONCLR.content() | changes)


def test_a_recipe_may_say_no_more_than_what_differs() -> None:
    short = parse_recipe("method: skeletonclr\nepochs: 7\nencoder: {width: 8}\n", "short")
    assert short == with_overrides(PretrainRecipe(), ["encoder.width=8"], epochs=7)
    mixed = parse_recipe("method: skelemixclr\nskelemixclr: {repeats: 3}\n", "short")
    assert (mixed.settings.repeats, mixed.settings.parts) == (3, [2, 3])
    tuned = parse_recipe("protocol: finetune\noptimiser: {lr: 0.05}\n", "short", FinetuneRecipe)
    assert (tuned.optimiser.lr, tuned.optimiser.warmup, tuned.encoder) == (0.05, 10, None)
    scratch = parse_recipe("encoder: {name: dsta, heads: 2}", "short", FinetuneRecipe)
    assert flat(scratch.content())["encoder.width"] == 64
    assert parse_recipe("epochs: 2", "short", LinearRecipe).optimiser.lr == 3.0


def test_the_model_before_the_released_actclr_is_aimclr_but_for_batch_and_queue() -> None:
    changes = ["variant=released", "batch_size=256", "queue=65536"]
    expected = with_overrides(load_recipe("aimclr"), changes)
    assert load_recipe("aimclr-for-actclr") == replace(expected, reported="")


def test_a_path_is_a_recipe_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text_with(epochs=7))
    assert load_recipe(str(path)).epochs == 7
    path.write_bytes(b"epochs: \xff")
    with pytest.raises(UsageError, match=r"mine\.yaml: is no UTF-8 text"):
        load_recipe(str(path))


@pytest.mark.parametrize("kind", [PretrainRecipe, FinetuneRecipe, LinearRecipe])
def test_another_schedule_or_optimiser_drops_what_has_no_effect_with_it(kind: type) -> None:
    recipe = with_overrides(kind(), ["optimiser.milestones=[2]", "optimiser.lr=0.5"])
    cosine = with_overrides(recipe, ["optimiser.schedule=cosine", "optimiser.name=adamw", "optimiser.beta2=0.9"])
    said = cosine.content()["optimiser"]
    assert (said["schedule"], said["name"], said["beta2"], said["lr"]) == ("cosine", "adamw", 0.9, 0.5)
    assert not {"milestones", "nesterov", "factor"} & said.keys()
    assert parse_recipe(to_yaml(cosine), "copy", kind) == cosine
    back = with_overrides(cosine, ["optimiser.schedule=steps", "optimiser.name=sgd"])
    assert back.optimiser == replace(kind().optimiser, lr=0.5)


@pytest.mark.parametrize("kind", [PretrainRecipe, FinetuneRecipe, LinearRecipe])
def test_unknown_name_lists_the_known(kind: type) -> None:
    with pytest.raises(UsageError, match=rf"'skeletonlcr'.*{builtin_recipes(kind)[0]}"):
        load_recipe("skeletonlcr", kind)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "unknown key 'epoch'; did you mean 'epochs'\\? known: .*frames, epochs"),
        ({"encoder": {"wdith": 3}}, "unknown key 'encoder.wdith'; did you mean 'encoder.width'"),
        ({"optimiser": {"rate": 3}}, "unknown key 'optimiser.rate'; .*optimiser.lr"),
        ({"encoder": 3}, "encoder must be a section of `key: value` lines, not 3"),
        ({"head": None}, "head must be a section of `key: value` lines, not nothing"),
        ({"epochs": "many"}, "epochs must be a whole number, not 'many'"),
        ({"epochs": 3.5}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"temperature": ".nan"}, "temperature must be a number"),
        ({"temperature": float("inf")}, "temperature must be a number"),
        ({"momentum": 1.5}, "momentum is 1.5; it must be at most 1"),
        ({"momentum": -1}, "momentum is -1; it must be at least 0"),
        ({"method": "simclr"}, "method is 'simclr'; .*known: skeletonclr"),
        ({"variant": "papper"}, "variant is 'papper'; did you mean 'paper'\\? known: paper, released"),
        ({"head": {"batch_norm": 1}}, "head.batch_norm must be true or false"),
        ({"optimiser": {"milestones": [3, "x"]}}, "optimiser.milestones must be a list of whole numbers"),
        ({"optimiser": {"milestones": 3}}, "optimiser.milestones must be a list of whole numbers, not 3"),
        ({"optimiser": {"milestones": [0]}}, "optimiser.milestones is 0; it must be at least 1"),
        ({"encoder": {"name": "stgnc"}}, "encoder.name is 'stgnc'; did you mean 'stgcn'\\? known: stgcn"),
        ({"method": "skelemixclr", "skelemixclr": {"parts": [3]}}, "skelemixclr.parts must be \\[least, most\\]"),
        (
            {"method": "skelemixclr", "skelemixclr": {"parts": [3, 2]}},
            "skelemixclr.parts must be \\[least, most\\]",
        ),
        ({"encoder": {"name": "dsta", "width": 6}}, "encoder.width is 6; it must be a multiple of 4"),
        ({"optimiser": {"schedule": "linear"}}, "optimiser.schedule is 'linear'; known: steps, plateau, cosine"),
        (
            {"optimiser": {"schedule": "cosine", "milestones": [3]}},
            "optimiser.milestones is \\[3\\] and has no effect with optimiser.schedule=cosine: leave it out",
        ),
        ({"optimiser": {"beta2": 0.9}}, "optimiser.beta2 is 0.9 and has no effect with optimiser.name=sgd"),
        ({"optimiser": {"patience": 3}}, "optimiser.patience is 3 and has no effect with .*schedule=steps"),
        ({"optimiser": {"per": "step"}}, "optimiser.per is 'step' and has no effect with optimiser.warmup=0 and"),
        ({"reported": 3}, "reported must be the recipe's name in the papers' tables, not 3"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=f"^recipe here: .*{message}"):
        parse_recipe(text_with(**changes), "here")


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (FinetuneRecipe, "epoch: 3", "unknown key 'epoch'; did you mean 'epochs'"),
        (FinetuneRecipe, "protocol: linear", "protocol is 'linear'; known: finetune"),
        (FinetuneRecipe, "encoder: {name: resnet}", "encoder.name is 'resnet'; known: stgcn"),
        (FinetuneRecipe, "modes: evil", "modes is 'evil'; did you mean 'eval'\\? known: train, eval"),
        (LinearRecipe, "colour: red", "unknown key 'colour'; known: protocol, epochs"),
        (LinearRecipe, "optimiser: {nesterov: true}", "unknown key 'optimiser.nesterov'"),
        (PretrainRecipe, "epochs: 3", "the key 'method' is missing"),
    ],
)
def test_what_is_wrong_with_other_kinds(kind: type, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^recipe here: .*{message}"):
        parse_recipe(text, "here", kind)


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "!!python/object/apply:os.getcwd []"])
@pytest.mark.parametrize("kind", [PretrainRecipe, FinetuneRecipe, LinearRecipe])
def test_no_recipe_at_all(text: str, kind: type) -> None:
    with pytest.raises(UsageError, match=r"^recipe here"):
        parse_recipe(text, "here", kind)


@pytest.mark.parametrize("kind", [PretrainRecipe, FinetuneRecipe, LinearRecipe])
def test_a_key_that_stands_twice_is_refused(kind: type) -> None:
    with pytest.raises(UsageError, match=r"recipe here:2: .*'epochs' is given twice"):
        parse_recipe("epochs: 3\nepochs: 4\n", "here", kind)
    with pytest.raises(UsageError, match="'lr' is given twice"):
        parse_recipe("optimiser:\n  lr: 1\n  lr: 2\n", "here", kind)


def test_overrides() -> None:
    recipe = with_overrides(
        SKELETONCLR,
        ["encoder.width=8", "optimiser.weight_decay=1e-5", "optimiser.milestones=[2, 4]", "head.batch_norm=true"],
        epochs=5,
        batch_size=None,
        lr=1,
    )
    before, now = flat(SKELETONCLR.content()), flat(recipe.content())
    assert {key: value for key, value in now.items() if value != before[key]} == {
        "encoder.width": 8,
        "optimiser.weight_decay": 1e-5,
        "optimiser.milestones": [2, 4],
        "head.batch_norm": True,
        "epochs": 5,
        "optimiser.lr": 1.0,
    }
    assert SKELETONCLR.epochs == 300
    assert recipe.reported == "skeletonclr"
    linear = with_overrides(LinearRecipe(), ["optimiser.milestones=[3, 5]"], epochs=7, lr=0.5)
    assert (linear.epochs, linear.optimiser.lr, linear.optimiser.milestones) == (7, 0.5, [3, 5])
    scratch = with_overrides(FinetuneRecipe(), ["encoder.name=dsta", "encoder.heads=2"])
    assert flat(scratch.content())["encoder.heads"] == 2


@dataclass(frozen=True, kw_only=True)
class DeepSettings(BackboneSettings):
    name: Literal["deep"] = "deep"
    depth: Count = 3
    rate: Amount = 0.5


class Deep:
    Settings: ClassVar[type] = DeepSettings


def test_another_encoder_brings_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.ENCODERS, "deep", Deep)
    monkeypatch.setitem(tables.BACKBONE_SETTINGS, "deep", Deep.Settings)
    changed = with_overrides(SKELETONCLR, ["encoder.rate=0.1", "encoder.name=deep"])
    assert changed.content()["encoder"] == {"name": "deep", "depth": 3, "rate": 0.1}
    assert parse_recipe(to_yaml(changed), "copy") == changed
    with pytest.raises(UsageError, match="unknown key 'encoder.width'.*encoder.depth"):
        with_overrides(SKELETONCLR, ["encoder.name=deep", "encoder.width=8"])


@dataclass(frozen=True, kw_only=True)
class MiningSettings(ContrastSettings):
    start: Whole = 150
    kind: Literal["hard", "soft"] = "hard"
    bounds: list[Count] = field(default_factory=lambda: [1, 2])


class Mining(Method):
    name = "mining"
    Settings: ClassVar[type] = MiningSettings


def test_a_method_owns_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(build.METHODS, "mining", Mining)
    monkeypatch.setitem(tables.METHOD_SETTINGS, "mining", Mining.Settings)
    section: dict[str, Any] = {"start": 10, "kind": "soft"}
    recipe = parse_recipe(text_with(method="mining", mining=section), "here")
    assert recipe.settings == MiningSettings(start=10, kind="soft")
    assert recipe.content()["mining"] == {**section, "bounds": [1, 2]}
    assert with_overrides(recipe, ["mining.kind=hard"]).settings.kind == "hard"
    assert parse_recipe(text_with(method="mining"), "here").settings == MiningSettings()
    for changes, message in (
        ({"mining": {**section, "end": 3}}, "unknown key 'mining.end'; .*mining.start, mining.kind"),
        ({"mining": {**section, "kind": "odd"}}, "mining.kind is 'odd'; known: hard, soft"),
        ({"mining": {**section, "start": -1}}, "mining.start is -1; it must be at least 0"),
        ({"mining": 3}, "mining must be a section"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_recipe(text_with(method="mining", **changes), "here")
    with pytest.raises(UsageError, match="unknown key 'mining'"):
        parse_recipe(text_with(mining=section), "here")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method=aimclr", "give --method or --recipe"),
        ("encoder.name=x", "known: stgcn"),
        ("width=3", "unknown key 'width'"),
        ("epochs.x=3", "unknown key 'epochs.x'"),
        ("queue", "expected KEY=VALUE"),
        ("queue=lots", "queue must be"),
        ("queue=[", "queue=\\[: the value is no YAML"),
    ],
)
def test_wrong_overrides(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--set.*{message}"):
        with_overrides(SKELETONCLR, [setting])


def test_a_wrong_option_is_named_as_it_was_given() -> None:
    with pytest.raises(UsageError, match=r"^--batch-size: batch_size is 0; it must be at least 1"):
        with_overrides(SKELETONCLR, batch_size=0)
    with pytest.raises(UsageError, match=r"^--lr: optimiser\.lr is -1; it must be at least 0"):
        with_overrides(LinearRecipe(), lr=-1)


def test_a_wrong_override_names_the_option_that_gave_it() -> None:
    with pytest.raises(UsageError, match=r"^--network-set: unknown key 'encoder\.widht'"):
        with_overrides(SKELETONCLR, ["encoder.widht=2"], by="--network-set")


def test_differences_name_each_value() -> None:
    assert differences(SKELETONCLR, SKELETONCLR) == []
    other = with_overrides(SKELETONCLR, ["queue=64"], epochs=2)
    assert differences(SKELETONCLR, other) == ["epochs: 300, now 2", "queue: 32768, now 64"]


def test_recipes_of_earlier_versions_mean_what_they_meant() -> None:
    """`predictors` could not be set once, and followed the variant; figures stood under `reported`."""
    content = load_recipe("skeattnclr").content()
    del content["skeattnclr"]["predictors"]
    old = parse_recipe(yaml.safe_dump(content), "old")
    assert old.settings.predictors == "variant"
    assert with_overrides(old, ["skeattnclr.predictors=three"]).settings.predictors == "three"
    assert parse_recipe(text_with(reported={"knn": {"source": "x", "joint": {"a": 1.0}}}), "old").reported == ""


def test_views_are_set_by_operator_and_read_back() -> None:
    recipe = load_recipe("aimclr")
    for settings, views in (
        (["views.extreme.rotate=off"], {"extreme": {"chain": "aimclr-extreme", "rotate": False}}),
        (["views.key.crop=5"], {"key": {"chain": "normal", "crop": 5}}),
        (
            ["views.extreme.spatial-flip.p=0.3"],
            {"extreme": {"chain": "aimclr-extreme", "spatial-flip": {"p": 0.3}}},
        ),
        (["views.extreme=[{crop: 6}, {shear: 0.5}]"], {"extreme": [{"crop": 6}, {"shear": 0.5}]}),
        (["views.key=[crop]", "views.key.crop=3"], {"key": {"chain": ["crop"], "crop": 3}}),
        (
            ["views.extreme=msmclr-strong", "views.extreme.noise=off"],
            {"extreme": {"chain": "msmclr-strong", "noise": False}},
        ),
    ):
        changed = with_overrides(recipe, settings)
        assert changed.views == {**recipe.views, **views}
        assert parse_recipe(to_yaml(changed), "again") == changed
        (difference,) = differences(recipe, changed)
        assert difference.startswith(f"views.{next(iter(views))}: crop(ratio=6)")
    unsaid = load_recipe("skeletonclr")
    assert "views" not in unsaid.content()
    assert with_overrides(unsaid, ["views.query.shear=off"]).views == {"query": {"shear": False}}
    assert differences(replace(recipe, views={}), recipe) == []  # a run from before recipes had views


def test_views_differ_by_their_operators() -> None:
    recipe = load_recipe("aimclr")
    same = with_overrides(recipe, ["views.query=[crop, shear]", "views.extreme.rotate=30"])
    assert differences(recipe, same) == []
    assert differences(recipe, with_overrides(recipe, ["augment.shear=0.2"])) == ["augment.shear: 0.5, now 0.2"]
    assert differences(recipe, with_overrides(recipe, ["views.key.shear=0.2"])) == [
        "views.key: crop(ratio=6), shear(amplitude=0.5), now crop(ratio=6), shear(amplitude=0.2)"
    ]
    labelled = load_recipe("finetune", FinetuneRecipe)
    assert differences(labelled, with_overrides(labelled, ["views.clip=[crop]"])) == [
        "views.clip: none, now crop(ratio=6)"
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["views.extrem.rotate=off"], r"--set: unknown key 'views.extrem'; did you mean 'views.extreme'"),
        (["views.extreme.rotat=off"], r"--set: views.extreme has no operator 'rotat'; did you mean 'rotate'"),
        (["views.extreme.rotate.mian=3"], r"unknown key 'views.extreme.rotate.mian'.*views.extreme.rotate.other"),
        (["views.extreme=norml"], r"views.extreme is 'norml'; did you mean 'normal'"),
        (["views=3"], r"views must be a section of `key: value` lines, not 3"),
        (["variant=released", "views.extreme.temporal-flip=off"], r"has no operator 'temporal-flip'"),
        (["view.extreme=[]"], r"unknown key 'view'; did you mean 'views'"),
    ],
)
def test_wrong_views_are_answered_with_what_there_is(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        with_overrides(load_recipe("aimclr"), settings)


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_key_lists_those_of_the_method_and_of_no_other(name: str) -> None:
    top = top_keys(METHODS[name].Settings)
    assert {"temperature", "momentum", "queue", "head"} == set(top)
    own = [each.name for each in fields(METHODS[name].Settings) if each.name not in top]
    with pytest.raises(UsageError, match="unknown key 'nosuch'") as raised:
        parse_recipe(f"method: {name}\nnosuch: 1", "here")
    known = str(raised.value).partition("known: ")[2].split(", ")
    assert set(top) <= set(known)
    assert set(known) & METHODS.keys() == ({name} if own else set())
    if own:
        with pytest.raises(UsageError, match=f"unknown key '{name}.nosuch'") as raised:
            parse_recipe(f"method: {name}\n{name}: {{nosuch: 1}}", "here")
        assert str(raised.value).partition("known: ")[2].split(", ") == [f"{name}.{key}" for key in own]
