"""A session: one person performs several actions with idle gaps between them; a partner joins for interactions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skelpipe.synth.actions import INTERACTIONS, evaluate, program
from skelpipe.synth.body import Motion, forward, person_layout, turn_about
from skelpipe.synth.people import Subject, add_posture, draw_extent
from skelpipe.synth.performance import BETWEEN_PEOPLE, action_time, draw_facing, draw_length, position_body

__all__ = ["Session", "hold_session"]

GAP = 0.4  # mean length of an idle gap, as a share of the mean length of a performance
GAP_SPREAD = 0.4  # standard deviation of the logarithm
SHORTEST_GAP = 4  # frames


@dataclass(frozen=True)
class Session:
    """T frames in the room: the actor, and the partner (None without interactions), who is there where `present`.

    `present` is bool [T]. `spans` holds, per performance, the first frame and the one after the last, from 0.
    """

    actor: Motion
    partner: Motion | None
    present: np.ndarray
    spans: tuple[tuple[int, int], ...]


def hold_session(
    people: Sequence[Subject],
    motions: Sequence[int],
    frames: int,
    difficulty: float,
    rng: np.random.Generator,
) -> Session:
    """Perform `motions` one after another; `people` are the actor and the partner for interactions.

    Each performance is as long as a recording of mean length `frames`. Before, between and after performances
    people are idle. The actor turns to the partner for an interaction, and turns back after it.
    """
    actor, partner = people
    gaps = _gaps(len(motions) + 1, frames, difficulty, rng)
    lengths = [draw_length(frames, difficulty, rng) for _ in motions]
    ends = np.cumsum(np.add(gaps[:-1], lengths)).tolist()
    spans = tuple((end - length, end) for end, length in zip(ends, lengths, strict=True))
    T = ends[-1] + gaps[-1]
    angles = np.zeros((2, T, len(person_layout()), 3))
    joined = np.zeros(T)
    for motion, (first, end), before, after in zip(motions, spans, gaps[:-1], gaps[1:], strict=True):
        time = action_time(end - first, actor, difficulty, rng)
        angles[0, first:end] = draw_extent(actor, difficulty, rng) * evaluate(program(motion), time)
        if motion in INTERACTIONS:
            answer = evaluate(program(motion, partner=True), time)
            angles[1, first:end] = draw_extent(partner, difficulty, rng) * answer
            joined += _plateau(T, first - before // 2, first, end - 1, end - 1 + after // 2)
    facing = draw_facing(0.0, difficulty, rng)
    where = 0.2 * difficulty * rng.standard_normal(3)
    aside = turn_about(1, facing) @ np.array([BETWEEN_PEOPLE, 0.0, 0.0])
    add_posture(angles[0], actor, difficulty, rng)
    body = position_body(
        forward(actor.offsets, angles[0]), facing - joined * np.pi / 2, where - joined[:, None] * aside
    )
    if not joined.any():
        return Session(body, None, joined > 0, spans)
    add_posture(angles[1], partner, difficulty, rng)
    other = position_body(forward(partner.offsets, angles[1]), facing + np.pi / 2, where + aside)
    return Session(body, other, joined > 0, spans)


def _gaps(count: int, frames: int, difficulty: float, rng: np.random.Generator) -> list[int]:
    drawn = GAP * frames * np.exp(GAP_SPREAD * difficulty * rng.standard_normal(count))
    return [max(round(gap), SHORTEST_GAP) for gap in drawn.tolist()]


def _plateau(T: int, *corners: int) -> np.ndarray:
    """Rise smoothly from 0 to 1 between the first two of four corners, fall between the last two: [T]."""
    ramp = np.interp(np.arange(T), corners, (0.0, 1.0, 1.0, 0.0))
    return ramp * ramp * (3 - 2 * ramp)
