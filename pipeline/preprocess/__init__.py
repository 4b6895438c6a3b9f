"""Preprocessing profiles: from a recording to a clip `[C,T,V,M]`.

A profile is named and versioned in the dataset's card; a version changes when the numbers do. `crosclr` is what
the released code of the self-supervised papers does, `ctrgcn` what supervised work since CTR-GCN does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from skelpipe.errors import UsageError
from skelpipe.preprocess.crosclr import CROSCLR, CROSCLR_VERSION, crosclr
from skelpipe.preprocess.ctrgcn import CTRGCN, CTRGCN_VERSION, SECOND_BODIES, ctrgcn
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = [
    "CROSCLR",
    "CROSCLR_VERSION",
    "CTRGCN",
    "CTRGCN_VERSION",
    "PROFILES",
    "SECOND_BODIES",
    "Profile",
    "ProfileWriter",
    "crosclr",
    "ctrgcn",
    "profile_writer",
]

# (recording, layout, frames, bodies, out): writes the clip into `out`, float32 [3,frames,V,bodies].
ProfileWriter = Callable[[Recording, Layout, int, int, np.ndarray], None]


@dataclass(frozen=True)
class Profile:
    """A way from a recording to a clip. `write` raises RawError, without a path, where there is none."""

    name: str
    version: int
    write: ProfileWriter


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (Profile(CROSCLR, CROSCLR_VERSION, crosclr), Profile(CTRGCN, CTRGCN_VERSION, ctrgcn))
}


def profile_writer(name: str, second_body: str = "zeros") -> ProfileWriter:
    """Return what writes the clips of the profile `name`.

    `second_body` says what fills slot 2 of a clip of one person: "zeros", or with `ctrgcn` a "copy" of slot 1.
    Raises UsageError for a profile or a second body that does not exist.
    """
    if name not in PROFILES:
        raise UsageError(f"profile {name!r} is unknown; there are: {', '.join(PROFILES)}")
    if second_body not in SECOND_BODIES:
        raise UsageError(f"second body {second_body!r} is unknown; there are: {', '.join(SECOND_BODIES)}")
    if second_body == "zeros":
        return PROFILES[name].write
    if name != CTRGCN:
        raise UsageError(
            f"profile {name} leaves the second body of a one-person clip zero; to store a copy, use {CTRGCN}"
        )
    return partial(ctrgcn, second_body=second_body)
