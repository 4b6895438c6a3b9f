"""Recognition of actions while they happen: frames in, predictions of a sliding window out.

Each window is preprocessed as a recording of its own, so that a window that covers a whole recording gets the
scores of that recording, bit-identical. docs/deployment.md describes windows and their ends.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from skelpipe.errors import RawError, SkelpipeError, UsageError
from skelpipe.front.arguments import given as described
from skelpipe.front.arguments import whole_number
from skelpipe.preprocess.tracks import shown_rows
from skelpipe.raw.recording import Recording
from skelpipe.train.evaluation.recogniser import Recogniser

__all__ = ["FrameBuffer", "LiveRecogniser", "Prediction", "likeliest"]

TOP = 5


def likeliest(probabilities: torch.Tensor, classes: tuple[str, ...], most: int = TOP) -> list[dict[str, Any]]:
    """Return number (from 1), name and probability of the likeliest classes, given float64 [K]."""
    top = probabilities.topk(min(most, len(probabilities)))
    return [
        {"action": label + 1, "name": classes[label], "probability": probability}
        for label, probability in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Prediction:
    """The actions of the frames `first` to `last`, counted from 1, the last one included.

    `top` holds the five likeliest as `likeliest` returns them; it is empty where the frames give no clip, and
    `why` then says why: nobody is seen, or not for long enough. `short` says that the recording has fewer frames
    than a window. `seconds` are begin and end, where frames per second are known.
    """

    first: int
    last: int
    top: list[dict[str, Any]]
    short: bool = False
    seconds: tuple[float, float] | None = None
    why: str = ""


class FrameBuffer:
    """The last `window` frames, in memory that is reserved once (more only where a frame has more bodies).

    Every frame is kept twice, `window` places apart: the last ones always adjoin.
    """

    def __init__(self, window: int, joints: int, bodies: int, *, scored: bool = False) -> None:
        self.frames = 0  # pushed so far
        self._window = window
        self._counts = np.zeros(2 * window, np.int32)
        self._ids = np.zeros((2 * window, bodies), np.int64)
        self._xyz = np.zeros((2 * window, bodies, joints, 3))
        self._scores = np.zeros((2 * window, bodies, joints)) if scored else None

    def push(self, xyz: np.ndarray, ids: np.ndarray, scores: np.ndarray | None) -> None:
        """Add a frame of M bodies: float64 [M,V,3], int64 [M] and, where the buffer is scored, float64 [M,V]."""
        bodies = len(xyz)
        if bodies > self._ids.shape[1]:
            self._widen(bodies)
        for place in (self.frames % self._window, self.frames % self._window + self._window):
            self._counts[place] = bodies
            self._ids[place, :bodies] = ids
            self._xyz[place, :bodies] = xyz
            if self._scores is not None:
                self._scores[place, :bodies] = scores
        self.frames += 1

    def last(self, frames: int) -> Recording:
        """Return the last frames, at most a window of them, as a recording of its own."""
        stop = (self.frames - 1) % self._window + self._window + 1
        own = slice(stop - frames, stop)
        listed = np.arange(self._ids.shape[1]) < self._counts[own, None]
        scores = None if self._scores is None else self._scores[own][listed]
        return Recording(self._counts[own].copy(), self._ids[own][listed], self._xyz[own][listed], scores)

    def clear(self) -> None:
        """Forget all frames."""
        self.frames = 0

    def _widen(self, bodies: int) -> None:
        more = bodies - self._ids.shape[1]
        self._ids = np.pad(self._ids, ((0, 0), (0, more)))
        self._xyz = np.pad(self._xyz, ((0, 0), (0, more), (0, 0), (0, 0)))
        if self._scores is not None:
            self._scores = np.pad(self._scores, ((0, 0), (0, more), (0, 0)))


class LiveRecogniser:
    """A classifier that is given frames one after the other and names the action of the last `window` of them.

    A window begins at every `stride`-th frame and is predicted as soon as its last frame is there. At the end of
    the input (`finish`) one more window covers the last frames, if no window has; input of fewer frames than a
    window is one window, and its prediction `short`.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        window: int | None = None,
        stride: int | None = None,
        *,
        fps: float | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Take windows of as many frames as the training clips and a stride of a quarter, where none are given.

        UsageError for windows and strides that are no whole number from 1, and for `fps` that is not above 0.
        """
        window = recogniser.frames if window is None else whole_number(window, "window", 1)
        stride = max(1, window // 4) if stride is None else whole_number(stride, "stride", 1)
        if fps is not None and (isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < fps < math.inf):
            raise UsageError(f"fps is {described(fps)}; it must be a number above 0")
        self.window, self.stride, self.fps = window, stride, fps
        self._recogniser, self._device = recogniser, torch.device(device)
        self._layout, channels = recogniser.manifest.layout, recogniser.manifest.stored_channels
        joints, bodies = len(self._layout), recogniser.bodies
        self._scored = "score" in channels
        self._buffer = FrameBuffer(window, joints, bodies, scored=self._scored)
        self._clip = np.empty((1, len(channels), recogniser.frames, joints, bodies), np.float32)
        self._due = window  # frames at which the next window is whole
        self._covered = 0
        recogniser.networks.to(self._device)

    def __repr__(self) -> str:
        per_second = "" if self.fps is None else f", {self.fps:g} frames per second"
        frames = f"frames [M,{len(self._layout)},{3 + self._scored}] of {self._layout.name}"
        return (
            f"<LiveRecogniser: windows of {self.window} frames, stride {self.stride}{per_second}, {frames}, "
            f"{self._buffer.frames} taken, on {self._device}>"
        )

    def push(self, bodies: np.ndarray | None, ids: np.ndarray | None = None) -> Prediction | None:
        """Add a frame; return the prediction of the window that it completes, if it completes one.

        `bodies` is [M,V,3]: positions in metres, x to the right, y up, z away from the camera, NaN for a joint
        that was not found; [M,V,2] without depth; one number more, the score of each joint, where the classifier
        was trained on scores; None: nobody is seen.
        `ids` int64 [M] tell the bodies apart; without them a body is followed by its place in the frame. Raises
        UsageError for another shape.
        """
        joints, scored = len(self._layout), int(self._scored)
        try:
            given = np.zeros((0, joints, 3 + scored)) if bodies is None else np.asarray(bodies, np.float64)
        except (TypeError, ValueError):
            raise UsageError(f"a frame is an array of positions, or None, not {described(bodies)}") from None
        if given.ndim != 3 or given.shape[1] != joints or given.shape[2] - scored not in (2, 3):
            raise UsageError(
                f"a frame has shape {list(given.shape)}; expected [M,{joints},{3 + scored}] of {self._layout.name}"
                f", or [M,{joints},{2 + scored}] without depth"
            )
        own = np.arange(len(given)) if ids is None else np.asarray(ids, np.int64)
        if own.shape != given.shape[:1]:
            raise UsageError(f"{len(given)} bodies have ids of shape {list(own.shape)}")
        xyz = given[..., : given.shape[2] - scored]
        if xyz.shape[2] == 2:
            xyz = np.pad(xyz, ((0, 0), (0, 0), (0, 1)))
        return self._push(xyz, own, given[..., -1] if scored else None)

    def push_recording(self, recording: Recording) -> Iterator[Prediction]:
        """Add the frames of a recording, or of a piece of one; yield the prediction of each whole window."""
        stops = np.cumsum(recording.counts)
        if self._scored and recording.scores is None and len(recording.ids):
            raise RawError("the classifier was trained on scores of joints, and the frames have none")
        for stop, count in zip(stops.tolist(), recording.counts.tolist(), strict=True):
            own = slice(stop - count, stop)
            scores = recording.scores[own] if self._scored and recording.scores is not None else None
            if self._scored and scores is None:
                scores = np.zeros((0, len(self._layout)))
            found = self._push(recording.xyz[own], recording.ids[own], scores)
            if found is not None:
                yield found

    def over(self, frames: Iterable[np.ndarray | None]) -> Iterator[Prediction]:
        """Yield the predictions of all windows of an input of frames (see `push`), the end included."""
        for frame in frames:
            if (found := self.push(frame)) is not None:
                yield found
        if (found := self.finish()) is not None:
            yield found

    def finish(self) -> Prediction | None:
        """End the input; return the prediction of the last frames, if no window has covered them.

        The next frame begins a new input.
        """
        frames = self._buffer.frames
        found = self._predicted(min(frames, self.window)) if frames > self._covered else None
        self._buffer.clear()
        self._due, self._covered = self.window, 0
        return found

    def _push(self, xyz: np.ndarray, ids: np.ndarray, scores: np.ndarray | None) -> Prediction | None:
        self._buffer.push(xyz, ids, scores)
        if self._buffer.frames < self._due:
            return None
        self._due += self.stride
        return self._predicted(self.window)

    @torch.no_grad()
    def _predicted(self, count: int) -> Prediction:
        """Return the prediction of the last `count` frames."""
        last = self._covered = self._buffer.frames
        first = last - count + 1
        seconds = None if self.fps is None else ((first - 1) / self.fps, last / self.fps)
        short = last < self.window
        recording, model = self._buffer.last(count), self._recogniser
        if not shown_rows(recording.xyz).any():
            return Prediction(first, last, [], short, seconds, "nobody is seen")
        clip = self._clip
        try:
            model.write(recording, self._layout, model.frames, model.bodies, clip[0])
        except RawError as error:
            return Prediction(first, last, [], short, seconds, str(error))
        clips = torch.from_numpy(clip.astype(model.dtype).astype(np.float32)).to(self._device)
        row = torch.softmax(model.scores(clips).double(), dim=1)[0].cpu()
        if not row.isfinite().all():
            raise SkelpipeError(
                f"frames {first} to {last}: the scores are not finite: a coordinate is too large, or {model.path}"
                " is damaged"
            )
        return Prediction(first, last, likeliest(row, model.classes), short, seconds)
