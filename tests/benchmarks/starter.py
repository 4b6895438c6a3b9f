"""Train the weights that skelpipe brings along (`skelpipe.train.inference.starter`), on synthetic clips alone.

    OMP_NUM_THREADS=1 python tests/benchmarks/starter.py --out starter

Synthetic recordings of 16 gestures, 20 people and three cameras; SkeleMixCLR pre-trains a small ST-GCN on the
joints of 16 people without labels, and a linear classifier learns the gestures; its test clips are those of the
other four. Interrupted, the same command continues. The end is `starter.safetensors` in that folder, to be copied
to train/running/.
"""

import csv
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from skelpipe.manifest_file import load_manifest
from skelpipe.synth.actions import INTERACTIONS, STRIDE

FRAMES: Final = 48
PEOPLE: Final = 20
TESTED: Final = (20, 21, 22, 23)  # numbers of NTU
ACTIONS: Final = 49  # NTU's before the interactions: three or four for each theme of `skelpipe.synth.actions`
LICENCE: Final = "MIT, as skelpipe itself; trained on synthetic clips alone"
# What a person does in each theme of `skelpipe.synth.actions`, in its order.
GESTURES: Final = (
    "reach with the right arm",
    "raise the left arm sideways",
    "handle something with both hands, nodding",
    "kick with the right leg",
    "bow, reaching with both arms",
    "reach with both arms in turn",
    "lift the left arm overhead",
    "lean, raising the right arm",
    "crouch",
    "turn, handling something with the right hand",
    "raise both arms sideways",
    "kick with the left leg, raising both arms",
    "lift the right arm overhead, nodding",
    "walk on the spot",
    "shake the head, reaching with the left arm",
    "step sideways, raising the arms in turn",
)
SETTINGS: Final = {
    "frames": FRAMES,
    "init": "default",
    "encoder.width": 8,
    "encoder.out_channels": 128,
    "encoder.dropout": 0.0,
    "head.hidden": 128,
    "head.dim": 128,
    "optimiser.name": "adam",
    "optimiser.lr": 0.001,
    "temperature": 0.1,
    "momentum": 0.99,
    "queue": 512,
    "skelemixclr.blocks": "[5, 8]",
}


def gesture(action: int) -> str:
    """Return what people do in a class of the synthetic actions."""
    return GESTURES[STRIDE * (action - 1) % len(GESTURES)]


def write_manifest(raw: Path, out: Path) -> Path:
    """Write a manifest of the raw files by gestures, with a file of their labels; return its path."""
    assert INTERACTIONS.isdisjoint(range(1, ACTIONS + 1))
    with open(out / "gestures.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "label", "subject"))
        for path in sorted(raw.rglob("*.skeleton")):
            rows.writerow((path.stem, gesture(int(path.stem[-3:])), int(path.stem[9:12])))
    manifest = {
        "name": "gestures",
        "reader": "ntu-skeleton",
        "layout": load_manifest("ntu60").layout.name,
        "bodies": 1,
        "suffix": ".skeleton",
        "classes": list(GESTURES),
        "labels": {"file": "gestures.csv"},
        "splits": {"xsub": {"field": "subject", "test": list(TESTED)}},
    }
    path = out / "gestures.yaml"
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return path


def run(*words: object) -> None:
    """Run a command of skelpipe, which is printed; end where it fails."""
    click.echo(f"$ skelpipe {shlex.join(map(str, words))}")
    if code := subprocess.run([sys.executable, "-m", "skelpipe", *map(str, words)], check=False).returncode:
        sys.exit(code)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of everything.")
@click.option("--epochs", type=click.IntRange(min=1), default=40, show_default=True, help="Of pre-training.")
def main(out: Path, epochs: int) -> None:
    """Do all steps that are not done."""
    out.mkdir(parents=True, exist_ok=True)
    raw, shards, trained, linear = out / "raw", out / "clips", out / "pretrained", out / "linear"
    sizes = ("--subjects", PEOPLE, "--actions", ACTIONS, "--repeats", 1, "--frames", 60, "--seed", 7)
    run("synth", "--dataset", "ntu60", "--out", raw, *sizes)
    manifest = write_manifest(raw, out)
    run(
        *("prepare", "--dataset", manifest, "--split", "xsub", "--raw", raw, "--out", shards),
        *("--frames", FRAMES),
    )
    settings = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    run(
        *("pretrain", "--shards", shards, "--view", "joint", "--recipe", "skelemixclr", "--out", trained),
        *("--epochs", epochs, "--batch-size", 32, "--set", f"optimiser.milestones=[{epochs * 4 // 5}]", *settings),
        *("--seed", 0, "--device", "cpu", "--knn-every", 10, "--resume"),
    )
    again = ("--seed", 0, "--device", "cpu", "--overwrite")
    run("linear", "--shards", shards, "--checkpoint", trained, "--out", linear, *again)
    with safe_open(linear / "classifier.safetensors", framework="pt") as file:
        # Raw recordings are read as those of NTU RGB+D, since no manifest of gestures is brought along.
        metadata = {**file.metadata(), "manifest": "ntu60", "licence": LICENCE}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    file_name = out / "starter.safetensors"
    save_file(tensors, file_name, metadata)
    click.echo(f"{file_name}: {file_name.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
