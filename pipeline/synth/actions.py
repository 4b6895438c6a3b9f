"""Synthetic actions: a program of joint angles for every action class.

The program of a class is drawn from the class number alone, so a class is the same action in every dataset and
under every seed. Classes differ mainly in the joints that move and in their amplitudes, rhythms and phases, and
less in the mean pose.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from skelpipe.synth.body import person_layout
from skelpipe.synth.seeds import Draw, generator

__all__ = ["INTERACTIONS", "Program", "evaluate", "program"]

X, Y, Z = 0, 1, 2  # turn forwards (raise arm or leg, bend back), turn about the bone, turn sideways
INTERACTIONS = frozenset(range(50, 61)) | frozenset(range(106, 121))  # NTU's two-person classes

# A block is the gesture of one limb: (joint, axis, held angle, amplitude, phase lag), angles in radians. Joints of
# limbs are named without left or right.
Part = tuple[str, int, float, float, float]
BLOCKS: dict[str, tuple[Part, ...]] = {
    "reach": (("shoulder", X, 0.75, 0.5, 0.0), ("elbow", X, 0.6, 0.5, 0.8)),
    "raise": (("shoulder", Z, 0.8, 0.5, 0.0), ("elbow", X, 0.4, 0.5, 1.2)),
    "overhead": (("shoulder", X, 1.9, 0.5, 0.0), ("elbow", X, 0.6, 0.6, 0.5)),
    "handle": (("shoulder", X, 0.3, 0.2, 0.0), ("shoulder", Y, 0.4, 0.45, 0.0), ("elbow", X, 1.3, 0.45, 1.0)),
    "kick": (("hip", X, 0.45, 0.55, 0.0), ("knee", X, -0.5, 0.5, 1.0)),
    "step": (("hip", Z, 0.3, 0.3, 0.0), ("knee", X, -0.3, 0.3, 0.7)),
    "crouch": (("hip", X, 0.7, 0.5, 0.0), ("knee", X, -1.1, 0.7, 0.0), ("ankle", X, 0.4, 0.2, 0.0)),
    "bow": (("spine middle", X, -0.4, 0.4, 0.0), ("neck", X, -0.1, 0.2, 0.5)),
    "lean": (("spine middle", Z, 0.0, 0.4, 0.0),),
    "turn": (("spine middle", Y, 0.0, 0.45, 0.0), ("neck", Y, 0.0, 0.3, 0.6)),
    "nod": (("neck", X, -0.2, 0.4, 0.0),),
    "shake": (("neck", Y, 0.0, 0.6, 0.0),),
}
# A theme lists what a class moves: blocks, each with the side of the body that performs it. "alternate" is both
# sides half a period apart, "mid" a gesture of the trunk or head.
THEMES: tuple[tuple[tuple[str, str], ...], ...] = (
    (("reach", "right"),),
    (("raise", "left"),),
    (("handle", "both"), ("nod", "mid")),
    (("kick", "right"),),
    (("bow", "mid"), ("reach", "both")),
    (("reach", "alternate"),),
    (("overhead", "left"),),
    (("lean", "mid"), ("raise", "right")),
    (("crouch", "both"),),
    (("turn", "mid"), ("handle", "right")),
    (("raise", "both"),),
    (("kick", "left"), ("raise", "both")),
    (("overhead", "right"), ("nod", "mid")),
    (("kick", "alternate"), ("reach", "alternate")),
    (("shake", "mid"), ("reach", "left")),
    (("step", "right"), ("raise", "alternate")),
)
RHYTHMS = (1.0, 3.0, 2.0, 4.0, 1.5)  # periods per action
STRIDE = 5  # coprime to the number of themes, so that neighbouring classes move different limbs
AMPLITUDE_SPREAD = 0.15
GOLDEN = 0.6180339887498949
FADE = 0.15  # share of a gesture's time in which it fades in, and in which it fades out


@dataclass(frozen=True)
class Program:
    """K joint angles over the time of an action; all arrays are [K].

    At share u of its time a gesture adds fade(u) * (held + amplitude * sin(2 pi periods u + phase)) to the angle
    of `joint` about `axis`. Its time runs from `begin` to `end`, as shares of the action's time.
    """

    joint: np.ndarray
    axis: np.ndarray
    held: np.ndarray
    amplitude: np.ndarray
    periods: np.ndarray
    phase: np.ndarray
    begin: np.ndarray
    end: np.ndarray


@cache
def program(action: int, partner: bool = False) -> Program:
    """Return the program of class `action` (1-based, as in file names), or that of its second person."""
    rng = generator(0, Draw.ACTION, action, int(partner))
    index = action - 1
    if partner:
        index = 3 * index + 7
    theme = THEMES[(STRIDE * index) % len(THEMES)]
    rhythm = RHYTHMS[(3 * index + index // len(THEMES)) % len(RHYTHMS)]
    start = 2 * np.pi * (GOLDEN * index % 1)  # far apart for classes that share theme and rhythm
    begin = float(rng.uniform(0.15, 0.35)) if partner else 0.0  # a reaction follows the other person's gesture
    rows = []
    for number, (block, side) in enumerate(theme):
        periods = rhythm * (1.0 if number == 0 else float(rng.choice([0.5, 1.0, 2.0])))
        for joint, sign, shift in _sides(side):
            for name, axis, held, amplitude, lag in BLOCKS[block]:
                factor = sign if axis != X else 1.0
                scale = 1 + AMPLITUDE_SPREAD * float(rng.uniform(-1, 1))
                rows.append(
                    (
                        person_layout().joints.index(f"{joint}{name}"),
                        axis,
                        factor * held,
                        factor * amplitude * scale,
                        periods,
                        start + shift - lag,
                        begin,
                        1.0,
                    )
                )
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return Program(*columns)


def _sides(side: str) -> tuple[tuple[str, float, float], ...]:
    """Per side of the body: the prefix of its joints, the sign of turns about y and z, and the phase shift."""
    right, left = ("right ", 1.0, 0.0), ("left ", -1.0, 0.0)
    match side:
        case "right":
            return (right,)
        case "left":
            return (left,)
        case "both":
            return (right, left)
        case "alternate":
            return (right, ("left ", -1.0, np.pi))
    return (("", 1.0, 0.0),)


def evaluate(played: Program, time: np.ndarray) -> np.ndarray:
    """Return the angles [T,V,3] that a program adds at the times [T] of an action (0 begins it, 1 ends it)."""
    u = (time[:, None] - played.begin) / (played.end - played.begin)  # [T,K]
    edge = np.clip(np.minimum(u, 1 - u) / FADE, 0, 1)
    fade = edge * edge * (3 - 2 * edge)
    wave = played.held + played.amplitude * np.sin(2 * np.pi * played.periods * u + played.phase)
    moved = np.zeros((len(played.joint), len(person_layout()), 3))
    moved[np.arange(len(moved)), played.joint, played.axis] = 1
    return np.tensordot(fade * wave, moved, 1)
