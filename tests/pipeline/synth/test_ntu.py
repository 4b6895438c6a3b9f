"""Synthetic NTU RGB+D, read back by a plain line-by-line reader of this test."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from skelpipe.synth.ntu import film, recordings
from skelpipe.synth.ntu_names import Performance, plan_performances
from skelpipe.synth.options import SynthOptions

NUMBER = re.compile(rb"-?\d+(\.\d+)?(E-\d\d)?")
PARENTS = [0, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 22, 7, 24, 11]
LIMB_ENDS = [3, 15, 19, 21, 22, 23, 24]


@dataclass
class Body:
    id: int
    head: list[float]
    joints: list[list[float]]


def parse(content):
    """Check every line of a recording; return its frames as lists of bodies, and its line end."""
    line_end = b"\r\n" if b"\r" in content else b"\n"
    assert content.endswith(line_end)
    lines = content[: -len(line_end)].split(line_end)
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    at = iter(lines)
    frames = []
    for _ in range(int(next(at))):
        bodies = []
        for _ in range(int(next(at))):
            body_id, *head = next(at).split(b" ")
            assert len(head) == 9
            assert all(NUMBER.fullmatch(token) for token in head)
            assert next(at) == b"25"
            rows = [next(at).split(b" ") for _ in range(25)]
            assert all(len(row) == 12 for row in rows)
            bodies.append(Body(int(body_id), [float(v) for v in head], [[float(v) for v in row] for row in rows]))
        frames.append(bodies)
    assert next(at, None) is None
    return frames, line_end


@pytest.fixture(scope="module")
def many():
    """A few hundred short recordings at full difficulty: (class, frames, line end, content)."""
    options = SynthOptions("ntu60", seed=0, frames=16)
    found = []
    for performance in plan_performances("ntu60", 8, 10, 2):
        for content in recordings(options, performance).values():
            frames, line_end = parse(content)
            found.append((performance.action, frames, line_end, content))
    return found


def test_numbers_are_written_as_the_sensor_writes_them(many):
    for _, _, _, content in many[::20]:
        tokens = content.split()
        assert all(NUMBER.fullmatch(token) for token in tokens)
        digits = [len(re.sub(rb"E.*|\D", b"", token).lstrip(b"0")) for token in tokens if b"." in token]
        assert max(digits) == 7


def test_body_lines_hold_ids_flags_and_states(many):
    ids = set()
    for _, frames, _, _ in many:
        for body in (body for bodies in frames for body in bodies):
            ids.add(body.id)
            clipped, left, left_state, right, right_state, restricted, *lean, tracked = body.head
            assert (clipped, restricted, tracked) == (0, 0, 2)
            assert {left, right} <= {0, 1}
            assert {left_state, right_state} <= {0, 1, 2, 3, 4}
            assert all(-1 <= v <= 1 for v in lean)
            assert {row[11] for row in body.joints} <= {1, 2}
    assert all(7.2e16 < body_id < 7.3e16 for body_id in ids)
    assert any(int(float(body_id)) != body_id for body_id in ids)  # float64 would change them


def test_columns_of_pixels_follow_pinhole_cameras(many):
    joints = np.array([body.joints for _, frames, _, _ in many for bodies in frames for body in bodies])
    x, y, z = joints[..., 0].ravel(), joints[..., 1].ravel(), joints[..., 2].ravel()
    for column, across, focal, centre in (
        (3, x, 366, 256),
        (4, y, -366, 208),
        (5, x, 1056, 956),
        (6, y, -1056, 566),
    ):
        design = np.stack([across / z, np.ones_like(z), 1 / z], 1)
        fit, *_ = np.linalg.lstsq(design, joints[..., column].ravel(), rcond=None)
        assert np.abs(design @ fit - joints[..., column].ravel()).max() < 0.01
        assert fit[0] == pytest.approx(focal, rel=0.01)
        assert fit[1] == pytest.approx(centre, abs=5)
    assert ((joints[..., 3] > -100) & (joints[..., 3] < 612)).all()


def test_orientations_point_along_the_bones():
    content = recordings(SynthOptions("ntu60", difficulty=0.0, frames=10), Performance(1, 1, 1, 5))
    for frames, _ in map(parse, content.values()):
        joints = np.array([bodies[0].joints for bodies in frames])
        xyz, (w, x, y, z) = joints[..., :3], np.moveaxis(joints[..., 7:11], -1, 0)
        along = np.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], -1)  # turned (0,1,0)
        ahead = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)  # turned (0,0,1)
        bone = xyz - xyz[:, PARENTS]
        bone /= np.maximum(np.linalg.norm(bone, axis=-1, keepdims=True), 1e-9)
        for v in range(1, 25):
            if v in LIMB_ENDS:
                assert not joints[:, v, 7:11].any()
            else:
                np.testing.assert_allclose(along[:, v], bone[:, v], atol=1e-4)
        facing = np.cross(xyz[:, 20] - xyz[:, 0], xyz[:, 16] - xyz[:, 12])
        assert ((ahead[:, 0] * facing).sum(-1) > 0.9 * np.linalg.norm(facing, axis=-1)).all()


def test_the_text_holds_what_was_simulated():
    options, performance = SynthOptions("ntu60", seed=4, difficulty=0.0, frames=12), Performance(3, 2, 1, 50)
    for camera, sighting in film(options, performance).items():
        frames, _ = parse(recordings(options, performance)[performance.file_name(camera)])
        got = np.array([[[row[:3] for row in body.joints] for body in bodies] for bodies in frames])
        expected = np.stack([track.xyz for track in sighting.tracks], 1)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_interactions_have_two_bodies_and_others_one(many):
    for action, frames, _, _ in many:
        usual, times = Counter(min(len(bodies), 2) for bodies in frames).most_common(1)[0]
        if action >= 50:
            assert usual == 2
        else:
            assert (usual, times > len(frames) / 2) in {(1, True), (2, False), (2, True)}
    single = [len(bodies) for action, frames, _, _ in many if action < 50 for bodies in frames]
    assert np.mean(np.array(single) == 1) > 0.9


def present(frames, body_id):
    return np.array([any(body.id == body_id for body in bodies) for bodies in frames])


def leaves_and_returns(frames):
    """Whether a body is absent between two frames in which it is present."""
    for body_id in {body.id for bodies in frames for body in bodies}:
        there = present(frames, body_id)
        first, last = there.argmax(), len(there) - there[::-1].argmax()
        if not there[first:last].all():
            return True
    return False


def changes_id(frames):
    """Whether a body has moved by less than 5 cm from one frame to the next, but has another id."""
    for here, there in pairwise(frames):
        if len(here) == len(there):
            for a, b in zip(here, there, strict=True):
                near = np.abs(np.array(a.joints)[[0, 1, 20], :3] - np.array(b.joints)[[0, 1, 20], :3]).max() < 0.05
                if a.id != b.id and near:
                    return True
    return False


def changes_order(frames):
    pairs = {tuple(body.id for body in bodies[:2]) for bodies in frames if len(bodies) >= 2}
    return any((b, a) in pairs for a, b in pairs)


def test_every_fault_occurs_but_seldom(many):
    seen = Counter()
    for action, frames, line_end, _ in many:
        most = max(map(len, frames))
        seen["spurious third body"] += most == 3
        seen["spurious second body"] += action < 50 and most == 2
        seen["id switch"] += changes_id(frames)
        seen["leaves and returns"] += leaves_and_returns(frames)
        seen["empty frame"] += any(not bodies for bodies in frames)
        seen["other order"] += changes_order(frames)
        seen["CRLF"] += line_end == b"\r\n"
    assert len(seen) == 7
    for fault, count in seen.items():
        assert 1 <= count <= 0.2 * len(many), fault


def test_the_main_actor_is_listed_first_in_most_frames():
    options = SynthOptions("ntu60", difficulty=2.0, frames=16)
    for performance in plan_performances("ntu60", 4, 6, 2):
        for sighting in film(options, performance).values():
            here = np.array([track.present for track in sighting.tracks])
            first = np.where(here, sighting.rank, 99).argmin(0)
            assert (here[0] & (first == 0)).mean() > 0.5


def test_clean_recordings_have_no_faults():
    options = SynthOptions("ntu60", seed=1, difficulty=0.0, frames=12)
    for performance in plan_performances("ntu60", 4, 6, 2):
        for content in recordings(options, performance).values():
            frames, _ = parse(content)
            assert {len(bodies) for bodies in frames} == {2 if performance.action >= 50 else 1}
            assert len({tuple(body.id for body in bodies) for bodies in frames}) == 1


def test_bytes_depend_on_seed_and_name_alone():
    def content(actions, **changes):
        options = SynthOptions(**{"dataset": "ntu60", "seed": 0, "frames": 10} | changes)
        plan = plan_performances(options.dataset, 2, actions, 1)
        return {name: data for p in reversed(plan) for name, data in recordings(options, p).items()}

    base = content(6)
    assert content(6) == base
    fewer = content(3)
    assert fewer.keys() < base.keys()
    assert all(base[name] == data for name, data in fewer.items())
    for changes in ({"seed": 1}, {"difficulty": 0.5}):
        other = content(6, **changes)
        assert other.keys() == base.keys()
        assert all(base[name] != other[name] for name in base)
    assert len(set(base.values())) == len(base)
