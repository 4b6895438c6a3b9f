"""Labelled subsets: the published totals from names alone, and what a fixed draw must keep."""

import numpy as np
import pytest

from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.train.evaluation.labelled_share import labelled_subset

# Spec E4, counted there from the name lists: 1 % and 10 % of the training side.
TOTALS = {
    ("ntu60", "xsub"): (419, 4009),
    ("ntu60", "xview"): (360, 3763),
    ("ntu120", "xsub"): (659, 6288),
    ("ntu120", "xset"): (540, 5448),
}


@pytest.mark.parametrize(("dataset", "split"), TOTALS)
def test_totals_from_names_alone(dataset: str, split: str) -> None:
    manifest = load_manifest(dataset)
    rule = manifest.split(split)
    training = [
        (id_, fields["action"] - 1) for id_, fields in manifest.expected() if rule.subset(fields) == "train"
    ]
    ids, labels = [id_ for id_, _ in training], np.array([label for _, label in training])
    assert (len(labelled_subset(ids, labels, 0.01)), len(labelled_subset(ids, labels, 0.1))) == TOTALS[
        dataset, split
    ]


def test_a_draw_is_one_of_the_class_and_knows_no_row_order() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(7), [5, 15, 25, 35, 100, 3, 45])
    ids = [f"clip{n:03}" for n in range(len(labels))]
    rows = labelled_subset(ids, labels, 0.1, seed=4)
    # half to even: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2, 3.5 -> 4, 4.5 -> 4
    assert np.bincount(labels[rows], minlength=7).tolist() == [0, 2, 2, 4, 10, 0, 4]
    assert (np.diff(rows) > 0).all()
    order = rng.permutation(len(ids))
    moved = labelled_subset([ids[n] for n in order], labels[order], 0.1, seed=4)
    assert {ids[order[n]] for n in moved} == {ids[n] for n in rows}
    assert set(labelled_subset(ids, labels, 0.1, seed=5)) != set(rows)
    assert labelled_subset(ids, labels, 1.0).tolist() == list(range(len(ids)))


def test_every_sample_has_the_same_chance() -> None:
    labels = np.zeros(20, np.int64)
    ids = [f"S{n:03}" for n in range(20)]
    hits = np.zeros(20)
    for seed in range(2000):
        hits[labelled_subset(ids, labels, 0.25, seed)] += 1
    # binomial(2000, 1/4): five standard deviations are 97
    assert np.abs(hits - 500).max() < 97


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, 0.01])
def test_a_share_of_nothing_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="--labels"):
        labelled_subset(["a", "b"], np.array([0, 1]), share)
