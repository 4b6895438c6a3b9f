"""A performance of one action: the bodies of one or two people over time in the room.

Coordinates of the room: y up, z away from the middle camera, origin on the floor where people stand, metres;
30 frames per second. What varies between performances scales with `difficulty`; at 0 every subject performs a
class at the same time and pace, upright, facing the middle camera.
"""

from collections.abc import Sequence

import numpy as np

from skelpipe.synth.actions import Program, evaluate, program
from skelpipe.synth.body import Motion, forward, turn_about
from skelpipe.synth.people import Subject, add_posture, draw_extent, draw_pace

__all__ = ["BETWEEN_PEOPLE", "action_time", "draw_facing", "draw_length", "perform", "position_body"]

SHORTEST, LONGEST = 30, 300  # frames, as in the real dataset
ACTION_SHARE = 0.6  # of a recording
LENGTH_SPREAD = 0.2  # standard deviation of the logarithm
FACING_SPREAD = 0.2  # radians
BETWEEN_PEOPLE = 0.5  # metres from the midpoint to each of two people


def perform(
    people: Sequence[Subject],
    action: int,
    towards: float,
    frames: int,
    difficulty: float,
    rng: np.random.Generator,
) -> list[Motion]:
    """Perform motion `action`; return one body in the room, or two for an interaction.

    `people` holds the main actor and, for an interaction, the partner; the bodies have the same order. `towards`
    is the mean direction they face, in radians; `frames` is the mean length of a recording.
    """
    T = draw_length(frames, difficulty, rng)
    time = action_time(T, people[0], difficulty, rng)
    facing = draw_facing(towards, difficulty, rng)
    if len(people) == 1:
        body = _act(people[0], program(action), time, difficulty, rng)
        return [position_body(body, facing, 0.2 * difficulty * rng.standard_normal(3))]
    bodies = []
    for person, partner in zip(people, (False, True), strict=True):
        body = _act(person, program(action, partner), time, difficulty, rng)
        x = BETWEEN_PEOPLE if partner else -BETWEEN_PEOPLE
        where = turn_about(1, facing) @ np.array([x, 0.0, 0.0]) + 0.05 * difficulty * rng.standard_normal(3)
        bodies.append(position_body(body, facing + (np.pi / 2 if partner else -np.pi / 2), where))
    return bodies


def draw_length(frames: int, difficulty: float, rng: np.random.Generator) -> int:
    """Draw the number of frames of one recording; `frames` is the mean."""
    drawn = frames * np.exp(LENGTH_SPREAD * difficulty * rng.standard_normal())
    return int(np.clip(round(drawn), min(SHORTEST, frames), max(LONGEST, frames)))


def action_time(T: int, person: Subject, difficulty: float, rng: np.random.Generator) -> np.ndarray:
    """Return the time [T] of each frame: 0 where the action begins, 1 where it ends, below and above outside."""
    share = float(np.clip(ACTION_SHARE / draw_pace(person, difficulty, rng), 0.4, 0.9))
    middle = (1 - share) / 2
    begin = middle * (1 + min(difficulty, 1.0) * rng.uniform(-1, 1))
    return ((np.arange(T) + 0.5) / T - begin) / share


def draw_facing(towards: float, difficulty: float, rng: np.random.Generator) -> float:
    """Draw the direction that people face, with mean `towards`, in radians about y; 0 is the middle camera."""
    return float(difficulty * (towards + FACING_SPREAD * rng.standard_normal()))


def position_body(body: Motion, facing: float | np.ndarray, where: np.ndarray) -> Motion:
    """Turn a body about y by `facing` and move it to `where` (x, ., z), with its lowest joint on the floor.

    Both may vary over time: `facing` [] or [T], `where` [3] or [T,3].
    """
    turn = turn_about(1, facing)
    positions = body.positions @ turn.swapaxes(-1, -2) + (where * (1.0, 0.0, 1.0))[..., None, :]
    positions[..., 1] -= positions[..., 1].min(1, keepdims=True)
    return Motion(positions, turn[..., None, :, :] @ body.rotations)


def _act(
    person: Subject, played: Program, time: np.ndarray, difficulty: float, rng: np.random.Generator
) -> Motion:
    angles = draw_extent(person, difficulty, rng) * evaluate(played, time)
    add_posture(angles, person, difficulty, rng)
    return forward(person.offsets, angles)
