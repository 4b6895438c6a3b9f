"""`skelpipe prepare`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from skelpipe.door.visible import visible_in
from skelpipe.front.descriptions import counted

if TYPE_CHECKING:
    from skelpipe.manifest import Manifest
    from skelpipe.prepare import Options
    from skelpipe.storage.filesystem import Filesystem

__all__ = ["prepare", "show_report"]

SHOWN = 5


@click.command(
    cls=Command,
    advice=KEPT,
    epilog="Example: skelpipe prepare --dataset ntu60 --split xsub --raw raw/ntu60 --out data/ntu60-xsub",
)
@click.option(
    "--dataset",
    "name",
    required=True,
    metavar="NAME|YAML",
    help="ntu60, ntu120, pkummd1, pkummd2, msr-action3d, nw-ucla, or the .yaml of your own dataset.",
)
@click.option(
    "--split",
    required=True,
    metavar="SPLIT",
    help="Protocol: xsub; also xview (ntu60, pkummd1, pkummd2; the only one of nw-ucla), xset (ntu120), or a split"
    " of your .yaml.",
)
@click.option(
    "--split-file",
    metavar="FILE",
    help="File with the split's training and testing ids, as in PKU-MMD's download; replaces built-in lists.",
)
@click.option(
    "--raw",
    multiple=True,
    metavar="DIR|ARCHIVE",
    help="Folder of raw recordings, at any depth, or .zip, .tar or .tar.gz archive as downloaded; may be given"
    " more than once [default: raw/DATASET].",
)
@click.option(
    "--out",
    metavar="DIR|URL",
    help="Folder of the dataset, or its URL, such as s3://BUCKET/PREFIX [default: data/DATASET-SPLIT].",
)
@click.option(
    "--work",
    metavar="DIR",
    help="With --out URL: folder for shards before their upload, one per worker [default: the temporary folder].",
)
@click.option("--frames", type=click.IntRange(min=2), default=64, show_default=True, help="Frames per clip.")
@click.option("--bodies", type=click.IntRange(min=1), help="Bodies per clip [default: those of the dataset].")
@policy_options
@shard_size_option
@click.option(
    "--profile",
    type=click.Choice(["crosclr", "ctrgcn"]),
    default="crosclr",
    show_default=True,
    help="Preprocessing: that of the self-supervised papers, or that of CTR-GCN.",
)
@click.option(
    "--second-body",
    type=click.Choice(["zeros", "copy"]),
    default="zeros",
    show_default=True,
    help="Content of body 2 in a clip of one body (copy: profile ctrgcn only).",
)
@dtype_option
@container_option("--format")
@click.option(
    "--untrimmed",
    is_flag=True,
    help="Also store whole videos with one label per frame (PKU-MMD), for segmentation.",
)
@on_error_option
@click.option(
    "--dry-run", is_flag=True, help="Only report what would be prepared, from file names and label files."
)
@click.option(
    "--check",
    is_flag=True,
    help="Read a few recordings and say what they look like: shape, ranges, units, direction of y, warnings; draw"
    " one of them; write no dataset.",
)
@click.option(
    "--check-out",
    metavar="FILE",
    help="With --check: page (.html) or animation (.gif) to draw [default: OUT-check.html].",
)
@overwrite_option
@check_raw_option
@click.option(
    "--engine",
    type=click.Choice(["processes", "dask"]),
    default="processes",
    show_default=True,
    help="Engine: --workers processes on this machine, or the dask cluster of --scheduler (needs skelpipe[dask]).",
)
@click.option("--scheduler", metavar="ADDRESS", help="Scheduler of --engine dask, such as tcp://10.0.0.1:8786.")
@workers_option
@plugin_option
@json_option
def prepare(
    *,
    name: str,
    split: str,
    split_file: str | None,
    raw: tuple[str, ...],
    out: str | None,
    work: str | None,
    frames: int,
    bodies: int | None,
    body_choice: str | None,
    empty_frames: str | None,
    missing_joints: str | None,
    shard_size: int,
    profile: str,
    second_body: str,
    dtype: str,
    container: str,
    untrimmed: bool,
    on_error: str,
    dry_run: bool,
    check: bool,
    check_out: str | None,
    overwrite: bool,
    check_raw: bool,
    engine: str,
    scheduler: str | None,
    workers: int,
    as_json: bool,
) -> None:
    """Turn raw recordings into a dataset of shards.

    After an interruption, the same command continues where it stopped. The card is written last, in a folder and
    at a URL; before that there is no dataset. Credentials come from the environment. Only one prepare at a time
    may write to a URL.
    """
    from skelpipe.errors import UsageError
    from skelpipe.prepare import FORMATS, prepare, survey
    from skelpipe.prepare.report import plan_report, preparation_report
    from skelpipe.prepare.request import requested

    made = requested(
        name,
        split,
        split_file=split_file,
        raw=raw,
        out=out,
        work=work,
        engine=engine,
        scheduler=scheduler,
        frames=frames,
        bodies=bodies,
        shard_size=shard_size,
        profile=profile,
        dtype=dtype,
        second_body=second_body,
        untrimmed=untrimmed,
        body_choice=body_choice,
        empty_frames=empty_frames,
        missing_joints=missing_joints,
    )
    manifest, folders, target, options = made.manifest, made.folders, made.target, made.options
    if check_out is not None and not check:
        raise UsageError("--check-out is for --check")
    if check:
        default = f"{target.local_path}-check.html" if target.is_local else f"{manifest.name}-{split}-check.html"
        _check(manifest, folders, options, target, Path(check_out or default), as_json=as_json)
        return
    if dry_run:
        plan = survey(manifest, folders, options, skip_bad=on_error == "skip")
        show_report(plan_report(manifest, split, target, plan), as_json)
        return
    outcome = prepare(
        manifest,
        folders,
        target,
        options,
        formats=FORMATS[container],
        workers=workers,
        scheduler=scheduler,
        skip_bad=on_error == "skip",
        overwrite=overwrite,
        check_raw=check_raw,
        work=made.work,
        quiet=as_json,
    )
    show_report(preparation_report(manifest, target, outcome), as_json)


def _check(
    manifest: "Manifest",
    folders: Sequence[Path],
    options: "Options",
    target: "Filesystem",
    picture: Path,
    *,
    as_json: bool,
) -> None:
    from skelpipe.drawing.page import write_page
    from skelpipe.drawing.sources import recording_scene
    from skelpipe.errors import UsageError
    from skelpipe.prepare.check import check_report, look
    from skelpipe.prepare.report import plan_report

    if picture.suffix.lower() not in (".html", ".gif"):
        raise UsageError(f"--check-out {picture}: a recording is drawn as .html or .gif")
    seen = look(manifest, folders, options)
    report = {**plan_report(manifest, options.split, target, seen.plan), **check_report(seen), "picture": None}
    report.pop("dry_run")
    drawn = next(((one, recording) for one, recording in seen.recordings if recording.bodies), None)
    if drawn is not None:
        scene = recording_scene(drawn[1], drawn[0].file.path, manifest, "joint")
        picture.parent.mkdir(parents=True, exist_ok=True)
        if picture.suffix.lower() == ".gif":
            from skelpipe.drawing.gif import write_gif

            write_gif(scene, picture, quiet=as_json)
        else:
            write_page(scene, picture)
        report["picture"] = str(picture)
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(f"check: {counted(len(report['recordings']), 'recording')} read, no dataset is written")
    for row in report["recordings"]:
        click.echo(f"  {row['id']}: frames {row['frames']}, bodies {row['bodies']}, joints {row['joints']}")
    for axis, limits in report["ranges"].items():
        click.echo(f"{axis}      {'no value' if limits is None else '{:.4g} to {:.4g}'.format(*limits)}")
    units = f"look like {report['units']}" if report["units"] else "cannot be guessed"
    click.echo(f"units  {units}; the manifest says {manifest.units}")
    y = f"grows {report['y']}wards" if report["y"] else "direction cannot be guessed"
    click.echo(f"y      {y}; the manifest says {report['said_y']}")
    for message in report["refused"]:
        click.echo(f"would drop: {message}")
    show_report(report, as_json=False)
    for warning in report["checks"]:
        click.echo(f"Warning: {warning}", err=True)
    if report["picture"]:
        click.echo(f"drawn: {report['picture']}")


def show_report(report: Mapping[str, Any], as_json: bool) -> None:
    from skelpipe.prepare.completeness import completeness_lines

    if as_json:
        click.echo(json.dumps(report))
        return
    report = visible_in(dict(report))
    if report.get("dry_run"):
        click.echo("dry run: nothing is written")
    if report.get("was_complete"):
        click.echo(f"{report['out']}: already complete, nothing to do")
    click.echo(f"{report['out']}: {report['train']:,} training and {counted(report['test'], 'test clip')}")
    for reason, count in list(report["dropped"].items())[:SHOWN]:
        click.echo(f"dropped {count:,}: {reason}")
    if (more := len(report["dropped"]) - SHOWN) > 0:
        click.echo(f"dropped for {more:,} more reasons, see samples.parquet")
    for reason, count in report["outside"].items():
        click.echo(f"ignored {count:,}: {reason}")
    for identity, note in list(report["notes"].items())[:SHOWN]:
        click.echo(f"noted {identity}: {note}")
    if (more := len(report["notes"]) - SHOWN) > 0:
        click.echo(f"noted {more:,} more, see samples.parquet")
    for line in completeness_lines(report.get("real")):
        click.echo(line)
    if warning := report.get("like_score"):
        click.echo(f"Warning: {warning}", err=True)
    if videos := report.get("untrimmed"):
        click.echo(f"untrimmed: {videos['train']:,} training and {counted(videos['test'], 'test video')}")
    if published := report["published"]:
        expected = f"{published['train']:,} training and {counted(published['test'], 'test clip')} are published"
        if report["absent"]:
            first = f", first {report['first_absent']}" if report["first_absent"] else ""
            click.echo(f"{expected}; {report['absent']:,} {report['unit']} are missing{first}")
        else:
            click.echo(f"{expected}: {'not these' if report['too_many'] else 'complete'}")
    for subset, count in report["too_many"].items():
        click.echo(f"Warning: {counted(count, f'more {subset} clip')} than are published", err=True)
    if unmatched := report["unmatched"]:
        listed = ", ".join(unmatched[:SHOWN])
        if len(unmatched) > SHOWN:
            listed += f" and {len(unmatched) - SHOWN:,} more"
        click.echo(f"Warning: no recording has these values of split {report['split']}: {listed}", err=True)
    for subset in ("train", "test"):
        if not report[subset]:
            click.echo(f"Warning: the {subset} subset of split {report['split']} is empty", err=True)
    if implausible := report.get("implausible"):
        click.echo(f"Warning: bodies do not look like bodies: {'; '.join(implausible)}", err=True)
    if "digest" in report:
        click.echo(f"digest {report['digest']}")
