"""Options that scripts share."""

import importlib
import signal
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from skelpipe.train.running.script_options import Interval, script_errors
from skelpipe.train.running.sigterm import saying_what_ended


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10", 10),
        ("90s", timedelta(seconds=90)),
        ("30min", timedelta(minutes=30)),
        ("1.5h", timedelta(minutes=90)),
    ],
)
def test_an_interval_is_epochs_or_a_time(text: str, found: int | timedelta) -> None:
    assert Interval().convert(text, None, None) == found


@pytest.mark.parametrize("text", ["0", "-1", "0min", "30m", "min", "1 h", "1e3s", ""])
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="neither a number of epochs nor a time such as 90s, 30min or 2h"):
        Interval().convert(text, None, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_a_script_still_imports_is_one_line(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signalled_import.py").write_text(f"import signal\nsignal.raise_signal({number})\n")
    monkeypatch.syspath_prepend(tmp_path)

    @click.command()
    @script_errors()
    def script() -> None:
        importlib.import_module("signalled_import")

    before = signal.getsignal(number)
    result = CliRunner().invoke(script, [])
    assert result.exit_code == 143
    assert result.stderr == f"{number.name}: ended; nothing is kept, run the command again\n"
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_one_rank_says_once_what_ended(
    rank: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(SystemExit), saying_what_ended("outer"), saying_what_ended("inner"):
        signal.raise_signal(signal.SIGTERM)
    assert capsys.readouterr().err == "SIGTERM: ended; inner\n" * lines
