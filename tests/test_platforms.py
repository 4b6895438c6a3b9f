"""What other systems lack is missed nowhere."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ROOT / "tests" / "platforms"
SOURCES = [
    path for folder in ("manifests", "pipeline", "models", "train") for path in (ROOT / folder).rglob("*.py")
]


@pytest.mark.skipif(sys.platform != "linux", reason="takes away what only Linux has")
def test_from_raw_files_to_a_figure_without_what_windows_lacks(tmp_path) -> None:
    """Also with a default encoding that knows ASCII only: nothing relies on it."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **locale, "PYTHONPATH": str(PLATFORMS)}
    command = [sys.executable, str(PLATFORMS / "walk.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["digests"][0] == found["digests"][1]  # of two spawned workers, and of this process
    assert found["batches"] == 6
    assert found["cached"] == ["2", "3"]  # the older two made room
    assert [json.loads(line)["epoch"] for line in found["log"].splitlines()] == [1, 2]
    assert "\r" not in found["log"]
    assert not list(tmp_path.rglob("*.part"))


def test_modules_that_only_some_systems_have_are_imported_guarded() -> None:
    """At any level but inside `try`, they would end the import on Windows."""
    lacking = {"fcntl", "grp", "pwd", "resource", "termios", "syslog"}
    for path in SOURCES:
        text = path.read_text("utf-8")
        if not any(f"import {name}" in text for name in lacking):
            continue
        tree = ast.parse(text)
        guarded = {id(each) for node in ast.walk(tree) if isinstance(node, ast.Try) for each in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and id(node) not in guarded:
                assert not lacking & {name.name for name in node.names}, path


def test_texts_are_read_and_written_in_a_named_encoding() -> None:
    """Windows has another default, which is not the same for all users."""
    command = [sys.executable, "-m", "ruff", "check", "--preview", "--isolated", "--select", "PLW1514"]
    folders = [str(ROOT / name) for name in ("manifests", "pipeline", "models", "train")]
    done = subprocess.run([*command, "--no-cache", *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
