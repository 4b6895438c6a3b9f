"""Every command of README and docs has options that exist; that they run is a step of its own, documentation/."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import click
import documented
import pytest
from documented import Line

from skelpipe.cli import COMMANDS
from skelpipe.cli import main as skelpipe
from skelpipe.errors import UsageError
from skelpipe.plugins import unload
from skelpipe.plugins.tables import LOADED

sys.path.append(str(Path(__file__).with_name("documentation")))
from pages import Page, all_pages


@pytest.fixture(autouse=True)
def readers_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The default dataset and the plug-ins of the examples are there; after a test no plug-in is loaded."""
    monkeypatch.setenv("SKELPIPE_SHARDS", "ds")
    for folder in ("plugin", "transfer"):
        monkeypatch.syspath_prepend(str(documented.ROOT / "docs/examples" / folder))
    yield
    for module in list(LOADED):
        unload(module)


# What checks that a path of a command line is there.
PATHS = (
    "cli.options._check_card",
    "train.running.named_paths.check_weights",
    "train.browse.check_source",
    "train.fuse.check_scores",
    "train.report.check_run",
)


def complaint(line: Line, *accepted: type[click.ClickException]) -> str | None:
    """What the command says of the words of a line; the runs and files that they name need not exist."""
    try:
        with ExitStack() as patched:
            for name in PATHS:
                patched.enter_context(patch(f"skelpipe.{name}"))
            line.parsed()
    except accepted:
        return None
    except click.ClickException as error:
        return f"{line.page}: {line.text}: {error.format_message()}"
    except UsageError as error:
        return f"{line.page}: {line.text}: {error}"
    return None


def test_every_command_has_options_that_exist() -> None:
    found = [complaint(line) for page in documented.pages() for line in documented.commands(page)]
    assert len(found) > 150
    assert not list(filter(None, found))


def test_every_command_inside_a_sentence_has_options_that_exist() -> None:
    """Its arguments may be left out."""
    partial = (click.MissingParameter, click.BadOptionUsage)
    found = [complaint(line, *partial) for page in documented.pages() for line in documented.spans(page)]
    assert len(found) > 30
    assert not list(filter(None, found))


def test_every_example_of_a_help_has_options_that_exist() -> None:
    for name in COMMANDS:
        command = skelpipe.get_command(click.Context(skelpipe), name)
        assert command is not None
        (line,) = documented.lines(name, str(command.epilog))
        assert line.name == name
        assert not complaint(line)


def test_a_wrong_option_is_found() -> None:
    wrong = "skelpipe info --shard ds\nOMP_NUM_THREADS=1 python train/knn.py --view bones  # comment\n"
    texts = [complaint(line) for line in documented.lines("page", wrong)]
    assert ["No such option" in str(texts[0]), "'bones' is not one of" in str(texts[1])] == [True, True]


def test_what_does_not_run_is_on_its_page() -> None:
    """`make docs-commands` runs the others: see tests/documentation."""
    listed = [each for page in all_pages() for each in page.not_run]
    assert len(listed) > 5
    for each in listed:
        assert (documented.ROOT / each.page).read_text("utf-8").splitlines()[each.line - 1].startswith(each.text)


def test_a_line_that_a_page_no_longer_has_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"README.md has no line 'skelpipe nosuch' any more"):
        list(Page("README.md", reasons={"skelpipe nosuch": "gone"}).not_run)


def test_a_page_as_a_script_keeps_its_line_numbers() -> None:
    page = Page("docs/own-dataset.md", instead={"--split xsub": "--split days"}, reasons={})
    text = (documented.ROOT / page.name).read_text("utf-8").splitlines()
    script = page.script.splitlines()
    kept = [n for n, line in enumerate(script) if line]
    exchanged = [line.replace("--split xsub", "--split days") for line in text]
    assert sum(line.startswith("skelpipe prepare") for line in script) == 2
    assert [script[n] for n in kept if n > 20] == [exchanged[n] for n in kept if n > 20]
    assert script[kept[0]] == f"page-python {kept[0] + 1}"
    assert text[kept[0]].startswith("import itertools")


def test_all_python_compiles() -> None:
    for page in documented.pages():
        for language, text in documented.blocks(page):
            if language == "python":
                compile(text, page, "exec")
