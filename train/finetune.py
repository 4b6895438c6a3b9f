"""Train a whole network with labels: a pre-trained one, or the supervised baseline from scratch.

    python train/finetune.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint
    python train/finetune.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint --labels 0.01
    python train/finetune.py --shards data/pkummd2-xsub --checkpoint aimclr_ntu60_xsub_joint.pt
    torchrun --nproc-per-node 8 train/finetune.py --shards data/ntu60-xsub --recipe supervised --amp
    python train/finetune.py --shards data/msr-action3d-xsub --recipe supervised-small --holdout-subject 3

An installed skelpipe needs no checkout: `python -m skelpipe.train.finetune --shards ...`.

The encoder gets a new linear layer with as many classes as the dataset has, so a checkpoint of another dataset is
transfer. The scores of the test clips, the log, all figures and the trained network (classifier.safetensors, for
train/predict.py and further evaluation) are written to the run's folder.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.door.answer import program
from skelpipe.train.running.script_options import (
    balanced_option,
    check_run_folder,
    common_options,
    dataset_script,
    own_view_option,
    recipe_option,
    run_options,
    set_option,
    start_option,
    training_options,
)

__all__ = ["main"]


@dataset_script("skelpipe finetune --shards data/ntu60-xsub --recipe supervised")
@start_option
@recipe_option("finetuning", "How to train", "finetune, with fewer labels finetune-semi; from scratch supervised")
@click.option(
    "--labels",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of each class's training clips to train on, such as 0.1 or 0.01; --seed chooses them.",
)
@click.option(
    "--holdout-subject",
    type=int,
    metavar="N",
    help="Leave training subject N out and test on it, not on the test subset: for choosing settings.",
)
@own_view_option
@training_options
@set_option("modes=eval")
@balanced_option
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder [default: runs/PROTOCOL-DATASET-VIEW-NAME]."
)
@run_options
@click.option(
    "--test-every",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Epochs between figures on the test clips; 0 for the last epoch only.",
)
@common_options
def main(**given: Any) -> None:
    """Train all of a network with labels: fine-tuning, semi-supervised, transfer, or from scratch.

    Interrupted or killed, the same command with --resume goes on from the newest checkpoint.
    """
    from skelpipe.train.recipes.chosen import check_finetuning

    check_finetuning(given)
    check_run_folder(given)
    from skelpipe.train.commands.finetune import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main, ranks=True)
