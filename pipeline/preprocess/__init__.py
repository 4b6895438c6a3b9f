"""Preprocessing profiles: from a recording to a clip `[C,T,V,M]` (docs/profiles.md)."""

from skelpipe.preprocess.crosclr import CROSCLR, CROSCLR_VERSION, crosclr
from skelpipe.preprocess.ctrgcn import CTRGCN, CTRGCN_VERSION, SECOND_BODIES, ctrgcn
from skelpipe.preprocess.policies import AS_AUTHORS, Policies
from skelpipe.preprocess.profiles import PROFILES, Profile, ProfileWriter, profile_writer
from skelpipe.preprocess.settle import Completeness, settle
from skelpipe.preprocess.stored import STORED, stored

__all__ = [
    "AS_AUTHORS",
    "CROSCLR",
    "CROSCLR_VERSION",
    "CTRGCN",
    "CTRGCN_VERSION",
    "PROFILES",
    "SECOND_BODIES",
    "STORED",
    "Completeness",
    "Policies",
    "Profile",
    "ProfileWriter",
    "crosclr",
    "ctrgcn",
    "profile_writer",
    "settle",
    "stored",
]
