"""Reader of MMPose's predictions (`--pred-out-dir`): a JSON file per video, or one per picture.

Format: `MMPoseInferencer` and `split_instances` of open-mmlab/mmpose. A video is `{"meta_info", "instance_info":
[{"frame_id", "instances": [...]}]}`, a picture a list of instances. An instance has `keypoints` [V][2 or 3],
`keypoint_scores` [V] and, of trackers, `track_id`. The lifting demos write 3D positions with the height as third
number and x mirrored: they are turned back to x right, y down, z away from the camera.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.raw.form import Form
from skelpipe.raw.json_text import entry, joint_numbers, listed, parse_json, whole_number
from skelpipe.raw.poses.people import NO_ID, People, check_joint_names, gather, recording_of
from skelpipe.raw.recording import Recording
from skelpipe.untrusted import whole

__all__ = ["read_mmpose", "read_mmpose_frame"]

UNTRACKED = 10000  # the demos' track_id of who was not tracked


def read_mmpose(text: np.ndarray, name: str, form: Form) -> Recording:
    """Read a video's people; the joints' names in `meta_info` must be the layout's where it has them."""
    content = parse_json(text, name)
    if isinstance(content, list):
        raise RawError(f"{name}: a list, as MMPose writes for one picture: the reader mmpose-frames reads those")
    _check_names(content.get("meta_info") if isinstance(content, dict) else None, form, name)
    frames: dict[int, People] = {}
    for place, found in enumerate(listed(entry(content, "instance_info", name), f"{name}: instance_info"), 1):
        frame = whole_number(entry(found, "frame_id", f"{name}: instance_info {place}"), f"{name}: frame_id")
        if frame in frames:
            raise RawError(f"{name}: frame {frame} is there twice")
        where = f"{name}: frame {frame}"
        frames[frame] = _people(listed(entry(found, "instances", where), f"{where}: instances"), form, where)
    return recording_of(frames, name, form)


def read_mmpose_frame(text: np.ndarray, name: str, form: Form) -> People:
    """Read the people of one picture."""
    content = parse_json(text, name)
    if isinstance(content, dict) and "instance_info" in content:
        raise RawError(f"{name}: the frames of a whole video: the reader mmpose reads it")
    return _people(listed(content, name, "a list of instances"), form, name)


def _people(instances: list[Any], form: Form, where: str) -> People:
    axes = 3 if "z" in form.channels else 2
    points, scores, ids = [], [], []
    for number, one in enumerate(instances, 1):
        place = f"{where}, person {number}" if ": frame" in where else f"{where}: person {number}"
        found = joint_numbers(entry(one, "keypoints", place), form.layout.joints, axes, place)
        if axes == 3:
            found = np.stack([-found[:, 0], -found[:, 2], found[:, 1]], axis=1)
        points.append(found)
        scores.append(
            joint_numbers(entry(one, "keypoint_scores", place), form.layout.joints, 1, f"{place}, scores")[:, 0]
        )
        track = whole_number(one.get("track_id", NO_ID), f"{place}: track_id")
        ids.append(NO_ID if track == UNTRACKED else track)
    return gather(points, scores, ids, form.joints)


def _check_names(meta: Any, form: Form, name: str) -> None:
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if isinstance(names, Mapping) and all(whole(str(key)) is not None for key in names):
        ordered = [names[key] for key in sorted(names, key=lambda key: int(str(key)))]
        check_joint_names(ordered, form, f"{name}: meta_info")
