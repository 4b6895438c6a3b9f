"""Fusing scores: joined by id, weighted, refused where they are not of the same samples."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.ownership import LOCK, owned
from skelpipe.train.evaluation.fusion import align, fuse, fused_view, named_weights, papers_weights, parse_weights
from skelpipe.train.evaluation.outcome import Scores, read_scores, write_scores
from skelpipe.train.fuse import main
from skelpipe.train.papers.references import Reference
from skelpipe.train.recipes.reader import load_recipe

STREAMS = ("joint", "bone", "motion")
CLASSES = 7


def held(view: str, **more: object) -> str:
    """What an evaluation of AimCLR says of its place in the papers' tables."""
    recipe = load_recipe("aimclr")
    where = {"dataset": "ntu60-xview", "stream": view, "trained_on": "ntu60-xview", **more}
    found = Reference.of_recipe(recipe, "linear", **where)
    assert found is not None
    return found.text()


@pytest.fixture
def stream() -> Callable[..., Scores]:
    """A maker of the scores of one stream for 40 samples, in an order of the seed's."""

    def make(view: str, seed: int, **about: str) -> Scores:
        rng = np.random.default_rng(seed)
        order = rng.permutation(40)
        scores = rng.normal(size=(40, CLASSES)).astype(np.float32) * 3
        labels = np.arange(40) % CLASSES
        scores[np.arange(40), labels] += 2
        known = {
            "protocol": "linear",
            "dataset": "ntu60-xview",
            "digest": "d1",
            "split": "test",
            "view": view,
            "what": "aimclr, 300 epochs on ntu60-xview",
            "classes": json.dumps([f"class {n}" for n in range(CLASSES)]),
            "held_against": held(view),
        }
        return Scores([f"S{n:03}" for n in order], labels[order], scores[order], {**known, **about})

    return make


@pytest.fixture
def written(tmp_path: Path, stream: Callable[..., Scores]) -> list[Path]:
    """Three streams, each in a folder, none in the order of another."""
    folders = [tmp_path / view for view in STREAMS]
    for seed, (view, folder) in enumerate(zip(STREAMS, folders, strict=True)):
        folder.mkdir()
        write_scores(folder / "scores.parquet", stream(view, seed))
    return folders


def run(sources: list[Path], *options: str) -> Result:
    out = sources[0].parent / "fused"
    return CliRunner().invoke(main, [*map(str, sources), "--out", str(out), "--overwrite", *options])


def by_hand(sources: list[Path], weights: tuple[float, ...]) -> tuple[dict[str, list[float]], float, float]:
    """The fused scores by id and the top-1 and top-5 accuracies in %, in loops."""
    read = [read_scores(source / "scores.parquet") for source in sources]
    total: dict[str, list[float]] = {}
    labels = {}
    for one, weight in zip(read, weights, strict=True):
        for id_, label, row in zip(one.ids, one.labels.tolist(), one.scores.tolist(), strict=True):
            labels[id_] = label
            so_far = total.get(id_, [0.0] * CLASSES)
            total[id_] = [a + weight * b for a, b in zip(so_far, row, strict=True)]
    hits = {1: 0, 5: 0}
    for id_, row in total.items():
        ranked = sorted(range(CLASSES), key=lambda c, row=row: (-row[c], c))
        for k in hits:
            hits[k] += labels[id_] in ranked[:k]
    return total, 100 * hits[1] / len(total), 100 * hits[5] / len(total)


def test_streams_are_joined_by_id_whatever_their_order(written: list[Path]) -> None:
    result = run(written, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    total, top1, top5 = by_hand(written, (0.6, 0.6, 0.4))
    assert found["figures"] == {"top1": pytest.approx(top1), "top5": pytest.approx(top5)}
    assert found["weights"] == [0.6, 0.6, 0.4]
    assert found["view"] == "3s"
    assert found["clips"] == {"test": 40}
    fused = read_scores(written[0].parent / "fused" / "scores.parquet")
    assert fused.about["view"] == "3s"
    for id_, row in zip(fused.ids, fused.scores, strict=True):
        np.testing.assert_allclose(row, total[id_], rtol=1e-5)


def test_every_published_set_is_tried_beside_the_streams(written: list[Path]) -> None:
    found = json.loads(run(written, "--json").stdout)
    tried = {tuple(entry["weights"]): entry for entry in found["fusions"]}
    # ActCLR's for xview are AimCLR's, but for those in its copy of AimCLR.
    assert set(tried) == {(0.6, 0.6, 0.4), (1.0, 1.0, 1.0), (0.6, 0.6, 0.8), (1.0, 0.2, 0.2)}
    for weights, entry in tried.items():
        assert entry["figures"]["top1"] == pytest.approx(by_hand(written, weights)[1])
    for place, entry in enumerate(found["streams"]):
        alone = tuple(float(place == other) for other in range(3))
        assert entry["view"] == STREAMS[place]
        assert entry["figures"]["top1"] == pytest.approx(by_hand(written, alone)[1])
    assert [entry["counts"] for entry in found["fusions"]] == [True, False, False, False]
    assert "ActCLR" in found["fusions"][0]["source"]


def test_the_papers_figure_stands_beside(written: list[Path]) -> None:
    found = json.loads(run(written, "--json").stdout)
    assert found["reported"]["top1"] == 83.8  # AimCLR, 3 streams, NTU-60 xview (its table 2)
    assert found["reported"]["source"] == "AimCLR, table 2"
    text = run(written).stdout
    assert (
        "top1 of 3s reported 83.8 % (AimCLR, table 2; whether this dataset has the paper's clips is not known; "
        in text
    )
    assert "fused here with 0.6:0.6:0.4 of AimCLR and MsMCLR, papers" in text
    assert "* 0.6:0.6:0.4" in text
    again = json.loads(read_scores(written[0].parent / "fused" / "scores.parquet").about["held_against"])
    assert again["stream"] == "3s"


@pytest.mark.parametrize(
    ("more", "figure"),
    [
        ({"dataset": "pkummd2-xview"}, 42.4),  # ActCLR's table 5: pre-trained on NTU-60
        ({"settings": {"encoder.name": "stgcn", "aimclr.views": 3}}, None),  # not of these tables for xview of PKU
        ({"labels": 0.1}, None),
    ],
)
def test_the_papers_figure_is_that_of_the_same_training(
    written: list[Path], stream: Callable[..., Scores], more: dict[str, object], figure: float | None
) -> None:
    """PKU-MMD II xview has a figure for transfer of AimCLR alone."""
    for seed, (view, folder) in enumerate(zip(STREAMS, written, strict=True)):
        reference = {**json.loads(held(view)), "dataset": "pkummd2-xview", **more}
        write_scores(folder / "scores.parquet", stream(view, seed, held_against=json.dumps(reference)))
    found = json.loads(run(written, "--json").stdout)["reported"]
    assert (found and found["top1"]) == figure


def test_streams_of_several_networks_have_no_figure(written: list[Path], stream: Callable[..., Scores]) -> None:
    mixed = held("bone", trained_on="ntu120-xsub")
    write_scores(written[1] / "scores.parquet", stream("bone", 1, held_against=mixed))
    assert json.loads(run(written, "--json").stdout)["reported"] is None


@pytest.mark.parametrize("text", ["joint=1,bone=0,motion=0.25", "1,0,0.25", "motion=0.25, joint=1, bone=0"])
def test_weights_are_named_or_in_the_order_of_the_streams(text: str) -> None:
    assert parse_weights(text, STREAMS).values == (1.0, 0.0, 0.25)


def test_given_weights_count(written: list[Path]) -> None:
    result = run(written, "--weights", "motion=0.25,joint=1,bone=0", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["weights"] == [1.0, 0.0, 0.25]
    assert found["figures"]["top1"] == pytest.approx(by_hand(written, (1.0, 0.0, 0.25))[1])
    assert len(found["fusions"]) == 5
    assert found["fusions"][0]["counts"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("joint=1,bone=1", "motion does not fit"),
        ("joint=1,bone=1,motion=1,depth=1", "depth does not fit"),
        ("1,1", "2 weights for 3 streams"),
        ("1,-1,1", "'-1' is no weight"),
        ("1,nan,1", "'nan' is no weight"),
        ("joint=1,1,1", "either all weights have names or none"),
        ("0,0,0", "all weights are 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match="--weights") as error:
        parse_weights(text, STREAMS)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"dataset": "ntu60-xsub"}, "dataset: ntu60-xview and ntu60-xsub"),
        ({"digest": "d2"}, "digest: d1 and d2"),
        ({"split": "train"}, "split: test and train"),
        ({"classes": json.dumps(["x"] * CLASSES)}, "classes: "),
        ({"dataset": "ntu60-xsub", "digest": "d2"}, "dataset: ntu60-xview and ntu60-xsub; digest: d1 and d2"),
    ],
)
def test_other_datasets_and_splits_are_refused_field_by_field(
    written: list[Path], stream: Callable[..., Scores], about: dict[str, str], said: str
) -> None:
    write_scores(written[1] / "scores.parquet", stream("bone", 5, **about))
    result = run(written)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (written[0].parent / "fused").exists()


def test_missing_samples_are_named(written: list[Path], stream: Callable[..., Scores]) -> None:
    whole = stream("bone", 5)
    kept = [row for row, id_ in enumerate(whole.ids) if id_ not in ("S007", "S031")]
    short = Scores([whole.ids[row] for row in kept], whole.labels[kept], whole.scores[kept], whole.about)
    write_scores(written[1] / "scores.parquet", short)
    result = run(written)
    assert result.exit_code == 1
    assert "lacks 2 of the samples" in result.stderr
    assert "S007" in result.stderr
    assert "S031" in result.stderr
    swapped = run([written[1], written[0]])  # the stream with fewer samples first
    assert swapped.exit_code == 1
    assert "S007" in swapped.stderr


def test_streams_that_disagree_about_a_label_are_refused(stream: Callable[..., Scores]) -> None:
    first, other = stream("joint", 0), stream("bone", 1)
    labels = other.labels.copy()
    row = other.ids.index("S012")
    labels[row] = (labels[row] + 1) % CLASSES
    with pytest.raises(SkelpipeError, match="labels S012") as error:
        align([first, replace(other, labels=labels)], ["a", "b"])
    assert not isinstance(error.value, UsageError)


def test_a_tie_goes_to_the_lowest_class(stream: Callable[..., Scores]) -> None:
    one = stream("joint", 0)
    first = np.zeros_like(one.scores)
    second = np.zeros_like(one.scores)
    first[:, 5], second[:, 2] = 1, 1
    fused = fuse([replace(one, scores=first), replace(one, scores=second)], (0.5, 0.5))
    assert set(fused.argmax(axis=1).tolist()) == {2}


def test_scores_are_added_raw(stream: Callable[..., Scores]) -> None:
    """After a softmax of each stream, class 1 would be at most equal: here the larger scores win."""
    one = stream("joint", 0)
    loud, quiet = np.zeros_like(one.scores), np.zeros_like(one.scores)
    loud[:, 1], quiet[:, 3], quiet[:, 4] = 100, 60, 59
    fused = fuse([replace(one, scores=loud), replace(one, scores=quiet)], (0.5, 0.5))
    np.testing.assert_array_equal(fused[0], [0, 50, 0, 30, 29.5, 0, 0])


def test_published_weights() -> None:
    def values(dataset: str, views: tuple[str, ...] = STREAMS) -> list[tuple[float, ...]]:
        return [one.values for one in papers_weights(dataset, views)]

    assert values("pkummd2-xview") == [(0.6, 0.6, 0.4), (1, 1, 1), (0.2, 0.2, 0.6), (1, 0.2, 0.2)]
    # ActCLR's are AimCLR's here; its copy of AimCLR has others
    assert values("ntu60-xview") == [(0.6, 0.6, 0.4), (1, 1, 1), (0.6, 0.6, 0.8), (1, 0.2, 0.2)]
    assert values("pkummd1-xview")[2] == (0.6, 0.0, 0.4)
    assert values("ntu120-xset")[2] == (0.6, 0.4, 0.6)
    assert values("ntu60-xsub") == [(0.6, 0.6, 0.4), (1, 1, 1), (0.5, 0.5, 0.4)]  # ActCLR's are equal ones
    assert values("ntu60-xsub", ("motion", "joint"))[0] == (0.4, 0.6)
    assert values("mine-xsub", ("3s", "joint")) == [(1, 1)]


def test_skelemixclr_weighs_streams_equally(written: list[Path], stream: Callable[..., Scores]) -> None:
    sets = papers_weights("ntu60-xview", STREAMS)
    assert named_weights(sets, "skelemixclr").values == (1, 1, 1)
    assert named_weights(sets, "actclr").values == (0.6, 0.6, 0.4)
    assert named_weights(sets, None).values == (0.6, 0.6, 0.4)
    for seed, (view, folder) in enumerate(zip(STREAMS, written, strict=True)):
        said = "skelemixclr, 300 epochs on ntu60-xview"
        write_scores(folder / "scores.parquet", stream(view, seed, what=said))
    assert json.loads(run(written, "--json").stdout)["weights"] == [1.0, 1.0, 1.0]


def test_any_number_of_streams(written: list[Path], stream: Callable[..., Scores], tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    write_scores(tmp_path / "again" / "scores.parquet", stream("joint", 9))
    four = [*written, tmp_path / "again"]
    found = json.loads(run(four, "--json").stdout)
    assert found["view"] == "joint+bone+motion+joint"
    assert found["figures"]["top1"] == pytest.approx(by_hand(four, (1, 1, 1, 1))[1])
    assert [entry["source"] for entry in found["fusions"]] == ["equal weights"]  # no paper fused a view twice
    assert [entry["name"] for entry in found["streams"]] == [
        f"{path.name if path.name in STREAMS else 'joint'} ({path})" for path in four
    ]
    assert "in the order of the streams" in run(four, "--weights", "joint=1,bone=1,motion=1").stderr
    assert fused_view(["motion", "joint", "bone"]) == "3s"
    assert fused_view(["joint", "motion"]) == "joint+motion"


def test_scores_of_two_protocols_are_told_apart(
    written: list[Path], stream: Callable[..., Scores], tmp_path: Path
) -> None:
    (tmp_path / "near").mkdir()
    other = stream("joint", 9, protocol="knn", what="skelemixclr, 300 epochs on ntu60-xview")
    write_scores(tmp_path / "near" / "scores.parquet", other)
    found = run([written[0], tmp_path / "near"])
    assert found.exit_code == 0, found.output
    assert "scores of linear and knn are fused: their scales may differ" in found.stderr
    text = found.stdout.splitlines()
    assert text[0].startswith("linear and knn scores of 40 test samples")
    assert [line[2:].split("  ")[0] for line in text[2:5]] == ["joint (linear)", "joint (knn)", "1:1"]
    assert text[4].endswith("  equal weights")
    assert "weights are joint (linear):joint (knn)" in found.stdout
    assert "reported" not in found.stdout
    # of other views as well: no paper has weights across protocols
    mixed = json.loads(run([written[1], tmp_path / "near"], "--json").stdout)
    assert mixed["protocol"] == "linear+knn"
    assert mixed["weights"] == [1.0, 1.0]


def test_each_source_of_weights_is_named_once() -> None:
    sources = [one.source.split("; ") for one in papers_weights("ntu60-xsub", ("joint", "bone"))]
    assert [sorted(set(each)) for each in sources] == [sorted(each) for each in sources]
    assert len(sources) == 1  # all papers weigh joint and bone alike there
    assert len(sources[0]) == 4


def test_clips_that_are_missing_are_told_without_the_dataset(
    written: list[Path], stream: Callable[..., Scores]
) -> None:
    clips = {"clips": {"train": 37646, "test": 18932}, "complete": False}
    for seed, (view, folder) in enumerate(zip(STREAMS, written, strict=True)):
        write_scores(folder / "scores.parquet", stream(view, seed, published=json.dumps(clips)))
    found = run(written)
    clips_reported = "on all 37,646 + 18,932 clips, which this dataset does not have"
    assert f"top1 of 3s reported 83.8 % (AimCLR, table 2; {clips_reported}; fused here with" in found.stdout
    page = (written[0].parent / "fused" / "report.html").read_text()
    assert f"AimCLR, table 2; {clips_reported}; fused here with" in page


def test_what_cannot_be_fused_is_one_line(written: list[Path], tmp_path: Path) -> None:
    assert "at least two" in run(written[:1]).stderr
    assert "given twice" in run([written[0], written[0]]).stderr
    missing = run([written[0], tmp_path / "nothing"])
    assert missing.exit_code == 2
    assert "nothing: there is no such folder or file" in missing.stderr
    for text, words in (("a: [", "is no YAML"), ("augment: {}\naugment: {}\n", "'augment' is given twice")):
        (written[0] / "recipe.yaml").write_text(text)
        damaged = run(written)
        assert (damaged.exit_code, "recipe.yaml" in damaged.stderr) == (2, True)
        assert words in damaged.stderr


def test_frames_are_evaluated_as_a_segmentation(tmp_path: Path, stream: Callable[..., Scores]) -> None:
    for seed, view in enumerate(("joint", "motion")):
        (tmp_path / view).mkdir()
        write_scores(tmp_path / view / "scores.parquet", stream(view, seed, protocol="segment"))
    found = json.loads(run([tmp_path / "joint", tmp_path / "motion"], "--json").stdout)
    assert set(found["figures"]) == {"acc", "macc", "fwiou", "miou"}
    assert found["figures"]["acc"] == pytest.approx(
        by_hand([tmp_path / "joint", tmp_path / "motion"], (0.6, 0.4))[1]
    )


def test_a_folder_that_another_process_writes_is_refused(written: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "fused"
    with owned(out, "other"):
        result = CliRunner().invoke(main, [*map(str, written), "--out", str(out)])
        assert result.exit_code == 2
        assert f"{out}: another other: process" in result.stderr
        assert [path.name for path in out.iterdir()] == [LOCK]
