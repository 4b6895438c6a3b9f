"""What the site needs beside mkdocs.yml: pages of the root, and Markdown as GitHub reads it.

Pages are written for GitHub. Python-Markdown wants an empty line before a list or a table, and four spaces before
a list inside a list; and all pages of a site lie in one folder, where README.md is index.md.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md"} | {
    name: name for name in ("BENCHMARKS.md", "RESULTS.md", "CHANGELOG.md", "CONTRIBUTING.md")
}
FENCE = re.compile(r"^ *(```|~~~)")
LINK = re.compile(r"(\]\()([^)\s:]+)(\))")
ITEM = re.compile(r"^( *)(?:[-*+]|[0-9]+\.) ")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages of the root, and the other files there that pages link to."""
    for name, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for _, target, _ in LINK.findall(page.read_text(encoding="utf-8")):
            file = (page.parent / target.partition("#")[0]).resolve()
            if file.is_file() and file.suffix != ".md" and ROOT / "docs" not in file.parents:
                files.append(File.generated(config, _place(file), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn the text of a page for GitHub into one for Python-Markdown."""
    names = {place: name for name, place in PAGES.items()}
    source = ROOT / names[page.file.src_uri] if page.file.src_uri in names else ROOT / "docs" / page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        target, mark, anchor = link[2].partition("#")
        file = (source.parent / target).resolve()
        if not target or not file.is_relative_to(ROOT):
            return link[0]
        up = "../" * page.file.src_uri.count("/")
        return f"{link[1]}{up}{_place(file)}{mark}{anchor}{link[3]}"

    return "\n".join(_spaced(markdown, moved))


def _place(file: Path) -> str:
    """Return where a file of the repository lies in the site."""
    name = file.relative_to(ROOT).as_posix()
    # A name that begins with a dot would be left out.
    return PAGES.get(name, name.removeprefix("docs/")).removeprefix(".")


def _spaced(markdown: str, moved: Any) -> Iterator[str]:
    fenced, before = False, ""
    for line in markdown.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        if fenced or FENCE.match(line):
            yield line
            before = line
            continue
        item, inside = ITEM.match(line), bool(before.strip()) and not FENCE.match(before)
        begins = item and not ITEM.match(before) and not before.startswith(" ")
        if inside and (begins or (line.startswith("|") and not before.startswith("|"))):
            yield ""
        nested = item and item[1]
        yield LINK.sub(moved, " " * 4 + line.lstrip() if nested else line)
        before = line
