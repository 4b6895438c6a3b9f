"""`skelpipe import`."""

from pathlib import Path

import click

from skelpipe.cli.command import KEPT, Command
from skelpipe.cli.options import (
    check_raw_option,
    container_option,
    dtype_option,
    json_option,
    on_error_option,
    overwrite_option,
    plugin_option,
    policy_options,
    shard_size_option,
    workers_option,
)
from skelpipe.cli.prepare import show_report

__all__ = ["import_"]


@click.command(
    "import", cls=Command, advice=KEPT, epilog="Example: skelpipe import NTU60_CS.npz --out data/ntu60-xsub"
)
@click.argument("paths", nargs=-1, required=True, metavar="FILE|FOLDER|URL...")
@click.option(
    "--out",
    metavar="DIR|URL",
    help="Folder of the dataset, or its URL, such as s3://BUCKET/PREFIX [default: data/NAME-SPLIT].",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(
        [
            *("ctrgcn-npz", "stgcn-npy", "crosclr-npy", "pyskl-pkl", "npy-folders", "openpose", "alphapose"),
            *("mmpose", "mmpose-frames", "ultralytics", "ultralytics-video", "mediapipe", "azure-kinect"),
            *("utkinect-text", "table", "webdataset"),
        ]
    ),
    help="What the files are [default: what their names and contents prove].",
)
@click.option(
    "--split",
    metavar="SPLIT",
    help="The split to import where the files hold several, and its name [default: what the files say].",
)
@click.option("--subset", type=click.Choice(["train", "test"]), help="The subset, where the files do not say it.")
@click.option("--layout", metavar="NAME|YAML", help="Skeleton layout, where the joints' number leaves a choice.")
@click.option("--axes", metavar="LETTERS", help="Order of an array's axes, such as N,T,V,C, where it is unusual.")
@click.option(
    "--channels", metavar="NAMES", help="Meaning of the numbers of a joint, such as x,y,score or x,y,z,score."
)
@click.option(
    "--image-size",
    metavar="WxH",
    help="Size of the pictures, such as 1920x1080, where positions are fractions of it.",
)
@click.option(
    "--y", type=click.Choice(["up", "down"]), help="Where y grows, if the format leaves it open [default: up]."
)
@click.option(
    "--missing-value",
    type=float,
    metavar="NUMBER",
    help="All coordinates of a joint that was not found, such as 0 or -1 (see --missing-joints).",
)
@click.option(
    "--label",
    "label_column",
    metavar="COLUMN|SUFFIX[:NAME]",
    help="Column of metadata.csv that holds the label; of tars of samples its member, such as cls or json:action.",
)
@click.option(
    "--array",
    metavar="SUFFIX[:NAME]",
    default="",
    help="Of tars of samples: member of the positions, such as pose.npy, npz:xyz or json:keypoints.",
)
@click.option("--name", metavar="NAME", help="Name of the dataset [default: the published one's, or the file's].")
@click.option("--classes", metavar="FILE", help="File with the names of the classes, one per line.")
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    help="Frames per clip [default: 64, or those of the files where profile and files agree].",
)
@click.option("--bodies", type=click.IntRange(min=1), help="Bodies per clip [default: those of the files].")
@policy_options
@click.option(
    "--profile",
    type=click.Choice(["crosclr", "ctrgcn", "stored"]),
    help="Preprocessing; stored: clips as they are in the files [default: crosclr, or what had made the files].",
)
@dtype_option
@container_option("--container")
@shard_size_option
@on_error_option
@click.option("--dry-run", is_flag=True, help="Only report what would be imported.")
@overwrite_option
@check_raw_option
@click.option(
    "--work",
    metavar="DIR",
    help="With --out URL: folder for shards before their upload, and for files that are fetched.",
)
@workers_option
@plugin_option
@json_option
def import_(
    *,
    paths: tuple[str, ...],
    out: str | None,
    format_name: str | None,
    split: str | None,
    subset: str | None,
    layout: str | None,
    axes: str | None,
    channels: str | None,
    image_size: str | None,
    y: str | None,
    missing_value: float | None,
    label_column: str | None,
    array: str,
    name: str | None,
    classes: str | None,
    frames: int | None,
    bodies: int | None,
    body_choice: str | None,
    empty_frames: str | None,
    missing_joints: str | None,
    profile: str | None,
    dtype: str,
    container: str,
    shard_size: int,
    on_error: str,
    dry_run: bool,
    overwrite: bool,
    check_raw: bool,
    work: str | None,
    workers: int,
    as_json: bool,
) -> None:
    """Turn files that other programs keep skeletons in into a dataset of shards.

    What is read: docs/importing.md. Files at URLs (http(s)://, s3://, gs://) are fetched first; a brace pattern
    such as train-{000..009}.tar stands for many names. A format is recognised by its contents; where that leaves a
    choice, the error says what to write. Like prepare, the same command continues after an interruption.
    """
    from skelpipe.errors import UsageError
    from skelpipe.manifest_file import axis_letters, channel_names
    from skelpipe.prepare import FORMATS, write_dataset
    from skelpipe.prepare.import_fetch import fetched
    from skelpipe.prepare.import_plan import Wishes, plan_import
    from skelpipe.prepare.report import plan_report, preparation_report
    from skelpipe.storage import local_folder, open_filesystem

    wishes = Wishes(
        format=format_name,
        split=split,
        subset=subset,
        layout=layout,
        axes=axis_letters(axes, f"--axes {axes}") if axes else (),
        channels=channel_names(channels.replace(",", " ").split(), "--channels") if channels else (),
        label_column=label_column,
        name=name,
        classes=classes,
        frames=frames,
        bodies=bodies,
        profile=profile,
        image_size=_size(image_size) if image_size else None,
        y_down=None if y is None else y == "down",
        missing_value=missing_value,
        array=array,
    )
    skip_bad = on_error == "skip"
    options_of_prepare = {
        "shard_size": shard_size,
        "dtype": dtype,
        "body_choice": body_choice,
        "empty_frames": empty_frames,
        "missing_joints": missing_joints,
    }
    said = None if out is None else open_filesystem(out)
    if work is not None and (said is None or said.is_local):
        raise UsageError("--work is for --out URL; --out names a folder, into which shards are written directly")
    if said is not None and said.is_local and said.local_path.exists() and not said.local_path.is_dir():
        raise UsageError(f"--out {said}: is a file")
    work_folder = None if work is None else local_folder(work, "--work")
    local = Path("data") if said is None else said.local_path.parent if said.is_local else None
    with fetched(paths, local or work_folder, quiet=as_json) as files:
        found = plan_import(files.paths, wishes, options_of_prepare, skip_bad=skip_bad)
        manifest, options = found.manifest, found.options
        target = said or open_filesystem(f"data/{manifest.name}-{options.split}")
        if not as_json:
            click.echo(
                f"{found.format.name}: {found.format.title}, profile {options.profile}, {options.frames} frames"
            )
            for note in found.notes:
                click.echo(files.named(note))
        if dry_run:
            show_report(plan_report(manifest, options.split, target, found.plan), as_json)
            return
        outcome = write_dataset(
            manifest,
            lambda: found.plan,
            target,
            options,
            formats=FORMATS[container],
            workers=workers,
            skip_bad=skip_bad,
            overwrite=overwrite,
            check_raw=check_raw,
            work=work_folder,
            quiet=as_json,
        )
    show_report(preparation_report(manifest, target, outcome), as_json)


def _size(said: str) -> tuple[int, int]:
    """Return width and height of pictures."""
    from skelpipe.errors import UsageError
    from skelpipe.untrusted import whole

    width, _, height = said.lower().partition("x")
    size = whole(width) or 0, whole(height) or 0
    if 0 in size:
        raise UsageError(f"--image-size {said}: width and height are expected, such as 1920x1080")
    return size
