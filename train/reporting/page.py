"""The page of a report: one file that needs no network, no library and no other file."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from skelpipe.train.reporting.markup import Markup, el, joined

__all__ = ["Section", "filled"]


@dataclass(frozen=True)
class Section:
    """A section of the page: `name` is its anchor, `title` its heading and its link in the list of contents."""

    name: str
    title: str
    content: Markup


def filled(
    title: str, subtitle: str, sections: Sequence[Section], *, style: str = "", script: str | None = None
) -> str:
    """Return the page as text. Its content policy allows only the script and the style of the template.

    `style` is added to the style of reports; `script` takes the place of their script.
    """
    style = _text("page.css") + style
    script = _text("page.js") if script is None else script
    body = [
        el("section", el("h2", each.title, id=f"{each.name}-title"), each.content, id=each.name,
           aria_labelledby=f"{each.name}-title")
        for each in sections
    ]  # fmt: skip
    values = {
        "title": joined([title]),
        "subtitle": joined([subtitle]),
        "contents": joined(el("a", each.title, href=f"#{each.name}") for each in sections),
        "body": Markup("\n".join(body)),
        "style": style,
        "style_hash": _hash(style),
        "script": script,
        "script_hash": _hash(script),
    }
    # In one pass, so that braces within a value are not replaced.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], _text("page.html"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _text(name: str) -> str:
    return files("skelpipe.train.reporting").joinpath(name).read_text("utf-8")
