"""Options shared by every command: the same name, help and default everywhere."""

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from skelpipe.errors import SkelpipeError, UsageError

__all__ = [
    "cache_options",
    "device_option",
    "errors_as_messages",
    "json_option",
    "resolve_shards",
    "seed_option",
    "shards_option",
    "unresolved_shards_option",
    "view_option",
    "workers_option",
]

F = TypeVar("F", bound=Callable[..., Any])

CARD = "dataset.json"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def resolve_shards(value: str | None) -> str:
    """Return the dataset to read: `value`, else the one in the current folder or the only one under `data/`.

    `$SKELPIPE_SHARDS` has already been tried by click.
    """
    if value:
        return value
    if Path(CARD).is_file():
        return "."
    found = sorted(str(card.parent) for card in Path("data").glob(f"*/{CARD}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"several datasets lie under data/: name one with --shards: {', '.join(found)}")
    raise UsageError("no dataset found: name one with --shards (or set SKELPIPE_SHARDS)")


def _resolved(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    try:
        return resolve_shards(value)
    except UsageError as error:
        raise click.UsageError(str(error)) from None


_shards = functools.partial(
    click.option,
    "--shards",
    envvar="SKELPIPE_SHARDS",
    metavar="URL",
    help="Dataset to read [default: $SKELPIPE_SHARDS, the dataset here, or the only one under data/].",
)
shards_option = _shards(callback=_resolved)
unresolved_shards_option = _shards()  # for commands that may do without: they call resolve_shards
view_option = click.option(
    "--view",
    type=click.Choice(["joint", "bone", "motion"]),
    default="joint",
    show_default=True,
    help="Stream to read.",
)


class Bytes(click.ParamType):
    """A number of bytes: 200GB, 1.5TB, 512MiB, or plain digits."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?", str(value).strip().upper())
        size = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " ") if found else 0
        if found is None or size < 1 or (found[3] and not found[2]):
            self.fail(f"{value!r} is no size: write it as 200GB, 512MiB or in bytes", param, ctx)
        return int(size)


_cache_folder = click.option(
    "--cache",
    envvar="SKELPIPE_CACHE",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep what is fetched from a URL here, shared by all processes [default: $SKELPIPE_CACHE, else none].",
)
_cache_size = click.option(
    "--cache-size",
    envvar="SKELPIPE_CACHE_SIZE",
    type=Bytes(),
    metavar="SIZE",
    help="What is fetched may take, such as 500GB [default: 200GB in --cache; without it 8GB of temporary files].",
)


def cache_options(command: F) -> F:
    """Give a command `cache: Path | None` and `cache_size: int | None`, as `Dataset.open` takes them."""
    return _cache_folder(_cache_size(command))


seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="Where tensors live: auto, cpu, cuda, cuda:N."
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="one a core",
    help="How many work side by side; the result does not depend on it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def errors_as_messages(command: F) -> F:
    """Turn a user's error into one line on stderr and exit code 1 (2 for wrong usage), without a traceback.

    Ctrl-C ends with a line as well, and exit code 130.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except SkelpipeError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2 if isinstance(error, UsageError) else 1)
        except KeyboardInterrupt:
            click.echo("Interrupted: what is finished is kept; see --help for how to go on.", err=True)
            sys.exit(INTERRUPTED)

    return wrapped  # type: ignore[return-value]
