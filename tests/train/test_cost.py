"""Weights and operations of recipes, against counts by hand and the paper's table."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.train.cost import main
from skelpipe.train.evaluation.cost import cost_of
from skelpipe.train.papers.tables import load_paper
from skelpipe.train.recipes.reader import load_recipe, with_overrides


def run(*words: str) -> Result:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, done.output
    return done


def test_a_multilayer_head_is_counted_by_hand() -> None:
    """Of two settings that differ in the head alone, the costs differ by the head's own weights and products."""
    recipe = with_overrides(load_recipe("skeletonclr"), ["encoder.width=2", "encoder.out_channels=8", "queue=64"])
    small, large = (cost_of(with_overrides(recipe, [f"head.hidden={hidden}"])) for hidden in (16, 24))
    # Query and key: h of 8 channels to `hidden`, and from there to 128; weights have biases, products do not.
    assert large.parameters - small.parameters == 2 * 8 * (8 + 1 + 128)
    assert large.multiply_adds - small.multiply_adds == pytest.approx(2 * 8 * (8 + 128))
    assert large.encoder == small.encoder


def test_table_9_of_msmclr() -> None:
    """Within 6 %, but for the weights of an attention block that the authors' code never uses."""
    for row in load_paper("msmclr").table("cost").rows:
        recipe = with_overrides(load_recipe(str(row.recipe)), row.settings)
        found, paper = cost_of(recipe).figures(128), row.figures["ntu60-xsub"]
        assert found["gflops"] == pytest.approx(paper["gflops"], rel=0.06), row.name
        unused = 0.26 if row.recipe == "msmclr" else 0.0
        assert found["parameters"] + unused == pytest.approx(paper["parameters"], abs=0.05), row.name


def test_the_command_prints_and_writes_the_papers_figures(tiny_dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "cost"
    words = ["--recipe", "msmclr", "--shards", str(tiny_dataset.path), "--out", str(out)]
    text = run(*words).stdout
    assert "parameters: reported 2.1 M (MsMCLR, table 9" in text
    assert "gflops: reported 220.0 G (MsMCLR, table 9" in text
    found = json.loads(run(*words, "--overwrite", "--json").stdout)
    assert json.loads((out / "result.json").read_text()) == found
    assert found["digest"] == tiny_dataset.digest
    assert found["figures"]["gflops"] == pytest.approx(128 * found["multiply_adds_per_clip"] / 1e9)
    assert found["encoder_parameters"] == 836_800 - 60 * 257  # 0.84 M with a linear layer for 60 classes


def test_views_that_need_a_network_are_counted() -> None:
    """ActCLR's offline network sees each clip once more, to find its actionlet."""
    small = ["encoder.width=2", "encoder.out_channels=8", "queue=16"]
    plain, more, released = (
        cost_of(with_overrides(load_recipe(name), small)) for name in ("skeletonclr", "actclr", "actclr-released")
    )
    assert 1.4 < more.multiply_adds / plain.multiply_adds < 2.1
    assert released.multiply_adds > more.multiply_adds
