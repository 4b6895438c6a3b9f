"""The table of preprocessing profiles, and their choice by name.

The card of a dataset holds the name and version of its profile; the version changes whenever its numbers change.
`crosclr` is the preprocessing of the released code of the self-supervised papers, `ctrgcn` that of supervised work
since CTR-GCN (docs/profiles.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from skelpipe.errors import UsageError
from skelpipe.preprocess.crosclr import CROSCLR, CROSCLR_VERSION, crosclr
from skelpipe.preprocess.ctrgcn import CTRGCN, CTRGCN_VERSION, SECOND_BODIES, ctrgcn
from skelpipe.preprocess.stored import STORED, STORED_VERSION, stored
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["PROFILES", "Profile", "ProfileWriter", "profile_writer"]

# Called with (recording, layout, frames, bodies, out); writes the clip into `out`, float32 [3,frames,V,bodies].
ProfileWriter = Callable[[Recording, Layout, int, int, np.ndarray], None]


@dataclass(frozen=True)
class Profile:
    """A profile. `write` raises RawError, without a path, for a recording that gives no clip."""

    name: str
    version: int
    write: ProfileWriter


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(CROSCLR, CROSCLR_VERSION, crosclr),
        Profile(CTRGCN, CTRGCN_VERSION, ctrgcn),
        Profile(STORED, STORED_VERSION, stored),
    )
}


def profile_writer(name: str, second_body: str = "zeros") -> ProfileWriter:
    """Return the function that writes the clips of profile `name`.

    `second_body` is the content of slot 2 in a clip of one body: "zeros", or with `ctrgcn` a "copy" of slot 1.
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
            f"profile {name} leaves the second body of a clip of one body zero; to store a copy, use {CTRGCN}"
        )
    return partial(ctrgcn, second_body=second_body)
