"""Options that take one value and get several."""

import importlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.cli.command import Command

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted(path.stem for path in (ROOT / "train").glob("*.py") if path.stem != "__init__")


REFUSES = Command.refuse_several


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what tests/conftest.py changes for a whole session."""
    monkeypatch.setattr(Command, "refuse_several", REFUSES)


@click.command(cls=Command)
@click.option("--shards", envvar="TRIED_SHARDS")
@click.option("--out", "-o", "where")
@click.option("--seed", type=int, default=0)
@click.option("--set", "settings", multiple=True)
@click.option("--amp", is_flag=True)
@click.option("--shuffle/--no-shuffle", default=True)
@click.option("--verbose", "-v", count=True)
@click.argument("rest", nargs=-1)
def tried(**given: object) -> None:
    click.echo(repr(sorted(given.items())))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shards", "a", "--shards", "b"], "--shards takes one value, and a and b are given"),
        (["--shards=a", "x", "--shards=b", "--shards", "c"], "--shards takes one value, and a, b and c are given"),
        (["-o", "a", "--out", "b"], "--out takes one value, and a and b are given"),
        (["--seed", "1", "--seed", "2"], "--seed takes one value, and 1 and 2 are given"),
        (["--shuffle", "--no-shuffle"], "--shuffle takes one value, and True and False are given"),
    ],
)
def test_several_values_of_one_option_are_refused(words: list[str], message: str) -> None:
    result = CliRunner().invoke(tried, words)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--seed", "1", "--seed", "1"], "('seed', 1)"),
        (["--amp", "--amp"], "('amp', True)"),
        (["-v", "-v"], "('verbose', 2)"),
        (["--set", "a=1", "--set", "b=2"], "('settings', ('a=1', 'b=2'))"),
        (["--out", "a", "--", "--out", "b"], "('where', 'a')"),
        ([], "('shuffle', True)"),
    ],
)
def test_what_loses_nothing_is_accepted(words: list[str], found: str) -> None:
    result = CliRunner().invoke(tried, words)
    assert result.exit_code == 0, result.output
    assert found in result.output


def test_an_option_may_override_its_environment_variable() -> None:
    result = CliRunner().invoke(tried, ["--shards", "a"], env={"TRIED_SHARDS": "b"})
    assert "('shards', 'a')" in result.output


def test_an_evaluation_takes_one_dataset() -> None:
    knn = importlib.import_module("skelpipe.train.knn").main
    result = CliRunner().invoke(knn, ["--shards", "a", "--shards", "b", "--baseline", "raw"])
    assert result.exit_code == 2
    assert "--shards takes one value, and a and b are given" in result.output


@pytest.mark.parametrize("name", sorted(main.commands))
def test_all_commands_do_so(name: str) -> None:
    assert isinstance(main.commands[name], Command)


@pytest.mark.parametrize("name", SCRIPTS)
def test_all_scripts_do_so(name: str) -> None:
    assert isinstance(importlib.import_module(f"skelpipe.train.{name}").main, Command)
