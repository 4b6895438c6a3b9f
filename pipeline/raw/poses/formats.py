"""The formats of pose estimators by the name of their reader, and what each format fixes about its files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from skelpipe.raw.form import Form
from skelpipe.raw.poses.alphapose import read_alphapose
from skelpipe.raw.poses.azure_kinect import read_azure_kinect
from skelpipe.raw.poses.mediapipe import read_mediapipe
from skelpipe.raw.poses.mmpose import read_mmpose, read_mmpose_frame
from skelpipe.raw.poses.number_table import read_number_table
from skelpipe.raw.poses.openpose import openpose_pixels, read_openpose_frame
from skelpipe.raw.poses.people import Adapt, People, as_they_are
from skelpipe.raw.poses.ultralytics import read_ultralytics, read_ultralytics_frame, ultralytics_pixels
from skelpipe.raw.poses.utkinect import read_utkinect
from skelpipe.raw.recording import Recording

__all__ = ["POSE_FORMATS", "PoseFormat", "reads_frame_files"]

FLAT, SOLID = ("x", "y"), ("x", "y", "z")


@dataclass(frozen=True)
class PoseFormat:
    """How a format is read and what it fixes.

    `read` reads the file of a recording, or `read_frame` one of its files, of which each is a frame; `adapt` then
    changes the positions of all frames. `channels` are those that may be declared, the default ones first; `units`
    are those of the first of them. Empty or None is what the format leaves open.
    """

    read: Callable[[np.ndarray, str, Form], Recording] | None = None
    read_frame: Callable[[np.ndarray, str, Form], People] | None = None
    adapt: Adapt = as_they_are
    channels: tuple[tuple[str, ...], ...] = ()
    units: str = ""
    y_down: bool | None = None


def _scored(*positions: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(channels for each in positions for channels in ((*each, "score"), each))


POSE_FORMATS: Mapping[str, PoseFormat] = MappingProxyType(
    {
        "openpose": PoseFormat(
            read_frame=read_openpose_frame,
            adapt=openpose_pixels,
            channels=_scored(FLAT, SOLID),
            units="pixels",
            y_down=True,
        ),
        "alphapose": PoseFormat(read_alphapose, channels=_scored(FLAT), units="pixels", y_down=True),
        "mmpose": PoseFormat(read_mmpose, channels=_scored(FLAT, SOLID), units="pixels", y_down=True),
        "mmpose-frames": PoseFormat(
            read_frame=read_mmpose_frame, channels=_scored(FLAT, SOLID), units="pixels", y_down=True
        ),
        "ultralytics": PoseFormat(
            read_frame=read_ultralytics_frame,
            adapt=ultralytics_pixels,
            channels=_scored(FLAT),
            units="pixels",
            y_down=True,
        ),
        "ultralytics-video": PoseFormat(read_ultralytics, channels=_scored(FLAT), units="pixels", y_down=True),
        "mediapipe": PoseFormat(read_mediapipe, channels=_scored(SOLID), y_down=True),
        "azure-kinect": PoseFormat(read_azure_kinect, channels=(SOLID,), units="metres", y_down=True),
        "utkinect-text": PoseFormat(read_utkinect, channels=(SOLID,), units="metres", y_down=False),
        "table": PoseFormat(read_number_table),
    }
)


def reads_frame_files(reader: str) -> bool:
    """Return whether a reader's files are frames, of which several make a recording."""
    kind = POSE_FORMATS.get(reader)
    return kind is not None and kind.read_frame is not None
