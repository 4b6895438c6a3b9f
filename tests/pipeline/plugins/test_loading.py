"""Plug-ins: the example of the documentation from raw files to kNN, and what is said about those that fail."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from skelpipe.cli import main as skelpipe
from skelpipe.errors import UsageError
from skelpipe.models.build import METHODS
from skelpipe.plugins import load, unload
from skelpipe.plugins.tables import LOADED
from skelpipe.raw.readers import READERS
from skelpipe.train import knn, pretrain

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "plugin"
MANIFEST = r"""
name: tiny
title: Five joints
reader: tiny-text
layout: tiny-5
bodies: 1
name_pattern: (?P<subject>[a-z]+)-(?P<take>\d+)-(?P<action>[a-z]+)
suffix: .tiny
classes: [hop, wave]
splits:
  xsub: {field: subject, train: [ada]}
"""


@pytest.fixture
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A current folder of its own; plug-ins that a test loads are gone after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("SKELPIPE_PLUGINS", raising=False)
    yield
    for module in list(LOADED):
        unload(module)
    for each in tmp_path.glob("*.py"):
        sys.modules.pop(each.stem, None)


@pytest.mark.usefixtures("_folder")
def test_the_example_from_raw_files_to_knn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    random = np.random.default_rng(0)
    (tmp_path / "raw").mkdir()
    for who in ("ada", "bob"):
        for take in range(8):
            xyz = random.normal(size=(12, 15)).cumsum(axis=0)
            np.savetxt(tmp_path / "raw" / f"{who}-{take}-{('hop', 'wave')[take % 2]}.tiny", xyz)
    Path("tiny.yaml").write_text(MANIFEST)
    plugin = ["--plugin", "tiny_skeletons"]
    data = ["--dataset", "tiny.yaml", "--split", "xsub", "--raw", "raw", "--out", "ds", "--workers", "1"]
    without = CliRunner().invoke(skelpipe, ["prepare", *data])
    assert without.exit_code == 2
    assert "there is no reader 'tiny-text'" in without.output
    made = CliRunner().invoke(skelpipe, ["prepare", *plugin, *data, "--frames", "8"])
    assert made.exit_code == 0, made.output
    asked = ["--shards", "ds", "--method", "tinysiam", "--out", "run", "--device", "cpu", "--epochs", "1"]
    trained = CliRunner().invoke(pretrain.main, [*plugin, *asked])
    assert trained.exit_code == 0, trained.output
    recipe = Path("run/recipe.yaml").read_text()
    assert "tiny_skeletons" in recipe
    assert not any(f"{key}:" in recipe.splitlines() for key in ("temperature", "queue"))
    evaluate = ["--shards", "ds", "--checkpoint", "run", "--device", "cpu"]
    evaluated = CliRunner().invoke(knn.main, [*plugin, *evaluate])
    assert evaluated.exit_code == 0, evaluated.output

    unload("tiny_skeletons")
    refused = CliRunner().invoke(knn.main, evaluate)
    assert refused.exit_code == 2
    assert "needs the plug-in tiny_skeletons, which is not loaded: give --plugin tiny_skeletons" in refused.output
    assert "tiny_skeletons" not in sys.modules


@pytest.mark.usefixtures("_folder")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nosuch", "cannot be imported: No module named 'nosuch'"),
        ("def register(", "cannot be imported: SyntaxError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("x = 1", r"has no function register\(registry\)"),
        ("def register(registry): pass", "registers nothing"),
        ("def register(registry): 1 / 0", "register fails: ZeroDivisionError"),
        ("def register(registry): registry.reader('npy', len)", "there is a reader 'npy' already, built in"),
        ("def register(registry): registry.reader('a b', len)", "the name of a reader has lower-case letters"),
        (
            "from skelpipe.models.method import Method\n"
            "class Bare(Method):\n    name = 'bare'\n"
            "def register(registry):\n    registry.reader('bare', len)\n    registry.method(Bare)",
            "method 'bare': it does not define build and views and forward and networks",
        ),
    ],
)
def test_a_plugin_that_fails_is_one_line_and_adds_nothing(source: str, message: str) -> None:
    Path("failing_plugin.py").write_text(source)
    methods, readers = dict(METHODS), dict(READERS)
    with pytest.raises(UsageError, match=f"^plug-in failing_plugin: .*{message}") as raised:
        load("failing_plugin")
    assert "\n" not in str(raised.value)
    assert (dict(METHODS), dict(READERS), LOADED) == (methods, readers, {})


@pytest.mark.usefixtures("_folder")
def test_a_missing_plugin_is_named() -> None:
    result = CliRunner().invoke(pretrain.main, ["--plugin", "nosuch_plugin", "--shards", "ds"])
    assert result.exit_code == 2
    assert "plug-in nosuch_plugin: there is no module 'nosuch_plugin'" in result.output
