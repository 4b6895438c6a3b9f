"""The `skelpipe` command. A command is imported when it runs, and what is heavy after that: help answers at once.

The training commands are the scripts of `skelpipe.train`, found by name: this room knows nothing else of them.
"""

import click

from skelpipe import __version__
from skelpipe.cli.lazy_group import LazyCommand, LazyGroup

__all__ = ["DATA", "main"]

DATA, TRAINING, MACHINE = "Datasets", "Training and evaluation", "This machine"


def _data(short_help: str, module: str, attribute: str = "") -> LazyCommand:
    return LazyCommand(f"skelpipe.cli.{module}:{attribute or module}", short_help, DATA)


def _training(short_help: str, script: str) -> LazyCommand:
    return LazyCommand(f"skelpipe.train.{script}:main", short_help, TRAINING)


# The texts are the first sentences of the commands' own help.
COMMANDS = {
    "synth": _data("Write synthetic raw recordings in a dataset's real format.", "synth"),
    "prepare": _data("Turn raw recordings into a dataset of shards.", "prepare"),
    "import": _data("Turn files that other programs keep skeletons in into a dataset of shards.", "import_"),
    "stats": _data(
        "Print clips per class and subset; with --average-motion, check and draw the mean training clip.", "stats"
    ),
    "verify": _data(
        "Compute a dataset's digest from its content, compare it with the card's, and print it.", "verify"
    ),
    "info": _data("Print the description of a dataset: source, split, shape, counts and digest.", "info"),
    "show": _data("Draw one clip as an interactive page, or as an animated GIF.", "show"),
    "copy": _data(
        "Copy a dataset between folders, file://, s3:// and gs://, and check every byte against its card.", "copy"
    ),
    "export": _data("Write the clips of a dataset, a folder or URL, as files that other programs read.", "export"),
    "bench": _data("Measure augmentation and reading on this machine, each against a simple reference.", "bench"),
    "pretrain": _training("Pre-train an encoder without labels on a prepared dataset.", "pretrain"),
    "knn": _training("Evaluate an encoder by weighted k-nearest neighbours.", "knn"),
    "linear": _training("Evaluate an encoder by a linear classifier on its frozen features.", "linear"),
    "finetune": _training(
        "Train all of a network with labels: fine-tuning, semi-supervised, transfer, or from scratch.", "finetune"
    ),
    "segment": _training("Segment the test videos of a dataset frame by frame.", "segment"),
    "fuse": _training("Fuse the scores that evaluations of several streams wrote.", "fuse"),
    "embed": _training("Write the embeddings of raw files, folders, archives and URLs, or of a dataset.", "embed"),
    "map": _training("Draw the embeddings of some classes and measure how well they cluster.", "map"),
    "predict": _training("Print the five likeliest actions of each raw recording.", "predict"),
    "export-model": _training(
        "Export the encoder or the classifier of RUN or FILE, or several classifiers as one, and check the file.",
        "export_model",
    ),
    "report": _training("Write report.html into the folder of a run.", "report"),
    "browse": _training(
        "Write one local page of datasets and runs: moving clips with filters, curves and figures.", "browse"
    ),
    "reproduce": _training(
        "Run what a table of a paper needs, and print the table with the paper's and the measured figures.",
        "reproduce",
    ),
    "doctor": LazyCommand(
        "skelpipe.cli.doctor:doctor",
        "Say what this machine has of what skelpipe uses, and what is amiss.",
        MACHINE,
    ),
    "cost": _training("Count weights and operations of pre-training by a recipe.", "cost"),
    "demo": _training(
        "Write synthetic recordings, prepare them, pre-train a small encoder and evaluate it.", "demo"
    ),
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="skelpipe")
def main() -> None:
    """Turn raw skeleton recordings into datasets that training reads at memory speed, and train on them."""
