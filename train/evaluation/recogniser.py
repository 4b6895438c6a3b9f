"""Classifiers for raw recordings: of a run, or released ones of the papers' linear evaluations."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest import Manifest
from skelpipe.manifest_file import load_manifest
from skelpipe.models.released.checkpoint import ReleasedCheckpoint
from skelpipe.models.statefile import is_torch_file
from skelpipe.preprocess import CROSCLR, Policies, ProfileWriter, profile_writer
from skelpipe.train.evaluation.classifier_file import Origin, load_classifier, read_origin
from skelpipe.train.running.checkpoint import read_checkpoint
from skelpipe.train.running.kept_network import why_no_classifier, why_no_network
from skelpipe.train.running.provenance import LABELLED, XYZ
from skelpipe.train.running.released_networks import BODIES, default_view, read_released
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.starter import announce
from skelpipe.views import derive

__all__ = ["Recogniser", "open_recogniser"]

BY_CLASSES = {60: "ntu60", 120: "ntu120"}


@dataclass(frozen=True)
class Recogniser:
    """A classifier and how its clips are made.

    `networks` map clips of a view, by its name, to scores [n, classes]; those of several are averaged. `manifest`
    says how raw files are read, `write` makes a clip of `profile` from a recording; `frames`, `bodies` and `dtype`
    are those of the clips that it was trained on.
    """

    path: Path
    networks: nn.ModuleDict
    classes: tuple[str, ...]
    manifest: Manifest
    profile: str
    write: ProfileWriter
    frames: int
    bodies: int
    dtype: str

    @torch.no_grad()
    def scores(self, clips: Tensor) -> Tensor:
        """Return the scores [n, classes] of joint clips [n,C,T,V,M], the mean over its views."""
        layout = self.manifest.layout
        scores = [network(derive(clips, view, layout)) for view, network in self.networks.items()]
        return torch.stack(scores).mean(dim=0)


def open_recogniser(
    checkpoint: str, dataset: str | None, view: str | None, frames: int | None, say: Callable[[str], None]
) -> Recogniser:
    """Return the classifier in a run's folder or a file.

    `dataset`, `view` and `frames` give what a released checkpoint does not say. Raises UsageError where there is
    no classifier, and where they contradict what it says.
    """
    checkpoint = announce(checkpoint, say)
    path = Path(checkpoint)
    if not path.exists():
        raise UsageError(f"{checkpoint}: there is no such file")
    if path.is_dir():
        path = RunFolder(path).classifier if RunFolder(path).classifier.is_file() else path
    origin = read_origin(path) if path.is_file() else None
    if origin is not None:
        return _of_run(path, origin, dataset, view, frames)
    released = read_released(path) if path.is_file() else None
    if released is None or released.kind != "linear":
        if why := _why_not_this_file(path) or why_no_network(path):
            raise UsageError(f"{checkpoint}: {why}")
        raise UsageError(
            f"{checkpoint}: holds no classifier, so it cannot name actions: pass a finished run of "
            "skelpipe linear or finetune, or the file of a linear evaluation by the papers' code"
        )
    views = (view,) if view else released.views or (default_view(released, say),)
    return _released(released, dataset, views, frames)


def _why_not_this_file(path: Path) -> str:
    """Return why a checkpoint of a training with labels is no classifier, and what to name; else nothing."""
    if path.is_dir():
        files = sorted(path.glob("epoch-*.pt"))
        return _why_not_this_file(files[-1]) if files else ""
    with suppress(SkelpipeError):
        if is_torch_file(path) and LABELLED in read_checkpoint(path).identity:
            return why_no_classifier(path)
    return ""


def _of_run(path: Path, origin: Origin, dataset: str | None, view: str | None, frames: int | None) -> Recogniser:
    provenance, clips = origin.provenance, origin.provenance.clips
    for name, said, asked in (("view", provenance.view, view), ("frames", clips.frames, frames)):
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
    _check_channels(path, clips.channels, manifest)
    networks = load_classifier(path, origin, manifest.layout).eval()
    return Recogniser(
        path,
        nn.ModuleDict({provenance.view: nn.Sequential(networks.encoder, networks.head)}),
        origin.classes,
        manifest,
        clips.profile,
        profile_writer(clips.profile, origin.second_body, Policies.of_options(origin.policies)),
        clips.frames,
        clips.bodies,
        origin.dtype,
    )


def _released(
    released: ReleasedCheckpoint, dataset: str | None, views: tuple[str, ...], frames: int | None
) -> Recogniser:
    """Return a released classifier; the number of its classes says which NTU dataset it is for."""
    name = dataset or BY_CLASSES.get(released.classes or 0)
    if name is None:
        raise UsageError(
            f"{released.path}: of which dataset are its {released.classes} classes? Name it with --dataset"
        )
    manifest = load_manifest(name)
    if len(manifest.classes) != released.classes:
        raise UsageError(
            f"{released.path}: has {released.classes} classes, {manifest.name} has {len(manifest.classes)}"
        )
    _check_layout(released.path, released.layout.name, manifest)
    _check_channels(released.path, XYZ, manifest)
    networks = nn.ModuleDict()
    for view in views:
        branch = released.branch(view)
        assert branch.classifier is not None
        networks[view] = nn.Sequential(branch.encoder, branch.classifier)
    write = profile_writer(CROSCLR, policies=Policies.of(manifest))
    return Recogniser(
        released.path,
        networks,
        manifest.classes,
        manifest,
        CROSCLR,
        write,
        frames or released.frames,
        BODIES,
        "float32",
    )


def _check_layout(path: Path, layout: str, manifest: Manifest) -> None:
    if manifest.layout.name != layout:
        raise UsageError(f"{path}: is for {layout}, {manifest.name} for {manifest.layout.name}")


def _check_channels(path: Path, channels: tuple[str, ...], manifest: Manifest) -> None:
    """Raise UsageError where the recordings have scores and the classifier knows none, or the other way round."""
    if manifest.stored_channels != channels:
        made = ", ".join(manifest.stored_channels)
        raise UsageError(f"{path}: was trained on the channels {', '.join(channels)}; {manifest.name} has {made}")
