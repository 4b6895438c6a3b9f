"""What a camera that moved costs nearest neighbours: raw coordinates, or the features of a run.

    python tests/benchmarks/viewpoint.py --shards data/ucla
    python tests/benchmarks/viewpoint.py --shards data/ucla --checkpoint results/runs/pretrain-ucla-aimclr-joint-0

Clips of each camera of Northwestern-UCLA are classified by their neighbours among the clips of each camera, of
other subjects only: a new person in the same view, or a new person in another view.
"""

import re
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.embedding import embed
from skelpipe.train.evaluation.knn import knn_predict
from skelpipe.train.running.networks import find_weights, load_networks, read_provenance

NAME = re.compile(r"a\d+_s(?P<subject>\d+)_e\d+_v(?P<camera>\d+)")
CPU = torch.device("cpu")


def network(checkpoint: str | None, dataset: Dataset) -> nn.Module:
    """Return the map from clips to coordinates, or to the embeddings z of a run."""
    if checkpoint is None:
        return nn.Flatten()
    weights = find_weights(checkpoint)
    provenance, _ = read_provenance(weights)
    return load_networks(weights, provenance, dataset.layout, "joint").embedder("z")


def accuracy(features: Tensor, labels: Tensor, queries: Tensor, bank: Tensor, subjects: Tensor, k: int) -> float:
    """Return the accuracy in % of the clips `queries`, bool [N], by those of other subjects among `bank`."""
    right = []
    for subject in subjects.unique():
        asked, known = queries & (subjects == subject), bank & (subjects != subject)
        classes = int(labels.max()) + 1
        found = knn_predict(features[known], labels[known], features[asked], [k], classes=classes)[k]
        right.append(found == labels[asked])
    return 100.0 * float(torch.cat(right).double().mean())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--shards", type=click.Path(path_type=Path), required=True, help="Northwestern-UCLA, prepared.")
@click.option("--checkpoint", help="Run whose embeddings z are compared [default: raw coordinates].")
@click.option("--k", default=5, show_default=True, help="Neighbours that vote.")
def main(shards: Path, checkpoint: str | None, k: int) -> None:
    """Print a table: one row per camera that is asked about, one column per camera that is known."""
    torch.set_num_threads(1)
    dataset = Dataset.open(shards)
    clips = [
        embed(network(checkpoint, dataset), dataset, subset, "joint", device=CPU) for subset in ("train", "test")
    ]
    features, labels = (torch.cat([getattr(each, name) for each in clips]) for name in ("features", "labels"))
    names = [found for each in clips for id_ in each.ids if (found := NAME.match(id_))]
    subjects = torch.tensor([int(name["subject"]) for name in names])
    cameras = torch.tensor([int(name["camera"]) for name in names])
    views = cameras.unique().tolist()
    print("| clips of | " + " | ".join(f"among camera {view}" for view in views) + " |")
    print("|---" * (1 + len(views)) + "|")
    for asked in views:
        cells = [accuracy(features, labels, cameras == asked, cameras == known, subjects, k) for known in views]
        print(f"| camera {asked} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
