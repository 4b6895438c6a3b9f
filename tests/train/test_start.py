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
from skelpipe.train.export_model import FORMATS as EXPORTED
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
AIMCLR = [*DS, "--method", "aimclr"]
RANDOM = ["--baseline", "random"]
TABLE = ["--paper", "aimclr", "--table", "linear", "--shards-root", "ds"]
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
        ([*DS, "--set", "epochz=3"], "--set: unknown key 'epochz'; did you mean 'epochs'?"),
        ([*DS, "--set", "epochs=many"], "--set: epochs must be a whole number, not 'many'"),
        ([*DS, "--set", "encoder.name=stgcm"], "--set: encoder.name is 'stgcm'; did you mean 'stgcn'?"),
        ([*DS, "--set", "encoder.width=-1"], "--set: encoder.width is -1; it must be at least 1"),
        ([*DS, "--set", "aimclr.nnm=true"], "--set: unknown key 'aimclr"),
        ([*AIMCLR, "--set", "aimclr.kapa=0.3"], "did you mean 'aimclr.kappa'?"),
        (
            [*DS, "--method", "aimclr", "--set", "aimclr.eadm=false", "--set", "aimclr.kappa=0.5"],
            "has no effect with",
        ),
        ([*DS, "--method", "actclr", "--set", "actclr.state=head"], "variant 'paper' has no such switch"),
        (
            [*DS, "--recipe", "aimclr", "--method", "actclr"],
            "recipe aimclr is for aimclr, not for",
        ),
        ([*DS, "--lr", "-1"], "--lr: optimiser.lr is -1.0; it must be at least 0"),
        ([*DS, "--recipe", "bad.yaml"], "recipe bad.yaml: epochs is 0; it must be at least 1"),
        ([*AIMCLR, "--set", "views.extreme.shear=99"], "--set: views.extreme.shear: amplitude is 99; it must be"),
        ([*AIMCLR, "--set", "views.extreme.shaer=9"], "has no operator 'shaer'; did you mean 'shear'?"),
        ([*AIMCLR, "--set", "views.extreme.blur=[3, 1]"], "a blur cannot have a sigma between 3.0 and 1.0"),
        ([*AIMCLR, "--set", "views.query=[{joint-mask: [5, 3]}]"], "a joint mask cannot cover 5 to 3 joints"),
        ([*AIMCLR, "--set", "views.0.shear=9"], "unknown key 'views.0'"),
        (
            [*DS, "--recipe", "views.yaml"],
            "recipe views.yaml: views.query.spatial-flip.p is 2; it must be",
        ),
        (
            [*DS, "--out", "of-run"],
            "of-run already holds a run: give --resume to go on, --overwrite to",
        ),
        ([*DS, "--out", "run"], "run holds files but no run: name another folder with --out"),
        ([*DS, "--device", "gpu"], "there is no device 'gpu'; choose auto, cpu, cuda or cuda:N"),
        ([*DS, "--weight", "1", "--weight", "2"], "names 1 dataset and --weight 2 weights: give one for each"),
        ([], "no dataset found: name one with --shards"),
        (["--shards", "nowhere"], "nowhere: there is no such dataset"),
        (["--shards", "run"], "run: no dataset.json here: not a dataset, or one that prepare did not finish"),
        ([*DS, "--checkpoint", "run"], "run: holds none of encoder.safetensors, classifier.safetensors and check"),
    ],
    "knn": [
        (DS, "name what to evaluate: --checkpoint RUN, --baseline random or --baseline raw"),
        ([*DS, "--k", "many"], "expected whole numbers"),
        ([*DS, *RANDOM, "--out", "run"], "run holds notes.txt, which no evaluation wrote"),
        ([*DS, *RANDOM, "--out", "scored"], "scored already holds an evaluation: give --overwrite"),
        ([*DS, "--checkpoint", "nowhere"], "nowhere: there is no such run or file"),
        ([*DS, "--save-features"], "about the folder that --out names"),
        ([*DS, "--network", "nothing.yaml"], "there is no recipe 'nothing.yaml'"),
        ([*DS, "--network-set", "init=default"], "it needs --baseline random"),
        (
            [*DS, "--baseline", "random", "--set", "intt=default"],
            "--network-set: unknown key 'intt'; did you mean",
        ),
        ([*DS, "--baseline", "raw", "--checkpoint", "weights.pt"], "it takes neither --checkpoint nor --network"),
    ],
    "linear": [
        (DS, "name what to evaluate"),
        ([*DS, "--recipe", "aimclr"], "there is no recipe 'aimclr'"),
        ([*DS, "--heads", "joint,bone", "--view", "joint"], "it takes no --view"),
        ([*DS, *RANDOM, "--set", "queue=3"], "--set: unknown key 'queue'"),
        ([*DS, *RANDOM, "--lr", "-1"], "--lr: optimiser.lr is -1.0; it must be at least 0"),
        ([*DS, *RANDOM, "--set", "optimiser.schedule=slow"], "known: steps, cosine"),
    ],
    "finetune": [
        ([*DS, "--recipe", "linear"], "there is no recipe 'linear'"),
        ([*DS, "--recipe", "supervised", "--set", "views.clip=[shaer]"], "there is no operator 'shaer'"),
        ([*DS, "--recipe", "supervised", "--out", "of-run"], "of-run already holds a run"),
        ([*DS, "--labels", "2"], "--labels 2.0: a share of the labels above 0 and up to 1 is expected"),
        ([*DS, "--recipe", "finetune"], "recipe finetune describes no network to train from scratch"),
        (
            [*DS, "--checkpoint", "weights.pt", "--set", "mods=eval"],
            "key 'mods'; did you mean 'modes'?",
        ),
        ([*DS, "--lr", "-1"], "--lr: optimiser.lr is -1.0; it must be at least 0"),
    ],
    "segment": [
        ([*DS, "--milestones", "soon"], "expected epochs"),
        (DS, "name what to evaluate"),
        ([*DS, *RANDOM, "--network-set", "widht=3"], "--network-set: unknown key 'widht'"),
    ],
    "fuse": [
        (["one"], "at least two streams"),
        (["nowhere", "run"], "nowhere: there is no such folder or file"),
        (["run", "other"], "run: holds no scores.parquet"),
        (["junk.yaml", "other"], "junk.yaml: is no Parquet file"),
        (["scored", "scored", "--weights", "1,2,3"], "--weights 1,2,3: 3 weights for 2 streams"),
        (["scored", "scored", "--weights", "joint=1,2"], "either all weights have names or none"),
        (["scored", "scored", "--out", "scored"], "scored already holds an evaluation"),
    ],
    "embed": [(["a.skeleton", "--checkpoint", "weights.pt", "--out", "x.csv"], "ends in .parquet or .npz")],
    "map": [
        ([*DS, "--join", "bones=run"], "expected VIEW=RUN"),
        ([*DS, *RANDOM, "--join", "bone=nowhere"], "nowhere: there is no such run or file"),
    ],
    "predict": [
        (["a.skeleton", "--stride", "4"], "--stride and --fps are about windows"),
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
        (["weights.pt", "--to", "onnx", "--out", "junk.yaml"], "junk.yaml: is there already"),
        (["weights.pt", "--to", "onnx", "--weights", "1,2"], "--weights are those of several runs"),
        (["weights.pt", "weights.pt", "--to", "onnx", "--out", "m", "--weights", "1"], "1 weight for 2 streams"),
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
        (
            ["--paper", "aimclr", "--table", "linear", "--shards-root", "nowhere"],
            "nowhere: there is no such folder",
        ),
        ([*TABLE, "--method", "simclr"], "table linear has no method simclr; it has: "),
        ([*TABLE, "--set", "epochz=3"], "--set: unknown key 'epochz'"),
    ],
    "cost": [
        (["--recipe", "linear"], "there is no recipe 'linear'"),
        (["--set", "encoder.widht=3"], "--set: unknown key 'encoder.widht'; did you mean 'encoder.width'?"),
    ],
    "demo": [
        (["--epochs", "0"], "0 is not in the range"),
        (["--out", "run"], "--out run: has files that no demo wrote: choose another folder"),
        (["--out", "junk.yaml"], "--out junk.yaml: is a file, no folder"),
    ],
}


def test_wrong_usage_of_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, file in (("run", "notes.txt"), ("ds", "dataset.json"), ("of-run", "recipe.yaml")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}", "utf-8")
    (tmp_path / "junk.yaml").write_text("epochs: 3\n", "utf-8")
    (tmp_path / "bad.yaml").write_text("method: aimclr\nepochs: 0\n", "utf-8")
    (tmp_path / "views.yaml").write_text("method: aimclr\nviews: {query: [{spatial-flip: {p: 2}}]}\n", "utf-8")
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "result.json").write_text("{}", "utf-8")
    (tmp_path / "scored" / "scores.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "weights.pt").write_bytes(b"PK\3\4")
    (tmp_path / "cut.safetensors").write_bytes((1000).to_bytes(8, "little") + b'{"a": 1')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKELPIPE_SHARDS", raising=False)
    cases = [([name, "--nonsense"], "No such option") for name in COMMANDS]
    cases += [([name, *words], message) for name, wrong in WRONG.items() for words, message in wrong]
    for (words, message), found in zip(cases, called([words for words, _ in cases]), strict=True):
        code, stdout, stderr, _, loaded = found
        assert (code, stdout) == (2, ""), (words, found)
        assert loaded == [], (words, loaded)
        (line,) = stderr.splitlines()
        assert line.startswith("Error: "), (words, stderr)
        assert message in line, (words, stderr)


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
    assert EXPORTED == FORMATS


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
