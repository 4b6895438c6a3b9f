"""Synthetic PKU-MMD: videos and label files, read back by numpy and by splitting lines."""

import io
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from skelpipe.synth.options import SynthOptions
from skelpipe.synth.pku import film, label_rows, render_jobs
from skelpipe.synth.pku_names import plan_videos

INTERACTIONS = {12, 14, 16, 18, 21, 24, 26, 27}  # classes whose names mention another person


@cache
def files(dataset="pkummd1", difficulty=1.0, subjects=2, actions=10, repeats=1, frames=40, seed=0):
    """The files of every video: name without view to {path: content}."""
    options = SynthOptions(dataset, seed, difficulty, frames)
    videos = plan_videos(options, subjects, actions, repeats)
    found = {}
    for video, job in zip(videos, render_jobs(options, videos)[1:], strict=True):
        rendered = job.render()
        assert set(rendered.files) == set(job.paths)
        assert rendered.recordings == 3
        found[video.name] = rendered.files
    return found


def skeleton(content):
    """Frames, bodies, joints, axes: [T,2,25,3]."""
    assert content.endswith(b"\n")
    assert {len(line.split(b" ")) for line in content[:-1].split(b"\n")} == {150}
    return np.loadtxt(io.BytesIO(content), delimiter=" ").reshape(-1, 2, 25, 3)


def labels(content):
    assert re.fullmatch(rb"(\d+,\d+,\d+,[12]\n)+", content)
    return [tuple(map(int, row.split(b","))) for row in content.splitlines()]


def views(event, name):
    return {view: skeleton(event[f"skeleton/{name}-{view}.txt"]) for view in "LMR"}


@pytest.mark.parametrize("dataset", ["pkummd1", "pkummd2"])
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_three_views_of_one_length_share_their_label_rows(dataset, difficulty):
    for name, event in files(dataset, difficulty).items():
        folders = ("skeleton", "label")
        assert set(event) == {f"{folder}/{name}-{view}.txt" for view in "LMR" for folder in folders}
        assert len({event[f"label/{name}-{view}.txt"] for view in "LMR"}) == 1
        assert len({len(video) for video in views(event, name).values()}) == 1
        assert len({event[f"skeleton/{name}-{view}.txt"] for view in "LMR"}) == 3


def test_rows_lie_apart_inside_the_video_at_difficulty_0():
    confidences = set()
    for name, event in files(difficulty=0.0, actions=20).items():
        rows = labels(event[f"label/{name}-L.txt"])
        video = views(event, name)["L"]
        assert rows[0][1] > 1
        assert rows[-1][2] < len(video)
        assert all(1 <= label <= 51 and last - first + 1 == 40 for label, first, last, _ in rows)
        assert all(row[2] + 1 < after[1] for row, after in pairwise(rows))
        confidences |= {confidence for *_, confidence in rows}
    assert confidences == {1, 2}


@pytest.mark.parametrize(("difficulty", "limits"), [(0.0, (0, 0)), (1.0, (1, 0.1)), (3.0, (5, 0.25))])
def test_rows_seldom_overlap_or_end_beyond_the_video(difficulty, limits):
    options = SynthOptions("pkummd2", difficulty=difficulty)
    spans = [(10, 40), (50, 90), (95, 120), (123, 160)]
    videos = plan_videos(options, 13, 51, 1)
    overlaps = beyond = 0
    for video in videos:
        rows = label_rows(options, replace(video, classes=(3, 1, 4, 2)), spans, 170)
        assert [row[0] for row in rows] == [3, 1, 4, 2]
        assert [row[1] for row in rows] == [first + 1 for first, _ in spans]
        late = [row[2] - after[1] + 1 for row, after in pairwise(rows)]
        wrong = [row[2] != end for row, (_, end) in zip(rows, spans, strict=True)]
        assert sum(wrong[:-1]) == sum(frames > 0 for frames in late) <= 1
        assert max(late) <= 4
        assert rows[-1][2] in ((171, 172) if wrong[-1] else (160,))
        overlaps += any(wrong[:-1])
        beyond += wrong[-1]
    assert limits[0] <= overlaps <= limits[1] * len(videos)
    assert limits[0] <= beyond <= limits[1] * len(videos)


def test_the_second_body_is_there_for_interactions_alone():
    seen = set()
    for name, event in files(difficulty=0.0, actions=12).items():
        rows = labels(event[f"label/{name}-R.txt"])
        for video in views(event, name).values():
            there = video[:, 1].any((1, 2))
            assert video[:, 0].any((1, 2)).all()
            for label, first, last, _ in rows:
                assert there[first - 1 : last].all() == (label in INTERACTIONS) == there[first - 1 : last].any()
            for (before, _, last, _), (label, first, *_) in pairwise(rows):  # nobody stays until the next action
                assert INTERACTIONS.isdisjoint((before, label)) <= (not there[last : first - 1].any())
        seen |= {row[0] in INTERACTIONS for row in rows}
    assert seen == {True, False}


def test_people_who_interact_face_each_other():
    checked = 0
    for name, event in files(difficulty=0.0, actions=12).items():
        video = views(event, name)["M"]
        for label, first, _, _ in labels(event[f"label/{name}-M.txt"]):
            actor, partner = video[first - 1]
            if label in INTERACTIONS:
                between = (partner - actor)[20]
                assert 0.6 < np.linalg.norm(between) < 1.5
                for person, sign in ((actor, 1), (partner, -1)):
                    ahead = np.cross(person[20] - person[0], person[8] - person[4])
                    assert sign * ahead @ between > 0.9 * np.linalg.norm(ahead) * np.linalg.norm(between)
                checked += 1
            else:
                ahead = np.cross(actor[20] - actor[0], actor[8] - actor[4])
                assert ahead[2] < -0.9 * np.linalg.norm(ahead)  # towards the camera
    assert checked == 4


def test_a_video_is_continuous():
    for name, event in files(difficulty=0.0, actions=6, frames=120).items():
        steps = np.linalg.norm(np.diff(views(event, name)["M"][:, 0], axis=0), axis=-1)
        assert steps.max() > 0.02  # metres in 1/30 s
        assert (steps[1:-1] <= steps[:-2] + steps[2:] + 0.02).all()


def test_views_are_one_event_up_to_a_rigid_motion():
    for name, event in files(difficulty=0.0).items():
        seen = views(event, name)
        middle = seen["M"][:, 0].reshape(-1, 3)
        for view in "LR":
            other = seen[view][:, 0].reshape(-1, 3)
            a, b = middle - middle.mean(0), other - other.mean(0)
            u, _, vt = np.linalg.svd(a.T @ b)
            mirror = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
            assert np.abs(a @ u @ mirror @ vt - b).max() < 1e-5
            assert np.abs(a - b).max() > 0.1


def test_the_text_holds_what_the_sensor_listed():
    options = SynthOptions("pkummd1", seed=3, difficulty=2.0, frames=20)
    swapped = absent = 0
    for video in plan_videos(options, 2, 10, 1):
        files_of = files(difficulty=2.0, frames=20, seed=3)[video.name]
        _, seen = film(options, video)
        for view, sightings in seen.items():
            got = skeleton(files_of[f"skeleton/{video.name}-{view}.txt"])
            expected = np.zeros_like(got)
            t = 0
            for sighting in sightings:
                for frame in range(sighting.frames):
                    bodies = [b for b, track in enumerate(sighting.tracks) if track.present[frame]]
                    bodies.sort(key=lambda b: sighting.rank[b, frame])
                    for slot, b in enumerate(bodies[:2]):
                        expected[t, slot] = sighting.tracks[b].xyz[frame]
                    swapped += bodies[:2] == [1, 0]
                    absent += not bodies
                    t += 1
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)
    assert swapped
    assert absent


def feature(clip):
    spread = (clip - clip[:, 20:21]).std(0).ravel()
    return spread / np.linalg.norm(spread)


@pytest.mark.parametrize(("difficulty", "least"), [(0.0, 0.9), (1.0, 0.5)])
def test_class_means_of_some_people_classify_the_clips_of_the_others(difficulty, least):
    found = []
    for name, event in files("pkummd2", difficulty, subjects=4).items():
        video = views(event, name)["M"]
        for label, first, last, _ in labels(event[f"label/{name}-M.txt"]):
            clip = video[first - 1 : last, 0]
            found.append((label, name[-2:] in {"02", "03", "07"}, feature(clip[clip.any((1, 2))])))
    label, test, features = (np.array(column) for column in zip(*found, strict=True))
    classes = np.unique(label)
    means = np.stack([features[~test & (label == one)].mean(0) for one in classes])
    guess = classes[((features[test][:, None] - means) ** 2).sum(-1).argmin(1)]
    assert (guess == label[test]).mean() >= least  # chance: 0.1


def test_bytes_depend_on_seed_name_and_difficulty():
    base = files(frames=16)
    options = SynthOptions("pkummd1", frames=16)
    videos = plan_videos(options, 2, 10, 1)
    again = {
        v.name: job.render().files
        for v, job in reversed([*zip(videos, render_jobs(options, videos)[1:], strict=True)])
    }
    assert again == base
    for changes in ({"seed": 1}, {"difficulty": 0.5}, {"dataset": "pkummd2"}):
        other = [content for event in files(**({"frames": 16} | changes)).values() for content in event.values()]
        mine = [content for event in base.values() for path, content in event.items() if path.startswith("skel")]
        assert not set(mine) & set(other)
        assert len(set(mine)) == len(mine)
