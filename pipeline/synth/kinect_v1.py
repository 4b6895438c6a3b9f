"""The joints of the simulated body, that of a Kinect v2, that a Kinect v1 reports."""

from functools import cache

from skelpipe.skeleton import layout
from skelpipe.synth.body import person_layout

__all__ = ["joints_of"]

# The names of joints that Kinect v2 calls otherwise.
V2_NAMES = {
    "shoulder centre": "spine shoulder",
    "spine": "spine middle",
    "hip centre": "spine base",
}


@cache
def joints_of(name: str) -> list[int]:
    """Return the joints of the simulated body in the order of a layout of Kinect v1, such as `kinect-v1-20`."""
    return [person_layout().joints.index(V2_NAMES.get(joint, joint)) for joint in layout(name).joints]
