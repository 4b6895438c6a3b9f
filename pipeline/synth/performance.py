"""A performance: who moves how, when and where, as bodies over time in the room.

The room: x, y up, z away from the middle camera, origin on the floor where people stand, metres, 30 frames a
second. What varies from one performance to the next scales with `difficulty`; at 0 every subject performs a
class at the same time, at the same pace, upright, towards the middle camera.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skelpipe.synth.actions import Program, evaluate, program
from skelpipe.synth.body import Motion, forward, person_layout, sample_offsets, turn_about
from skelpipe.synth.seeds import Draw, generator

__all__ = ["Subject", "perform", "subject"]

SHORTEST, LONGEST = 30, 300  # frames, as in the real recordings
ACTION_SHARE = 0.6  # of a recording
LENGTH_SPREAD = 0.2  # standard deviations of logarithms
PACE_SPREAD = 0.1
VIGOUR_SPREAD = 0.12
FACING = 0.45  # radians towards the left or the right camera, by replication
FACING_SPREAD = 0.2
LEAN_SPREAD = 0.12  # of the whole body, radians
SWAY = 0.03  # radians
BETWEEN_PEOPLE = 0.5  # metres from the middle to each of two people

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


def perform(
    people: Sequence[Subject],
    action: int,
    replication: int,
    frames: int,
    difficulty: float,
    rng: np.random.Generator,
) -> list[Motion]:
    """Act out class `action`: one body, or two for an interaction, as positions in the room.

    `people` holds the main actor, and for an interaction the other one, in that order; the bodies come out in
    the same order. `frames` is the mean length of a recording.
    """
    T = _length(frames, difficulty, rng)
    time = _action_time(T, people[0].pace, difficulty, rng)
    towards = FACING if replication % 2 else -FACING
    facing = difficulty * (towards + FACING_SPREAD * rng.standard_normal())
    if len(people) == 1:
        body = _act(people[0], program(action), time, difficulty, rng)
        return [_place(body, facing, 0.2 * difficulty * rng.standard_normal(3))]
    bodies = []
    for person, partner in zip(people, (False, True), strict=True):
        body = _act(person, program(action, partner), time, difficulty, rng)
        side = BETWEEN_PEOPLE if partner else -BETWEEN_PEOPLE
        where = turn_about(1, facing) @ np.array([side, 0.0, 0.0]) + 0.05 * difficulty * rng.standard_normal(3)
        bodies.append(_place(body, facing + (np.pi / 2 if partner else -np.pi / 2), where))
    return bodies


def _length(frames: int, difficulty: float, rng: np.random.Generator) -> int:
    drawn = frames * np.exp(LENGTH_SPREAD * difficulty * rng.standard_normal())
    return int(np.clip(round(drawn), min(SHORTEST, frames), max(LONGEST, frames)))


def _action_time(T: int, pace: float, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Say where in the action each of T frames lies: below 0 before it, above 1 after it."""
    tempo = pace * np.exp(0.5 * PACE_SPREAD * difficulty * rng.standard_normal())
    share = float(np.clip(ACTION_SHARE / tempo, 0.4, 0.9))
    middle = (1 - share) / 2
    begin = middle * (1 + min(difficulty, 1.0) * rng.uniform(-1, 1))
    return ((np.arange(T) + 0.5) / T - begin) / share


def _act(
    person: Subject, played: Program, time: np.ndarray, difficulty: float, rng: np.random.Generator
) -> Motion:
    vigour = person.vigour * np.exp(0.5 * VIGOUR_SPREAD * difficulty * rng.standard_normal())
    angles = vigour * evaluate(played, time)
    angles += 0.5 * (person.posture + _posture(rng, difficulty))  # half habit, half the day's mood
    angles += _sway(len(time), difficulty, rng)
    root = person_layout().joints.index("spine base")
    angles[:, root, 0] += difficulty * LEAN_SPREAD * rng.standard_normal()
    angles[:, root, 2] += difficulty * LEAN_SPREAD * rng.standard_normal()
    return forward(person.offsets, angles)


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


def _place(body: Motion, facing: float, where: np.ndarray) -> Motion:
    """Turn a body about y to where it faces and stand it, its lowest joint on the floor, at `where` (x, ., z)."""
    turn = turn_about(1, facing)
    positions = body.positions @ turn.T + np.array([where[0], 0.0, where[2]])
    positions[..., 1] -= positions[..., 1].min(1, keepdims=True)
    return Motion(positions, turn @ body.rotations)
