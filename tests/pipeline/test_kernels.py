"""What is said when kernels are compiled."""

import os
import subprocess
import sys
from pathlib import Path

# Compiles a kernel of somebody else and one of skelpipe; with another cache as argument, also in a second process.
COMPILE = """
import os, subprocess, sys
import numpy as np
from skelpipe.kernels import njit
from skelpipe.preprocess.scores import _resize
njit(lambda x: x + 1)(1)
exec("def more(x): return x + 2", made := {})  # its module is None
njit(made["more"])(1)
print("not yet", file=sys.stderr, flush=True)
_resize(np.zeros((2, 3), np.float32), np.zeros((2, 1), np.int64), np.zeros((2, 3, 1), np.float32))
for cache in sys.argv[1:]:
    subprocess.run([sys.executable, __file__], env={**os.environ, "NUMBA_CACHE_DIR": cache}, check=True)
"""


def run(folder: Path, *words: str, **environment: str) -> list[str]:
    script = folder / "compile.py"
    script.write_text(COMPILE, "utf-8")
    settings = {key: value for key, value in os.environ.items() if key not in ("SKELPIPE_COMPILING", "RANK")}
    done = subprocess.run(
        [sys.executable, str(script), *words],
        env={**settings, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


def test_a_command_says_once_that_it_compiles_and_nothing_where_it_need_not(tmp_path: Path) -> None:
    where = {"TMPDIR": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first, line, child = run(tmp_path, str(tmp_path / "other"), **where)
    assert (first, child) == ("not yet", "not yet")
    assert line.startswith("compiling kernels for this machine")
    assert {each.name for each in tmp_path.iterdir()} == {"compile.py", "cache", "other"}  # no mark is left
    assert run(tmp_path, **where) == ["not yet"]
