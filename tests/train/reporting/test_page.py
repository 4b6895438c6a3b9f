"""The page needs no other file, and all names in it stay text."""

import base64
import csv
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from skelpipe.dataset import Dataset
from skelpipe.train.reporting.markup import el
from skelpipe.train.reporting.report import write_report

NASTY = """<img src=x onerror=alert(1)> & "q" 'a' </script><script>alert(2)</script> {{title}} <!--"""


EXTERNAL = {"src", "srcset", "data", "action", "poster", "formaction", "background", "style"}


def test_the_page_needs_no_other_file(folder: Path, read: Callable[[Path], Any]) -> None:
    text = (folder / "report.html").read_text("utf-8")
    page = read(folder)
    for tag, attributes in page.tags:
        assert not EXTERNAL & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
    assert not re.search(r"https?:|@import|url\(", text)


def test_only_the_pages_own_script_and_style_may_run(folder: Path, read: Callable[[Path], Any]) -> None:
    """The policy has the hashes of exactly the inline script and style of the page."""
    text = (folder / "report.html").read_text("utf-8")
    policy = next(a["content"] for tag, a in read(folder).tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        content = re.findall(pattern, text, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not [a for _, a in read(folder).tags if any(name.startswith("on") for name in a)]


def test_names_stay_text(own: Path, tiny_dataset: Dataset, read: Callable[[Path], Any]) -> None:
    plain = [tag for tag, _ in read(own).tags]
    path = own / "classes.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[1] = NASTY
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    result = json.loads((own / "result.json").read_text())
    for name in ("protocol", "dataset", "view", "what"):
        result[name] = NASTY
    result["reported"]["source"] = NASTY
    result[NASTY] = NASTY
    (own / "result.json").write_text(json.dumps(result))
    (own / "recipe.yaml").write_text(yaml.safe_dump({NASTY: {NASTY: NASTY}, "epochs": NASTY}))
    (own / "log.jsonl").write_text(json.dumps({"epoch": 1, NASTY: 2.0, "loss": NASTY}) + "\n")
    write_report(own)
    page = read(own)
    assert set(page.texts) <= set(plain) | {"details"}
    assert page.texts["h1"][0] == f"{NASTY.capitalize()} on {NASTY} ({NASTY})"
    assert [tag for tag, _ in page.tags].count("script") == plain.count("script")
    data = next(text for text in page.texts["script"] if text.startswith('{"names"'))
    assert json.loads(data)["names"][0] == f"0 {NASTY}"


def test_elements_escape_text_and_not_markup() -> None:
    inner = el("b", "<x>")
    assert el("p", "a<b", inner, None, class_="q\"'&", hidden=True, open=False, data_x=1) == (
        '<p class="q&quot;&#x27;&amp;" hidden data-x="1">a&lt;b<b>&lt;x&gt;</b></p>'
    )


def test_the_same_files_give_the_same_page(own: Path, tiny_dataset: Dataset) -> None:
    first = write_report(own, tiny_dataset).read_bytes()
    assert write_report(own, tiny_dataset).read_bytes() == first
