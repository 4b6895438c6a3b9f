"""Every row of an ablation in the papers' tables trains: tiny runs of one epoch, of the rows in `train/papers`.

A row that is added to a table `ablation-*` is tested without a change here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from skelpipe.augment.draws import Draws
from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.files import canonical_json
from skelpipe.loader.nested import map_tensors
from skelpipe.loader.view_recipes import ViewRecipes, view_recipes
from skelpipe.models.build import build_method
from skelpipe.settings import flat
from skelpipe.skeleton import layout
from skelpipe.train.papers.tables import builtin_papers, load_paper
from skelpipe.train.recipes.reader import load_recipe, to_yaml, with_overrides
from skelpipe.train.recipes.schema import PretrainRecipe
from skelpipe.train.running.provenance import ClipFacts, Provenance
from skelpipe.train.running.run import RunOptions
from skelpipe.train.running.run_log import Console, read_log
from skelpipe.train.training.pretraining import pretraining_run
from skelpipe.yaml_reader import parse_yaml

FRAMES = 60  # of the longest region of any row: 15 blocks of 4 frames
# A run's size and beginning. With the papers' first weights networks this small would stay on a plateau.
SMALL: Mapping[str, Any] = {"head.hidden": 8, "head.dim": 8, "queue": 12, "init": "default"}
SIZES: Mapping[str, Mapping[str, Any]] = {  # of each backbone
    "stgcn": {"width": 4, "out_channels": 32},
    "bigru": {"hidden": 8, "layers": 1},
    "dsta": {"width": 8, "heads": 1},
}
LENGTH: Mapping[str, Any] = {"epochs": 1, "batch_size": 2, "frames": FRAMES}  # of a run, whatever a row says


class Row(NamedTuple):
    """A row of an ablation: where it stands, and what it trains."""

    paper: str
    table: str
    number: int
    name: str
    recipe: str
    settings: tuple[str, ...]
    view: str

    @property
    def label(self) -> str:
        return f"{self.paper}-{self.table}-{self.number}-{self.name}"


def ablation_rows() -> list[Row]:
    """The rows of all tables of ablations that pre-train a network."""
    return [
        Row(paper, key, number, row.name, row.recipe, row.settings, row.views[0])
        for paper in builtin_papers()
        for key, table in load_paper(paper).tables.items()
        if key.startswith(("ablation", "epochs"))
        for number, row in enumerate(table.rows, 1)
        if row.recipe is not None
    ]


ROWS = ablation_rows()


def given(settings: tuple[str, ...]) -> dict[str, Any]:
    pairs = (text.partition("=") for text in settings)
    return {key.strip(): parse_yaml(text, key) for key, _, text in pairs}


read = cache(load_recipe)


@cache
def tiny(name: str, settings: tuple[str, ...]) -> PretrainRecipe:
    """The recipe of a row for a tiny run, with every setting of the row but its length."""
    recipe = with_overrides(read(name), settings)
    kept = {*given(settings)} - {*LENGTH}
    content = flat(recipe.content())
    changes = {**SMALL, **{f"encoder.{key}": size for key, size in SIZES[recipe.encoder.name].items()}}
    changes |= {key: 0 for key in content if key.startswith(f"{recipe.method}.") and "epoch" in key}
    changes = {key: value for key, value in changes.items() if key not in kept} | LENGTH
    return with_overrides(recipe, [f"{key}={value}" for key, value in changes.items()])


@pytest.fixture(scope="module")
def dataset(make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]) -> Dataset:
    """Two batches of two clips for training."""
    return make_dataset(ntu_names(actions=1, subjects=(1, 3)), frames=FRAMES)


class Finished(NamedTuple):
    """What a tiny run came to: the recipe it wrote, its loss, and a digest of what it drew and trained.

    What is drawn counts by itself: two bounds of a region may give the same two regions.
    """

    recipe: str
    loss: float
    came_to: str


def draws(views: ViewRecipes) -> list[torch.Tensor]:
    """What the views draw for 40 batches of two clips."""
    index, found = torch.arange(80), []
    for slot, view in enumerate(view_recipes(views).values()):
        sample = view.sample(Draws(0, 0, index, slot, index // 2), torch.Size((80, 3, FRAMES, 25, 1)))
        map_tensors(found.append, sample)
    return found


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Row], Finished]:
    """Runs of rows, of which those of equal recipes are trained once."""
    root = tmp_path_factory.mktemp("ablations")
    facts = ClipFacts.of(dataset)
    done: dict[str, Finished] = {}

    def run(row: Row) -> Finished:
        recipe = tiny(row.recipe, row.settings)
        key = sha256(canonical_json([recipe.content(), row.view])).hexdigest()[:16]
        if key not in done:
            recipe = replace(recipe, reported="")
            provenance = Provenance(
                clips=facts, view=row.view, views=(row.view,), recipe=recipe, seed=0, amp=False, compiled=False
            )
            options = RunOptions(root / key, torch.device("cpu"), save_every=0, measure_every=0)
            training, _ = pretraining_run(dataset, provenance, options, lambda text: None)
            training.train(training.begin(Console()), Console())
            digest = sha256()
            for tensor in (*training.method.state_dict().values(), *draws(training.method.views())):
                digest.update(tensor.numpy().tobytes())
            done[key] = Finished(
                training.folder.recipe.read_text("utf-8"),
                read_log(training.folder.log)[-1]["loss"],
                digest.hexdigest(),
            )
        return done[key]

    return run


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.label)
def test_a_tiny_run_of_the_row_finishes(row: Row, finished: Callable[[Row], Finished]) -> None:
    run = finished(row)
    assert math.isfinite(run.loss)
    recipe = tiny(row.recipe, row.settings)
    assert run.recipe == to_yaml(replace(recipe, reported=""))
    written = flat(recipe.content())
    for key, value in given(row.settings).items():
        if key not in LENGTH:
            found = {name: each for name, each in written.items() if name.startswith(f"{key}.")}
            assert written.get(key, found) == value, key


def test_every_switch_stands_in_the_documentation() -> None:
    text = Path(__file__).parents[2].joinpath("docs/ablations.md").read_text("utf-8")
    tables = {row.table for row in ROWS}
    assert not [name for name in tables if f"`{name}`" not in text]
    switches = {key for row in ROWS for key in given(row.settings)}
    assert not [key for key in switches if f"`{key}=" not in text and f"`{key.rpartition('.')[2]}`" not in text]


@pytest.mark.parametrize("table", sorted({row[:2] for row in ROWS}), ids="-".join)
def test_rows_that_differ_train_differently(table: tuple[str, str], finished: Callable[[Row], Finished]) -> None:
    """No switch is without effect: equal draws and weights come of equal recipes alone."""
    runs = {finished(row) for row in ROWS if row[:2] == table}
    assert len({run.came_to for run in runs}) == len({run.recipe for run in runs})


@pytest.mark.parametrize(
    ("recipe", "settings", "unused"),
    [
        ("skelemixclr", ["skelemixclr.pairs=cont", "skelemixclr.fill=zeros"], "fill is 'zeros'"),
        ("skelemixclr", ["skelemixclr.pairs=cont", "skelemixclr.losses=trimmed"], "losses is 'trimmed'"),
        ("skelemixclr", ["skelemixclr.pairs=cont", "skelemixclr.hard_negative=none"], "hard_negative is 'none'"),
        ("skelemixclr", ["skelemixclr.pairs=cont", "skelemixclr.parts=[1, 2]"], r"parts is \[1, 2\]"),
        ("skelemixclr", ["skelemixclr.random_joints=[1, 2]"], r"random_joints is \[1, 2\]"),
        ("skelemixclr", ["skelemixclr.cropping=random", "skelemixclr.parts=[1, 2]"], r"parts is \[1, 2\]"),
        ("aimclr", ["aimclr.eadm=false", "aimclr.kappa=0.5"], "kappa is 0.5"),
        ("aimclr", ["aimclr.nnm=false", "aimclr.top_k=4"], "top_k is 4"),
        ("msmclr", ["msmclr.attention=false", "msmclr.differences=inter-node"], "differences is 'inter-node'"),
    ],
)
def test_settings_without_effect_beside_an_ablation_are_refused(
    recipe: str, settings: list[str], unused: str
) -> None:
    made = with_overrides(load_recipe(recipe), settings)
    with pytest.raises(UsageError, match=rf"^{recipe}\.{unused} and has no effect with {recipe}\.\w+=\w+: leave"):
        build_method(made, layout("kinect-v2-25"))
