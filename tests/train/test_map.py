"""Embeddings in the plane, their clusters, and NMI against scikit-learn and sums over cells."""

import base64
import csv
import json
import math
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.train.evaluation.clusters import (
    cluster,
    draw_classes,
    normalised_mutual_information,
    plane_points,
    usable_perplexity,
)
from skelpipe.train.evaluation.outcome import read_features
from skelpipe.train.map import main

REAL = "data/checkpoints/aimclr_ntu60_xview_joint_linear.pt"

pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed here")


def by_hand(labels: list[int], clusters: list[int]) -> float:
    """NMI with arithmetic normalisation, from counts of cells."""
    n = len(labels)
    information = 0.0
    for a in set(labels):
        for b in set(clusters):
            both = sum(x == a and y == b for x, y in zip(labels, clusters, strict=True))
            if both:
                information += both / n * math.log(both * n / (labels.count(a) * clusters.count(b)))
    entropies = [-sum(p / n * math.log(p / n) for p in map(side.count, set(side))) for side in (labels, clusters)]
    return 1.0 if sum(entropies) == 0 else information / (sum(entropies) / 2)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-3, 3)), min_size=1, max_size=50))
def test_nmi_is_scikit_learns_and_that_of_counts(pairs: list[tuple[int, int]]) -> None:
    from sklearn.metrics import normalized_mutual_info_score

    labels, clusters = [a for a, _ in pairs], [b for _, b in pairs]
    found = normalised_mutual_information(np.array(labels), np.array(clusters))
    assert found == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-9)
    assert found == pytest.approx(by_hand(labels, clusters), abs=1e-9)
    assert 0 <= found <= 1


def test_nmi_of_known_partitions() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert normalised_mutual_information(labels, labels[::-1]) == pytest.approx(1.0)  # other names, same parts
    assert normalised_mutual_information(labels, np.zeros(6, int)) == 0.0
    assert normalised_mutual_information(np.zeros(6, int), np.ones(6, int)) == 1.0
    assert normalised_mutual_information(labels, np.array([0, 1] * 3)) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(SkelpipeError, match="6 labels and 5 clusters"):
        normalised_mutual_information(labels, np.zeros(5, int))


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Forty points each around three centres far apart, and whose they are; tiny and far from the origin."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    points = rng.normal(size=(3, 16))[labels] * 20 + rng.normal(size=(120, 16))
    return (points * 1e-4 + 5).astype(np.float32), labels


def test_clusters_find_what_is_apart(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    points, labels = blobs
    found = cluster(points, 3, seed=1)
    assert normalised_mutual_information(labels, found) == 1.0
    assert found.tolist() == cluster(points, 3, seed=1).tolist()
    assert cluster(points, 1, seed=0).tolist() == [0] * 120


def test_the_plane_keeps_neighbours_together(blobs: tuple[np.ndarray, np.ndarray]) -> None:
    points, labels = blobs
    points_in_plane = plane_points(points, 15.0, seed=0)
    assert points_in_plane.shape == (120, 2)
    gaps = ((points_in_plane[:, None] - points_in_plane[None]) ** 2).sum(2) + np.diag(np.full(120, np.inf))
    assert (labels[gaps.argmin(1)] == labels).all()
    np.testing.assert_array_equal(points_in_plane, plane_points(points, 15.0, seed=0))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_few_points_have_points_in_plane_of_their_own(count: int) -> None:
    points = np.random.default_rng(count).normal(size=(count, 5))
    points_in_plane = plane_points(points, usable_perplexity(30, count), seed=0)
    assert points_in_plane.shape == (count, 2)
    assert np.isfinite(points_in_plane).all()
    assert len({tuple(place) for place in points_in_plane.tolist()}) == count


def test_perplexity_fits_the_number_of_points() -> None:
    assert [usable_perplexity(30, n) for n in (1, 3, 4, 31, 91, 92, 500)] == [1, 1, 1, 10, 30, 30, 30]
    assert usable_perplexity(5, 500) == 5


def test_a_collapsed_network_is_named() -> None:
    with pytest.raises(SkelpipeError, match="all 9 embeddings are equal"):
        plane_points(np.ones((9, 4)), 2.0, seed=0)


def test_classes_are_drawn_by_seed_alone() -> None:
    drawn = draw_classes(range(60), 10, seed=0)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 10
    assert drawn == draw_classes(reversed(range(60)), 10, seed=0)
    assert drawn != draw_classes(range(60), 10, seed=1)
    assert draw_classes([3, 5], 10, seed=0) == [3, 5]
    counts = np.zeros(60, int)
    for seed in range(600):
        counts[draw_classes(range(60), 10, seed)] += 1
    assert 60 < counts.min() <= counts.max() < 145  # 100 expected of each


def run(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(
        main, ["--shards", str(dataset.path), "--device", "cpu", "--out", str(out), *options]
    )


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "embedding.csv").open()))


def test_a_runs_embedding(tiny_dataset: Dataset, finished: Path, tmp_path: Path) -> None:
    result = run(tiny_dataset, tmp_path / "a", "--checkpoint", str(finished), "--features", "z", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == found
    assert found["clips"] == {"test": 24}
    assert [entry["clips"] for entry in found["classes"]] == [8, 8, 8]
    assert found["perplexity"] == pytest.approx(23 / 3)
    assert "perplexity 30 is too much for 24 clips: 7.67 is taken" in result.stderr
    rows = table(tmp_path / "a")
    assert [row["id"] for row in rows] == list(tiny_dataset.ids("test"))
    labels, clusters = ([int(row[name]) for row in rows] for name in ("label", "cluster"))
    assert labels == tiny_dataset.labels("test").tolist()
    assert {row["name"] for row in rows} == {entry["name"] for entry in found["classes"]}
    assert found["figures"]["nmi"] == pytest.approx(by_hand(labels, clusters))
    embedded, about = read_features(tmp_path / "a" / "features.parquet")
    assert embedded.ids == [row["id"] for row in rows]
    torch.testing.assert_close(embedded.features.norm(dim=1), torch.ones(24))  # z is of length 1
    assert about["digest"] == tiny_dataset.digest
    picture = (tmp_path / "a" / "embedding.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    page = (tmp_path / "a" / "report.html").read_text()
    assert f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}"' in page
    assert "img-src data:;" in page
    assert f"<td>{found['figures']['nmi']:.4f}</td>" in page
    assert "measured, %" not in page  # an NMI is none

    again = run(tiny_dataset, tmp_path / "b", "--checkpoint", str(finished), "--features", "z")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "b" / "embedding.csv").read_bytes() == (tmp_path / "a" / "embedding.csv").read_bytes()
    assert run(tiny_dataset, tmp_path / "b", "--checkpoint", str(finished)).exit_code == 2


def test_streams_are_joined_or_added(
    tiny_dataset: Dataset, finished: Path, tmp_path: Path, pretrain_small: Callable[..., Result]
) -> None:
    """Of a run with networks of two views, and of two runs: unit features of each, end to end or added."""
    two = tmp_path / "two"
    options = ("--recipe", "crosclr", "--set", "crosclr.views=2", "--epochs", "1", "--knn-every", "0")
    trained = pretrain_small(tiny_dataset, two, *options)
    assert trained.exit_code == 0, trained.output
    features = {}
    for name, words in {
        "joint": ("--view", "joint"),
        "motion": ("--view", "motion"),
        "joined": ("--view", "joint", "--join", f"motion={two}"),
        "added": ("--view", "joint", "--join", f"motion={two}", "--fusion", "sum"),
    }.items():
        done = run(tiny_dataset, tmp_path / name, "--checkpoint", str(two), *words, "--json")
        assert done.exit_code == 0, done.output
        features[name] = read_features(tmp_path / name / "features.parquet")[0].features
    found = json.loads(done.stdout)
    assert (found["view"], found["fusion"], found["reported"]) == ("joint+motion", "sum", None)
    joint, motion = (torch.nn.functional.normalize(features[view], dim=1) for view in ("joint", "motion"))
    torch.testing.assert_close(features["joined"], torch.cat([joint, motion], dim=1))
    torch.testing.assert_close(features["added"], joint + motion)
    for words, says in (
        (("--join", f"joint={finished}"), "the view joint is shown already"),
        (("--join", str(finished)), "expected VIEW=RUN with one of joint, bone, motion"),
        (("--join", f"bone={finished}"), "view: trained on joint, asked for bone"),
    ):
        refused = run(tiny_dataset, tmp_path / "no", "--checkpoint", str(finished), *words)
        assert (refused.exit_code, says in refused.stderr) == (2, True), refused.output


def test_named_actions_and_a_share_of_them(tiny_dataset: Dataset, tmp_path: Path) -> None:
    options = ["--baseline", "raw", "--actions", "3,1", "--share", "0.5", "--subset", "train"]
    result = run(tiny_dataset, tmp_path / "a", *options)
    assert result.exit_code == 0, result.output
    labels = [int(row["label"]) for row in table(tmp_path / "a")]
    assert sorted(labels) == [0, 0, 0, 0, 2, 2, 2, 2]  # half of eight each
    assert "brushing teeth (4)" in result.stdout
    earlier = run(tiny_dataset, tmp_path / "earlier", *options[:-2], "--split", "train")  # its name in 0.1.0
    assert earlier.exit_code == 0, earlier.output
    assert table(tmp_path / "earlier") == table(tmp_path / "a")
    absent = run(tiny_dataset, tmp_path / "b", "--baseline", "raw", "--actions", "1,9")
    assert absent.exit_code == 2
    assert "--actions 9: the test subset of" in absent.stderr
    assert run(tiny_dataset, tmp_path / "b", "--baseline", "raw", "--actions", "1,x").exit_code == 2


def test_the_earlier_name_of_subset_is_not_shown() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    assert "--subset [train|test]" in shown
    assert "--split" not in shown


def test_classes_do_not_depend_on_the_network(tiny_dataset: Dataset, finished: Path, tmp_path: Path) -> None:
    shown = []
    for name, options in (("a", ["--baseline", "raw"]), ("b", ["--checkpoint", str(finished)])):
        assert run(tiny_dataset, tmp_path / name, "--classes", "2", *options).exit_code == 0
        shown.append({row["label"] for row in table(tmp_path / name)})
    assert shown[0] == shown[1]
    assert len(shown[0]) == 2


def test_without_scikit_learn_one_line_says_what_to_install(
    tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    result = run(tiny_dataset, tmp_path / "a", "--baseline", "raw")
    assert result.exit_code == 2
    assert "need scikit-learn: pip install 'skelpipe[plot]'" in result.stderr


def test_an_empty_subset_is_an_error(
    make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]], tmp_path: Path
) -> None:
    dataset = make_dataset(ntu_names(actions=1, subjects=(1,)))
    result = run(dataset, tmp_path / "a", "--baseline", "raw")
    assert result.exit_code == 1
    assert "the test subset is empty" in result.stderr


def test_the_released_network_on_real_recordings(shared: Path, tmp_path: Path) -> None:
    """Three recordings of three actions: as many clusters as clips, so that NMI is 1 by its definition."""
    options = Options(split="xview", frames=50)
    prepare(load_manifest("ntu60"), [shared / "data" / "ntu"], tmp_path / "real", options, quiet=True)
    dataset = Dataset.open(tmp_path / "real")
    result = run(dataset, tmp_path / "a", "--checkpoint", str(shared / REAL), "--view", "joint", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [entry["label"] for entry in found["classes"]] == [0, 2, 49]
    assert found["what"].startswith("aimclr as released")
    assert found["figures"]["nmi"] == pytest.approx(1.0)
    assert len(table(tmp_path / "a")) == 3
