"""From the contents of files that other programs wrote to a manifest, a plan and options for `write_dataset`."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import read_lines
from skelpipe.manifest import BY_ID, SUBSETS, Fields, Manifest, Split
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare.plan import Cut, Drop, Plan, Sample
from skelpipe.prepare.planner import LONGEST_ID
from skelpipe.prepare.run import Options
from skelpipe.preprocess import PROFILES, STORED
from skelpipe.raw.collections.contents import UNLABELLED, Contents, Entry, ImportFormat, Request, words
from skelpipe.raw.collections.folders import is_metadata
from skelpipe.raw.collections.formats import find_contents
from skelpipe.raw.collections.web_tars import holds_web_samples
from skelpipe.raw.poses.formats import POSE_FORMATS
from skelpipe.raw.source import ARCHIVES, RawFile, find_raw_files
from skelpipe.raw.web_shards import is_web_shard
from skelpipe.sample_ids import sample_id
from skelpipe.skeleton import Layout, layout, named_layout

__all__ = ["Import", "Wishes", "plan_import"]

FRAMES = 64
FRACTIONS = ("openpose", "ultralytics", "ultralytics-video", "mediapipe")  # readers that may find fractions
NTU = ("ntu60", "ntu120")
NTU_JOINTS = 25
OWN_SPLIT = "given"
PLAIN = re.compile(r"[^A-Za-z0-9_-]+")
GENERIC = {"train", "val", "valid", "test", "data", "label", "labels", "position", "joint", "joints"}
GENERIC |= {"xsub", "xview", "xset", "raw"}
SUFFIXES = (".npy", ".npz", ".pkl", ".pickle", ".gz", ".bz2", ".xz", ".tgz", ".tar")


@dataclass(frozen=True)
class Wishes:
    """What a user may say of an import; None and empty leave it to the files."""

    format: str | None = None
    split: str | None = None
    subset: str | None = None
    layout: str | None = None
    axes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    label_column: str | None = None
    name: str | None = None
    classes: str | None = None
    frames: int | None = None
    bodies: int | None = None
    profile: str | None = None
    image_size: tuple[int, int] | None = None
    y_down: bool | None = None
    missing_value: float | None = None
    array: str = ""


@dataclass(frozen=True)
class Import:
    """One import: how the files are read, what is written, and lines about them for the user."""

    format: ImportFormat
    manifest: Manifest
    plan: Plan
    options: Options
    notes: tuple[str, ...]


def plan_import(paths: Sequence[str], wishes: Wishes, options: Mapping[str, object], *, skip_bad: bool) -> Import:
    """Return the plan for the recordings in files and folders that other programs wrote.

    `options` are those of `Options` that the files do not decide. Raises UsageError where the files are of no
    known format, or where the user has to say more, and RawError for damaged files.
    """
    chosen = named_layout(wishes.layout) if wishes.layout else None
    request = Request(
        _files(paths, wishes.format),
        wishes.split,
        wishes.subset,
        chosen.name if chosen else None,
        len(chosen) if chosen else None,
        wishes.axes,
        wishes.channels,
        wishes.label_column,
        wishes.image_size,
        bool(wishes.y_down),
        wishes.array,
    )
    format_, contents = find_contents(request, wishes.format)
    if wishes.array and contents.array != wishes.array:
        raise UsageError(f"--array {wishes.array}: names a member of the samples in tars, and there are none")
    where = contents.entries[0].file.path if contents.entries else str(paths[0])
    layout_ = chosen or _only_layout(contents, where)
    if len(layout_) != contents.joints:
        raise UsageError(f"{where}: {contents.joints} joints, layout {layout_.name} has {len(layout_)}")
    y_down = _checked_words(request, wishes, format_, contents, where)
    published = _published(contents, where)
    split = wishes.split or contents.split or OWN_SPLIT
    profile, frames, made_by, padded = _profile(contents, wishes, where)
    fields = _fields(contents, published)
    classes, note = _classes(contents, wishes.classes, published, where)
    bodies = wishes.bodies or contents.bodies
    own = format_.read is None  # files of one's own, not arrays that a paper's code has written
    manifest = Manifest(
        name=wishes.name or (published.name if published else _plain_name(paths)),
        title=published.title
        if published
        else f"{wishes.name or _plain_name(paths)}, imported from {format_.title}",
        reader=contents.reader,
        layout=layout_,
        units=contents.units,
        y_down=y_down,
        bodies=bodies,
        name_pattern=published.name_pattern if published and fields else re.compile(".*", re.DOTALL),
        suffixes=("",),
        strict_names=False,
        label="action",
        first_label=0,
        ranges={},
        missing=frozenset(),
        recordings=None,
        segments=None,
        classes=classes,
        classes_note=note,
        splits={split: _split(split, published)},
        terms=published.terms if published else "The terms of the source are not stated.",
        homepage=published.homepage if published else "",
        axes=contents.axes,
        channels=contents.channels,
        array=contents.array,
        body_choice="motion" if own else "first",
        empty_frames="dropped" if own else "as-authors",
        missing_joints=contents.missing_joints,
        missing_value=wishes.missing_value,
        image_size=contents.image_size,
        made_by=made_by,
        padded=padded,
    )
    plan = _plan(contents, fields, skip_bad=skip_bad)
    if not plan.samples:
        raise SkelpipeError(f"{where}: no recording is left to import: {len(plan.drops)} are left out")
    decided = Options(split, frames, bodies, profile=profile, **options)  # type: ignore[arg-type]
    notes = (*contents.notes, *([] if published or contents.classes else _gaps(contents)))
    return Import(format_, manifest, plan, decided, notes)


def _files(paths: Sequence[str], format_name: str | None) -> list[RawFile]:
    """List files and the files in folders; a file given by name counts once.

    A tar of samples is one file, other archives are listed by their members.
    """

    def is_shard(path: Path) -> bool:
        return is_web_shard(path.name) and (format_name == "webdataset" or holds_web_samples(path))

    found: dict[str, RawFile] = {}
    for said in paths:
        if "://" in said:
            raise UsageError("a URL is fetched before it is planned: see skelpipe.prepare.import_fetch")
        path = Path(said)
        if path.is_file() and is_shard(path):
            status = path.stat()
            files = [RawFile(path.name, str(path), status.st_size, status.st_mtime_ns)]
        elif path.is_dir() or (path.is_file() and path.name.lower().endswith(ARCHIVES)):
            files = list(find_raw_files([path], is_shard))
        elif path.is_file():
            status = path.stat()
            files = [RawFile(path.name, str(path), status.st_size, status.st_mtime_ns)]
        else:
            raise UsageError(f"{path}: there is no such file or folder")
        found.update({file.path: file for file in files})
    return list(found.values())


def _checked_words(
    request: Request, wishes: Wishes, format_: ImportFormat, contents: Contents, where: str
) -> bool:
    """Return whether y grows downwards; UsageError for what the user says and the format has no use for."""
    kind = POSE_FORMATS.get(contents.reader)
    if request.channels and (
        contents.channels != request.channels or (kind and kind.channels and request.channels not in kind.channels)
    ):
        known = [",".join(one) for one in kind.channels] if kind else [",".join(contents.channels)]
        raise UsageError(
            f"{where}: --channels {','.join(request.channels)}: the numbers of a joint in {format_.title} are"
            f" {' or '.join(filter(None, known)) or 'x,y,z'}"
        )
    if request.axes and (contents.axes != request.axes or (kind is not None and contents.reader != "table")):
        raise UsageError(f"{where}: --axes: {format_.title} has an order of its own: leave --axes out")
    if request.image_size and contents.reader not in FRACTIONS:
        raise UsageError(
            f"{where}: --image-size: {format_.title} holds no fractions of a picture: leave --image-size out"
        )
    if request.subset and any(entry.subset != request.subset for entry in contents.entries):
        raise UsageError(
            f"{where}: --subset {request.subset}: the files say themselves what is for training and testing: leave"
            " --subset out"
        )
    in_tars = format_.name == "webdataset"
    if request.label_column and not in_tars and (format_.read or not any(map(is_metadata, request.files))):
        raise UsageError(f"{where}: --label {request.label_column}: there is no metadata.csv or metadata.jsonl")
    if wishes.y_down is None:
        return contents.y_down
    if kind is not None and kind.y_down is not None and kind.y_down != wishes.y_down:
        raise UsageError(
            f"{where}: --y {'down' if wishes.y_down else 'up'}: in {format_.title} y grows"
            f" {'downwards' if kind.y_down else 'upwards'}"
        )
    return wishes.y_down


def _only_layout(contents: Contents, where: str) -> Layout:
    if len(contents.layouts) == 1:
        return layout(contents.layouts[0])
    choice = (
        f": say --layout {' or '.join(contents.layouts)}" if contents.layouts else ": say --layout NAME or YAML"
    )
    raise UsageError(f"{where}: has {contents.joints} joints per body, which is not one layout{choice}")


def _gaps(contents: Contents) -> list[str]:
    """Return a note on classes without a clip, as where labels are 0, 7, 14."""
    without = contents.class_count - len({entry.label for entry in contents.entries if entry.label != UNLABELLED})
    if without <= 0:
        return []
    return [f"{without:,} of {contents.class_count:,} classes have no clip: labels are taken as numbers from 0"]


def _published(contents: Contents, where: str) -> Manifest | None:
    """Return the built-in dataset that the recordings are of, if their names or the number of classes prove it."""
    if contents.joints != NTU_JOINTS:
        return None
    ntu = [load_manifest(name) for name in NTU]
    parsed = [ntu[1].fields(entry.id) for entry in contents.entries]
    labels = [entry.label for entry in contents.entries]
    if all(fields and fields["action"] == label + 1 for fields, label in zip(parsed, labels, strict=True)):
        return next((one for one in ntu if not any(one.outside(fields or {}) for fields in parsed)), None)
    if any(parsed):
        return None
    counts = {len(one.classes): one for one in ntu}
    if contents.class_count in counts:
        return counts[contents.class_count]
    said = words(PurePath(where).name) + words(PurePath(where).parent.name)
    named = [one for one in ntu if one.name in said]
    fits = len(named) == 1 and not contents.all_classes and contents.class_count <= len(named[0].classes)
    return named[0] if fits else None


def _fields(contents: Contents, published: Manifest | None) -> dict[str, Fields]:
    """Return the fields of the recordings' names, by id; empty where the names have none."""
    if published is None or not contents.entries or published.fields(contents.entries[0].id) is None:
        return {}
    return {entry.id: published.fields(entry.id) or {} for entry in contents.entries}


def _split(name: str, published: Manifest | None) -> Split:
    counts = published.splits[name].published if published and name in published.splits else {}
    return Split(name, BY_ID, published=counts)


def _classes(
    contents: Contents, file: str | None, published: Manifest | None, where: str
) -> tuple[tuple[str, ...], str]:
    if file is not None:
        lines = read_lines(Path(file), f"--classes {file}", plain=False)
        names = [line.strip() for line in lines if line.strip()]
        if len(set(names)) != len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise UsageError(f"--classes {file}: the name {twice!r} stands there twice")
        if len(names) < contents.class_count:
            raise UsageError(f"--classes {file}: {len(names)} names, {where} has {contents.class_count} classes")
        return tuple(names), ""
    if contents.classes:
        return contents.classes, ""
    if published is not None:
        return published.classes, published.classes_note
    return tuple(f"class {label}" for label in range(contents.class_count)), "The files have no names of classes."


def _profile(contents: Contents, wishes: Wishes, where: str) -> tuple[str, int, str, bool]:
    """Return profile, frames, and the `made_by` and `padded` of the manifest."""
    profile = wishes.profile or contents.made_by or contents.profile
    if profile not in PROFILES:
        raise UsageError(f"profile {profile!r} is unknown; there are: {', '.join(PROFILES)}")
    own = contents.frames if profile in (STORED, contents.made_by) and not _resized(contents, profile) else None
    frames = wishes.frames or own or FRAMES
    if contents.made_by and not contents.padded and profile not in (STORED, contents.made_by):
        raise UsageError(
            f"{where}: its clips were made by the steps of profile {contents.made_by}, which profile {profile}"
            f" cannot undo: say --profile {contents.made_by} or {STORED}"
        )
    if contents.made_by == profile and not contents.padded and frames != contents.frames:
        raise UsageError(
            f"{where}: its clips were made by profile {profile} with {contents.frames} frames: leave out --frames"
            f" {frames}, or resize them by --profile {STORED}"
        )
    if profile == contents.made_by:
        return profile, frames, profile, contents.padded
    whole = profile == STORED and frames == contents.frames
    return profile, frames, "", contents.padded and not whole


def _resized(contents: Contents, profile: str) -> bool:
    """Return whether the clips of a profile are resized from as many frames as each recording has."""
    return profile == contents.made_by and contents.padded


def _plan(contents: Contents, fields: Mapping[str, Fields], *, skip_bad: bool) -> Plan:
    plan = Plan(imported=True, outside=Counter(contents.outside))
    seen: dict[str, RawFile] = {}
    for entry in contents.entries:
        assert entry.subset in SUBSETS
        identity = sample_id(entry.id)
        if identity in seen:
            first = seen[identity]
            raise UsageError(
                f"{entry.file.place}: the name {entry.id!r} is already that of another recording, {first.place}"
            )
        seen[identity] = entry.file
        known = fields.get(entry.id, {})
        reason = f"its id is longer than {LONGEST_ID} bytes" if len(identity.encode()) > LONGEST_ID else ""
        if entry.label == UNLABELLED and contents.class_count:
            reason = "it has no label, and others have"
        if reason:
            drop = Drop(identity, entry.subset, entry.label, known, reason)
            plan.refuse(drop, f"{entry.file.place}: {entry.id}: {reason}", skip_bad=skip_bad)
        else:
            cut = _cut(entry)
            plan.samples.append(Sample(identity, entry.subset, entry.label, known, entry.file, cut))
    plan.drops.sort(key=lambda drop: drop.id)
    plan.samples.sort(key=lambda sample: sample.id)
    return plan


def _cut(entry: Entry) -> Cut | None:
    if entry.piece is None:
        return None
    return Cut(PurePath(entry.file.relative).stem, *entry.piece, longest=entry.piece[1], origin=entry.origin)


def _plain_name(paths: Sequence[str]) -> str:
    """Return a name for the dataset: that of the file, or of the folder that holds it."""
    path = Path(paths[0]).resolve()
    stem = path.name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    if _is_generic(stem):
        others = [part for part in reversed(path.parts[1:-1]) if not _is_generic(part)]
        stem = others[0] if others else "imported"
    return PLAIN.sub("-", stem).strip("-") or "imported"


def _is_generic(name: str) -> bool:
    """Return whether a name says nothing of a dataset: `train-000000`."""
    return all(word in GENERIC or word.isdecimal() for word in words(name))
