"""The papers' figures that a network is compared with, against tables copied by hand."""

from dataclasses import replace
from typing import Any

import pytest

from skelpipe.train.papers.references import Reference
from skelpipe.train.papers.reported import reported
from skelpipe.train.recipes.reader import load_recipe, with_overrides
from skelpipe.train.recipes.schema import FinetuneRecipe, LinearRecipe

# Copied by hand from the papers' tables:
# recipe, protocol, share of labels, stream, dataset, trained on, figures.
CELLS: list[tuple[str, str, float, str, str, str, dict[str, float]]] = [
    ("skeletonclr", "linear", 1, "joint", "ntu60-xsub", "ntu60-xsub", {"top1": 68.3}),
    ("skeletonclr", "linear", 1, "motion", "ntu60-xview", "ntu60-xview", {"top1": 50.8}),
    ("skeletonclr", "linear", 1, "bone", "ntu120-xset", "ntu120-xset", {"top1": 52.0}),
    ("skeletonclr", "linear", 1, "3s", "pkummd2-xsub", "pkummd2-xsub", {"top1": 40.4}),
    ("crosclr", "linear", 1, "joint", "ntu60-xview", "ntu60-xview", {"top1": 79.9}),
    ("crosclr", "linear", 1, "joint+motion", "ntu60-xsub", "ntu60-xsub", {"top1": 74.5}),
    ("crosclr", "linear", 1, "3s", "pkummd2-xsub", "pkummd2-xsub", {"top1": 21.2}),
    ("aimclr", "linear", 1, "bone", "ntu60-xsub", "ntu60-xsub", {"top1": 73.2}),
    ("aimclr", "linear", 1, "joint", "pkummd2-xsub", "pkummd2-xsub", {"top1": 36.8}),
    ("aimclr", "linear", 1, "3s", "ntu120-xsub", "ntu120-xsub", {"top1": 68.2}),
    ("skelemixclr", "linear", 1, "joint", "ntu120-xset", "ntu120-xset", {"top1": 69.6}),
    ("skelemixclr-plus", "linear", 1, "joint", "ntu120-xset", "ntu120-xset", {"top1": 68.2}),
    ("skelemixclr-plus", "linear", 1, "3s", "pkummd2-xsub", "pkummd2-xsub", {"top1": 57.1}),
    ("actclr", "linear", 1, "motion", "ntu120-xset", "ntu120-xset", {"top1": 67.8}),
    ("skeattnclr", "linear", 1, "3s", "ntu60-xview", "ntu60-xview", {"top1": 86.5}),
    ("msmclr", "linear", 1, "3s", "pkummd2-xsub", "pkummd2-xsub", {"top1": 32.5}),
    ("msmclr", "linear", 1, "bone", "pkummd1-xsub", "pkummd1-xsub", {"top1": 86.7}),
    ("skeletonclr", "knn", 1, "joint", "ntu60-xsub", "ntu60-xsub", {"knn@20": 60.7}),
    ("aimclr", "knn", 1, "joint", "ntu60-xview", "ntu60-xview", {"knn@20": 71.0}),
    ("skeattnclr", "knn", 1, "joint", "ntu120-xsub", "ntu120-xsub", {"knn@20": 46.7}),
    ("actclr", "knn", 1, "joint", "ntu60-xview", "ntu60-xview", {"knn@20": 78.04}),
    ("skeletonclr", "finetune", 1, "bone", "ntu60-xview", "ntu60-xview", {"top1": 88.9}),
    ("crosclr", "finetune", 1, "3s", "ntu120-xset", "ntu120-xset", {"top1": 80.4}),
    ("aimclr", "finetune", 1, "bone", "ntu120-xsub", "ntu120-xsub", {"top1": 76.4}),
    ("skelemixclr-plus", "finetune", 1, "3s", "ntu60-xview", "ntu60-xview", {"top1": 94.0}),
    ("skeattnclr", "finetune", 1, "joint", "ntu60-xsub", "ntu60-xsub", {"top1": 87.3}),
    ("supervised", "finetune", 1, "joint", "ntu60-xview", "ntu60-xview", {"top1": 88.3}),
    ("supervised", "finetune", 1, "3s", "ntu120-xsub", "ntu120-xsub", {"top1": 77.2}),
    ("aimclr", "finetune", 0.01, "3s", "ntu60-xview", "ntu60-xview", {"top1": 54.3}),
    ("skelemixclr", "finetune", 0.1, "3s", "pkummd2-xsub", "pkummd2-xsub", {"top1": 41.0}),
    ("skeattnclr", "finetune", 0.01, "3s", "ntu60-xsub", "ntu60-xsub", {"top1": 59.6}),
    ("aimclr", "linear", 1, "3s", "pkummd1-xview", "ntu60-xview", {"top1": 85.3}),
    ("crosclr", "linear", 1, "3s", "pkummd2-xsub", "ntu60-xsub", {"top1": 51.3}),
    ("actclr", "linear", 1, "3s", "pkummd2-xview", "ntu60-xview", {"top1": 44.5}),
    ("skeattnclr", "linear", 1, "joint", "pkummd2-xsub", "ntu60-xsub", {"top1": 58.0}),
    ("skeattnclr", "finetune", 1, "joint", "pkummd1-xview", "ntu60-xview", {"top1": 97.0}),
    ("aimclr", "segment", 1, "bone", "pkummd2-xview", "ntu60-xview",
     {"acc": 54.22, "macc": 39.52, "fwiou": 39.41, "miou": 27.36}),
    ("actclr", "segment", 1, "joint", "pkummd2-xview", "ntu60-xview",
     {"acc": 51.29, "macc": 31.97, "fwiou": 35.24, "miou": 21.38}),
]  # fmt: skip


def reference(name: str, protocol: str, *settings: str, **where: Any) -> Reference | None:
    if name == "supervised":
        return Reference.of_recipe(load_recipe(name, FinetuneRecipe), protocol, **where)
    return Reference.of_recipe(with_overrides(load_recipe(name), settings), protocol, **where)


def figures(name: str, protocol: str, *settings: str, **where: Any) -> dict[str, float] | None:
    found = reference(name, protocol, *settings, **where)
    reported = found.figures() if found else None
    return dict(reported[0]) if reported else None


@pytest.mark.parametrize(("name", "protocol", "labels", "stream", "dataset", "trained_on", "expected"), CELLS)
def test_cells_copied_by_hand(
    name: str,
    protocol: str,
    labels: float,
    stream: str,
    dataset: str,
    trained_on: str,
    expected: dict[str, float],
) -> None:
    where = {"dataset": dataset, "stream": stream, "trained_on": trained_on, "labels": labels}
    assert figures(name, protocol, **where) == expected
    found = reference(name, protocol, **where)
    assert found is not None
    assert Reference.of_text(found.text()) == found


def at(dataset: str, stream: str = "joint", trained_on: str | None = None) -> dict[str, str]:
    return {"dataset": dataset, "stream": stream, "trained_on": trained_on or dataset}


def test_another_network_of_the_same_recipe_has_figures_of_its_own() -> None:
    here = at("ntu60-xsub")
    assert figures("skeattnclr", "linear", **here) == {"top1": 80.3}
    assert figures("skeattnclr", "linear", "encoder.name=bigru", **here) == {"top1": 72.7}
    assert figures("skeattnclr", "linear", "encoder.name=dsta", **here) == {"top1": 71.3}
    assert figures("aimclr", "linear", "encoder.name=bigru", **here) is None
    fused = at("ntu60-xsub", "3s")
    assert figures("aimclr", "linear", **fused) == {"top1": 78.9}
    assert figures("aimclr", "linear", "aimclr.views=3", **fused) == {"top1": 78.6}
    assert figures("aimclr", "linear", "aimclr.views=3", **here) is None


def test_a_plain_run_is_not_compared_with_reruns_and_ablations() -> None:
    """SkeletonCLR's figure is the original one, not that of a run repeated with other settings."""
    for settings in ([], ["temperature=0.2"], ["epochs=3", "queue=64"]):
        assert figures("skeletonclr", "linear", *settings, **at("ntu60-xsub")) == {"top1": 68.3}


def test_no_figure_where_no_paper_has_one() -> None:
    assert figures("skeletonclr", "knn", **at("ntu60-xsub", "bone")) is None
    assert figures("demo", "knn", **at("ntu60-xsub")) is None
    assert figures("aimclr", "linear", **at("msr-action3d-xsub")) is None
    # Transfer is from NTU-60, by the same split.
    assert figures("aimclr", "linear", **at("pkummd1-xview", "3s", "ntu60-xsub")) is None
    assert figures("aimclr", "linear", **at("ntu120-xsub", "joint", "ntu60-xsub")) is None
    assert figures("actclr", "segment", **at("pkummd2-xview", "joint", "ntu60-xsub")) is None


def test_figures_that_are_most_likely_of_another_split_are_left_out() -> None:
    """What SkeAttnCLR's tables call NTU-120 xset looks like the split by camera."""
    for name in ("skeletonclr", "aimclr", "skelemixclr", "skeattnclr"):
        assert figures(name, "knn", **at("ntu120-xsub"))
        assert figures(name, "knn", **at("ntu120-xset")) is None
    assert figures("skeattnclr", "linear", **at("ntu120-xset")) is None


def test_the_source_says_who_reports_it() -> None:
    def source(name: str, protocol: str, **where: Any) -> str:
        found = reference(name, protocol, **where)
        reported = found.figures() if found else None
        return reported[1] if reported else ""

    assert source("aimclr", "linear", **at("ntu60-xsub")) == "AimCLR, table 2"
    assert source("aimclr", "knn", **at("ntu60-xsub")) == "Hua et al. (SkeAttnCLR), IJCAI 2023, table 4"
    transfer = source("actclr", "linear", **at("pkummd1-xsub", "3s", "ntu60-xsub"))
    assert transfer == "ActCLR, table 5, pre-trained on ntu60-xsub"
    assert "does not say which stream" in source("actclr", "finetune", **at("ntu60-xsub"))


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("skeletonclr", [], ""),
        ("skeletonclr", ["frames=20"], ""),  # said by the dataset's remarks
        ("skeletonclr", ["augment.crop=6"], ""),  # the recipe's own value
        ("skeletonclr", ["temperature=0.2"], "temperature"),
        ("skeletonclr", ["views.query=[{shear: 0.5}]"], "views.query"),
        ("aimclr", ["aimclr.eadm=false"], "aimclr.eadm"),
        ("aimclr", ["variant=released"], "variant"),
        ("crosclr", ["encoder.width=64", "epochs=3", "queue=64"], "epochs, queue, encoder.width"),
        ("msmclr", ["epochs=3", "queue=64", "batch_size=4", "optimiser.lr=1", "head.dim=4"], " and 2 more"),
        ("actclr-released", [], "more"),  # of the recipe `actclr`, whose figures it is held against
    ],
)
def test_values_that_the_row_does_not_have_are_said(name: str, settings: list[str], said: str) -> None:
    found = reference(name, "linear", *settings, **at("ntu60-xsub"))
    assert found is not None
    assert found.figures() is not None
    texts = found.changed()
    assert texts == Reference.of_text(found.text()).changed()
    if name == "actclr-released":
        (text,) = texts
        assert text.startswith("trained by recipe actclr, here with other variant, epochs, ")
        assert " more" in text
    elif said:
        (text,) = texts
        assert text.startswith(f"trained by recipe {name}, here with other ")
        assert text.endswith(said)
        assert len(text.partition("other ")[2].partition(" and ")[0].split(", ")) <= 3
    else:
        assert texts == []


def test_values_of_the_evaluation_are_said() -> None:
    def changed(name: str, protocol: str, recipe: LinearRecipe | FinetuneRecipe, labels: float = 1.0) -> list[str]:
        found = reference(name, protocol, **at("ntu60-xsub", "3s"), labels=labels, evaluation=recipe.content())
        assert found is not None
        assert found.figures() is not None
        return found.changed()

    linear, attention = (load_recipe(name, LinearRecipe) for name in ("linear", "linear-skeattnclr"))
    full, semi = (load_recipe(name, FinetuneRecipe) for name in ("finetune", "finetune-semi"))
    assert changed("aimclr", "linear", linear) == []
    assert changed("skeattnclr", "linear", attention) == []
    shorter = changed("aimclr", "linear", with_overrides(linear, epochs=2, lr=0.1))
    assert shorter == ["evaluated by recipe linear, here with other epochs, optimiser.lr"]
    assert changed("aimclr", "finetune", full) == []
    assert changed("aimclr", "finetune", semi, 0.01) == []
    assert changed("aimclr", "finetune", with_overrides(full, ["optimiser.nesterov=false"])) == [
        "evaluated by recipe finetune, here with other optimiser.nesterov"
    ]


def test_heads_that_learned_apart_are_not_held_against_heads_that_learned_together() -> None:
    """CrosSCLR's figures of several streams are of classifiers that learned on the mean of their scores."""
    for stream in ("3s", "joint+motion"):
        found = reference("crosclr", "linear", **at("ntu60-xsub", stream))
        assert found is not None
        assert found.heads_together()
        assert reported(found, {"frames": 50}) is None
        jointly = reported(replace(found, together=True), {"frames": 50})
        assert jointly is not None
        assert jointly["top1"] > 70
    apart = reference("aimclr", "linear", **at("ntu60-xsub", "3s"))
    assert apart is not None
    assert reported(apart, {"frames": 50}) is not None
    assert reported(replace(apart, together=True), {"frames": 50}) is None
