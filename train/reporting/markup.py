"""HTML and SVG elements. Text is escaped unless it is `Markup`, and shows its control characters."""

import html
from collections.abc import Iterable

from skelpipe.door.visible import visible

__all__ = ["Markup", "el", "joined"]

VOID = frozenset({"br", "col", "hr", "img", "input", "meta"})


class Markup(str):
    """Text that is HTML or SVG already and is not escaped again."""

    __slots__ = ()


def el(tag: str, *content: str | None, **attributes: str | float | bool | None) -> Markup:
    """Return an element. Content None and attributes None or False are left out; True gives one without value.

    In the names of attributes `class_` becomes `class`, and other underscores become hyphens: `aria_label`.
    """
    start = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    inner = joined(content)
    return Markup(start if tag in VOID else f"{start}{inner}</{tag}>")


def joined(content: Iterable[str | None]) -> Markup:
    """Return texts, escaped, and markup, as it is, one after another as markup."""
    return Markup(
        "".join(
            text if isinstance(text, Markup) else html.escape(visible(text, lines=True))
            for text in content
            if text
        )
    )


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escaped(str(value))}"'


def _escaped(text: str) -> str:
    return html.escape(visible(text, lines=True))
