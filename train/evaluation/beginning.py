"""What every evaluation does first: open the dataset, choose the network, check both, make the folder ready."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelpipe.dataset import Dataset
from skelpipe.devices import resolve_device
from skelpipe.errors import DatasetError
from skelpipe.train.evaluation.evaluated_network import EvaluatedNetwork, NetworkOptions, choose_network
from skelpipe.train.evaluation.outcome import open_folder
from skelpipe.train.running.provenance import dataset_name
from skelpipe.train.running.ranks import ranks
from skelpipe.train.running.run_folder import run_name
from skelpipe.train.running.run_log import Console

__all__ = ["Evaluation", "EvaluationOptions", "begin", "check_subsets"]


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(NetworkOptions):
    """The options that the evaluation scripts share; each script adds its own."""

    shards: str
    cache: Path | None
    cache_size: int | None
    out: Path | None
    overwrite: bool
    device: str
    as_json: bool


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated by which protocol, on which dataset, and where: the network is on `device`."""

    protocol: str
    dataset: Dataset
    network: EvaluatedNetwork
    device: torch.device
    console: Console
    options: EvaluationOptions

    def facts(self, subset: str = "test") -> dict[str, Any]:
        """Return what every result.json begins with."""
        return {
            "protocol": self.protocol,
            "what": self.network.name,
            "dataset": dataset_name(self.dataset),
            "digest": self.dataset.digest,
            "split": subset,
            "view": self.network.stream,
            "features": self.network.features,
            **({"region": self.network.region} if self.network.region else {}),
        }

    def open_folder(self, suffix: str = "", also: Sequence[str] = ()) -> Path:
        """Make the folder that the outcome goes to ready and return it; see `outcome.open_folder`.

        Without --out it is `runs/PROTOCOL-DATASET-VIEW-NAME` with a suffix, NAME being the run or file that is
        evaluated, and the baseline.
        """
        options = self.options
        name = "-".join(filter(None, (options.checkpoint and run_name(options.checkpoint), options.baseline)))
        default = f"{self.protocol}-{dataset_name(self.dataset)}-{self.network.stream}-{name}{suffix}"
        folder = options.out or Path("runs") / default
        ranks().on_main(lambda: open_folder(folder, overwrite=options.overwrite, also=also))
        return folder


def begin(protocol: str, options: EvaluationOptions) -> Evaluation:
    """Open the dataset and bring the network to its device; no file is written or deleted yet.

    Raises UsageError for options that contradict each other or the dataset; see `choose_network`.
    """
    console = Console()
    dataset = Dataset.open(options.shards, cache=options.cache, cache_size=options.cache_size)
    network = choose_network(dataset, options, console.say)
    device = resolve_device(options.device)
    network.embedder.to(device)  # the encoder is a part of it
    return Evaluation(protocol, dataset, network, device, console, options)


def check_subsets(dataset: Dataset, say: Callable[[str], None]) -> None:
    """Raise DatasetError without labels or with an empty subset; say which classes only one of the two has."""
    dataset.labels("train")  # refuses a dataset without labels
    for subset in ("train", "test"):
        if not dataset.count(subset):
            raise DatasetError(f"{dataset.path}: the {subset} subset is empty: there is nothing to compare")
    train, test = (set(np.unique(dataset.labels(subset)).tolist()) for subset in ("train", "test"))
    for missing, where in ((train - test, "test"), (test - train, "training")):
        if missing:
            first = dataset.classes[min(missing)]
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            say(f"no {where} clip is of the class {first!r}{more}")
