"""Simulated performances: anatomy, cameras, interactions, and how well classes can be told apart."""

import numpy as np
import pytest

from skelpipe.manifest_file import load_manifest
from skelpipe.synth.actions import INTERACTIONS
from skelpipe.synth.ntu import film
from skelpipe.synth.ntu_names import Performance, plan_performances
from skelpipe.synth.options import SynthOptions

# The parent of each Kinect v2 joint with the pelvis as root, from the sensor's documentation; joint 0 has none.
PARENTS = [0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 22, 7, 24, 11]
CLEAN = SynthOptions("ntu60", difficulty=0.0, frames=40)


def performance_of(action=1, subject=1, setup=2, replication=1):
    return Performance(setup, subject, replication, action)


def bones(xyz):
    return (xyz - xyz[..., PARENTS, :])[..., 1:, :]


def rigid_residuals(a, b):
    """Distances [n] in metres of point sets [n,3] after the best rotation and shift (Kabsch), no mirror."""
    a, b = a - a.mean(0), b - b.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    mirror = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    return np.linalg.norm(a @ u @ mirror @ vt - b, axis=1)


def test_cameras_see_one_performance_up_to_rigid_motion():
    seen = film(CLEAN, performance_of())
    points = {camera: sighting.tracks[0].xyz.reshape(-1, 3) for camera, sighting in seen.items()}
    assert rigid_residuals(points[1], points[2]).max() < 1e-9
    assert rigid_residuals(points[1], points[3]).max() < 1e-9
    assert np.abs(points[2] - points[3]).max() > 0.2  # the viewpoints do differ
    other = film(CLEAN, performance_of(action=2))[2].tracks[0].xyz.reshape(-1, 3)
    assert np.median(rigid_residuals(points[1], other)) > 0.02


def test_cameras_see_one_performance_up_to_noise_at_full_difficulty():
    for action in (1, 4, 7):
        seen = film(SynthOptions("ntu60", frames=60), performance_of(action=action))
        points = {camera: sighting.tracks[0].xyz.reshape(-1, 3) for camera, sighting in seen.items()}
        for camera in (2, 3):
            assert len(points[1]) == len(points[camera])
            assert 0.003 < np.median(rigid_residuals(points[1], points[camera])) < 0.04


def test_people_stand_upright_before_the_cameras():
    for camera, sighting in film(CLEAN, performance_of()).items():
        xyz = sighting.tracks[0].xyz
        assert (xyz[..., 2] > 1.5).all(), camera
        assert (xyz[:, 3, 1] > xyz[:, 20, 1]).all()  # head above shoulders
        assert (xyz[:, 0, 1] > xyz[:, 15, 1]).all()  # pelvis above foot
        assert (xyz[:, 8, 0] > xyz[:, 4, 0]).all()  # right shoulder on the side of +x: facing the camera
        assert (xyz[0, [15, 19], 2] < xyz[0, [14, 18], 2]).all()  # feet point towards it


def test_bones_keep_their_length_and_belong_to_the_subject():
    def lengths(subject, action, camera=1):
        return np.linalg.norm(bones(film(CLEAN, performance_of(action, subject))[camera].tracks[0].xyz), axis=-1)

    first = lengths(1, 1)
    assert first.std(0).max() < 1e-9
    np.testing.assert_allclose(lengths(1, 4, camera=3)[0], first[0], atol=1e-9)
    for subject in (2, 3, 4):
        assert np.abs(lengths(subject, 1)[0] - first[0]).max() > 0.01
    left, right = first[0][[3, 4, 5, 12, 13]], first[0][[7, 8, 9, 16, 17]]
    np.testing.assert_allclose(left, right, atol=1e-9)
    assert 1.2 < first[0][[0, 19, 1, 2, 12, 13]].sum() < 2.2  # trunk, head, thigh, shin


def test_a_class_is_the_same_action_for_everyone_in_every_dataset():
    def directions(options, performance):
        bone = bones(film(options, performance)[1].tracks[0].xyz)
        return bone / np.linalg.norm(bone, axis=-1, keepdims=True)

    reference = directions(CLEAN, performance_of())
    for options, performance in (
        (CLEAN, performance_of(subject=5, setup=9)),
        (SynthOptions("ntu60", seed=7, difficulty=0.0, frames=40), performance_of()),
        (SynthOptions("ntu120", difficulty=0.0, frames=40), performance_of()),
    ):
        np.testing.assert_allclose(directions(options, performance), reference, atol=1e-9)


def test_two_people_face_each_other_in_interactions():
    for action in (50, 60, 112):
        dataset = "ntu60" if action <= 60 else "ntu120"
        sighting = film(SynthOptions(dataset, difficulty=0.0, frames=40), performance_of(action=action))[1]
        actor, partner = (track.xyz[0] for track in sighting.tracks)
        between = partner[20] - actor[20]
        assert 0.6 < np.linalg.norm(between) < 1.5
        for person, sign in ((actor, 1), (partner, -1)):
            right, up = person[8] - person[4], person[20] - person[0]
            ahead = np.cross(up, right)
            assert ahead @ between * sign > 0.9 * np.linalg.norm(ahead) * np.linalg.norm(between)
    assert 61 not in INTERACTIONS
    assert len(film(CLEAN, performance_of())[1].tracks) == 1


def test_length_style_and_tracking_vary_with_difficulty_only():
    clean = [film(CLEAN, performance_of(subject=s))[1] for s in (1, 2, 3)]
    assert {sighting.frames for sighting in clean} == {40}
    assert all((sighting.tracks[0].state == 2).all() for sighting in clean)
    hard = [film(SynthOptions("ntu60", frames=80), performance_of(subject=s))[1] for s in range(1, 9)]
    lengths = [sighting.frames for sighting in hard]
    assert len(set(lengths)) > 4
    assert 55 < np.mean(lengths) < 110
    assert any((sighting.tracks[0].state == 1).any() for sighting in hard)


def preprocessed(xyz, T=32):
    """A body's clip by a naive profile `crosclr`: centred on joint 20, resized to T frames, shoulders along x."""
    xyz = xyz - xyz[:, 20:21]
    L = len(xyz)
    source = np.clip((np.arange(T) + 0.5) * L / T - 0.5, 0, L - 1)
    flat = xyz.reshape(L, -1)
    clip = np.stack([np.interp(source, np.arange(L), column) for column in flat.T], 1).reshape(T, 25, 3)
    d = clip[:, 8] - clip[:, 4]
    angle = np.arccos(d[:, 0] / (np.hypot(d[:, 0], d[:, 2]) + 1e-4)) * (-1 if d[:, 2].sum() >= 0 else 1)
    x, z = clip[..., 0].copy(), clip[..., 2].copy()
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    clip[..., 0], clip[..., 2] = c * x - s * z, s * x + c * z
    return clip


def nearest_neighbour_accuracy(features, labels, train):
    distance = ((features[~train][:, None] - features[train][None]) ** 2).sum(-1)
    return (labels[train][distance.argmin(1)] == labels[~train]).mean()


@pytest.mark.parametrize(("difficulty", "raw_range"), [(0.0, (0.97, 1.0)), (1.0, (0.35, 0.75))])
def test_variation_confuses_raw_coordinates_but_not_an_invariant_feature(difficulty, raw_range):
    options = SynthOptions("ntu60", difficulty=difficulty, frames=60)
    training = load_manifest("ntu60").splits["xsub"].train
    clips, labels, train = [], [], []
    for performance in plan_performances("ntu60", 8, 10, 1):
        for sighting in film(options, performance).values():
            clips.append(preprocessed(sighting.tracks[0].xyz))
            labels.append(performance.action)
            train.append(performance.subject in training)
    clips, labels, train = np.stack(clips), np.array(labels), np.array(train)
    raw = nearest_neighbour_accuracy(clips.reshape(len(clips), -1), labels, train)
    assert raw_range[0] <= raw <= raw_range[1]
    spectrum = np.abs(np.fft.rfft(clips - clips.mean(1, keepdims=True), axis=1))[:, 1:10].reshape(len(clips), -1)
    spectrum /= np.linalg.norm(spectrum, axis=1, keepdims=True)
    assert nearest_neighbour_accuracy(spectrum, labels, train) >= 0.85
