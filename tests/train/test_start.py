"""The start of every command: help and wrong usage before torch is imported, work without torch's compiler."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from skelpipe.cli import COMMANDS
from skelpipe.dataset import Dataset
from skelpipe.loader import CLIP_READERS
from skelpipe.manifest import SUBSETS
from skelpipe.models.build import METHODS
from skelpipe.raw.piped import PIPE_FORMATS
from skelpipe.train.embed import main as embed
from skelpipe.train.evaluation.clusters import PERPLEXITY
from skelpipe.train.evaluation.model_file import FORMATS
from skelpipe.train.export_model import main as export_model
from skelpipe.train.map import main as draw_map
from skelpipe.train.predict import main as predict
from skelpipe.train.pretrain import main as pretrain
from skelpipe.train.recipes.asked import builtin_methods
from skelpipe.train.running.run import BATCH_NORMS

HEAVY = ("torch", "numpy", "numba", "pyarrow", "pydantic", "scipy", "h5py")
COMPILER = ("torch._dynamo", "torch._inductor", "sympy")

# Prints the exit code of each call, what it said, and which heavy modules are there after it.
CALLS = """
import json, sys
from click.testing import CliRunner
from skelpipe.cli import main
for words in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, words)
    loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    print(json.dumps([result.exit_code, result.stdout, result.stderr, repr(result.exception), loaded]))
"""


def called(calls: list[list[str]]) -> list[list[Any]]:
    """Make the calls, one after another, in a process that has imported nothing."""
    words = [sys.executable, "-c", CALLS, json.dumps(calls), json.dumps(HEAVY)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_help_of_every_command() -> None:
    for name, (code, stdout, _, _, loaded) in zip(
        COMMANDS, called([[name, "-h"] for name in COMMANDS]), strict=True
    ):
        assert (code, loaded) == (0, []), name
        assert stdout.startswith("Usage:"), name


DS = ["--shards", "ds"]
WRONG = {
    "pretrain": [
        ([*DS, "--recipe", "simclr"], "there is no recipe 'simclr'"),
        ([*DS, "--method", "aimclrr"], "there is no method 'aimclrr'; did you mean 'aimclr'? known: "),
        ([*DS, "--set", "epochs"], "--set epochs: expected KEY=VALUE"),
        ([*DS, "--set", "method=aimclr"], "another method needs another recipe"),
        ([*DS, "--loader", "dalli"], "'dalli' is not one of 'native', 'dali', 'webdataset'"),
        ([*DS, "--save-every", "5 weeks"], "neither a number of epochs nor a time"),
        ([*DS, "--epochs", "0"], "--epochs: epochs is 0; it must be at least 1"),
        ([*DS, "--batch-size", "-2"], "--batch-size: batch_size is -2; it must be at least 1"),
        ([*DS, "--with-keys"], "--with-keys continues the run of --checkpoint"),
        ([], "no dataset found: name one with --shards"),
        (["--shards", "nowhere"], "nowhere: there is no such dataset"),
        (["--shards", "run"], "run: no dataset.json here: not a dataset, or one that prepare did not finish"),
        ([*DS, "--checkpoint", "run"], "run: holds none of encoder.safetensors, classifier.safetensors and check"),
    ],
    "knn": [
        (DS, "name what to evaluate: --checkpoint RUN, --baseline random or --baseline raw"),
        ([*DS, "--k", "many"], "expected whole numbers"),
        ([*DS, "--checkpoint", "nowhere"], "nowhere: there is no such run or file"),
        ([*DS, "--save-features"], "about the folder that --out names"),
        ([*DS, "--network", "nothing.yaml"], "there is no recipe 'nothing.yaml'"),
    ],
    "linear": [
        (DS, "name what to evaluate"),
        ([*DS, "--recipe", "aimclr"], "there is no recipe 'aimclr'"),
        ([*DS, "--heads", "joint,bone", "--view", "joint"], "it takes no --view"),
    ],
    "finetune": [([*DS, "--recipe", "linear"], "there is no recipe 'linear'")],
    "segment": [([*DS, "--milestones", "soon"], "expected epochs")],
    "fuse": [
        (["one"], "at least two streams"),
        (["nowhere", "run"], "nowhere: there is no such folder or file"),
        (["run", "other"], "run: holds no scores.parquet"),
        (["junk.yaml", "other"], "junk.yaml: is no Parquet file"),
    ],
    "embed": [(["a.skeleton", "--checkpoint", "weights.pt", "--out", "x.csv"], "ends in .parquet or .npz")],
    "map": [([*DS, "--join", "bones=run"], "expected VIEW=RUN")],
    "predict": [
        (["a.skeleton"], "Missing option '--checkpoint'"),
        (["--checkpoint", "junk.yaml", "a.skeleton"], "junk.yaml: holds no weights; weights are in a safetensors"),
        (["--checkpoint", "of-run/recipe.yaml", "-"], "weights are in a safetensors file, a checkpoint of a run"),
        (["--checkpoint", "of-run/recipe.yaml", "-"], "or a released file of PyTorch: name its run, of-run"),
        (["--checkpoint", "empty.pt", "a.skeleton"], "empty.pt: is empty"),
        (["--checkpoint", "cut.safetensors", "a.skeleton"], "cut.safetensors: is no safetensors file, or a"),
        (["--checkpoint", "weights.pt"], "name the raw files"),
    ],
    "export-model": [
        (["weights.pt"], "Missing option '--to'"),
        (["weights.pt", "--to", "tflite"], "'tflite' is not one of"),
        (["nowhere", "--to", "onnx"], "no such run"),
    ],
    "report": [
        ([], "Missing argument 'RUN'"),
        (["nowhere"], "nowhere: there is no such folder"),
        (["run"], "run: is no run: it has neither result.json nor recipe.yaml"),
        (["of-run", "--shards", "nowhere"], "nowhere: there is no such dataset"),
    ],
    "browse": [
        ([], "Missing argument"),
        (["ds", "nowhere"], "nowhere: there is no such folder"),
        (["ds", "run"], "run: is neither a dataset (it has no dataset.json) nor a run"),
    ],
    "reproduce": [
        (["--paper", "simclr", "--table", "linear", "--shards-root", "data"], "simclr"),
        (["--paper", "aimclr", "--table", "t", "--shards-root", "data"], "t"),
    ],
    "cost": [(["--recipe", "linear"], "there is no recipe 'linear'")],
    "demo": [(["--epochs", "0"], "0 is not in the range")],
}


def test_wrong_usage_of_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, file in (("run", "notes.txt"), ("ds", "dataset.json"), ("of-run", "recipe.yaml")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}", "utf-8")
    (tmp_path / "junk.yaml").write_text("epochs: 3\n", "utf-8")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "weights.pt").write_bytes(b"PK\3\4")
    (tmp_path / "cut.safetensors").write_bytes((1000).to_bytes(8, "little") + b'{"a": 1')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKELPIPE_SHARDS", raising=False)
    cases = [([name, "--nonsense"], "No such option") for name in COMMANDS]
    cases += [([name, *words], message) for name, wrong in WRONG.items() for words, message in wrong]
    for (words, message), found in zip(cases, called([words for words, _ in cases]), strict=True):
        code, stdout, stderr, _, loaded = found
        assert (code, stdout, loaded) == (2, "", []), (words, found)
        assert message in " ".join(stderr.split()), (words, stderr)


def test_choices_and_defaults_are_those_of_the_rooms() -> None:
    """Options name them again, since the rooms import torch."""

    def option(script: click.Command, name: str) -> click.Option:
        (found,) = (each for each in script.params if isinstance(each, click.Option) and each.name == name)
        return found

    choices = {
        (pretrain, "loader"): CLIP_READERS,
        (pretrain, "batch_norm"): BATCH_NORMS,
        (predict, "format_"): PIPE_FORMATS,
        (export_model, "to"): FORMATS,
        (draw_map, "subset"): SUBSETS,
        (embed, "subset"): SUBSETS,
    }
    for (script, name), wanted in choices.items():
        kind = option(script, name).type
        assert isinstance(kind, click.Choice)
        assert list(kind.choices) == list(wanted), name
    assert option(draw_map, "perplexity").default == PERPLEXITY
    assert set(builtin_methods()) == set(METHODS)


def test_training_and_evaluation_import_no_compiler(
    starter: Any, tiny_dataset: Dataset, small_options: list[str], tmp_path: Path
) -> None:
    shards, run = ["--shards", str(tiny_dataset.path)], str(tmp_path / "run")
    tasks: list[tuple[str, list[str]]] = [
        ("pretrain", ["--out", run, *small_options, "--epochs", "1"]),
        ("knn", ["--checkpoint", run]),
        ("linear", ["--checkpoint", run, "--epochs", "1", "--out", str(tmp_path / "linear")]),
    ]
    for task, words in tasks:
        started = starter.start(task, 1, [*shards, *words, "--device", "cpu"])
        assert started.codes() == [0], started.text(0)
        assert "torch" in started.modules(0)
        assert not started.modules(0) & set(COMPILER), task
