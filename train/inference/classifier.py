"""`skelpipe.Classifier`: the actions that clips show, by a network that was trained with labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.front.arguments import given, path_text, whole_number
from skelpipe.front.descriptions import counted
from skelpipe.manifest import SUBSETS
from skelpipe.plugins.loading import load_all
from skelpipe.progress import progress
from skelpipe.train.evaluation.live import TOP, LiveRecogniser, likeliest
from skelpipe.train.evaluation.recogniser import Recogniser, open_recogniser
from skelpipe.train.inference.clip_input import Clips, as_dataset, checked_clips, pieces_of
from skelpipe.train.inference.clip_maker import ClipMaker
from skelpipe.train.running.run_log import Console

__all__ = ["Classifier", "Predictions"]

BATCH = 64  # clips at a time


@dataclass(frozen=True)
class Predictions:
    """The classes of clips: `probabilities` float64 [N,K], a column for each of `classes`, and `ids`, N of them.

    `damaged` are the recordings that were left out, each with the reason.
    """

    ids: list[str]
    probabilities: np.ndarray
    classes: tuple[str, ...]
    damaged: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        left_out = f", {len(self.damaged)} damaged left out" if self.damaged else ""
        return f"<Predictions of {counted(len(self.ids), 'clip')}, {len(self.classes)} classes{left_out}>"

    @property
    def labels(self) -> np.ndarray:
        """The likeliest class of each clip, int64 [N], counted from 0."""
        return self.probabilities.argmax(axis=1)

    @property
    def names(self) -> list[str]:
        """The name of the likeliest class of each clip."""
        return [self.classes[label] for label in self.labels]

    def top(self, count: int = TOP) -> list[dict[str, Any]]:
        """Return one entry per clip: its id and the likeliest actions with number (from 1), name, probability."""
        rows, count = torch.from_numpy(self.probabilities), whole_number(count, "count", 1)
        return [
            {"id": name, "top": likeliest(row, self.classes, count)}
            for name, row in zip(self.ids, rows, strict=True)
        ]


class Classifier:
    """A network that was trained with labels, or several for several views; it stays on its device."""

    def __new__(cls, *arguments: Any, **more: Any) -> "Classifier":
        if len(arguments) == 1 and not more:
            raise UsageError(f"Classifier.load({str(arguments[0])!r}) reads trained weights")
        return super().__new__(cls)

    def __init__(self, recogniser: Recogniser, device: torch.device) -> None:
        """Use `Classifier.load`."""
        self.path: Path = recogniser.path
        self.classes: tuple[str, ...] = recogniser.classes
        self.layout = recogniser.manifest.layout
        self.views: tuple[str, ...] = tuple(recogniser.networks)
        self.frames, self.bodies, self.profile = recogniser.frames, recogniser.bodies, recogniser.profile
        self.device = device
        self._recogniser = recogniser
        self._maker = maker_of(recogniser)
        self.shape = self._maker.shape
        recogniser.networks.to(device).eval()

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        dataset: str | Path | None = None,
        view: str | None = None,
        frames: int | None = None,
        device: str = "auto",
        plugins: str | Sequence[str] = (),
        say: Callable[[str], None] | None = None,
    ) -> "Classifier":
        """Return the classifier of a run of `linear` or `finetune`, its file, or a released linear evaluation.

        `starter` names the one that skelpipe brings along: 16 gestures, learnt from synthetic clips.
        `dataset` (a name or a YAML file), `view` and `frames` give what a released file does not say. `plugins`
        are imported first. `say` takes what is assumed, by default a line on stderr. UsageError where there is no
        classifier.
        """
        load_all(plugins)
        source = path_text(source, "a run folder or a file of weights")
        manifest = None
        if dataset is not None:
            manifest = path_text(dataset, "dataset, the name or the YAML file of a manifest,")
        recogniser = open_recogniser(source, manifest, view, frames, say or Console().say)
        return cls(recogniser, resolve_device(device))

    def __repr__(self) -> str:
        channels, frames, joints, bodies = self.shape
        return (
            f"<Classifier {self.path}: {', '.join(self.views)} view, "
            f"clips [N,{channels},{frames},{joints},{bodies}] of {self.layout.name}, "
            f"profile {self.profile} -> {counted(len(self.classes), 'class')}, on {self.device}>"
        )

    def __call__(self, clips: Tensor) -> Tensor:
        """Return the scores [N,classes] of joint clips [N,C,T,V,M], on this device and without gradients."""
        return self._recogniser.scores(checked_clips(clips, self.shape, free=True).to(self.device))

    def predict(
        self,
        clips: Clips,
        subset: str | None = None,
        *,
        ids: Sequence[str] | None = None,
        batch_size: int = BATCH,
        skip_bad: bool = False,
        quiet: bool = True,
    ) -> Predictions:
        """Return the probabilities of the classes for clips, `batch_size` at a time.

        `clips` are joint clips [N,C,T,V,M] as an array or tensor; a dataset or its path, of which a `subset`, the
        clips with some `ids` or all are taken; or paths and URLs of raw files, folders and archives, which are
        preprocessed as the training clips were. With `skip_bad` damaged recordings are left out. UsageError for
        clips that do not fit the weights, RawError for a damaged recording.
        """
        batch_size = whole_number(batch_size, "batch_size", 1)
        if ids is not None and (isinstance(ids, str) or not isinstance(ids, Sequence)):
            raise UsageError(f"ids is a list of the names of clips, not {given(ids)}")
        if (dataset := as_dataset(clips)) is not None:
            stored = StoredClips(dataset, self._recogniser, subset)
            return self.over(stored.ids if ids is None else list(ids), stored, batch_size, quiet=quiet)
        for name, value in (("subset", subset), ("ids", ids)):
            if value is not None:
                raise UsageError(f"{name}: only the clips of a dataset have them")
        names: list[str] = []
        damaged: list[tuple[str, str]] = []
        parts = [self._none()]
        with pieces_of(clips, self.shape, self._maker, batch_size, skip_bad=skip_bad, quiet=quiet) as pieces:
            for piece in pieces:
                damaged += piece.damaged
                if piece.ids:
                    names += piece.ids
                    parts.append(self.probabilities(piece.clips, piece.ids))
        return Predictions(names, np.concatenate(parts), self.classes, damaged)

    def over(
        self,
        names: Sequence[str],
        clips: Callable[[Sequence[str]], np.ndarray],
        batch_size: int = BATCH,
        *,
        what: str = "clips",
        quiet: bool = True,
    ) -> Predictions:
        """Return the probabilities of the classes for what has these names.

        `clips` returns the joint clips float32 [n,C,T,V,M] of some of them, `what` says in the progress bar what
        they are.
        """
        parts = [self._none()]
        starts = range(0, len(names), batch_size)
        for start in progress(starts, what, len(starts), quiet=quiet or len(starts) == 1):
            batch = names[start : start + batch_size]
            parts.append(self.probabilities(torch.from_numpy(clips(batch)), batch))
        return Predictions(list(names), np.concatenate(parts), self.classes)

    def _none(self) -> np.ndarray:
        return np.empty((0, len(self.classes)))

    def live(
        self, window: int | None = None, stride: int | None = None, *, fps: float | None = None
    ) -> LiveRecogniser:
        """Return what takes frames as they come and gives the actions of the last `window` frames, on this device.

        A window has by default as many frames as the training clips, and one begins every `stride` frames, by
        default a quarter of a window; with `fps` predictions have seconds too. UsageError for wrong numbers.
        """
        return LiveRecogniser(self._recogniser, window, stride, fps=fps, device=self.device)

    def probabilities(self, clips: Tensor, names: Sequence[str]) -> np.ndarray:
        """Return the probabilities of joint clips [N,C,T,V,M], float64 [N,classes].

        SkelpipeError, with the first of `names` that it is true of, where they are not finite.
        """
        rows = torch.softmax(self(clips).double(), dim=1).cpu()
        if bad := (~rows.isfinite().all(dim=1)).nonzero().flatten().tolist():
            raise SkelpipeError(
                f"{names[bad[0]]}: the scores are not finite: a coordinate is too large, or {self.path} is damaged"
            )
        return rows.numpy()


def maker_of(recogniser: Recogniser) -> ClipMaker:
    """Return how a classifier's clips are made."""
    return ClipMaker(
        recogniser.manifest,
        recogniser.profile,
        recogniser.write,
        recogniser.frames,
        recogniser.bodies,
        recogniser.dtype,
    )


class StoredClips:
    """Clips of a dataset by id, made like a classifier's own; UsageError where they were made otherwise."""

    def __init__(self, dataset: Dataset, recogniser: Recogniser, subset: str | None = None) -> None:
        channels, frames, _, bodies = dataset.shape
        facts = {
            "layout": (recogniser.manifest.layout.name, dataset.layout.name),
            "preprocessing profile": (recogniser.profile, dataset.profile),
            "frames": (recogniser.frames, frames),
            "bodies": (recogniser.bodies, bodies),
            "channels": (len(recogniser.manifest.stored_channels), channels),
        }
        if wrong := [f"{name}: trained on {was}, found {now}" for name, (was, now) in facts.items() if was != now]:
            raise UsageError(f"{dataset.path}: does not fit {recogniser.path}: {'; '.join(wrong)}")
        wanted = (subset,) if subset else SUBSETS
        self._readers = {each: dataset.reader(each, "joint") for each in wanted if dataset.count(each)}
        self._rows = {
            identity: (each, row) for each in self._readers for row, identity in enumerate(dataset.ids(each))
        }
        self._path = dataset.path

    @property
    def ids(self) -> list[str]:
        return list(self._rows)

    def __call__(self, ids: Sequence[str]) -> np.ndarray:
        """Return clips float32 [n,C,T,V,M]."""
        if unknown := [identity for identity in ids if identity not in self._rows]:
            raise UsageError(f"{self._path}: has no clip {unknown[0]!r}")
        places = [self._rows[identity] for identity in ids]
        return np.concatenate([self._readers[subset].gather(np.array([row])) for subset, row in places])
