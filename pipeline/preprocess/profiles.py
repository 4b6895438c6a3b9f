"""The table of preprocessing profiles, and their choice by name.

The card of a dataset holds the name and version of its profile; the version changes whenever its numbers change.
`crosclr` is the preprocessing of the released code of the self-supervised papers, `ctrgcn` that of supervised work
since CTR-GCN (docs/profiles.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from skelpipe.errors import UsageError
from skelpipe.preprocess.crosclr import CROSCLR, CROSCLR_VERSION, crosclr
from skelpipe.preprocess.ctrgcn import CTRGCN, CTRGCN_VERSION, SECOND_BODIES, ctrgcn
from skelpipe.preprocess.policies import AS_AUTHORS, Policies
from skelpipe.preprocess.settle import Completeness, settle
from skelpipe.preprocess.stored import STORED, STORED_VERSION, stored
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import Layout

__all__ = ["PROFILES", "Profile", "ProfileWriter", "profile_writer"]

# Called with (recording, layout, frames, bodies, out); writes the clip into `out`, float32 [C,frames,V,bodies],
# and returns how much of it is real.
ProfileWriter = Callable[[Recording, Layout, int, int, np.ndarray], Completeness]


@dataclass(frozen=True)
class Profile:
    """A profile. `write` returns how many bodies the clip does not show.

    It raises RawError, without a path, for a recording that gives no clip. No joint of the recording may be NaN.
    """

    name: str
    version: int
    write: Callable[..., int]


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(CROSCLR, CROSCLR_VERSION, crosclr),
        Profile(CTRGCN, CTRGCN_VERSION, ctrgcn),
        Profile(STORED, STORED_VERSION, stored),
    )
}


@dataclass(frozen=True)
class _Writer:
    """Applies the policies to a recording, then the profile.

    `ctrgcn` chooses the bodies itself; `stored` keeps bodies and frames as the file has them.
    """

    profile: str
    second_body: str
    policies: Policies

    def __call__(
        self, recording: Recording, layout: Layout, frames: int, bodies: int, out: np.ndarray
    ) -> Completeness:
        write = PROFILES[self.profile].write
        if self.profile == CTRGCN:
            settled, real = settle(recording, layout, self.policies, None)
            return replace(
                real, bodies_left_out=write(settled, layout, frames, bodies, out, second_body=self.second_body)
            )
        if self.profile == STORED:
            policies = Policies(missing_joints=self.policies.missing_joints)
            settled, real = settle(recording, layout, policies, bodies)
            write(settled, layout, frames, bodies, out)
            return real
        settled, real = settle(recording, layout, self.policies, bodies)
        write(settled, layout, frames, bodies, out, whole=self.policies.empty_frames != "as-authors")
        return real


def profile_writer(name: str, second_body: str = "zeros", policies: Policies = AS_AUTHORS) -> ProfileWriter:
    """Return the function that writes the clips of profile `name` of a dataset with these policies.

    `second_body` is the content of slot 2 in a clip of one body: "zeros", or with `ctrgcn` a "copy" of slot 1.
    Raises UsageError for a profile or a second body that does not exist.
    """
    if name not in PROFILES:
        raise UsageError(f"profile {name!r} is unknown; there are: {', '.join(PROFILES)}")
    if second_body not in SECOND_BODIES:
        raise UsageError(f"second body {second_body!r} is unknown; there are: {', '.join(SECOND_BODIES)}")
    if second_body != "zeros" and name != CTRGCN:
        raise UsageError(
            f"profile {name} leaves the second body of a clip of one body zero; to store a copy, use {CTRGCN}"
        )
    return _Writer(name, second_body, policies)
