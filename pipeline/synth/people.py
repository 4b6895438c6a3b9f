"""The people: their bones, how they hold themselves, how briskly and how widely they move.

What varies from one person or performance to the next scales with `difficulty`; at 0 all move alike.
"""

from dataclasses import dataclass

import numpy as np

from skelpipe.synth.body import person_layout, sample_offsets
from skelpipe.synth.seeds import Draw, generator

__all__ = ["Subject", "assume_stance", "pace_of_the_day", "subject", "vigour_of_the_day"]

PACE_SPREAD = 0.1  # standard deviations of logarithms
VIGOUR_SPREAD = 0.12
LEAN_SPREAD = 0.12  # of the whole body, radians
SWAY = 0.03  # radians

# How people hold themselves: (joint, axis, angle of everyone, standard deviation), radians; limbs both sides.
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
    """A person: bones [V,3], the angles [V,3] of the usual posture, pace and vigour as factors around 1."""

    offsets: np.ndarray
    posture: np.ndarray
    pace: float
    vigour: float


def subject(seed: int, number: int, difficulty: float) -> Subject:
    """Return person `number`; bones differ between people at every difficulty, habits from difficulty 0 on."""
    rng = generator(seed, Draw.SUBJECT, number)
    offsets = sample_offsets(rng)
    pace, vigour = np.exp(difficulty * np.array([PACE_SPREAD, VIGOUR_SPREAD]) * rng.standard_normal(2))
    return Subject(offsets, _posture(rng, difficulty), float(pace), float(vigour))


def pace_of_the_day(person: Subject, difficulty: float, rng: np.random.Generator) -> float:
    """Draw how fast a person performs this time, as a factor around 1."""
    return float(person.pace * np.exp(0.5 * PACE_SPREAD * difficulty * rng.standard_normal()))


def vigour_of_the_day(person: Subject, difficulty: float, rng: np.random.Generator) -> float:
    """Draw how widely a person moves this time, as a factor around 1."""
    return float(person.vigour * np.exp(0.5 * VIGOUR_SPREAD * difficulty * rng.standard_normal()))


def assume_stance(angles: np.ndarray, person: Subject, difficulty: float, rng: np.random.Generator) -> None:
    """Add to the angles [T,V,3] of gestures how the person holds, sways and leans meanwhile."""
    angles += 0.5 * (person.posture + _posture(rng, difficulty))  # half habit, half the day's mood
    angles += _sway(len(angles), difficulty, rng)
    root = person_layout().joints.index("spine base")
    angles[:, root, 0] += difficulty * LEAN_SPREAD * rng.standard_normal()
    angles[:, root, 2] += difficulty * LEAN_SPREAD * rng.standard_normal()


def _posture(rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Draw a posture: angles [V,3]; both sides of the body have a draw of their own."""
    joints = person_layout().joints
    angles = np.zeros((len(joints), 3))
    for name, axis, usual, spread in POSTURE:
        names = [name] if name in joints else [f"right {name}", f"left {name}"]
        for joint in names:
            sign = -1.0 if joint.startswith("left") and axis else 1.0
            angles[joints.index(joint), axis] = sign * usual + 1.4 * spread * difficulty * rng.standard_normal()
    return angles


def _sway(T: int, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Nobody stands still: three slow waves on every posture angle, [T,V,3] radians."""
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
