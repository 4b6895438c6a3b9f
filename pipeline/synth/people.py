"""The simulated people: bones, usual posture, pace, and extent of their movements.

Everything that varies between people or performances scales with `difficulty`; at 0 all people move alike.
"""

from dataclasses import dataclass

import numpy as np

from skelpipe.synth.body import person_layout, sample_offsets
from skelpipe.synth.seeds import Draw, generator

__all__ = ["Subject", "add_posture", "draw_extent", "draw_pace", "subject"]

PACE_SPREAD = 0.1  # this and the next: standard deviations of logarithms
EXTENT_SPREAD = 0.12
LEAN_SPREAD = 0.12  # radians, of the whole body
SWAY = 0.03  # radians

# Posture: (joint, axis, mean angle, standard deviation), radians; joints of limbs stand for both sides.
POSTURE: tuple[tuple[str, int, float, float], ...] = (
    ("spine middle", 0, 0.0, 0.1),
    ("spine middle", 2, 0.0, 0.06),
    ("neck", 0, 0.0, 0.1),
    ("shoulder", 0, 0.0, 0.1),
    ("shoulder", 2, 0.12, 0.08),
    ("elbow", 0, 0.2, 0.12),
    ("hip", 2, 0.05, 0.05),
    ("hip", 0, 0.03, 0.05),
    ("knee", 0, -0.05, 0.04),
)


@dataclass(frozen=True)
class Subject:
    """A person: bones [V,3] metres, the usual posture as angles [V,3]; pace and extent are factors around 1."""

    offsets: np.ndarray
    posture: np.ndarray
    pace: float
    extent: float


def subject(seed: int, number: int, difficulty: float) -> Subject:
    """Return person `number`; bones differ at every difficulty, posture, pace and extent only above 0."""
    rng = generator(seed, Draw.SUBJECT, number)
    offsets = sample_offsets(rng)
    pace, extent = np.exp(difficulty * np.array([PACE_SPREAD, EXTENT_SPREAD]) * rng.standard_normal(2))
    return Subject(offsets, _posture(rng, difficulty), float(pace), float(extent))


def draw_pace(person: Subject, difficulty: float, rng: np.random.Generator) -> float:
    """Draw the pace of one performance, as a factor around 1."""
    return float(person.pace * np.exp(0.5 * PACE_SPREAD * difficulty * rng.standard_normal()))


def draw_extent(person: Subject, difficulty: float, rng: np.random.Generator) -> float:
    """Draw the extent of the movements in one performance, as a factor around 1."""
    return float(person.extent * np.exp(0.5 * EXTENT_SPREAD * difficulty * rng.standard_normal()))


def add_posture(angles: np.ndarray, person: Subject, difficulty: float, rng: np.random.Generator) -> None:
    """Add the person's posture, sway and lean to the joint angles [T,V,3] of a gesture."""
    angles += 0.5 * (person.posture + _posture(rng, difficulty))  # half of the person, half of this performance
    angles += _sway(len(angles), difficulty, rng)
    root = person_layout().joints.index("spine base")
    angles[:, root, 0] += difficulty * LEAN_SPREAD * rng.standard_normal()
    angles[:, root, 2] += difficulty * LEAN_SPREAD * rng.standard_normal()


def _posture(rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Draw a posture: angles [V,3]; left and right are drawn separately."""
    joints = person_layout().joints
    angles = np.zeros((len(joints), 3))
    for name, axis, usual, spread in POSTURE:
        names = [name] if name in joints else [f"right {name}", f"left {name}"]
        for joint in names:
            sign = -1.0 if joint.startswith("left") and axis else 1.0
            angles[joints.index(joint), axis] = sign * usual + 1.4 * spread * difficulty * rng.standard_normal()
    return angles


def _sway(T: int, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Three slow waves on every posture angle, [T,V,3] radians: nobody stands still."""
    joints = person_layout().joints
    moved = np.zeros((len(joints), 3))
    for name, axis, _, _ in POSTURE:
        for v, joint in enumerate(joints):
            if joint.endswith(name):
                moved[v, axis] = SWAY * difficulty
    hertz = rng.uniform(0.1, 0.7, (3, 1, 1, 1))
    phase = rng.uniform(0, 2 * np.pi, (3, 1, *moved.shape))
    seconds = np.arange(T)[:, None, None] / 30
    return moved * np.sin(2 * np.pi * hertz * seconds + phase).mean(0) * np.sqrt(6)
