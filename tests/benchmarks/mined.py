"""How often the nearest of so many keys is of a query's own class: what mining takes for a second positive.

    python tests/benchmarks/mined.py --shards data/ucla --checkpoint results/runs/pretrain-ucla-aimclr-joint-0

The keys are embeddings z of the run, of training clips that are drawn for each query, without the query itself.
"""

from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn.functional import normalize
from viewpoint import CPU, network

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.embedding import embed

SIZES = (64, 128, 256, 512)


def share(similar: Tensor, labels: Tensor, keys: int) -> float:
    """Return in % how often the most similar of `keys` random other clips has the same label."""
    count = len(labels)
    order = torch.rand(count, count).fill_diagonal_(2.0).argsort(1)[:, :keys]  # the clip itself comes last
    nearest = order.gather(1, similar.gather(1, order).argmax(1, keepdim=True))[:, 0]
    return 100.0 * float((labels[nearest] == labels).double().mean())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--shards", type=click.Path(path_type=Path), required=True, help="Dataset of the run.")
@click.option("--checkpoint", required=True, help="Run whose embeddings z are the keys.")
def main(shards: Path, checkpoint: str) -> None:
    """Print a table: one row per number of keys, up to all other clips."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = Dataset.open(shards)
    clips = embed(network(checkpoint, dataset), dataset, "train", "joint", device=CPU)
    z = normalize(clips.features)
    similar, others = z @ z.T, len(z) - 1
    print("| keys | nearest of the same class, % |\n|---|---|")
    for keys in [*(size for size in SIZES if size < others), others]:
        print(f"| {keys:,} | {share(similar, clips.labels, keys):.1f} |")


if __name__ == "__main__":
    main()
