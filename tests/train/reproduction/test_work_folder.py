"""How a reproduction's commands run; tests/train/test_reproduce.py has the rest."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from skelpipe.door.signals import Ended, ending_on_signals
from skelpipe.train.reproduction.work_folder import WorkFolder, run_passing_signals

SAVES = """
import os, pathlib, signal, sys, time
def stop(number, _):
    time.sleep(0.2)
    pathlib.Path(sys.argv[1]).write_text(signal.Signals(number).name)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
os.kill(os.getppid(), int(sys.argv[2]))
while True:
    time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_command_which_saves_before_all_ends(tmp_path: Path, number: signal.Signals) -> None:
    saved = tmp_path / "saved"
    with pytest.raises(Ended) as ended, ending_on_signals():
        run_passing_signals([sys.executable, "-c", SAVES, str(saved), str(int(number))])
    assert (ended.value.code, ended.value.number) == (143, number)
    assert saved.read_text() == "SIGTERM"


def test_a_part_that_never_began_starts_anew(tmp_path: Path) -> None:
    folder, command = WorkFolder(tmp_path), SimpleNamespace(name="part", key="now", module="pretrain")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "part.json").write_text('{"key": "before"}')
    assert folder.state(command) == "to do"
    folder.run_of(command).mkdir(parents=True)
    (folder.run_of(command) / "recipe.yaml").touch()
    assert folder.state(command) == "changed"


def test_output_and_exit_code_are_the_commands() -> None:
    done = run_passing_signals([sys.executable, "-c", "print(7); raise SystemExit(3)"])
    assert (done.stdout, done.returncode) == ("7\n", 3)
