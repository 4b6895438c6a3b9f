"""Windows over untrimmed videos: a clip around every frame, preprocessed like the dataset's own clips.

docs/segmentation.md describes them.
"""

from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from skelpipe.augment.draws import Draws
from skelpipe.dataset import Dataset
from skelpipe.errors import DatasetError, RawError
from skelpipe.mapped_files import reading
from skelpipe.preprocess import Policies, profile_writer
from skelpipe.raw.recording import Recording
from skelpipe.train.evaluation.segmenter_settings import WINDOW
from skelpipe.views import derive

__all__ = ["Windows"]


class Windows:
    """The frames of a subset's videos, numbered from 0 over all videos, and the window around each.

    A window is `length` frames with the frame in the middle. Where it would leave the video it is moved inside, so
    that the frames at a video's ends share one; a video of fewer frames is one window.
    """

    def __init__(self, dataset: Dataset, subset: str, view: str, length: int = WINDOW) -> None:
        """Open the videos; DatasetError where the dataset has none in this subset."""
        self._videos = dataset.videos(subset)
        if not len(self._videos):
            raise DatasetError(f"{dataset.path}: there is no untrimmed video in the {subset} subset")
        self.length = length
        self.ids = self._videos.ids
        self.frames = self._videos.frames  # of each video, int64 [videos]
        self._ends = np.cumsum(self.frames)
        self._joints = [self._videos.joint(video) for video in range(len(self.ids))]  # views of the files
        self._view, self._layout, self._shape = view, dataset.layout, dataset.shape
        options = dataset.card["options"]
        # In videos the bodies are chosen already, and their joints complete.
        policies = replace(Policies.of_options(options), body_choice="first")
        self._write = profile_writer(dataset.profile, options.get("second_body", "zeros"), policies)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @cached_property
    def labels(self) -> np.ndarray:
        """The class of every frame, int64 [frames of all videos], 0 = background."""
        videos = range(len(self.ids))
        return reading(lambda: np.concatenate([self._videos.label(v) for v in videos]).astype(np.int64))

    def frames_of(self, video: int) -> slice:
        """Return the numbers of a video's frames."""
        return slice(int(self._ends[video] - self.frames[video]), int(self._ends[video]))

    def names(self) -> list[str]:
        """Return an id for every frame: the video's id and the frame's number in it, from 1: `A01N02-L:17`."""
        return [
            f"{id_}:{n}" for id_, frames in zip(self.ids, self.frames, strict=True) for n in range(1, frames + 1)
        ]

    def middles(self, rows: np.ndarray) -> np.ndarray:
        """Return the middle frame of each frame's window, int64 [n]: the frame itself except at the ends."""
        video, start, stop = self._spans(rows)
        return self._ends[video] - self.frames[video] + (start + stop) // 2

    def draw(self, each: int, seed: int, epoch: int) -> np.ndarray:
        """Return `each` frames per video, drawn uniformly with repetition: int64 [videos * each], window middles.

        The draws are a hash of seed, epoch and the video's number: the same on every machine.
        """
        share = Draws(seed, epoch, torch.arange(len(self.ids))).uniform(each).double().numpy()
        frame = (share * self.frames[:, None]).astype(np.int64)
        return self.middles((frame + (self._ends - self.frames)[:, None]).ravel())

    def spread(self, stride: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the middle one of every `stride` frames, int64 [n], and for every frame the index of its own."""
        rows, which, count = [], [], 0
        for end, frames in zip(self._ends, self.frames, strict=True):
            first = np.arange(0, frames, stride)
            rows.append(end - frames + (first + np.minimum(first + stride, frames)) // 2)
            which.append(count + np.arange(frames) // stride)
            count += len(first)
        return np.concatenate(rows), np.concatenate(which)

    def clips(self, rows: np.ndarray) -> Tensor:
        """Return the windows around frames (int64 [n]) as clips of the view, float32 [n,C,T,V,M]."""
        out = np.empty((len(rows), *self._shape), np.float32)
        _, frames, _, bodies = self._shape
        for clip, video, start, stop in zip(out, *self._spans(rows), strict=True):
            recording = reading(partial(self._recording, video, start, stop))
            try:
                self._write(recording, self._layout, frames, bodies, clip)
            except RawError:  # no body in the whole window
                clip[:] = 0
        return derive(torch.from_numpy(out), self._view, self._layout)

    def _recording(self, video: int, start: int, stop: int) -> Recording:
        return _recording(self._joints[video][:, start:stop])

    def _spans(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for each frame its video, and first and end frame of its window in that video."""
        video = np.searchsorted(self._ends, rows, side="right")
        frames = self.frames[video]
        frame = rows - (self._ends[video] - frames)
        start = np.clip(frame - self.length // 2, 0, np.maximum(frames - self.length, 0))
        return video, start, np.minimum(start + self.length, frames)


def _recording(joint: np.ndarray) -> Recording:
    """Return joints [C,F,V,M], absent bodies zeros, as a recording: the inverse of `untrimmed_writer.as_array`."""
    bodies = np.ascontiguousarray(joint.transpose(1, 3, 2, 0)).astype(np.float64)
    xyz = bodies[..., :3]
    scores = bodies[..., 3] if bodies.shape[-1] > xyz.shape[-1] else None
    return Recording.in_slots(xyz, np.asarray(xyz.any(axis=(2, 3))), scores)
