"""Reader of the JSON of Azure Kinect's `offline_processor`: one file per recording.

Format: body-tracking-samples/offline_processor of microsoft/Azure-Kinect-Samples. `frames` is a list of
`{"frame_id", "num_bodies", "bodies": [{"body_id", "joint_positions": [32][3]}]}`, in millimetres, x to the right
of the camera, y down, z away from it; `joint_names` gives the order of joints.
"""

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.json_text import entry, joint_numbers, listed, parse_json, whole_number
from skelpipe.raw.poses.people import People, check_joint_names, gather, recording_of
from skelpipe.raw.recording import Recording

__all__ = ["read_azure_kinect"]

MILLIMETRES = 1000


def read_azure_kinect(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read a recording, in metres; people keep the tracker's ids. A joint at the camera itself was not found."""
    content = parse_json(text, name)
    if isinstance(content, dict) and "joint_names" in content:
        check_joint_names(listed(content["joint_names"], f"{name}: joint_names"), form, f"{name}: joint_names")
    frames: dict[int, People] = {}
    for place, one in enumerate(listed(entry(content, "frames", name), f"{name}: frames"), 1):
        number = whole_number(entry(one, "frame_id", f"{name}: frame {place} of the list"), f"{name}: frame_id")
        where = f"{name}: frame {number}"
        if number in frames:
            raise RawError(f"{where} is there twice")
        bodies = listed(entry(one, "bodies", where), f"{where}: bodies")
        if "num_bodies" in one and one["num_bodies"] != len(bodies):
            raise RawError(f"{where}: says {one['num_bodies']} bodies, holds {len(bodies)}")
        frames[number] = _people(bodies, form, where)
    return recording_of(frames, name, form)


def _people(bodies: list[object], form: Form, where: str) -> People:
    points, ids = [], []
    for number, body in enumerate(bodies, 1):
        place = f"{where}, body {number}"
        positions = joint_numbers(entry(body, "joint_positions", place), form.layout.joints, 3, place)
        positions[~positions.any(axis=1)] = np.nan
        points.append(positions / MILLIMETRES)
        ids.append(whole_number(entry(body, "body_id", place), f"{place}: body_id"))
    return gather(points, None, ids, form.joints)
