"""Whatever goes wrong in a command is one line and the exit code of its kind; a traceback on request only."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from skelpipe.cli.command import Command
from skelpipe.errors import DatasetError, UsageError

LATER = "; --debug shows the traceback"
AT = r", at [\w./]+:\d+"


def failing(error: BaseException | None, *words: str) -> Result:
    """Run a command that raises an error."""

    @click.command(cls=Command)
    def command() -> None:
        if error is not None:
            raise error

    return CliRunner().invoke(command, list(words))


class OddError(Exception):
    """An error that nobody expects."""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("--out \x1b[2J\n: no"), 2, r"Error: --out \\x1b\[2J\\n: no"),
        (DatasetError("ds: \u202eis damaged"), 1, r"Error: ds: \\u202eis damaged"),
        (OddError("two\nlines"), 1, rf"Error: OddError: two lines{AT}{LATER}"),
        (OddError("x" * 5000), 1, rf"Error: OddError: x{{400}}{AT}{LATER}"),
        (KeyError("name"), 1, rf"Error: KeyError: 'name'{AT}{LATER}"),
        (AssertionError(), 1, rf"Error: AssertionError{AT}{LATER}"),
        (MemoryError(), 1, rf"Error: there is not enough memory{LATER}"),
        (RecursionError("deep"), 1, rf"Error: something is nested too deeply \(deep\){AT}{LATER}"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a\x1bb"),
            1,
            rf"Error: a\\x1bb: No such file or directory{LATER}",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), 1, rf"Error: a.bin: the disk is full{LATER}"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, rf"Error: a file: the disk is full{LATER}"),
        (OSError(errno.EROFS, "x", "a", None, "b"), 1, rf"Error: a and b: the disk is read-only{LATER}"),
        (
            ModuleNotFoundError("No module named 'torch._C'", name="torch._C"),
            1,
            rf"Error: the package torch is not installed, or not whole \(No module named 'torch._C'\){LATER}",
        ),
        (
            ImportError("libcudart.so.12: cannot open", name="torch"),
            1,
            rf"Error: torch cannot be imported: libcudart.so.12: cannot open{LATER}",
        ),
        (
            KeyboardInterrupt(),
            130,
            "Interrupted: finished work is kept; see --help for how to continue.",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, rf"Error: BrokenPipeError: .*Broken pipe{AT}{LATER}"),
    ],
)
def test_one_line_and_the_exit_code(error: BaseException, code: int, line: str) -> None:
    result = failing(error)
    assert result.exit_code == code
    assert re.fullmatch(line + "\n", result.stderr), result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("error", [OddError("odd"), DatasetError("bad"), KeyboardInterrupt()])
def test_a_traceback_on_request(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = failing(error)
    for result in (failing(error, "--debug"), _with_variable(error, monkeypatch)):
        assert "Traceback (most recent call last)" in result.stderr
        assert result.stderr.splitlines()[-1] == plain.stderr.removesuffix("\n").removesuffix(LATER)
        assert result.exit_code == plain.exit_code
    assert "Traceback" not in failing(error).stderr


def _with_variable(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> Result:
    with monkeypatch.context() as patch:
        patch.setenv("SKELPIPE_DEBUG", "1")
        return failing(error)


def test_a_rank_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert failing(OddError("odd")).stderr.startswith("Error: rank 3 of 4: OddError: odd, at ")
    assert failing(KeyboardInterrupt()).stderr == ""


def test_an_array_that_is_too_large_says_how_large() -> None:
    with pytest.raises(MemoryError) as raised:
        np.empty((1 << 40, 1 << 10), np.float64)
    assert "(Unable to allocate 8.00 PiB" in failing(raised.value).stderr


def test_an_error_of_a_thread_is_one_line() -> None:
    @click.command(cls=Command)
    def command() -> None:
        def fail() -> None:
            raise OddError("within")

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    result = CliRunner().invoke(command, [])
    assert re.fullmatch(rf"Warning: a thread has ended: OddError: within{AT}{LATER}\n", result.stderr)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_release_of_something_is_not_lost(number: int, code: int) -> None:
    """Python ignores whatever is raised there."""

    class Released:
        def __del__(self) -> None:
            signal.raise_signal(number)

    @click.command(cls=Command)
    def command() -> None:
        released = Released()
        del released
        time.sleep(30)
        raise OddError("not reached")

    assert failing(None).exit_code == 0
    assert CliRunner().invoke(command, []).exit_code == code


PROGRAM = """
import os, signal, sys
from skelpipe.door.answer import program
def load():
    {load}
    def main():
        {main}
    return main
program(load)
"""


def ran(main: str = "pass", load: str = "pass", **how: Any) -> subprocess.CompletedProcess[str]:
    code = PROGRAM.format(load=load, main=main)
    how = {"stdout": subprocess.PIPE, **how}
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False, **how)


@pytest.mark.parametrize(
    ("main", "load", "code", "said"),
    [
        ("pass", "import nowhere", 1, "Error: the package nowhere is not installed"),
        ("pass", "raise ImportError('no', name='torch')", 1, "Error: torch cannot be imported: no"),
        ("pass", "raise KeyboardInterrupt", 130, "Interrupted: "),
        ("pass", "signal.raise_signal(signal.SIGTERM)", 143, "SIGTERM: ended; nothing is done yet"),
        ("exec('raise KeyboardInterrupt')", "pass", 130, "Interrupted: "),  # as in the code of a dataclass
        ("sys.exit(7)", "pass", 7, ""),
        ("pass", "pass", 0, ""),
    ],
)
def test_a_program_ends_with_its_code(main: str, load: str, code: int, said: str) -> None:
    done = ran(main, load)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)


LATE = (
    "import atexit; atexit.register(lambda: signal.raise_signal(signal.{}))",
    # while Python takes modules down, after it has given up all handlers of signals
    "sys.last = type('Last', (), dict(__del__=lambda self, end=signal.raise_signal, by=signal.{}: end(by)))()",
)


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_signal_while_a_program_ends_changes_nothing(code: int, late: str) -> None:
    for name in ("SIGINT", "SIGTERM"):
        done = ran(f"sys.exit({code})", late.format(name))
        assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipe that says it is closed, and no /dev/full")
def test_output_that_nobody_takes() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = ran("print('x' * 100000)", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")
    with open("/dev/full", "wb") as full:
        done = ran("print('x')", stdout=full)
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: standard output: the disk is full{LATER}\n", done.stderr)


def test_an_error_of_a_native_library_names_who_imported_it(tmp_path: Path) -> None:
    """And not the hook that holds signals back while it loads."""
    (tmp_path / "onnx.py").write_text("raise OSError('libonnx.so: cannot be read')")
    done = ran("pass", f"sys.path.insert(0, {str(tmp_path)!r}); import onnx")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    found = re.search(r"OSError: libonnx.so: cannot be read, at ([\w.]+):", done.stderr)
    assert found is not None, done.stderr
    assert found[1] == "answer.py"  # where `program` loads
