"""Synthetic Northwestern-UCLA, read back by a plain reader of this test."""

import json
import re
from functools import cache

import numpy as np

from skelpipe.manifest_file import load_manifest
from skelpipe.synth.nw_ucla import film, render_jobs
from skelpipe.synth.nw_ucla_names import plan_takes
from skelpipe.synth.options import SynthOptions

NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)\.json")
NUMBERS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
HIP_CENTRE, HEAD, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_FOOT, RIGHT_FOOT = 0, 3, 4, 8, 15, 19  # of the Kinect SDK


@cache
def files(difficulty=1.0, subjects=2, actions=10, repeats=1, frames=30, seed=0):
    options = SynthOptions("nw-ucla", seed, difficulty, frames)
    found = {}
    for job in render_jobs(options, plan_takes(subjects, actions, repeats)):
        rendered = job.render()
        assert tuple(rendered.files) == job.paths
        assert (rendered.recordings, rendered.clips) == (3, 3)
        found |= rendered.files
    return found


def test_files_hold_a_person_in_metres_before_the_camera():
    for name, content in files().items():
        action, *_ = map(int, NAME.fullmatch(name).groups())
        top = json.loads(content)
        assert (top["file_name"], top["label"]) == (name[:-5], 1 + NUMBERS.index(action))
        xyz = np.array(top["skeletons"])
        assert xyz.shape[1:] == (20, 3)
        assert ((xyz[..., 2] > 1) & (xyz[..., 2] < 7)).all()
        assert (xyz[:, HEAD, 1] > xyz[:, HIP_CENTRE, 1]).mean() > 0.9
        assert (xyz[:, HIP_CENTRE, 1] > xyz[:, [LEFT_FOOT, RIGHT_FOOT], 1].min(axis=1)).mean() > 0.9


def test_the_json_holds_what_was_simulated_and_x_grows_to_a_persons_right():
    options = SynthOptions("nw-ucla", seed=2, difficulty=0.0, frames=12)
    for take in plan_takes(1, 2, 1):
        (job,) = render_jobs(options, [take])
        for camera, xyz in film(options, take).items():
            got = np.array(json.loads(job.render().files[take.file_name(camera)])["skeletons"])
            np.testing.assert_allclose(got, xyz, atol=5.1e-7)
            assert (got[:, LEFT_SHOULDER, 0] < got[:, RIGHT_SHOULDER, 0]).all()


def test_cameras_see_one_performance_from_directions_45_degrees_apart():
    for take in plan_takes(1, 3, 1):
        seen = film(SynthOptions("nw-ucla", difficulty=0.0, frames=12), take)
        across = {
            camera: (xyz[:, RIGHT_SHOULDER] - xyz[:, LEFT_SHOULDER])[:, [0, 2]] for camera, xyz in seen.items()
        }
        angle = {camera: np.arctan2(*way.T) for camera, way in across.items()}
        for camera in (2, 3):
            np.testing.assert_allclose(np.abs(angle[camera] - angle[1]), np.pi / 4, atol=1e-6)
            np.testing.assert_allclose(seen[camera][..., 1], seen[1][..., 1], atol=1e-9)  # heights are the same
        assert (np.sign(angle[2] - angle[1]) == -np.sign(angle[3] - angle[1])).all()


def test_names_fit_the_manifest():
    manifest = load_manifest("nw-ucla")
    names = list(files(repeats=2))
    assert len(names) == len(set(names)) == 2 * 10 * 2 * 3
    labels = [manifest.class_of(manifest.fields(name.removesuffix(".json"))) for name in names]
    assert sorted(set(labels)) == list(range(10))
    assert all(manifest.outside(manifest.fields(name.removesuffix(".json"))) is None for name in names)


def test_bytes_depend_on_seed_and_name_alone():
    base, fewer = files(), files(subjects=1, actions=4)
    assert fewer.keys() < base.keys()
    assert all(base[name] == content for name, content in fewer.items())
    other = files(seed=1)
    assert all(base[name] != other[name] for name in base)
    assert len(set(base.values())) == len(base)
