"""Segment untrimmed videos: a class, or background, for every frame, measured by ACC, MACC, FWIoU and mIoU.

    python train/segment.py --shards data/pkummd2-xview --checkpoint runs/actclr-ntu60-xview-joint
    python train/segment.py --shards data/pkummd2-xview --checkpoint encoder.safetensors --finetune
    python train/segment.py --shards data/pkummd2-xview --baseline random --stride 8

An installed skelpipe needs no checkout: `python -m skelpipe.train.segment --shards ...`.

The dataset must have been prepared with --untrimmed. The window of 64 frames around a frame is a clip like the
dataset's own. The encoder stays as it is, and a linear layer learns the class of the frame in the middle, on
windows drawn at random from the training videos (docs/segmentation.md).
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.door.answer import program
from skelpipe.train.evaluation.segmenter_settings import WINDOW, SegmenterSettings
from skelpipe.train.running.script_options import (
    check_network_options,
    check_room,
    common_options,
    dataset_script,
    network_options,
    overwrite_option,
)

__all__ = ["main"]


def _milestones(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(text) for text in value.split(",") if text.strip())
    except ValueError:
        raise click.BadParameter("expected epochs, such as --milestones 30,50") from None


@dataset_script("skelpipe segment --shards data/pkummd2-xview --baseline random --stride 8")
@network_options(earlier_names=True)
@click.option("--finetune", is_flag=True, help="Train the encoder too, in training mode.")
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=SegmenterSettings.epochs,
    show_default=True,
    help="Epochs of training.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=SegmenterSettings.batch_size,
    show_default=True,
    help="Windows per batch.",
)
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=SegmenterSettings.lr,
    show_default=True,
    help="Learning rate of SGD.",
)
@click.option(
    "--milestones",
    default="40",
    show_default=True,
    callback=_milestones,
    help="Epochs after which lr is divided by 10.",
)
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=SegmenterSettings.windows,
    show_default=True,
    help="Windows drawn per video and epoch.",
)
@click.option(
    "--window", type=click.IntRange(min=2), default=WINDOW, show_default=True, help="Frames of a window."
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Classify one frame of every so many; its class stands for all of them.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder [default: runs/segment-DATASET-VIEW-NAME].")
@overwrite_option
@click.option(
    "--videos", type=click.IntRange(min=0), default=8, show_default=True, help="Number of test videos to draw."
)
@click.option("--video", "named", multiple=True, metavar="ID", help="Draw this test video instead.")
@common_options
def main(**given: Any) -> None:
    """Segment the test videos of a dataset frame by frame."""
    check_network_options(given)
    if given["out"] is not None:
        from skelpipe.train.evaluation.outcome_folder import OF_SEGMENT, removable

        check_room(lambda: removable(given["out"], overwrite=given["overwrite"], also=OF_SEGMENT))
    from skelpipe.train.commands.segment import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main, ranks=True)
