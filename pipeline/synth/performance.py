"""A performance: who moves how, when and where, as bodies over time in the room.

The room: x, y up, z away from the middle camera, origin on the floor where people stand, metres, 30 frames a
second. What varies from one performance to the next scales with `difficulty`; at 0 every subject performs a
class at the same time, at the same pace, upright, towards the middle camera.
"""

from collections.abc import Sequence

import numpy as np

from skelpipe.synth.actions import Program, evaluate, program
from skelpipe.synth.body import Motion, forward, turn_about
from skelpipe.synth.people import Subject, assume_stance, pace_of_the_day, vigour_of_the_day

__all__ = ["BETWEEN_PEOPLE", "action_time", "draw_facing", "draw_length", "perform", "place"]

SHORTEST, LONGEST = 30, 300  # frames, as in the real recordings
ACTION_SHARE = 0.6  # of a recording
LENGTH_SPREAD = 0.2  # standard deviation of the logarithm
FACING_SPREAD = 0.2  # radians
BETWEEN_PEOPLE = 0.5  # metres from the middle to each of two people


def perform(
    people: Sequence[Subject],
    action: int,
    towards: float,
    frames: int,
    difficulty: float,
    rng: np.random.Generator,
) -> list[Motion]:
    """Act out motion `action`: one body, or two for an interaction, as positions in the room.

    `people` holds the main actor, and for an interaction the other one, in that order; the bodies come out in
    the same order. `towards` is where they mean to face, radians; `frames` the mean length of a recording.
    """
    T = draw_length(frames, difficulty, rng)
    time = action_time(T, people[0], difficulty, rng)
    facing = draw_facing(towards, difficulty, rng)
    if len(people) == 1:
        body = _act(people[0], program(action), time, difficulty, rng)
        return [place(body, facing, 0.2 * difficulty * rng.standard_normal(3))]
    bodies = []
    for person, partner in zip(people, (False, True), strict=True):
        body = _act(person, program(action, partner), time, difficulty, rng)
        side = BETWEEN_PEOPLE if partner else -BETWEEN_PEOPLE
        where = turn_about(1, facing) @ np.array([side, 0.0, 0.0]) + 0.05 * difficulty * rng.standard_normal(3)
        bodies.append(place(body, facing + (np.pi / 2 if partner else -np.pi / 2), where))
    return bodies


def draw_length(frames: int, difficulty: float, rng: np.random.Generator) -> int:
    """Draw the frames of one recording of mean length `frames`."""
    drawn = frames * np.exp(LENGTH_SPREAD * difficulty * rng.standard_normal())
    return int(np.clip(round(drawn), min(SHORTEST, frames), max(LONGEST, frames)))


def action_time(T: int, person: Subject, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Say where in the action each of T frames lies: below 0 before it, above 1 after it."""
    share = float(np.clip(ACTION_SHARE / pace_of_the_day(person, difficulty, rng), 0.4, 0.9))
    middle = (1 - share) / 2
    begin = middle * (1 + min(difficulty, 1.0) * rng.uniform(-1, 1))
    return ((np.arange(T) + 0.5) / T - begin) / share


def draw_facing(towards: float, difficulty: float, rng: np.random.Generator) -> float:
    """Draw the direction that people face who mean to face `towards`, radians about y; 0 is the middle camera."""
    return float(difficulty * (towards + FACING_SPREAD * rng.standard_normal()))


def place(body: Motion, facing: float | np.ndarray, where: np.ndarray) -> Motion:
    """Turn a body about y to where it faces and stand it at `where` (x, ., z), its lowest joint on the floor.

    Both may change over time: `facing` [] or [T], `where` [3] or [T,3].
    """
    turn = turn_about(1, facing)
    positions = body.positions @ turn.swapaxes(-1, -2) + (where * (1.0, 0.0, 1.0))[..., None, :]
    positions[..., 1] -= positions[..., 1].min(1, keepdims=True)
    return Motion(positions, turn[..., None, :, :] @ body.rotations)


def _act(
    person: Subject, played: Program, time: np.ndarray, difficulty: float, rng: np.random.Generator
) -> Motion:
    angles = vigour_of_the_day(person, difficulty, rng) * evaluate(played, time)
    assume_stance(angles, person, difficulty, rng)
    return forward(person.offsets, angles)
