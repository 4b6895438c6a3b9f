"""HTML and SVG elements whose text is escaped unless it is markup already."""

import html
from collections.abc import Iterable

__all__ = ["Markup", "el", "joined"]

VOID = frozenset({"br", "col", "hr", "img", "input", "meta"})


class Markup(str):
    """Text that is markup and goes into a page as it is; every other text is escaped."""

    __slots__ = ()


def el(tag: str, *content: str | None, **attributes: str | float | bool | None) -> Markup:
    """Return an element. Content None is left out, as is an attribute None or False; True is one without value.

    In names of attributes `class_` is `class`, and other underscores are hyphens: `aria_label`, `stroke_width`.
    """
    start = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    inner = joined(content)
    return Markup(start if tag in VOID else f"{start}{inner}</{tag}>")


def joined(content: Iterable[str | None]) -> Markup:
    """Return texts and markup one after another as markup."""
    return Markup("".join(text if isinstance(text, Markup) else html.escape(text) for text in content if text))


def _attribute(name: str, value: str | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
