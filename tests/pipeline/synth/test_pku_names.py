"""The videos of a synthetic PKU-MMD, their subjects and actions, and the split files."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelpipe.errors import UsageError
from skelpipe.synth.options import SynthOptions
from skelpipe.synth.pku import render_jobs
from skelpipe.synth.pku_names import MOTIONS, plan_videos

LISTS = Path(__file__).parents[3] / "manifests" / "lists"
NAMES = {"pkummd1": re.compile(r"\d{4}"), "pkummd2": re.compile(r"A\d\dN\d\d")}
FILES = {
    "pkummd1": ("split/cross-subject.txt", "split/cross-view.txt"),
    "pkummd2": ("split/cross_subject_v2.txt", "split/cross_view_v2.txt"),
}


def plan(dataset, subjects=4, actions=10, repeats=2, seed=0):
    return plan_videos(SynthOptions(dataset, seed), subjects, actions, repeats)


def held_out(dataset, name):
    """Whether a video is for testing, by the published lists."""
    if dataset == "pkummd1":
        return 291 <= int(name) <= 334
    return name[3:] in {"N02", "N03", "N07"}


@settings(max_examples=40)
@given(
    dataset=st.sampled_from(["pkummd1", "pkummd2"]),
    subjects=st.integers(2, 13),
    actions=st.integers(1, 51),
    repeats=st.integers(1, 2),
)
def test_everyone_performs_everything_in_videos_of_about_six(dataset, subjects, actions, repeats):
    videos = plan(dataset, subjects, actions, repeats)
    names = [video.name for video in videos]
    assert len(set(names)) == len(names)
    assert all(NAMES[dataset].fullmatch(name) for name in names)
    numbers = [int(name) for name in names] if dataset == "pkummd1" else [int(name[1:3]) for name in names]
    assert all(2 <= n <= 364 for n in numbers) if dataset == "pkummd1" else all(1 <= n <= 26 for n in numbers)
    for person in {video.subject for video in videos}:
        own = [video for video in videos if video.subject == person]
        done = Counter(label for video in own for label in video.classes)
        assert len(done) == actions
        assert set(done.values()) == {repeats}
        lengths = [len(video.classes) for video in own]
        assert len(own) == 1 or (max(lengths) <= 9 and min(lengths) >= 4)
        assert max(lengths) - min(lengths) <= 1
        assert len({held_out(dataset, video.name) for video in own}) == 1  # nobody is in both subsets
        if dataset == "pkummd2":
            assert {video.name[3:] for video in own} == {f"N{person:02}"}
    assert len({video.subject for video in videos}) == subjects
    assert {held_out(dataset, name) for name in names} == {True, False}


def test_both_subsets_are_equally_large_for_a_few_people():
    for dataset in ("pkummd1", "pkummd2"):
        tested = [held_out(dataset, video.name) for video in plan(dataset, 4)]
        assert sum(tested) == len(tested) / 2


def test_with_many_people_the_rest_is_for_training():
    videos = plan("pkummd1", 66, 12, 2)
    assert len(videos) == 66 * 4
    assert sum(held_out("pkummd1", video.name) for video in videos) == 44
    assert {video.subset for video in videos if held_out("pkummd1", video.name)} == {"test"}


def test_the_order_differs_between_people_and_seeds():
    orders = [[video.classes for video in plan("pkummd2", 1, 12, 1, seed)] for seed in range(3)]
    assert all(a != b for a, b in pairwise(orders))
    first, second = plan("pkummd2", 2, 6, 1)
    assert first.classes != second.classes
    assert sorted(first.classes) == sorted(second.classes)


@pytest.mark.parametrize("dataset", ["pkummd1", "pkummd2"])
def test_split_files_list_every_video_once_under_headers(dataset):
    videos = plan(dataset)
    rendered = render_jobs(SynthOptions(dataset), videos)[0].render()
    assert tuple(rendered.files) == FILES[dataset]
    assert rendered.recordings == rendered.clips == rendered.frames == 0
    expected = {f"{video.name}-{view}" for video in videos for view in "LMR"}
    for path, tested in zip(
        FILES[dataset], (lambda name: held_out(dataset, name[:-2]), lambda name: name[-1] == "L"), strict=True
    ):
        header, train, other_header, test, end = rendered.files[path].decode().split("\n")
        assert (header, other_header, end) == ("Training videos:", "Validation videos:", "")
        for line, is_test in ((train, False), (test, True)):
            *names, last = line.split(",")  # the line ends with a comma
            assert last == ""
            assert {name.strip() for name in names} == {name for name in expected if tested(name) == is_test}
            assert len(names) == len(set(names)) > 0


def test_motions_are_those_of_classes_with_the_same_name():
    ntu, pku = ((LISTS / f"{name}-classes.txt").read_text().splitlines() for name in ("ntu", "pkummd"))
    assert len(MOTIONS) == len(set(MOTIONS)) == len(pku) == 51
    other = {name: ntu[motion - 1] for name, motion in zip(pku, MOTIONS, strict=True) if ntu[motion - 1] != name}
    assert other == {
        "bow": "nod head/bow",
        "put something inside pocket": "put something into a bag",
        "standing up": "standing up (from sitting position)",
        "take out something from pocket": "reach into pocket",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pkummd1", 67, 10, 2), "--subjects 67"),
        (("pkummd2", 14, 10, 2), "--subjects 14"),
        (("pkummd1", 8, 52, 2), "--actions 52"),
        (("pkummd2", 8, 0, 2), "--actions 0"),
        (("pkummd1", 8, 10, 0), "--repeats 0"),
        (("pkummd1", 66, 51, 1), "part I has no numbers"),
        (("pkummd2", 1, 51, 4), "names for 26 videos"),
    ],
)
def test_more_videos_than_there_are_names_is_refused(arguments, words):
    with pytest.raises(UsageError, match=words):
        plan(*arguments)
