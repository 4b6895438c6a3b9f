"""Pre-train an encoder without labels.

    python train/pretrain.py --shards data/ntu120-xset
    python train/pretrain.py --shards data/ntu60-xsub --view bone --amp
    python train/pretrain.py --shards data/ntu60-xsub --shards data/pkummd1-xsub --weight 1 --weight 0.5
    python train/pretrain.py --shards data/ntu60-xsub --set encoder.width=64 --set queue=16384
    python train/pretrain.py --shards data/ntu60-xsub --resume
    python train/pretrain.py --shards data/ntu60-xsub --recipe actclr-released --checkpoint runs/aimclr
    torchrun --nproc-per-node 8 train/pretrain.py --shards data/ntu60-xsub

An installed skelpipe needs no checkout: `python -m skelpipe.train.pretrain --shards ...`.

The run folder holds recipe.yaml (what was trained, overrides included), log.jsonl (one object per epoch),
speed.jsonl, checkpoints/ and at the end encoder.safetensors, which `train/knn.py` reads.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.options import is_no_folder, view_option
from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.recipes.asked import check_method
from skelpipe.train.running.script_options import (
    check_run_folder,
    check_weight_each,
    common_options,
    dataset_script,
    recipe_option,
    run_options,
    set_option,
    training_options,
    weights_option,
)

__all__ = ["main"]


@dataset_script("skelpipe pretrain --shards data/ntu120-xset", several=True)
@click.option(
    "--weight",
    type=float,
    multiple=True,
    metavar="W",
    help="With several datasets, one for each in the order of --shards: how often its clips come in an epoch "
    "[default: 1, every clip once].",
)
@click.option("--method", help="What to train [default: the recipe's, else skeletonclr].")
@recipe_option("pretraining", "Values to train with", "")
@weights_option(
    "Weights to start from: run folder, encoder.safetensors, checkpoint or released file [default: drawn]."
)
@click.option(
    "--with-keys",
    is_flag=True,
    help="Continue the run of --checkpoint: take its key networks, queues and attention too [default: keys are "
    "copies of the weights, queues are drawn].",
)
@view_option
@training_options
@set_option("encoder.width=8")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder [default: runs/METHOD-DATASET-VIEW].")
@run_options
@click.option(
    "--knn-every",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Epochs between kNN figures on the test subset; 0 for none.",
)
@click.option("--compile", is_flag=True, help="Compile the backbones with torch.compile: slow to start.")
@click.option(
    "--cuda-graph", is_flag=True, help="Record a whole step on a GPU once, and replay it: one launch per step."
)
@click.option(
    "--loader",
    type=click.Choice(["native", "dali", "webdataset"]),
    default="native",
    show_default=True,
    help="Reader of the clips: skelpipe's own; NVIDIA DALI (needs skelpipe[dali]), with the same batches; or "
    "webdataset, which shuffles within windows of shards and also reads shards that others wrote.",
)
@click.option(
    "--test-shards", multiple=True, metavar="PATTERN", help="Shards that others wrote: those of the test subset."
)
@click.option("--layout", metavar="NAME|YAML", help="Shards that others wrote: the layout of their joints.")
@click.option("--axes", metavar="LETTERS", help="Shards that others wrote: order of the axes, such as T,V,C.")
@click.option("--channels", metavar="NAMES", help="Shards that others wrote: such as x,y,score.")
@click.option(
    "--array",
    metavar="SUFFIX[:NAME]",
    default="",
    help="Shards that others wrote: member of the positions, such as pose.npy, npz:xyz or json:keypoints.",
)
@click.option(
    "--label",
    metavar="SUFFIX[:NAME]",
    default="",
    help="Shards that others wrote: member of the label, such as cls or json:label; none, where there are none.",
)
@click.option(
    "--bodies",
    type=click.IntRange(min=1),
    help="Shards that others wrote: bodies per clip [default: as many as any sample has].",
)
@click.option(
    "--batch-norm",
    type=click.Choice(["global", "rank"]),
    default="global",
    show_default=True,
    help="With several ranks: normalise by the whole batch, as one rank does, or by each rank's share.",
)
@common_options
def main(**given: Any) -> None:
    """Pre-train an encoder without labels on a prepared dataset.

    After an interruption, the same command with --resume continues from the newest checkpoint. Under torchrun each
    process trains on its share of every batch, on its own GPU; a run can continue with any number of processes.
    """
    if given["with_keys"] and given["checkpoint"] is None:
        raise UsageError("--with-keys continues the run of --checkpoint: give one")
    if not all(map(is_no_folder, given["shards"])):  # of tars that others wrote the command says more
        check_weight_each(given["shards"], given["weight"])
    check_method(given["method"])
    from skelpipe.train.recipes.chosen import check_pretraining

    check_pretraining(given)
    check_run_folder(given)
    from skelpipe.train.commands.pretrain import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main, ranks=True)
