"""The values of the built-in recipes and the defaults, held against the papers' by hand."""

from dataclasses import fields

import pytest

from skelpipe.models.build import METHODS, TRAINING_KEYS, build_method
from skelpipe.models.encoders import ENCODERS
from skelpipe.models.parts import MethodRecipe
from skelpipe.settings import flat, top_keys
from skelpipe.skeleton import layout
from skelpipe.train.recipes.reader import builtin_recipes, load_recipe, parse_recipe, to_yaml
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe, PretrainRecipe
from skelpipe.train.running.schedule import learning_rate

SKELETONCLR = {  # Guo et al. 2022, "Experimental Settings", on SkeletonCLR; what it leaves open: the released code
    "method": "skeletonclr",
    "variant": "paper",
    "frames": 50,
    "epochs": 300,
    "batch_size": 128,
    "optimiser.name": "sgd",
    "optimiser.lr": 0.1,
    "optimiser.momentum": 0.9,
    "optimiser.weight_decay": 0.0001,
    "optimiser.warmup": 0,
    "optimiser.milestones": [250],
    "optimiser.accumulate": 1,
    "init": "paper",
    "temperature": 0.07,
    "momentum": 0.999,
    "queue": 32768,
    "encoder.name": "stgcn",
    "encoder.graph": "stgcn_capped",
    "encoder.width": 16,
    "encoder.out_channels": 256,
    "encoder.dropout": 0.5,
    "encoder.absent_bodies": "as-papers",
    "head.hidden": 256,
    "head.dim": 128,
    "head.batch_norm": False,
    "augment.shear": 0.5,
    "augment.crop": 6,
}
FINETUNE = {  # Chen et al. 2022, "Finetune" and "Semi-Supervised Evaluation Protocol"; the others: released code
    "finetune": dict(epochs=110, lr=0.1, weight_decay=1e-4, milestones=[50, 70, 90], warmup=10, modes="train"),
    "finetune-semi": dict(epochs=100, lr=0.1, weight_decay=1e-4, milestones=[80], warmup=20, modes="train"),
    "finetune-semi-1-released": dict(
        epochs=150, lr=0.05, weight_decay=0, milestones=[40], warmup=0, modes="eval", nesterov=False
    ),
    "finetune-semi-10-released": dict(
        epochs=150, lr=0.1, weight_decay=1e-4, milestones=[80], warmup=0, modes="eval", nesterov=False
    ),
    "finetune-actclr": dict(epochs=80, lr=0.1, weight_decay=1e-4, milestones=[29, 49], warmup=0, modes="train"),
    "finetune-skeattnclr": dict(  # Hua et al. 2023, section 4.2 and table 11; ReduceLROnPlateau's defaults
        **dict(epochs=150, lr=0.05, weight_decay=1e-4, milestones=[], warmup=0, modes="train", nesterov=False),
        **dict(schedule="plateau", factor=0.1, patience=10, threshold=1e-4, cooldown=0, min_lr=0.0),
    ),
    "finetune-skeattnclr-released": dict(
        epochs=150, lr=0.01, weight_decay=0, milestones=[60, 100], warmup=0, modes="eval"
    ),
}
LINEAR = {  # epochs, batch size, rate and milestones of the papers' linear evaluation
    "linear": (100, 128, 3.0, [80]),
    "linear-skelemixclr-released": (150, 128, 3.0, [80]),
    "linear-skeattnclr": (100, 128, 3.0, [60]),
    "linear-skeattnclr-released": (150, 128, 3.0, [60, 100]),
    "linear-actclr-released": (100, 1024, 24.0, [80]),
    "linear-actclr-released-ntu120": (150, 1024, 24.0, [80, 120]),
}


def test_skeletonclr_has_the_papers_values_and_so_have_the_defaults() -> None:
    assert flat(load_recipe("skeletonclr").content()) == SKELETONCLR
    assert flat(PretrainRecipe().content()) == SKELETONCLR


@pytest.mark.parametrize("name", FINETUNE)
def test_fine_tuning_has_the_papers_values(name: str) -> None:
    recipe = load_recipe(name, FinetuneRecipe)
    values = flat(recipe.content())
    found = {key: values.get(key, values.get(f"optimiser.{key}")) for key in FINETUNE[name]}
    assert found == FINETUNE[name]
    assert recipe.optimiser.name == "sgd"
    assert recipe.augment.name == "none"
    assert {*FINETUNE, "supervised", "supervised-small"} == set(builtin_recipes(FinetuneRecipe))


def test_linear_evaluation_has_the_papers_values() -> None:
    assert builtin_recipes(LinearRecipe) == sorted([*LINEAR, "linear-standardised"])
    for name, values in LINEAR.items():
        recipe = load_recipe(name, LinearRecipe)
        optimiser = recipe.optimiser
        assert (recipe.epochs, recipe.batch_size, optimiser.lr, optimiser.milestones) == values
        assert (optimiser.momentum, optimiser.weight_decay, recipe.test_every) == (0.9, 0.0, 5)
        assert not recipe.standardise
    assert load_recipe("linear", LinearRecipe) == LinearRecipe()
    assert load_recipe("finetune", FinetuneRecipe) == FinetuneRecipe()


def test_the_schedule_of_fine_tuning() -> None:
    optimiser = load_recipe("finetune", FinetuneRecipe).optimiser
    given = optimiser.lr, optimiser.milestones
    rates = {epoch: learning_rate(*given, epoch, optimiser.warmup) for epoch in (1, 5, 10, 50, 51, 71, 110)}
    assert rates == pytest.approx({1: 0.01, 5: 0.05, 10: 0.1, 50: 0.1, 51: 0.01, 71: 0.001, 110: 0.0001})


@pytest.mark.parametrize("name", builtin_recipes())
def test_each_recipe_of_pre_training_says_all_of_its_values(name: str) -> None:
    """Each value stands in the file with its source, though a recipe may leave out what is the default."""
    recipe = load_recipe(name)
    said = flat(recipe.content())
    section = METHODS[recipe.method].Settings
    top = top_keys(section)
    expected = {f"{recipe.method}.{each.name}" for each in fields(section) if each.name not in top}
    expected |= {key for key in flat({key: recipe.content()[key] for key in top})}
    expected |= {f"encoder.{each.name}" for each in fields(ENCODERS[recipe.encoder.name].Settings)}
    assert expected <= said.keys()
    assert parse_recipe(to_yaml(recipe), "copy") == recipe


@pytest.mark.parametrize("kind", [FinetuneRecipe, LinearRecipe])
def test_each_recipe_of_evaluation_survives_writing(kind: type) -> None:
    for name in builtin_recipes(kind):
        recipe = load_recipe(name, kind)
        assert parse_recipe(to_yaml(recipe), "copy", kind) == recipe


def test_what_the_papers_tables_call_a_recipe() -> None:
    assert load_recipe("skeletonclr").reported == "skeletonclr"
    assert load_recipe("demo").reported == ""
    assert load_recipe("supervised", FinetuneRecipe).reported == "supervised"


def test_a_method_is_built_from_a_whole_recipe() -> None:
    """Keys that say how to train are passed over, and no other."""
    own = {field.name for field in fields(PretrainRecipe)} - {field.name for field in fields(MethodRecipe)}
    assert own == set(TRAINING_KEYS)
    tiny = {"queue": 8, "encoder": {"name": "stgcn", "width": 2, "out_channels": 8}, "reported": "skeletonclr"}
    content = {**load_recipe("skeletonclr", PretrainRecipe).content(), **tiny}
    assert build_method(content, layout("kinect-v2-25")).moco.queue.shape == (8, 128)
