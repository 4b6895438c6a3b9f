"""Classifiers for raw recordings: of a run here, or of a linear evaluation by the papers' code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from skelpipe.errors import UsageError
from skelpipe.manifest import Manifest
from skelpipe.manifest_file import load_manifest
from skelpipe.models.released.checkpoint import ReleasedCheckpoint
from skelpipe.preprocess import CROSCLR, ProfileWriter, profile_writer
from skelpipe.train.evaluation.classifier_file import Origin, load_classifier, read_origin
from skelpipe.train.running.released_networks import BODIES, default_view, read_released
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.views import derive

__all__ = ["Recogniser", "open_recogniser"]

BY_CLASSES = {60: "ntu60", 120: "ntu120"}


@dataclass(frozen=True)
class Recogniser:
    """A classifier and how its clips are made.

    `networks` map clips of a view, by its name, to scores [n, classes]; several vote. `manifest` says how raw
    files are read, `write` makes a clip of a recording; `frames`, `bodies` and `dtype` are the stored clips'.
    """

    path: Path
    networks: nn.ModuleDict
    classes: tuple[str, ...]
    manifest: Manifest
    write: ProfileWriter
    frames: int
    bodies: int
    dtype: str

    @torch.no_grad()
    def scores(self, clips: Tensor) -> Tensor:
        """Return the scores [n, classes] of joint clips [n,3,T,V,M], their mean over several views."""
        layout = self.manifest.layout
        total = [network(derive(clips, view, layout)) for view, network in self.networks.items()]
        return torch.stack(total).mean(dim=0)


def open_recogniser(
    checkpoint: str, dataset: str | None, view: str | None, frames: int | None, say: Callable[[str], None]
) -> Recogniser:
    """Return the classifier in a run's folder or a file.

    `dataset`, `view` and `frames` stand in for what a released file does not tell. Raises UsageError where there
    is no classifier, and where what it tells of itself is contradicted.
    """
    path = Path(checkpoint)
    if not path.exists():
        raise UsageError(f"{checkpoint}: there is no such file")
    if path.is_dir():
        path = RunFolder(path).classifier if RunFolder(path).classifier.is_file() else path
    origin = read_origin(path) if path.is_file() else None
    if origin is not None:
        return _of_run(path, origin, dataset, view, frames)
    loaded = read_released(path) if path.is_file() else None
    if loaded is None or loaded.kind != "linear":
        raise UsageError(
            f"{checkpoint}: holds no classifier, so it cannot name actions: pass a finished run of "
            "train/linear.py or train/finetune.py, or the file of a linear evaluation by the papers' code"
        )
    return _of_paper(loaded, dataset, (view,) if view else loaded.views or (default_view(loaded, say),), frames)


def _of_run(path: Path, origin: Origin, dataset: str | None, view: str | None, frames: int | None) -> Recogniser:
    made = origin.provenance
    clips = made.clips
    for name, said, asked in (("view", made.view, view), ("frames", clips.frames, frames)):
        if asked is not None and asked != said:
            raise UsageError(f"{path}: {name}: trained on {said}, asked for {asked}")
    try:
        manifest = load_manifest(dataset or origin.manifest)
    except UsageError as error:
        if dataset is not None:
            raise
        raise UsageError(
            f"{path}: was trained on {origin.manifest}: say with --dataset FILE how its files are read ({error})"
        ) from None
    _check_layout(path, clips.layout, manifest)
    networks = load_classifier(path, origin, manifest.layout).eval()
    return Recogniser(
        path,
        nn.ModuleDict({made.view: nn.Sequential(networks.encoder, networks.head)}),
        origin.classes,
        manifest,
        profile_writer(clips.profile, origin.second_body),
        clips.frames,
        clips.bodies,
        origin.dtype,
    )


def _of_paper(
    loaded: ReleasedCheckpoint, dataset: str | None, views: tuple[str, ...], frames: int | None
) -> Recogniser:
    """Return a released classifier; the number of its classes tells which of NTU's datasets it is for."""
    name = dataset or BY_CLASSES.get(loaded.classes or 0)
    if name is None:
        raise UsageError(
            f"{loaded.path}: of which dataset are its {loaded.classes} classes? Name it with --dataset"
        )
    manifest = load_manifest(name)
    if len(manifest.classes) != loaded.classes:
        raise UsageError(
            f"{loaded.path}: has {loaded.classes} classes, {manifest.name} has {len(manifest.classes)}"
        )
    _check_layout(loaded.path, loaded.layout.name, manifest)
    networks = nn.ModuleDict()
    for view in views:
        branch = loaded.branch(view)
        assert branch.classifier is not None
        networks[view] = nn.Sequential(branch.encoder, branch.classifier)
    write = profile_writer(CROSCLR)
    return Recogniser(
        loaded.path, networks, manifest.classes, manifest, write, frames or loaded.frames, BODIES, "float32"
    )


def _check_layout(path: Path, layout: str, manifest: Manifest) -> None:
    if manifest.layout.name != layout:
        raise UsageError(f"{path}: is for {layout}, {manifest.name} for {manifest.layout.name}")
