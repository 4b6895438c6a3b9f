"""Synthetic MSR Action3D, read back by a plain reader of this test."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from skelpipe.synth.actions import INTERACTIONS
from skelpipe.synth.msr import film, render_jobs
from skelpipe.synth.msr_names import MOTIONS, plan_clips
from skelpipe.synth.options import SynthOptions

MISSING = Path(__file__).parents[3] / "manifests" / "lists" / "msr-action3d-missing.txt"
NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_skeleton3D\.txt")
# For each joint in MSR Action3D files, in the order of the project's layout: the same joint of NTU (from 0).
OF_NTU = [4, 8, 20, 1, 12, 16, 0, 5, 9, 6, 10, 7, 11, 13, 17, 14, 18, 15, 19, 3]


@cache
def files(difficulty=1.0, subjects=4, actions=20, repeats=1, frames=40, seed=0):
    options = SynthOptions("msr-action3d", seed, difficulty, frames)
    found = {}
    for job in render_jobs(options, plan_clips(subjects, actions, repeats)):
        rendered = job.render()
        assert tuple(rendered.files) == job.paths
        assert (rendered.recordings, rendered.clips) == (1, 1)
        found |= rendered.files
    return found


def parse(content):
    """Check every line of a file; return its frames [T,20,4]."""
    assert re.fullmatch(rb"((-?\d+\.\d{6} ){3}[01]\.\d{6}\n)+", content)
    assert content.count(b"\n") % 20 == 0
    return np.array(content.split(), float).reshape(-1, 20, 4)


def test_files_hold_twenty_joints_per_frame_in_metres_before_the_camera():
    for content in files().values():
        clip = parse(content)
        xyz = clip[clip[..., :3].any((1, 2)), :, :3]
        assert ((xyz[..., 2] > 1) & (xyz[..., 2] < 7)).all()
        assert ((clip[..., 3] >= 0) & (clip[..., 3] <= 1)).all()
        assert (xyz[:, 19, 1] > xyz[:, 6, 1]).mean() > 0.95  # head above hips
    confidences = np.concatenate([parse(content)[..., 3].ravel() for content in files().values()])
    for kind in (confidences == 1, confidences == 0, (confidences > 0) & (confidences < 1)):
        assert kind.mean() > 0.01


def test_the_text_holds_what_was_simulated():
    options = SynthOptions("msr-action3d", seed=2, difficulty=0.0, frames=12)
    for clip, job in zip(plan_clips(2, 3, 1), render_jobs(options, plan_clips(2, 3, 1)), strict=True):
        got = parse(job.render().files[clip.file_name])
        assert (got[..., 3] == 1).all()
        np.testing.assert_allclose(got[..., :3], film(options, clip).xyz[:, OF_NTU], atol=5.1e-7)
        assert (got[:, 0, 0] < got[:, 1, 0]).all()  # left shoulder, right shoulder: x grows to a person's right


def test_some_recordings_lose_the_person_for_a_while_and_none_at_difficulty_0():
    def lost(difficulty, subjects=4):
        return [(~parse(content).any((1, 2))).mean() for content in files(difficulty, subjects).values()]

    for difficulty, subjects, limits in ((1.0, 4, (1, 0.1)), (3.0, 2, (2, 0.25))):
        shares = np.array(lost(difficulty, subjects))
        assert limits[0] <= (shares > 0).sum() <= limits[1] * len(shares)
        assert shares.max() < 0.3
    assert max(lost(0.0)) == 0


def test_names_are_complete_and_in_range():
    names = [tuple(map(int, NAME.fullmatch(name).groups())) for name in files(subjects=2, actions=3, repeats=3)]
    assert sorted(names) == [(a, s, e) for a in (1, 2, 3) for s in (1, 2) for e in (1, 2, 3)]


def test_a_missing_recording_is_replaced_by_another_repeat():
    missing = MISSING.read_text().split()
    assert missing == ["a13_s09_e02"]
    planned = [clip.identity for clip in plan_clips(10, 20, 3)]
    assert len(planned) == len(set(planned)) == 10 * 20 * 3 - 1
    assert not set(planned) & set(missing)
    twice = [clip.identity for clip in plan_clips(9, 13, 2)]
    assert len(twice) == 9 * 13 * 2
    assert {"a13_s09_e01", "a13_s09_e03"} < set(twice)


def test_classes_are_twenty_motions_of_one_person():
    assert len(MOTIONS) == len(set(MOTIONS)) == 20
    assert not set(MOTIONS) & INTERACTIONS


def feature(clip):
    """How far each joint moves along each axis relative to the shoulders: enough to classify motions."""
    xyz = clip[clip.any((1, 2)), :, :3]
    spread = (xyz - xyz[:, 2:3]).std(0).ravel()
    return spread / np.linalg.norm(spread)


@pytest.mark.parametrize(("difficulty", "least"), [(0.0, 0.9), (1.0, 0.35)])
def test_class_means_of_some_people_classify_the_others(difficulty, least):
    features = np.array([feature(parse(content)) for content in files(difficulty).values()])
    action, person = np.array([list(map(int, NAME.fullmatch(name).groups()[:2])) for name in files(difficulty)]).T
    train = person % 2 == 1
    means = np.stack([features[train & (action == label)].mean(0) for label in range(1, 21)])
    guess = 1 + ((features[~train][:, None] - means) ** 2).sum(-1).argmin(1)
    assert (guess == action[~train]).mean() >= least  # chance: 0.05


def test_bytes_depend_on_seed_and_name_alone():
    base = files(subjects=4, actions=4)
    fewer = files(subjects=2, actions=2)
    assert fewer.keys() < base.keys()
    assert all(base[name] == content for name, content in fewer.items())
    for changes in ({"seed": 1}, {"difficulty": 0.5}):
        other = files(subjects=4, actions=4, **changes)
        assert other.keys() == base.keys()
        assert all(base[name] != other[name] for name in base)
    assert len(set(base.values())) == len(base)
