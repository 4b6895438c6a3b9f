"""Fixtures for readers of pose estimators' files."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skelpipe.raw.form import Form
from skelpipe.raw.poses.formats import POSE_FORMATS
from skelpipe.raw.readers import READERS
from skelpipe.raw.recording import Recording
from skelpipe.skeleton import layout


@pytest.fixture(scope="session")
def read_poses() -> Callable[..., Recording]:
    """A function that reads the content of one file (bytes, text, or an object as JSON) by a reader's name."""

    def read(reader: str, content: Any, layout_name: str, **form: Any) -> Recording:
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        channels = form.pop("channels", POSE_FORMATS[reader].channels[0] if POSE_FORMATS[reader].channels else ())
        text = np.frombuffer(content + b"\n", np.uint8)
        return READERS[reader](text, "a.json", Form(layout(layout_name), channels=channels, **form))

    return read
