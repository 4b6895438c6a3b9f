"""Recipes of fine-tuning: the papers' values, and what is said about one that is wrong."""

from pathlib import Path

import pytest

from skelpipe.errors import UsageError
from skelpipe.train.recipes.finetuning import builtin_tuning_recipes, load_tuning_recipe, with_tuning_overrides
from skelpipe.train.running.loop import learning_rate

PAPER = {  # spec E3 and E4
    "finetune": dict(epochs=110, lr=0.1, wd=1e-4, milestones=[50, 70, 90], warmup=10, modes="train"),
    "finetune-semi": dict(epochs=100, lr=0.1, wd=1e-4, milestones=[80], warmup=20, modes="train"),
    "finetune-semi-1-released": dict(epochs=150, lr=0.05, wd=0, milestones=[40], warmup=0, modes="eval"),
    "finetune-semi-10-released": dict(epochs=150, lr=0.1, wd=1e-4, milestones=[80], warmup=0, modes="eval"),
    "finetune-actclr": dict(epochs=80, lr=0.1, wd=1e-4, milestones=[29, 49], warmup=0, modes="train"),
    "finetune-skeattnclr": dict(epochs=150, lr=0.01, wd=0, milestones=[60, 100], warmup=0, modes="eval"),
}


@pytest.mark.parametrize("name", PAPER)
def test_recipes_hold_the_papers_values(name: str) -> None:
    recipe = load_tuning_recipe(name)
    keys = {"lr": "optimiser.lr", "wd": "optimiser.weight_decay", "milestones": "optimiser.milestones"}
    keys["warmup"] = "optimiser.warmup"
    assert {key: recipe[keys.get(key, key)] for key in PAPER[name]} == PAPER[name]
    assert recipe["optimiser.name"] == "sgd"
    assert recipe["augment.name"] == "none"
    assert {*PAPER, "supervised", "supervised-small"} == set(builtin_tuning_recipes())


def test_the_schedule_of_fine_tuning() -> None:
    recipe = load_tuning_recipe("finetune")
    values = [recipe[f"optimiser.{key}"] for key in ("lr", "milestones", "warmup")]
    rates = {epoch: learning_rate(values[0], values[1], epoch, values[2]) for epoch in (1, 5, 10, 50, 51, 71, 110)}
    assert rates == pytest.approx({1: 0.01, 5: 0.05, 10: 0.1, 50: 0.1, 51: 0.01, 71: 0.001, 110: 0.0001})


def test_a_recipe_of_ones_own_must_be_whole(tmp_path: Path) -> None:
    text = load_tuning_recipe("supervised").to_yaml()
    (tmp_path / "own.yaml").write_text(text)
    own = load_tuning_recipe(str(tmp_path / "own.yaml"))
    assert own == load_tuning_recipe("supervised")
    assert with_tuning_overrides(own, ["encoder.name=dsta"]).values["encoder.name"] == "dsta"
    for broken, words in (
        (text.replace("epochs:", "epoch:"), "unknown key 'epoch'"),
        (text.replace("  width: 16\n", ""), "missing: encoder.width"),
        (text.replace("protocol: finetune", "protocol: linear"), "protocol is 'linear'"),
        ("- 1", "expected `key: value` lines"),
        ("a: [", "no valid YAML"),
    ):
        (tmp_path / "own.yaml").write_text(broken)
        with pytest.raises(UsageError, match=words):
            load_tuning_recipe(str(tmp_path / "own.yaml"))
