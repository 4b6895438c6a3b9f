"""A plug-in that reads the 20 joints of Kinect v1 as those of another layout: encoders can then be transferred.

    skelpipe prepare --plugin kinect_v1_joints --dataset nw-ucla-25.yaml --split xview --raw all_sqe.zip --out ds

Readers `nw-ucla-mapped` and `msr-mapped` read the files of `nw-ucla` and `msr-action3d`; the joints are those of
the manifest's `layout`: `kinect-v1-20` (another order) or `kinect-v2-25`, that of NTU RGB+D.
"""

import numpy as np

from skelpipe.raw.msr import read_msr
from skelpipe.raw.nw_ucla import read_nw_ucla
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout

# Joints of Kinect v2 as sums of weighted joints of v1; those that are not listed have the same name. Neck and hand
# tips lie where they do in recordings of NTU RGB+D, at the median: a third of the way to the head, and beyond the
# hand by 0.7 of the way from wrist to hand. A thumb lies at the hand.
KINECT_V2 = {
    "spine base": {"hip centre": 1.0},
    "spine middle": {"spine": 1.0},
    "spine shoulder": {"shoulder centre": 1.0},
    "neck": {"shoulder centre": 2 / 3, "head": 1 / 3},
    "left hand tip": {"left hand": 1.7, "left wrist": -0.7},
    "right hand tip": {"right hand": 1.7, "right wrist": -0.7},
    "left thumb": {"left hand": 1.0},
    "right thumb": {"right hand": 1.0},
}


def weights(source, target):
    """Return float64 [V', V]: each joint of the layout `target` as a sum of joints of the layout `source`."""
    found = np.zeros((len(target), len(source)))
    for row, name in zip(found, target.joints, strict=True):
        for joint, weight in KINECT_V2.get(name, {name: 1.0}).items():
            row[source.joints.index(joint)] = weight
    return found


def mapped(read, source):
    """Return a reader of files of the layout named `source` that gives the joints of the manifest's layout."""

    def reader(content, file, form):
        own = layout(source)
        read_in = read(content, file, len(own))
        return Recording(read_in.counts, read_in.ids, weights(own, form.layout) @ read_in.xyz)

    return reader


def register(registry):
    registry.reader("nw-ucla-mapped", mapped(read_nw_ucla, "kinect-v1-20"))
    registry.reader("msr-mapped", mapped(read_msr, "msr-action3d-20"))
