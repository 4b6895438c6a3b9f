"""Progress of long work on stderr: a bar on a terminal, otherwise a plain line every ten seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import click

from skelpipe.door.visible import beneath, visible

__all__ = ["progress"]

T = TypeVar("T")

PLAIN_LINE_EVERY = 10.0  # seconds


def progress(items: Iterable[T], label: str, total: int, *, quiet: bool = False) -> Iterator[T]:
    """Yield from `items` and show how many of `total` are done; `quiet` shows nothing."""
    if quiet:
        yield from items
    elif sys.stderr.isatty():
        shown, terminal = visible(label), beneath(sys.stderr)
        with click.progressbar(items, length=total, label=shown, show_pos=True, file=terminal) as bar:
            yield from bar
    else:
        yield from _plain(items, label, total)


def _plain(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= PLAIN_LINE_EVERY:
            last = now
            click.echo(f"{label}: {done}/{total}, {now - start:.0f} s", err=True)
    click.echo(f"{label}: {done}/{total}, {time.monotonic() - start:.1f} s, done", err=True)
