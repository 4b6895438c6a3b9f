"""Evaluate an encoder by its nearest neighbours: training clips vote on test clips, nothing is trained.

    python train/knn.py --shards data/ntu60-xsub --checkpoint runs/skeletonclr-ntu60-xsub-joint
    python train/knn.py --shards data/ntu60-xsub --checkpoint encoder.safetensors --k 1,5,20 --features h
    python train/knn.py --shards data/ntu60-xsub --baseline random --network aimclr
    python train/knn.py --shards data/ntu60-xsub --baseline raw --json
    python train/knn.py --shards data/ntu60-xsub --checkpoint runs/aimclr-ntu60-xsub-joint --out runs/knn-aimclr

An installed skelpipe needs no checkout: `python -m skelpipe.train.knn --shards ...`.

Cosine similarity in float64; each neighbour votes with weight exp(similarity / temperature). Clips are not
augmented; with --augment those of both subsets are cropped and sheared once, as in the released code of
SkeleMixCLR, SkeAttnCLR and ActCLR (divergence `knn-augmented-clips`). With --out the votes, figures per class,
confusion matrix and a report are written to a folder.
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.running.script_options import (
    check_network_options,
    check_room,
    common_options,
    dataset_script,
    features_option,
    network_options,
    overwrite_option,
    region_of_option,
    region_option,
    save_features_option,
)

__all__ = ["main"]


def _parse_ks(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[int, ...]:
    try:
        ks = [int(text) for value in values for text in value.split(",")]
    except ValueError:
        raise click.BadParameter("expected whole numbers, such as --k 1,5,20") from None
    if not ks or min(ks) < 1:
        raise click.BadParameter("k must be at least 1")
    return tuple(dict.fromkeys(ks))


@dataset_script("skelpipe knn --shards data/ntu60-xsub --baseline random")
@network_options(earlier_names=True)
@features_option(None)
@region_option
@region_of_option
@click.option(
    "--k",
    "ks",
    multiple=True,
    default=["20"],
    metavar="K[,K...]",
    callback=_parse_ks,
    help="Neighbours that vote, several at once [default: 20].",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="A vote has the weight exp(similarity / temperature).",
)
@click.option("--augment", is_flag=True, help="Crop and shear the clips of both subsets once, before embedding.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write the outcome to [default: nowhere].")
@overwrite_option
@save_features_option
@common_options
def main(**given: Any) -> None:
    """Evaluate an encoder by weighted k-nearest neighbours."""
    if given["out"] is None:
        from skelpipe.train.running.run_loggers import loggers_asked

        if given["overwrite"] or given["save_features"] or loggers_asked():
            raise UsageError("--overwrite, --save-features and --log are about the folder that --out names")
    check_network_options(given)
    if given["out"] is not None:
        from skelpipe.train.evaluation.outcome_folder import removable

        check_room(lambda: removable(given["out"], overwrite=given["overwrite"]))
    from skelpipe.train.commands.knn import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main, ranks=True)
