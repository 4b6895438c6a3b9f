"""Name the actions that raw recordings show, with a classifier that was trained with labels.

    python train/predict.py --checkpoint runs/linear-ntu60-xsub-joint-aimclr S001C001P001R001A001.skeleton
    python train/predict.py --checkpoint runs/finetune-ntu60-xsub-joint-aimclr --json recordings/*.skeleton
    python train/predict.py --checkpoint aimclr_linear.pt S001C001P001R001A001.skeleton
    python train/predict.py --checkpoint aimclr_linear.pt --shards data/ntu60-xsub S001C001P001R001A001
    python train/predict.py --checkpoint aimclr_linear.pt --window 64 --stride 16 video.skeleton
    python train/predict.py --checkpoint aimclr_linear.pt recordings/ more.zip
    pose-program | python train/predict.py --checkpoint aimclr_linear.pt --window 64 --json -

An installed skelpipe needs no checkout: `python -m skelpipe.train.predict --checkpoint ...`.

The classifier is that of a run of train/linear.py or train/finetune.py, or a released checkpoint of a linear
evaluation. Recordings are preprocessed as its training clips were: profile, frames and bodies. `-` is a recording
from a pipe; with --window its frames are predicted as they come (docs/deployment.md).
"""

from skelpipe.door.first_moments import script

script(__name__)

from collections.abc import Mapping
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import device_option, json_option, other_shards_option, plugin_option
from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.running.script_options import weights_option
from skelpipe.train.running.starter import STARTER
from skelpipe.views import VIEWS

__all__ = ["main"]

PIPE = "-"
PIPE_FORMATS = (
    *("lines", "ntu-skeleton", "pku-text", "msr-text", "npy", "nw-ucla-json", "openpose", "alphapose", "mmpose"),
    *("mmpose-frames", "ultralytics", "ultralytics-video", "mediapipe", "azure-kinect", "utkinect-text", "table"),
)


def _check(given: Mapping[str, Any]) -> None:
    """Raise UsageError for options that contradict each other."""
    shards, window, recordings = given["shards"], given["window"], given["recordings"]
    if shards is None and not recordings:
        raise UsageError("name the raw files, or a dataset with --shards; - is a pipe")
    if shards is not None and (window is not None or PIPE in recordings):
        raise UsageError("--shards names whole clips: it takes neither --window nor a pipe")
    if recordings.count(PIPE) > 1:
        raise UsageError("there is one pipe: name - once")
    if PIPE not in recordings and (given["name"] or given["format_"]):
        raise UsageError("--name and --format are about the pipe: name it with -")
    if window is None and (given["stride"] is not None or given["fps"] is not None):
        raise UsageError("--stride and --fps are about windows: pass --window")


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe predict --checkpoint runs/linear-ntu60-xsub-joint-aimclr a.skeleton",
)
@weights_option(
    "Run of train/linear.py or train/finetune.py, its classifier.safetensors, or a released file of a linear "
    "evaluation; starter are skelpipe's own weights of 16 gestures.",
    default=STARTER,
)
@click.option(
    "--dataset",
    metavar="NAME|FILE",
    help="Whose files and actions these are [default: the run's; a released file's is ntu60 or ntu120].",
)
@click.option(
    "--view",
    type=click.Choice(list(VIEWS)),
    help="View it was trained on [default: what the file says, else joint].",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Frames of a clip [default: what the file says, else its paper's].",
)
@other_shards_option(
    "Dataset whose clips are named instead of raw files; RAW... are then ids of clips [default: all clips]."
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    help="Predict every window of so many frames, each as soon as it is read [default: the whole recording].",
)
@click.option(
    "--stride", type=click.IntRange(min=1), help="Frames from one window to the next [default: a quarter of one]."
)
@click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="Frames per second, to give windows in seconds too."
)
@click.option("--name", metavar="NAME", help="File name that stands for the pipe.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(PIPE_FORMATS),
    help="Format of the pipe [default: found by its content].",
)
@device_option
@plugin_option
@json_option
@click.argument("recordings", nargs=-1, metavar="RAW...|-")
def main(**given: Any) -> None:
    """Print the five likeliest actions of each raw recording. File names may be any; `-` is a pipe.

    Folders, archives (.zip, .tar) and URLs stand for the recordings in them.

    With --window each window is a line: its frames, counted from 1, and its likeliest actions.
    """
    _check(given)
    from skelpipe.train.commands.predict import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
