"""A signal ends a command with one line and exit code 143, wherever it comes."""

import importlib
import signal
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from skelpipe.cli.command import Command
from skelpipe.door.signals import saying_what_ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(("advice", "said"), [("", "nothing is kept, run the command again"), ("go on", "go on")])
def test_a_signal_while_a_script_still_imports_is_one_line(
    number: signal.Signals, advice: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"signalled_import_{number.name}_{bool(advice)}"
    (tmp_path / f"{name}.py").write_text(f"import signal\nsignal.raise_signal({number})\n")
    monkeypatch.syspath_prepend(tmp_path)

    @click.command(cls=Command, advice=advice)
    def script() -> None:
        importlib.import_module(name)

    before = signal.getsignal(number)
    result = CliRunner().invoke(script, [])
    assert result.exit_code == 143
    assert result.stderr == f"{number.name}: ended; {said}\n"
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_one_rank_says_once_what_ended(
    rank: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit), saying_what_ended("outer"), saying_what_ended("inner"):
        signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().err == "SIGTERM: ended; inner\n" * lines
