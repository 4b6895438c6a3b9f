"""The commands and the Python of the documentation: every line that a reader can copy."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click

from skelpipe.cli import main as skelpipe

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`((?:skelpipe|python train/\w+\.py) [^`\n…]*)`")
ASSIGNED = re.compile(r"^(?:export )?([A-Z]+)=\"(.*)\"$")
PROGRAM = re.compile(
    r"(?:^|[ ;|'])(?:skelpipe ([a-z][\w-]*)"
    r"|(?:python|torchrun)[^|]*? (?:-m skelpipe\.train\.|train/)(\w+)(?:\.py)?)(?= |$)"
)
SHELL = {"|", "&", "&&", ";", ">"}  # what ends the words of a command


@dataclass(frozen=True)
class Line:
    """One command of a page: the name of its click command and its words, as the shell splits them."""

    page: str
    text: str
    name: str
    words: tuple[str, ...]

    @property
    def command(self) -> click.Command:
        found = skelpipe.get_command(click.Context(skelpipe), self.name)
        return found or import_module(f"skelpipe.train.{self.name}").main

    def parsed(self) -> click.Context:
        """Check the words against the options of the command, without running it; what is wrong is raised."""
        return click.Command.make_context(self.command, self.name, list(self.words))


def pages() -> list[str]:
    """The pages for readers by their path; the changelog tells of the past."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.name != "CHANGELOG.md")


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of each block of code of a page."""
    yield from BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def placed_blocks(page: str) -> Iterator[tuple[int, str, str]]:
    """Yield the number of the first line, the language and the text of each block of code of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield text.count("\n", 0, found.start()) + 2, *found.groups()


def commands(page: str) -> list[Line]:
    """The commands in a page's blocks."""
    return lines(page, "\n".join(text for language, text in blocks(page) if language == ""))


def lines(page: str, text: str) -> list[Line]:
    """The commands of a text, with the values of the variables that it assigns before."""
    found, variables = [], {}
    for line in text.replace("\\\n", " ").splitlines():
        if assigned := ASSIGNED.match(line):
            variables[assigned[1]] = assigned[2]
        elif read := _read(page, line, variables):
            found.append(read)
    return found


def spans(page: str) -> list[Line]:
    """The commands with options inside the text and the tables of a page."""
    text = BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    found = [_read(page, span, {}) for span in SPAN.findall(text)]
    return [line for line in found if line and line.words]


def _read(page: str, text: str, variables: dict[str, str]) -> Line | None:
    program = PROGRAM.search(text)
    if program is None:
        return None
    rest = text[program.end() :]
    for name, value in variables.items():
        rest = rest.replace(f"${name}", value)
    if rest.count("'") % 2:  # the end of a command inside quotes
        rest = rest.rpartition("'")[0]
    words = shlex.split(rest, comments=True)
    end = next((n for n, word in enumerate(words) if word in SHELL), len(words))
    name = program[1] or program[2]
    return Line(page, text.strip(), name, tuple(words[:end]))
