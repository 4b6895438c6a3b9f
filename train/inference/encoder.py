"""`skelpipe.Encoder`: the features of clips by trained weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.front.arguments import path_text, whole_number
from skelpipe.front.descriptions import counted
from skelpipe.manifest import SUBSETS, Manifest
from skelpipe.manifest_file import load_manifest
from skelpipe.plugins.loading import load_all
from skelpipe.preprocess import Policies, profile_writer
from skelpipe.skeleton import Layout
from skelpipe.train.evaluation.embedding import embed, frozen
from skelpipe.train.evaluation.outcome import write_embeddings
from skelpipe.train.evaluation.trained_weights import TrainedWeights, find_trained
from skelpipe.train.inference.clip_input import Clips, as_dataset, checked_clips, pieces_of
from skelpipe.train.inference.clip_maker import ClipMaker
from skelpipe.train.running.provenance import Provenance
from skelpipe.train.running.run_log import Console
from skelpipe.train.running.starter import announce
from skelpipe.views import derive

__all__ = ["Embeddings", "Encoder"]

BATCH = 256  # clips at a time, as in the evaluations
SUFFIXES = (".parquet", ".npz")


@dataclass(frozen=True)
class Embeddings:
    """The features of clips: `features` float32 [N,D] and `ids` of length N.

    `labels` int64 [N] counts from 0 and is None where clips have none. `damaged` are the recordings that were left
    out, each with the reason. `about` says which network this is of, as texts.
    """

    ids: list[str]
    features: np.ndarray
    labels: np.ndarray | None = None
    damaged: list[tuple[str, str]] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        left_out = f", {len(self.damaged)} damaged left out" if self.damaged else ""
        return (
            f"<Embeddings of {counted(len(self.ids), 'clip')}, {self.features.shape[1]} features each{left_out}>"
        )

    def write(self, path: str | Path) -> None:
        """Write them to a file that ends in `.parquet` or, as arrays of numpy, in `.npz`.

        The columns, or arrays, are id, label (where the clips have labels) and feature; `about` is the metadata.
        The file is whole when it gets its name. UsageError for any other ending.
        """
        name = path_text(path, "the name of a file, .parquet or .npz,")
        if Path(name).suffix.lower() not in SUFFIXES:
            raise UsageError(f"{name}: a file ends in .parquet or .npz")
        write_embeddings(Path(name), self.ids, self.labels, self.features, self.about)


class Encoder:
    """A trained network that maps clips to features; it stays on its device.

    `layout`, `frames`, `bodies`, `profile` and `view` are those of the clips that it was trained on, `features` is
    `h` (pooled) or `z` (projected), `dim` is the number of features per clip.
    """

    def __new__(cls, *arguments: Any, **more: Any) -> "Encoder":
        if len(arguments) == 1 and not more:
            raise UsageError(f"Encoder.load({str(arguments[0])!r}) reads trained weights")
        return super().__new__(cls)

    def __init__(
        self,
        weights: TrainedWeights,
        body: Layout,
        maker: ClipMaker | None,
        why_no_maker: str,
        device: torch.device,
    ) -> None:
        """Use `Encoder.load`."""
        network = weights.load(body)
        self.path: Path = weights.path
        self.name: str = network.name
        self.view: str = network.view
        self.features: str = network.features
        self.layout = body
        self.device = device
        self._provenance: Provenance = weights.provenance
        self._network: nn.Module = network.embedder.to(device).eval()
        self._maker, self._why_no_maker = maker, why_no_maker
        clips = weights.provenance.clips
        self.frames, self.bodies, self.profile = clips.frames, clips.bodies, clips.profile
        self.shape: tuple[int, int, int, int] = (len(clips.channels), clips.frames, len(body), clips.bodies)
        self.dim: int = self(torch.zeros(1, *self.shape)).shape[1]

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        view: str | None = None,
        features: str = "h",
        dataset: str | Path | None = None,
        device: str = "auto",
        plugins: str | Sequence[str] = (),
        say: Callable[[str], None] | None = None,
    ) -> "Encoder":
        """Return the network of a run folder, an exported `.safetensors`, a checkpoint or a released file.

        `starter` names the weights that skelpipe brings along, a small network trained on synthetic clips.
        `view` chooses among the views of weights for several, or says that of a released file that does not; it is
        the first, or joint. `dataset` is the manifest (a name or a YAML file) by which raw recordings are read; it
        is that of the training where that is built in. `plugins` are imported first. `say` takes
        what is assumed, by default a line on stderr. Raises UsageError where there are no weights, SkelpipeError
        where they are damaged.
        """
        load_all(plugins)
        if features not in ("h", "z"):
            raise UsageError(f"there are no features {features!r}; h are the pooled ones, z the projected")
        source = path_text(source, "a run folder or a file of weights")
        if dataset is not None:
            dataset = path_text(dataset, "dataset, the name or the YAML file of a manifest,")
        say = say or Console().say
        weights = find_trained(announce(source, say), view, features, say)
        provenance = weights.provenance
        weights.require_view()
        clips, manifest, why = provenance.clips, None, ""
        trained_on = weights.origin.manifest if weights.origin else clips.dataset.rpartition("-")[0] or "ntu60"
        try:
            manifest = load_manifest(str(dataset or trained_on))
        except UsageError as error:
            if dataset is not None:
                raise
            why = (
                f"{weights.path}: was trained on {trained_on}: say with dataset=FILE (--dataset) how raw files "
                f"are read ({error})"
            )
        fits = manifest is not None and manifest.layout.name == clips.layout
        body = weights.layout(manifest if dataset is not None or fits else None)
        return cls(weights, body, _maker(weights, manifest), why, resolve_device(device))

    def __repr__(self) -> str:
        channels, frames, joints, bodies = self.shape
        return (
            f"<Encoder {self.name}: {self.view} view, clips [N,{channels},{frames},{joints},{bodies}] of "
            f"{self.layout.name}, profile {self.profile} -> {self.features} [N,{self.dim}], on {self.device}>"
        )

    def __call__(self, clips: Tensor) -> Tensor:
        """Return the features, float32 [N,D], of joint clips [N,C,T,V,M], on this device and without gradients."""
        with frozen(self._network):
            x = checked_clips(clips, self.shape, free=True).to(self.device)
            return self._network(derive(x, self.view, self.layout)).flatten(1).float()

    def embed(
        self,
        clips: Clips,
        subset: str | None = None,
        *,
        batch_size: int = BATCH,
        skip_bad: bool = False,
        quiet: bool = True,
    ) -> Embeddings:
        """Return the features of clips, `batch_size` at a time.

        `clips` are joint clips [N,C,T,V,M] as an array or tensor, preprocessed as the weights were trained; a
        dataset or its path, of which a `subset` is taken or all; or paths (patterns such as `raw/*.skeleton`
        too) and URLs of raw files, folders and archives, which are preprocessed as the training clips were. With
        `skip_bad` damaged recordings are left out. UsageError for clips that do not fit the weights, RawError for
        a damaged recording.
        """
        batch_size = whole_number(batch_size, "batch_size", 1)
        if (dataset := as_dataset(clips)) is not None:
            return self._of_dataset(dataset, subset, batch_size, quiet=quiet)
        if subset is not None:
            raise UsageError(f"subset {subset!r}: only the clips of a dataset have subsets")
        ids: list[str] = []
        damaged: list[tuple[str, str]] = []
        parts = [torch.empty(0, self.dim)]
        with pieces_of(
            clips,
            self.shape,
            self._maker,
            batch_size,
            why_no_maker=self._why_no_maker,
            skip_bad=skip_bad,
            quiet=quiet,
        ) as pieces:
            for piece in pieces:
                damaged += piece.damaged
                if piece.ids:
                    ids += piece.ids
                    parts.append(self(piece.clips).cpu())
        features = torch.cat(parts)
        if bad := (~features.isfinite().all(dim=1)).nonzero().flatten().tolist():
            raise SkelpipeError(
                f"the features of {counted(len(bad), 'clip')} are not finite, those of {ids[bad[0]]} first"
            )
        return Embeddings(ids, features.numpy(), None, damaged, self.about())

    def about(self) -> dict[str, str]:
        """Return what network this is, as texts for the metadata of a file."""
        return {"what": self.name, "weights": self.path.name, "view": self.view, "features": self.features}

    def _of_dataset(self, dataset: Dataset, subset: str | None, batch_size: int, *, quiet: bool) -> Embeddings:
        if subset is not None and subset not in SUBSETS:
            raise UsageError(f"there is no subset {subset!r}; there are: {', '.join(SUBSETS)}")
        self._provenance.check(self.path, dataset, self.view)
        wanted = [subset] if subset else [each for each in SUBSETS if dataset.count(each)]
        parts = [
            embed(self._network, dataset, each, self.view, device=self.device, batch_size=batch_size, quiet=quiet)
            for each in wanted
        ]
        features = [part.features.numpy().reshape(len(part.ids), self.dim) for part in parts]
        labels = np.concatenate([part.labels.numpy() for part in parts]) if dataset.labelled else None
        return Embeddings(
            [identity for part in parts for identity in part.ids],
            np.concatenate(features),
            labels,
            about={**self.about(), "dataset": dataset.name, "digest": dataset.digest},
        )


def _maker(weights: TrainedWeights, manifest: Manifest | None) -> ClipMaker | None:
    if manifest is None:
        return None
    clips, origin = weights.provenance.clips, weights.origin
    if manifest.stored_channels != clips.channels:
        made = ", ".join(manifest.stored_channels)
        raise UsageError(
            f"{weights.path}: was trained on the channels {', '.join(clips.channels)}; {manifest.name} has {made}"
        )
    policies = Policies.of_options(origin.policies) if origin else Policies.of(manifest)
    write = profile_writer(clips.profile, origin.second_body if origin else "zeros", policies)
    return ClipMaker(
        manifest, clips.profile, write, clips.frames, clips.bodies, origin.dtype if origin else "float32"
    )
