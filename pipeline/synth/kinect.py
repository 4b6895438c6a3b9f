"""A simulated Kinect v2: from bodies to tracks with noise, hidden limbs and tracking states."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from skelpipe.synth.body import Motion, kinematic_tree, person_layout

__all__ = ["Track", "observe", "unoriented_joints"]

INFERRED, TRACKED = 1, 2  # tracking states of the sensor; 0, not tracked, does not occur in the recordings
CENTRAL_JITTER = 0.003  # metres, standard deviation
JITTER = {  # metres, for joints of limbs, by the end of a joint's name
    "shoulder": 0.004,
    "elbow": 0.007,
    "wrist": 0.012,
    "hand": 0.016,
    "tip": 0.02,
    "thumb": 0.02,
    "knee": 0.005,
    "ankle": 0.01,
    "foot": 0.02,
}
HIDDEN_LIMBS = 0.5  # expected number per recording
HIDDEN_FRAMES = (5, 25)
HIDDEN_REACH = 0.1  # metres, standard deviation of the error at the far end of a hidden limb
LIMBS = (("left ", "elbow"), ("right ", "elbow"), ("left ", "knee"), ("right ", "knee"))


@dataclass(frozen=True)
class Track:
    """One body as the sensor reports it, over T frames, in the camera's coordinate frame.

    `xyz` [T,V,3] metres; `orientation` [T,V,4] quaternions w x y z of the bone that ends in a joint (y is along
    the bone), zero for the ends of limbs; `state` int8 [T,V]; `ids` int64 [T]; `present` bool [T].
    """

    xyz: np.ndarray
    orientation: np.ndarray
    state: np.ndarray
    ids: np.ndarray
    present: np.ndarray


@cache
def unoriented_joints() -> frozenset[int]:
    """Return the joints whose orientation the sensor reports as zero: the ends of limbs."""
    ends = ("head", "foot", "tip", "thumb")
    return frozenset(v for v, name in enumerate(person_layout().joints) if name.endswith(ends))


def observe(body: Motion, offsets: np.ndarray, body_id: int, difficulty: float, rng: np.random.Generator) -> Track:
    """Track a body in the camera's frame whose bones are `offsets` [V,3]; exact at difficulty 0."""
    T, V = body.positions.shape[:2]
    state = np.full((T, V), TRACKED, np.int8)
    xyz = body.positions.copy()
    if difficulty > 0:
        for _ in range(rng.poisson(HIDDEN_LIMBS * difficulty)):
            _hide_limb(xyz, state, difficulty, rng)
        white = rng.standard_normal((T + 1, V, 3))
        depth = body.positions[..., 2:].mean() / 3.5
        noise = 0.75 * white[1:] + 0.5 * white[:-1]  # smoothed as by the sensor; variance about 1
        xyz += difficulty * depth * _jitter()[:, None] * noise
        _infer_hands(state, difficulty, rng)
    return Track(xyz, _orientation(body.rotations, offsets), state, np.full(T, body_id), np.ones(T, bool))


def _jitter() -> np.ndarray:
    sizes = [
        max((size for end, size in JITTER.items() if name.endswith(end)), default=CENTRAL_JITTER)
        for name in person_layout().joints
    ]
    return np.array(sizes)


def _hide_limb(xyz: np.ndarray, state: np.ndarray, difficulty: float, rng: np.random.Generator) -> None:
    """Hide an arm or a leg for some frames: its joints are inferred and drift, the outer ones more.

    Limbs far from the camera are hidden more often.
    """
    joints = person_layout().joints
    roots = [joints.index(side + joint) for side, joint in LIMBS]
    depth = xyz[:, roots, 2].mean(0)
    odds = np.exp(4 * (depth - depth.mean()))
    root = roots[rng.choice(len(roots), p=odds / odds.sum())]
    length = int(rng.integers(*HIDDEN_FRAMES))
    first = int(rng.integers(0, len(xyz)))
    burst = slice(first, first + length)
    rise = np.sin(np.pi * (np.arange(len(xyz[burst])) + 0.5) / length)[:, None]
    drift = difficulty * HIDDEN_REACH * rng.standard_normal(3) * rise
    out = {root: 0.4}
    for child, parent in kinematic_tree():
        if parent in out:
            out[child] = min(out[parent] + 0.3, 1.0)
    for v, share in out.items():
        xyz[burst, v] += share * drift
        state[burst, v] = INFERRED


def _infer_hands(state: np.ndarray, difficulty: float, rng: np.random.Generator) -> None:
    """Mark hands and feet as inferred for many runs of frames."""
    ends = [v for v, name in enumerate(person_layout().joints) if name.endswith(("hand", "tip", "thumb", "foot"))]
    change = rng.random((len(state), len(ends))) < 0.08
    level = np.where(change, rng.random(change.shape), 0.0)
    last = np.maximum.accumulate(np.where(change, np.arange(len(state))[:, None], 0), axis=0)
    held = np.take_along_axis(level, last, 0)
    state[:, ends] = np.where(held > 1 - 0.3 * min(difficulty, 2.0), INFERRED, state[:, ends])


def _orientation(rotations: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Quaternions [T,V,4] of the bones that end in the joints, from the axes of the joints [T,V,3,3]."""
    hung_on = dict(kinematic_tree())
    parents = np.array([hung_on.get(v, v) for v in range(rotations.shape[1])])
    bones = rotations[:, parents] @ _bone_axes(offsets)
    quaternions = _quaternions(bones)
    quaternions[:, sorted(unoriented_joints())] = 0
    return quaternions


def _bone_axes(offsets: np.ndarray) -> np.ndarray:
    """Axes [V,3,3] (columns x, y, z) of each bone at rest: y along the bone, z as forwards as possible."""
    y = np.where(np.linalg.norm(offsets, axis=1, keepdims=True) > 0, offsets, (0.0, 1.0, 0.0))
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    ahead = np.array([0.0, 0.0, -1.0])
    z = ahead - (y @ ahead)[:, None] * y
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    return np.stack([np.cross(y, z), y, z], axis=-1)


def _quaternions(turns: np.ndarray) -> np.ndarray:
    """Rotation matrices [...,3,3] to unit quaternions [...,4], w x y z.

    Row i of `products` is 4 q_i q; the row of the largest q_i is normalised. (A person who faces the camera is
    turned by half a turn, so w = 0, and formulas that divide by w fail.)
    """
    products = np.empty((*turns.shape[:-2], 4, 4))
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (np.moveaxis(turns[..., i, :], -1, 0) for i in range(3))
    for i, square in enumerate((1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz)):
        products[..., i, i] = square
    for i, j, product in (
        (0, 1, zy - yz),
        (0, 2, xz - zx),
        (0, 3, yx - xy),
        (1, 2, xy + yx),
        (1, 3, xz + zx),
        (2, 3, yz + zy),
    ):
        products[..., i, j] = products[..., j, i] = product
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    row = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    return row / np.linalg.norm(row, axis=-1, keepdims=True)
