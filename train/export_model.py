"""Export a trained network as a file that runs without skelpipe: ONNX, or a graph of torch.export.

    python train/export_model.py runs/linear-ntu60-xsub-joint-aimclr --to onnx
    python train/export_model.py runs/aimclr-ntu60-xsub-joint --to torch-export --out encoder.pt2
    python train/export_model.py aimclr_linear.pt --to onnx --shards data/ntu60-xsub
    python train/export_model.py runs/joint runs/bone runs/motion --to onnx --out 3s.onnx --weights 0.6,0.6,0.4

An installed skelpipe needs no checkout: `python -m skelpipe.train.export_model RUN --to onnx`.

The graph takes joint clips float32 [N,C,T,V,M], preprocessed as the weights were trained, and returns class
scores, or the features h and z of an encoder. The file tells layout, frames, profile and classes
(docs/deployment.md).
"""

from skelpipe.door.first_moments import script

script(__name__)

from pathlib import Path
from typing import Any

import click

from skelpipe.cli.command import Command
from skelpipe.cli.options import json_option, other_shards_option, plugin_option
from skelpipe.door.answer import program
from skelpipe.errors import UsageError
from skelpipe.train.evaluation.stream_weights import check_count
from skelpipe.train.running.script_options import check_file, existing_weights
from skelpipe.views import VIEWS

__all__ = ["main"]

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}  # as `evaluation.model_file` has them


@click.command(
    cls=Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: skelpipe export-model runs/linear-ntu60-xsub-joint-aimclr --to onnx",
)
@click.argument("checkpoints", metavar="RUN|FILE...", nargs=-1, required=True, callback=existing_weights)
@click.option("--to", type=click.Choice(list(FORMATS)), required=True, help="Format of the file.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write [default: model.onnx or model.pt2 in the run, or beside the file].",
)
@click.option("--overwrite", is_flag=True, help="Replace the file.")
@other_shards_option(
    "Dataset on whose clips the file is checked [default: the training's, if it is here, else drawn clips]."
)
@click.option("--dataset", metavar="NAME|FILE", help="Manifest, where the layout or the classes are not built in.")
@click.option("--view", type=click.Choice(list(VIEWS)), help="View [default: what the file says, else joint].")
@click.option("--frames", type=click.IntRange(min=1), help="Frames of a clip, where a released file is exported.")
@click.option(
    "--weights",
    metavar="LIST",
    help="Of several classifiers as one, whose scores are added: VIEW=WEIGHT,..., or in their order [default: 1].",
)
@plugin_option
@json_option
def main(**given: Any) -> None:
    """Export the encoder or the classifier of RUN or FILE, or several classifiers as one, and check the file."""
    several = len(given["checkpoints"]) > 1
    if several and given["out"] is None:
        raise UsageError("several runs become one file: name it with --out")
    if given["weights"] is not None:
        if not several:
            raise UsageError("--weights are those of several runs: name them all")
        check_count(given["weights"], len(given["checkpoints"]))
    if given["out"] is None:
        source = Path(given["checkpoints"][0])
        given["out"] = (source if source.is_dir() else source.parent) / f"model{FORMATS[given['to']]}"
    check_file(given["out"], overwrite=given["overwrite"])
    from skelpipe.train.commands.export_model import run

    run(**given)


if __name__ == "__main__":
    program(lambda: main)
