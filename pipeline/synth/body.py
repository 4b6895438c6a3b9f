"""The kinematic skeleton: the bone lengths of a person, and forward kinematics over the Kinect v2 tree.

A person's coordinate frame: x to the person's right, y up, z backwards, metres. The axes of a person who directly
faces a camera are thus those of the camera (x towards the right joints, z away from the camera).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from skelpipe.skeleton import Layout, layout

__all__ = ["Motion", "forward", "kinematic_tree", "person_layout", "sample_offsets", "turn_about"]

ROOT = "spine base"  # a person is positioned and turned at the pelvis; the layout's centre is another joint

# The bone of each joint in an average adult standing upright: the joint's position relative to its parent, in
# metres, and the group of bones whose lengths vary together. Right side only: the left side is its mirror.
REST: dict[str, tuple[tuple[float, float, float], str]] = {
    "spine middle": ((0.0, 0.26, 0.01), "trunk"),
    "spine shoulder": ((0.0, 0.21, -0.01), "trunk"),
    "neck": ((0.0, 0.07, 0.0), "head"),
    "head": ((0.0, 0.13, -0.02), "head"),
    "right shoulder": ((0.145, -0.04, 0.0), "shoulders"),
    "right elbow": ((0.02, -0.25, 0.01), "upper arm"),
    "right wrist": ((0.0, -0.225, -0.01), "forearm"),
    "right hand": ((0.0, -0.06, -0.005), "hand"),
    "right thumb": ((-0.015, -0.015, -0.035), "hand"),
    "right hand tip": ((0.015, -0.05, 0.03), "hand"),
    "right hip": ((0.075, -0.04, 0.0), "hips"),
    "right knee": ((0.01, -0.36, -0.01), "thigh"),
    "right ankle": ((0.0, -0.35, 0.02), "shin"),
    "right foot": ((0.01, -0.055, -0.1), "foot"),
}
HEIGHT_SPREAD = 0.06  # this and the next: standard deviations, as shares of the mean
GROUP_SPREAD = 0.05
SPREAD_LIMIT = 2.0  # in standard deviations


@dataclass(frozen=True)
class Motion:
    """One body over time: `positions` [T,V,3] in metres, `rotations` [T,V,3,3] of each joint's axes."""

    positions: np.ndarray
    rotations: np.ndarray


def person_layout() -> Layout:
    """Return the layout of the simulated people."""
    return layout("kinect-v2-25")


@cache
def kinematic_tree() -> tuple[tuple[int, int], ...]:
    """Return the layout's bones as (joint, parent) with the pelvis as root, parents before children."""
    body = person_layout()
    neighbours: dict[int, list[int]] = {v: [] for v in range(len(body))}
    for child, parent in body.edges:
        neighbours[child].append(parent)
        neighbours[parent].append(child)
    tree: list[tuple[int, int]] = []
    reached = [body.joints.index(ROOT)]
    for parent in reached:
        for child in neighbours[parent]:
            if child not in reached:
                reached.append(child)
                tree.append((child, parent))
    return tuple(tree)


def sample_offsets(rng: np.random.Generator) -> np.ndarray:
    """Draw a person: the bone of every joint in the rest pose, [V,3] metres (0 for the pelvis).

    Height and the groups of `REST` vary independently; left and right are equal.
    """
    body = person_layout()
    groups = sorted({group for _, group in REST.values()})
    draws = np.clip(rng.standard_normal(1 + len(groups)), -SPREAD_LIMIT, SPREAD_LIMIT)
    height = 1 + HEIGHT_SPREAD * draws[0]
    growth = {group: height * (1 + GROUP_SPREAD * draw) for group, draw in zip(groups, draws[1:], strict=True)}
    offsets = np.zeros((len(body), 3))
    for joint, (bone, group) in REST.items():
        v = body.joints.index(joint)
        offsets[v] = growth[group] * np.array(bone)
        if body.mirror[v] != v:
            offsets[body.mirror[v]] = offsets[v] * (-1, 1, 1)
    return offsets


def forward(offsets: np.ndarray, angles: np.ndarray) -> Motion:
    """Pose a body with bones `offsets` [V,3] by joint angles [T,V,3] in radians; the pelvis is the origin.

    The angles (a, b, c) of a joint turn its children by Rz(c) Rx(a) Ry(b): first about the bone, then forwards,
    then sideways.
    """
    local = _turns(angles)
    positions = np.zeros(angles.shape)
    rotations = np.empty((*angles.shape, 3))
    root = person_layout().joints.index(ROOT)
    rotations[:, root] = local[:, root]
    for child, parent in kinematic_tree():
        positions[:, child] = positions[:, parent] + rotations[:, parent] @ offsets[child]
        rotations[:, child] = rotations[:, parent] @ local[:, child]
    return Motion(positions, rotations)


def _turns(angles: np.ndarray) -> np.ndarray:
    """Return Rz(c) Rx(a) Ry(b) for angles (a, b, c): [...,3] to [...,3,3]."""
    (sa, sb, sc), (ca, cb, cc) = (np.moveaxis(f(angles), -1, 0) for f in (np.sin, np.cos))
    out = np.empty((*angles.shape, 3))
    out[..., 0, 0] = cc * cb - sc * sa * sb
    out[..., 0, 1] = -sc * ca
    out[..., 0, 2] = cc * sb + sc * sa * cb
    out[..., 1, 0] = sc * cb + cc * sa * sb
    out[..., 1, 1] = cc * ca
    out[..., 1, 2] = sc * sb - cc * sa * cb
    out[..., 2, 0] = -ca * sb
    out[..., 2, 1] = sa
    out[..., 2, 2] = ca * cb
    return out


def turn_about(axis: int, angle: float | np.ndarray) -> np.ndarray:
    """Return the rotation [...,3,3] by `angle` [...] radians about x (0), y (1) or z (2), right-handed."""
    angles = np.zeros((*np.shape(angle), 3))
    angles[..., axis] = angle
    return _turns(angles)
