"""Sensor faults of real recordings, all valid in the format: which bodies are listed, when, under which id."""

from dataclasses import dataclass, replace

import numpy as np

from skelpipe.synth.body import person_layout
from skelpipe.synth.kinect import INFERRED, Track

__all__ = ["Sighting", "inject_faults", "new_body_id"]

FIRST_ID = 1 << 56  # the sensor's ids count up from here
SPURIOUS = 0.08  # this and the next: probabilities per recording, at difficulty 1
NEW_ID = 0.05
LEAVES = 0.04
NOBODY = 0.04
SWAPPED = 0.1  # for two bodies
PHANTOM_SLOT = 2  # slots 0 and 1 are the actor and the partner
LONGEST_ABSENCE = 0.12  # of the recording


@dataclass(frozen=True)
class Sighting:
    """One recording as the sensor reports it: B tracks, and `rank` [B,T]: a frame lists present bodies by rank."""

    tracks: tuple[Track, ...]
    rank: np.ndarray

    @property
    def frames(self) -> int:
        return self.rank.shape[1]


def new_body_id(slot: int, rng: np.random.Generator) -> int:
    """Draw an id as large as the sensor's (about 7.2e16, beyond the integers that float64 holds exactly).

    Different `slot` numbers (0, 1, 2) of one recording never share an id, whatever `_renamed` adds.
    """
    return FIRST_ID + 1000 * (3 * int(rng.integers(1, 20)) + slot) + int(rng.integers(0, 400))


def inject_faults(tracks: list[Track], difficulty: float, rng: np.random.Generator) -> Sighting:
    """Add random sensor faults; `tracks` lists the main actor first. At difficulty 0 there are none."""
    strikes = rng.random(5) < np.minimum(difficulty * np.array([NEW_ID, LEAVES, NOBODY, SPURIOUS, SWAPPED]), 1)
    new_id, leaves, nobody, spurious, swapped = strikes
    T = len(tracks[0].ids)
    seen = list(tracks)
    if new_id:
        who = int(rng.integers(len(seen)))
        seen[who] = _renamed(seen[who], int(rng.integers(T // 4, T)), rng)
    if leaves:
        who = int(rng.integers(len(seen)))
        gone = _absence(T, rng)
        back = _renamed(seen[who], gone.stop, rng) if rng.random() < 0.5 else seen[who]
        seen[who] = _without(back, gone)
    if nobody:
        first = int(rng.integers(0, T))
        seen = [_without(track, slice(first, first + int(rng.integers(1, 4)))) for track in seen]
    if spurious:
        seen.append(_phantom(seen[0], rng))
    rank = np.repeat(np.arange(len(seen))[:, None], T, axis=1)
    if swapped and len(tracks) == 2:
        turned = _absence(T, rng)
        rank[:2, turned] = rank[1::-1, turned]
    return Sighting(tuple(seen), rank)


def _absence(T: int, rng: np.random.Generator) -> slice:
    """A range of frames that begins and ends inside the recording."""
    length = int(rng.integers(2, max(int(LONGEST_ABSENCE * T), 3) + 1))
    first = int(rng.integers(1, T - length))
    return slice(first, first + length)


def _renamed(track: Track, first: int, rng: np.random.Generator) -> Track:
    ids = track.ids.copy()
    ids[first:] += rng.integers(1, 200)
    return replace(track, ids=ids)


def _without(track: Track, gone: slice) -> Track:
    present = track.present.copy()
    present[gone] = False
    return replace(track, present=present)


def _phantom(actor: Track, rng: np.random.Generator) -> Track:
    """A body that is none, such as a chair: a shrunken pose that does not move, with noise, listed last."""
    T, V = actor.state.shape
    shape = actor.xyz[0] - actor.xyz[0, person_layout().centre]
    where = actor.xyz[0].mean(0) + rng.choice([-1.0, 1.0]) * np.array([0.9, 0.0, 0.0])
    still = where + shape * rng.uniform(0.4, 0.9, 3) + 0.05 * rng.standard_normal((V, 3))
    present = np.zeros(T, bool)
    first = int(rng.integers(0, max(T // 2, 1)))
    present[first : first + int(rng.integers(3, max(T // 2, 4)))] = True
    return Track(
        xyz=still + 0.03 * rng.standard_normal((T, V, 3)),
        orientation=np.repeat(actor.orientation[:1], T, axis=0),
        state=np.full((T, V), INFERRED, np.int8),
        ids=np.full(T, new_body_id(PHANTOM_SLOT, rng)),
        present=present,
    )
