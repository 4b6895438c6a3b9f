"""Options that commands share: the same name, help and default everywhere."""

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from skelpipe.errors import UsageError
from skelpipe.views import VIEWS

__all__ = [
    "cache_options",
    "check_raw_option",
    "container_option",
    "device_option",
    "dtype_option",
    "is_no_folder",
    "json_option",
    "on_error_option",
    "other_shards_option",
    "overwrite_option",
    "plugin_option",
    "policy_options",
    "resolve_shards",
    "seed_option",
    "several_shards_option",
    "shard_size_option",
    "shards_option",
    "unresolved_shards_option",
    "view_option",
    "workers_option",
]

F = TypeVar("F", bound=Callable[..., Any])

CARD = "dataset.json"
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def resolve_shards(value: str | None) -> str:
    """Return the dataset to read: `value`, else the one in the current folder, else the only one under `data/`.

    click has already replaced an absent value by `$SKELPIPE_SHARDS`. Raises UsageError where there is none.
    """
    if value:
        _check_card(value)
        return value
    if Path(CARD).is_file():
        return "."
    found = sorted(str(card.parent) for card in Path("data").glob(f"*/{CARD}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"there are several datasets under data/: name one with --shards: {', '.join(found)}")
    raise UsageError("no dataset found: name one with --shards (or set SKELPIPE_SHARDS)")


def is_no_folder(source: str) -> bool:
    """Say whether this is a URL, or a tar that others wrote."""
    return "://" in source or source.lower().endswith(TARS)


def _check_card(source: str) -> None:
    """Raise UsageError where a folder holds no dataset; its card is read, and URLs are asked, by the command."""
    folder = Path(source)
    if is_no_folder(source) or (folder / CARD).is_file():
        return
    if not folder.is_dir():
        raise UsageError(f"{source}: {'is a file, no folder' if folder.exists() else 'there is no such dataset'}")
    raise UsageError(f"{source}: no {CARD} here: not a dataset, or one that prepare did not finish")


def _resolved(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    return resolve_shards(value)


def _resolved_if_named(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    return None if value is None else _resolved(ctx, param, value)


def _all_resolved(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_resolved(ctx, param, value) for value in values if value) or (_resolved(ctx, param, None),)


class OneUrl(click.ParamType):
    """A folder or URL, which may hold spaces: an environment variable names one."""

    name = "url"

    def split_envvar_value(self, rv: str) -> tuple[str]:
        return (rv,)


_shards = functools.partial(
    click.option,
    "--shards",
    envvar="SKELPIPE_SHARDS",
    metavar="URL",
    help="Dataset to read [default: $SKELPIPE_SHARDS, the current folder, or the only dataset under data/].",
)
shards_option = _shards(callback=_resolved)
unresolved_shards_option = _shards()  # for commands that can run without a dataset; they call resolve_shards
several_shards_option = click.option(
    "--shards",
    envvar="SKELPIPE_SHARDS",
    metavar="URL",
    multiple=True,
    type=OneUrl(),
    callback=_all_resolved,
    help="Dataset to read; given again, several datasets in one stream [default: $SKELPIPE_SHARDS, the current "
    "folder, or the only dataset under data/].",
)


def other_shards_option(words: str) -> Callable[[F], F]:
    """Return the option `shards` of a command that can do without a dataset; `words` are its help."""
    return click.option("--shards", metavar="URL", callback=_resolved_if_named, help=words)


view_option = click.option(
    "--view",
    type=click.Choice(VIEWS),
    default="joint",
    show_default=True,
    help="View to read.",
)


class Bytes(click.ParamType):
    """A number of bytes: 200GB, 1.5TB, 512MiB, or plain digits."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(I?)B?", str(value).strip().upper())
        size = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2] or " ") if found else 0
        if found is None or size < 1 or (found[3] and not found[2]):
            self.fail(f"{value!r} is not a size: write it as 200GB, 512MiB or in bytes", param, ctx)
        return int(size)


_cache_folder = click.option(
    "--cache",
    envvar="SKELPIPE_CACHE",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder that keeps files from a URL for all processes [default: $SKELPIPE_CACHE, else none].",
)
_cache_size = click.option(
    "--cache-size",
    envvar="SKELPIPE_CACHE_SIZE",
    type=Bytes(),
    metavar="SIZE",
    help="Most space for files from a URL, such as 500GB [default: 200GB in --cache, else 8GB of temp files].",
)


def cache_options(command: F) -> F:
    """Add the options `cache: Path | None` and `cache_size: int | None`, as `Dataset.open` takes them."""
    return _cache_folder(_cache_size(command))


# Of the commands that write datasets.
shard_size_option = click.option(
    "--shard-size", type=click.IntRange(min=1), default=1024, show_default=True, help="Samples per shard."
)
dtype_option = click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the stored numbers; float16 needs half the space and rounds to about a millimetre.",
)
on_error_option = click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="For a damaged recording: stop, or skip it and list it with its reason in samples.parquet.",
)
check_raw_option = click.option(
    "--check-raw",
    is_flag=True,
    help="Where --out holds the dataset already, hash all raw files to see whether one has changed, and not only"
    " those of another time or size.",
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a dataset in --out that has other settings."
)


def container_option(flag: str) -> Callable[[F], F]:
    """Return the option `container`; `flag` is its name, as `--format` is the form of the files in an import."""
    return click.option(
        flag,
        "container",
        type=click.Choice(["shards", "hdf5", "both"]),
        default="shards",
        show_default=True,
        help="Containers: WebDataset tars, one HDF5 file per subset, or both; the digest is the same.",
    )


_body_choice = click.option(
    "--body-choice",
    type=click.Choice(["motion", "first"]),
    help="Which bodies of a recording with more: those that move most, or the first of each frame"
    " [default: the dataset's; your own: motion].",
)
_empty_frames = click.option(
    "--empty-frames",
    type=click.Choice(["as-authors", "dropped", "held", "interpolated"]),
    help="Frames that show no body: kept at the expense of the last ones as the papers' code does, dropped, the"
    " last pose held, or interpolated [default: the dataset's; your own: dropped].",
)
_missing_joints = click.option(
    "--missing-joints",
    type=click.Choice(["refused", "held", "interpolated", "parent"]),
    help="Joints that were not found (NaN): an error, the last position held, interpolated in time, or the"
    " position of the parent joint [default: the dataset's; your own: refused].",
)


def policy_options(command: F) -> F:
    """Add the options `body_choice`, `empty_frames` and `missing_joints`; None is what the dataset says."""
    return _body_choice(_empty_frames(_missing_joints(command)))


def _load_plugins(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> None:
    if not names:
        return
    from skelpipe.plugins.loading import load_all

    load_all(names)


# Eager: what plug-ins add is known before other options are read. The command itself gets no argument of it.
plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="MODULE",
    envvar="SKELPIPE_PLUGINS",
    expose_value=False,
    is_eager=True,
    callback=_load_plugins,
    help="Module that adds methods, backbones, augmentations, readers or layouts; may be given more than once "
    "[default: $SKELPIPE_PLUGINS].",
)
seed_option = click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw.")


def _named_device(_ctx: click.Context, _param: click.Parameter, name: str) -> str:
    """Say, before torch is imported, that there is no such device; torch tells which GPUs there are.

    Of several ranks one alone may have been given it: they say so together, once they have found each other.
    """
    alone = (os.environ.get("WORLD_SIZE") or "1") == "1"
    if alone and not re.fullmatch(r"auto|cpu(:[0-9]+)?|cuda(:[0-9]+)?", name):
        raise UsageError(f"there is no device {name!r}; choose auto, cpu, cuda or cuda:N")
    return name


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    callback=_named_device,
    help="Device of tensors: auto, cpu, cuda, cuda:N.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=os.cpu_count() or 1,
    show_default="one per core",
    help="Number of parallel workers; the result does not depend on it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
