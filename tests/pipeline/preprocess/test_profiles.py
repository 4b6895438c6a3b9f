"""The table of preprocessing profiles, and their choice by name."""

import numpy as np
import pytest

from skelpipe.errors import UsageError
from skelpipe.preprocess import CROSCLR, CROSCLR_VERSION, PROFILES, crosclr, profile_writer
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout

KINECT = layout("kinect-v2-25")


def walk(frames: int = 20) -> Recording:
    rest = np.random.default_rng(0).normal(size=(25, 3))
    xyz = np.stack([rest + 0.1 * t for t in range(frames)])
    return Recording(np.ones(frames, np.int32), np.zeros(frames, np.int64), xyz)


def written(write) -> np.ndarray:
    out = np.full((3, 8, 25, 2), np.nan, np.float32)
    write(walk(), KINECT, 8, 2, out)
    return out


def test_the_table_names_and_versions_every_profile() -> None:
    assert set(PROFILES) == {"crosclr", "ctrgcn", "stored"}
    assert all(profile.name == name and profile.version >= 1 for name, profile in PROFILES.items())
    assert (PROFILES[CROSCLR].version, PROFILES[CROSCLR].write) == (CROSCLR_VERSION, crosclr)


@pytest.mark.parametrize("name", ["crosclr", "ctrgcn"])
def test_a_profile_is_chosen_by_name(name: str) -> None:
    got = written(profile_writer(name))
    np.testing.assert_array_equal(got, written(PROFILES[name].write))
    # With `crosclr` the centre of the shoulders does not move; with `ctrgcn` the body walks.
    assert bool(np.abs(np.diff(got[:, :, 20, 0])).max() > 0.1) == (name == "ctrgcn")
    assert not got[..., 1].any()


def test_the_second_body_can_be_a_copy() -> None:
    got = written(profile_writer("ctrgcn", second_body="copy"))
    np.testing.assert_array_equal(got[..., 1], written(profile_writer("ctrgcn"))[..., 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ntu",), "profile 'ntu' is unknown; there are: crosclr, ctrgcn"),
        (("ctrgcn", "mirror"), "second body 'mirror' is unknown; there are: zeros, copy"),
        (("crosclr", "copy"), "profile crosclr leaves the second body of a clip of one body zero;.* ctrgcn"),
    ],
)
def test_unknown_profiles_are_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        profile_writer(*arguments)
