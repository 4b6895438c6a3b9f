"""The recordings of a synthetic NTU RGB+D, compared with the manifest files."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import UsageError
from skelpipe.synth.ntu_names import CAMERAS, plan_performances, split_counts

MANIFESTS = Path(__file__).parents[3] / "manifests"
NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})\.skeleton")
FIELDS = ("setup", "camera", "subject", "replication", "action")


@cache
def facts(dataset):
    return yaml.safe_load((MANIFESTS / "datasets" / f"{dataset}.yaml").read_text())


def names(dataset, subjects, actions, repeats):
    plan = plan_performances(dataset, subjects, actions, repeats)
    return [performance.file_name(camera) for performance in plan for camera in CAMERAS]


def fields(name):
    return dict(zip(FIELDS, map(int, NAME.fullmatch(name).groups()), strict=True))


def train_shares(dataset, found):
    return {
        key: sum(fields(name)[split["field"]] in split["train"] for name in found) / len(found)
        for key, split in facts(dataset)["splits"].items()
    }


@settings(max_examples=60, deadline=None)
@given(
    dataset=st.sampled_from(["ntu60", "ntu120"]),
    subjects=st.integers(2, 12),
    actions=st.integers(1, 20),
    repeats=st.integers(1, 6),
)
def test_plan_is_complete_in_range_and_has_both_subsets(dataset, subjects, actions, repeats):
    found = names(dataset, subjects, actions, repeats)
    assert len(found) == len(set(found)) == subjects * actions * repeats * 3
    for name in found:
        for key, (low, high) in facts(dataset)["ranges"].items():
            assert low <= fields(name)[key] <= high
    for share in train_shares(dataset, found).values():
        assert 0.3 <= share <= 0.7


@pytest.mark.parametrize(("dataset", "subjects", "actions"), [("ntu60", 40, 60), ("ntu120", 60, 120)])
def test_missing_recordings_are_never_planned(dataset, subjects, actions):
    missing = set((MANIFESTS / "lists" / "ntu120-missing.txt").read_text().split())
    found = {name.removesuffix(".skeleton") for name in names(dataset, subjects, actions, 4)}
    assert len(found) == subjects * actions * 4 * 3
    assert not found & missing


def test_every_class_is_in_both_subsets_of_every_split():
    for dataset in ("ntu60", "ntu120"):
        found = names(dataset, 4, 12, 2)
        for action in {fields(name)["action"] for name in found}:
            shares = train_shares(dataset, [name for name in found if fields(name)["action"] == action])
            assert all(0.3 <= share <= 0.7 for share in shares.values())


def test_interaction_classes_come_with_enough_classes():
    def pairs(dataset, actions):
        chosen = {fields(name)["action"] for name in names(dataset, 2, actions, 1)}
        assert len(chosen) == actions
        return {action for action in chosen if 50 <= action <= 60 or action >= 106}

    assert not pairs("ntu60", 3)
    assert len(pairs("ntu60", 5)) == 1
    assert len(pairs("ntu60", 60)) == 11
    assert len(pairs("ntu120", 10)) == 2
    assert len(pairs("ntu120", 120)) == 26


def test_later_classes_of_ntu120_are_recorded_in_later_setups():
    found = [fields(name) for name in names("ntu120", 6, 20, 3)]
    assert {name["action"] > 60 for name in found} == {True, False}
    assert all((name["setup"] > 17) == (name["action"] > 60) for name in found)


def test_more_than_two_repeats_use_more_setups():
    found = [fields(name) for name in names("ntu60", 2, 1, 5)]
    for subject in {name["subject"] for name in found}:
        repeats = {(name["setup"], name["replication"]) for name in found if name["subject"] == subject}
        assert len(repeats) == 5
        assert len({setup for setup, _ in repeats}) == 3
        assert {replication for _, replication in repeats} == {1, 2}


def test_split_counts_agree_with_the_names():
    plan = plan_performances("ntu120", 3, 7, 3)
    found = names("ntu120", 3, 7, 3)
    for key, subsets in split_counts("ntu120", plan).items():
        assert subsets["train"] == pytest.approx(train_shares("ntu120", found)[key] * len(found))
        assert subsets["train"] + subsets["test"] == len(found)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ntu60", 41, 10, 2), "--subjects 41"),
        (("ntu60", 8, 61, 2), "--actions 61"),
        (("ntu60", 8, 10, 100), "--repeats 100"),
        (("ntu60", 8, 10, 0), "--repeats 0"),
    ],
)
def test_more_than_a_dataset_has_names_for_is_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        plan_performances(*arguments)
