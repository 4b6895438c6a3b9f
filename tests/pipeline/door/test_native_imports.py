"""Signals while native libraries load: they wait, and are delivered; see also `train/test_start.py`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skelpipe.door import native_imports
from skelpipe.door.native_imports import holding, native_imports_held

ROOT = Path(__file__).resolve().parents[3]
SENDING = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
for _ in range(100):
    pass
os.environ["LOADED"] = str(type(__loader__).__module__)
"""
# Runs a script that is sent SIGINT at the moment when it begins to import a module.
AT_IMPORT = """
import os, runpy, signal, sys
class At:
    def find_spec(name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, At)
module, *sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that is sent Ctrl-C while it is imported."""
    (tmp_path / "sent_while_loading.py").write_text(SENDING, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sent_while_loading", raising=False)
    return "sent_while_loading"


def test_ctrl_c_waits_until_a_native_package_is_loaded(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_imports, "NATIVE", frozenset({package}))
    monkeypatch.delenv("LOADED", raising=False)
    finders = list(sys.meta_path)
    with pytest.raises(KeyboardInterrupt), native_imports_held():
        __import__(package)
    assert sys.meta_path == finders
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "importlib" in os.environ["LOADED"]  # it ran to its end, and sees its own loader


def test_ctrl_c_ends_other_imports_at_once(package: str) -> None:
    os.environ.pop("LOADED", None)
    with pytest.raises(KeyboardInterrupt), native_imports_held():
        __import__(package)
    assert "LOADED" not in os.environ


def test_a_signal_is_held_once_and_an_ignored_one_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with holding(), holding():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("module", ["torch._C", "pyarrow.lib"])
def test_a_script_that_is_interrupted_while_it_imports(module: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{}", "utf-8")
    words = [str(ROOT / "train" / "knn.py"), "--shards", str(tmp_path), "--baseline", "raw"]
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("Interrupted: ")
    assert len(done.stderr.splitlines()) == 1
