"""The pages of the documentation: links, cited divergences, glossary, imports of the examples."""

import ast
import importlib
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {".py", ".md", ".yaml", ".yml", ".cfg", ".toml", ".txt", ".html", ".css", ".js", ""}
NAME = r"`[a-z0-9]+(?:-[a-z0-9]+)+`"
CITED = re.compile(rf"[Dd]ivergences?:? ({NAME}(?:(?:,| and|, and) {NAME})*)")
# Sections of a text that is not in the repository: a "spec", or a letter and a number in brackets.
ELSEWHERE = re.compile(
    r"\b[Ss]pec(?:ification)?(?:$| (?:[A-H]\b|[A-H]-?[0-9IV]|ctrgcn))|\bthe spec\b"
    r"|\([A-H][0-9]{1,2}[a-e]?(?:[),;]| to | and )|\b[A-H][0-9]{1,2}[a-e]?\)|\bof [A-H][0-9]{1,2}\b"
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@cache
def texts() -> dict[str, str]:
    """The text files of the checkout by their path, those not yet committed included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [name for name in sorted(set(listed)) if Path(name).suffix in TEXTS and (ROOT / name).is_file()]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in paths}


def pages() -> list[str]:
    return [name for name in texts() if name.endswith(".md")]


def prose(page: str) -> str:
    """A page without its code blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE))


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: str) -> list[list[str]]:
    """The first column of each table of a page, without its heading."""
    tables: list[list[str]] = []
    inside = False
    for line in texts()[page].splitlines():
        if line.startswith("|---"):
            tables.append([])
        elif inside and line.startswith("|"):
            tables[-1].append(line.split("|")[1].strip())
        inside = line.startswith("|---") or (inside and line.startswith("|"))
    return tables


def joined(text: str) -> str:
    """A text whose lines, and those of its comments, are one."""
    return re.sub(r"\s*\n\s*(?:# ?)?", " ", text)


def test_every_cited_divergence_is_a_row() -> None:
    known = {name for table in rows("docs/divergences.md") for name in table}
    unknown = {
        f"{path}: {name}"
        for path, text in texts().items()
        for cited in CITED.findall(joined(text))
        for name in re.findall(NAME, cited)
        if name not in known
    }
    assert not unknown


def test_no_file_cites_what_is_not_in_the_repository() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if ELSEWHERE.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", pages())
def test_links_lead_to_files_and_headings(page: str) -> None:
    broken = []
    for target in LINK.findall(prose(texts()[page])):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", ["docs/divergences.md", "docs/glossary.md"])
def test_names_are_sorted_and_unique(page: str) -> None:
    for names in rows(page):
        assert names == sorted(set(names))


def test_every_page_of_the_docs_is_linked() -> None:
    linked = {
        ((ROOT / page).parent / target.partition("#")[0]).resolve()
        for page in pages()
        for target in LINK.findall(prose(texts()[page]))
        if "://" not in target and not target.startswith("#")
    }
    assert {
        page for page in pages() if page.startswith("docs/") and (ROOT / page).resolve() not in linked
    } == set()


def test_examples_import_what_there_is() -> None:
    missing = []
    for page in pages():
        for block in re.findall(r"^```python\n(.*?)^```$", texts()[page], re.DOTALL | re.MULTILINE):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skelpipe"):
                    module = importlib.import_module(node.module or "")
                    missing += [
                        f"{page}: {node.module}.{x.name}" for x in node.names if not hasattr(module, x.name)
                    ]
    assert not missing
