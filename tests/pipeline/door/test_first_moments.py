"""From a command's first line on, a signal or an error in an import is one line and the exit code of its kind."""

import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).resolve().parents[3] / "train"
SCRIPTS = sorted(path for path in TRAIN.glob("*.py") if path.stem != "__init__")
# Run a module as a program, in which the import of another one first does something.
RUN = """
import os, runpy, signal, sys
module, moment, happens = sys.argv[1:4]
class Finder:
    def find_spec(self, name, path, target=None):
        if name == moment:
            exec(happens, {"os": os, "signal": signal})
sys.meta_path.insert(0, Finder())
sys.argv = [module, "--help"]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("moment", ["skelpipe.door.answer", "skelpipe.door.visible", "click"])
@pytest.mark.parametrize("module", ["skelpipe", "skelpipe.train.pretrain"])
@pytest.mark.parametrize(
    ("happens", "code", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "Interrupted: "),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "SIGTERM: ended; nothing is done yet"),
    ],
)
def test_a_signal_in_an_import(module: str, moment: str, happens: str, code: int, said: str) -> None:
    done = run(module, moment, happens)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["skelpipe", "skelpipe.train.pretrain"])
@pytest.mark.parametrize(
    ("happens", "code", "said"),
    [
        ("import nowhere", 1, "Error: the package nowhere is not installed"),
        ("raise KeyboardInterrupt", 130, "Interrupted: "),
    ],
)
def test_an_import_that_fails(module: str, happens: str, code: int, said: str) -> None:
    done = run(module, "click", happens)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["skelpipe", "skelpipe.train.pretrain"])
def test_a_ctrl_c_that_is_to_be_ignored_is(module: str) -> None:
    """As of a command that a shell has started in the background."""
    ignored = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    done = run(module, "click", "os.kill(os.getpid(), signal.SIGINT)", before=ignored)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_a_signal_says_nothing_of_other_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    done = run("skelpipe.train.pretrain", "click", "os.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_answers_from_its_first_line(path: Path) -> None:
    code = path.read_text("utf-8").partition('"""\n\n')[2]
    assert code.startswith("from skelpipe.door.first_moments import script\n\nscript(__name__)\n")
    assert 'if __name__ == "__main__":\n    program(lambda: main' in code


def run(module: str, moment: str, happens: str, before: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", before + RUN, module, moment, happens]
    return subprocess.run(words, capture_output=True, text=True, check=False)
