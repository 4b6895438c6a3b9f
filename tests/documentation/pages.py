"""A page of the documentation as a script of the shell, whose line numbers are those of the page."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

sys.path.append(str(Path(__file__).parents[1]))
import documented

SETTINGS = Path(__file__).with_name("pages.yaml")
KEYS = {"has", "smaller", "instead", "not run"}


@dataclass(frozen=True)
class NotRun:
    """A line or a whole block that does not run, and why."""

    page: str
    line: int
    text: str
    reason: str


@dataclass
class Page:
    """What runs of a page: its blocks in their order, without the lines that cannot run here."""

    name: str
    has: str = ""  # commands for what the page takes for granted
    smaller: dict[str, str] = field(default_factory=dict)  # options after those of each command
    instead: dict[str, str] = field(default_factory=dict)  # what words are exchanged for
    reasons: dict[str, str] = field(default_factory=dict)  # by line; "LINE ..." is the block that begins with it

    @cached_property
    def blocks(self) -> list[tuple[int, str, list[str]]]:
        """The number of the first line, the language and the lines of each block."""
        return [(line, kind, text.splitlines()) for line, kind, text in documented.placed_blocks(self.name)]

    @property
    def not_run(self) -> Iterator[NotRun]:
        """What does not run; ValueError for a line that is listed and not on the page."""
        for text, reason in self.reasons.items():
            whole = text.endswith(" ...")
            wanted = text.removesuffix(" ...")
            found = [
                first + n
                for first, kind, lines in self.blocks
                for n, line in enumerate(lines[:1] if whole else lines)
                if kind in ("", "python") and line.partition("  #")[0].rstrip() == wanted
            ]
            if not found:
                raise ValueError(f"{SETTINGS.name}: {self.name} has no line {wanted!r} any more")
            yield from (NotRun(self.name, line, wanted, reason) for line in found)

    @property
    def script(self) -> str:
        """The commands of the page, each on its own line; `page-python LINE` runs the block of Python there."""
        skipped = {each.line for each in self.not_run}
        lines = [""] * (max((first + len(text) for first, _, text in self.blocks), default=1))
        whole = {each.removesuffix(" ...") for each in self.reasons if each.endswith(" ...")}
        for first, kind, text in self.blocks:
            if kind not in ("", "python") or (text[0].partition("  #")[0].rstrip() in whole and first in skipped):
                continue
            if kind == "python":
                lines[first] = f"page-python {first}"
                continue
            for n, line in enumerate(text):
                if first + n not in skipped:
                    lines[first + n] = self.exchanged(line)
        return "\n".join(lines[1:]) + "\n"

    def python(self, line: int) -> str:
        return next(self.exchanged("\n".join(text)) for first, _, text in self.blocks if first == line)

    def exchanged(self, text: str) -> str:
        for written, here in self.instead.items():
            text = text.replace(written, here)
        return text

    def words(self, command: str, words: list[str]) -> list[str]:
        """The words of a command, followed by the options that make it small."""
        return [*words, *shlex.split(self.smaller.get(command, ""))]


def all_pages() -> list[Page]:
    settings: dict[str, dict[str, Any]] = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    general = settings.pop("all pages")
    names = documented.pages()
    if unknown := settings.keys() - set(names):
        raise ValueError(f"{SETTINGS.name}: no such page: {', '.join(sorted(unknown))}")
    pages = []
    for name in names:
        own = settings.get(name, {})
        if unknown := own.keys() - KEYS:
            raise ValueError(f"{SETTINGS.name}: {name}: no such key: {', '.join(sorted(unknown))}")
        smaller = {**general["smaller"], **own.get("smaller", {})}
        instead = {**general["instead"], **own.get("instead", {})}
        pages.append(Page(name, own.get("has", ""), smaller, instead, own.get("not run", {})))
    return pages
