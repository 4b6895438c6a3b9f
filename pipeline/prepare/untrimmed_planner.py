"""Planning of untrimmed recordings: which files are label files, and the clips of their rows."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from skelpipe.errors import RawError
from skelpipe.manifest import Manifest, Segments, Split
from skelpipe.prepare.plan import Cut, Drop, Found, Plan, Sample, Video
from skelpipe.raw.labels import Segment, looks_like_labels, read_segments
from skelpipe.raw.source import RawFile, TextBuffer
from skelpipe.sample_ids import name_of_sample, sample_id

__all__ = ["plan_segments", "split_label_files"]

LARGEST_LABELS = 1 << 16  # bytes; a larger file is a recording, a smaller one may be either
HEAD = 4096  # bytes that decide between the two
NO_LABELS = "there is no label file of this video"
NO_VIDEO = "there is no video of this label file"
DOUBLED_LABELS = "its label file is found more than once"


def split_label_files(
    manifest: Manifest, segments: Segments, files: Iterable[RawFile]
) -> tuple[list[RawFile], list[tuple[str, RawFile]]]:
    """Return recordings (and other files), and label files with the id of their recording.

    If a recording and its label file have the same name, their content decides. If neither of two such files looks
    like labels, the smaller one is taken as the label file, so that the error message names it.
    """
    others: list[RawFile] = []
    labels: list[tuple[str, RawFile]] = []
    either: dict[str, list[RawFile]] = {}
    text = TextBuffer()
    for file in files:
        name = manifest.identity(file.named, segments.suffixes)
        if name is None or manifest.fields(name) is None:
            others.append(file)
            continue
        identity = sample_id(name)
        if manifest.identity(file.named) is None or _holds_labels(file, text):
            labels.append((identity, file))
        else:
            either.setdefault(identity, []).append(file)
    known = {identity for identity, _ in labels}
    for identity, same in either.items():
        small = min(same, key=lambda file: file.size)
        if len(same) == 2 and identity not in known and small.size <= LARGEST_LABELS:
            labels.append((identity, small))
            same.remove(small)
        others += same
    return others, labels


def _holds_labels(file: RawFile, text: TextBuffer) -> bool:
    if not 0 <= file.size <= LARGEST_LABELS:
        return False
    try:
        return looks_like_labels(bytes(text.read_raw(file)[:-1][:HEAD]))
    except RawError:  # reported when the file is read completely
        return False


def plan_segments(
    manifest: Manifest,
    segments: Segments,
    split: Split,
    found: dict[str, Found],
    label_files: Iterable[tuple[str, RawFile]],
    plan: Plan,
    *,
    skip_bad: bool,
) -> None:
    """Add the videos and their clips to the plan. The id of a clip is video and line of the row, `0002-L_007`.

    A video without a label file, a label file without a video or with a damaged row, and a second label file are
    RawErrors that name the file (and line), or drops with `skip_bad`.
    """
    labels: dict[str, RawFile] = {}
    for identity, file in label_files:
        if identity not in labels:
            labels[identity] = file
            continue
        message = f"{file.path}: the label file is found twice, first as {labels[identity].path}"
        if one := found.pop(identity, None):
            plan.refuse(Drop(identity, one.subset, -1, one.fields, DOUBLED_LABELS), message, skip_bad=skip_bad)
    for identity, one in sorted(found.items()):
        if identity not in labels:
            message = f"{one.file.path}: {NO_LABELS} ({identity}{' or '.join(segments.suffixes)})"
            plan.refuse(Drop(identity, one.subset, -1, one.fields, NO_LABELS), message, skip_bad=skip_bad)
        else:
            _plan_video(manifest, segments, identity, one, labels[identity], plan, skip_bad=skip_bad)
    known = found.keys() | {drop.id for drop in plan.drops}
    for identity in sorted(labels.keys() - known):
        name = name_of_sample(identity)
        fields = manifest.fields(name) or {}
        subset = split.subset(fields, name)
        if subset and manifest.outside(fields) is None:
            drop = Drop(identity, subset, -1, fields, NO_VIDEO)
            plan.refuse(drop, f"{labels[identity].path}: {NO_VIDEO}", skip_bad=skip_bad)


def _plan_video(
    manifest: Manifest, segments: Segments, identity: str, one: Found, file: RawFile, plan: Plan, *, skip_bad: bool
) -> None:
    text = TextBuffer(hashing="xxh128")
    try:
        rows = read_segments(text.read_raw(file), file.path)
        plan.label_files[file] = text.hash
    except RawError as error:
        reason = str(error).replace(file.path, Path(file.path).name)
        plan.refuse(Drop(identity, one.subset, -1, one.fields, reason), str(error), skip_bad=skip_bad)
        return
    good = [row for row in rows if _damage(row, manifest) is None]
    labels = [manifest.label_of(row.action) for row in rows]
    for row, label in zip(rows, labels, strict=True):
        clip = f"{identity}_{row.line:03d}"
        cut = Cut(identity, max(row.start, 1), row.end, segments.longest, f"{file.path}:{row.line}")
        wrong = _damage(row, manifest)
        if wrong or label is None:
            reason = f"{Path(file.path).name}:{row.line}: {wrong}"
            plan.refuse(
                Drop(clip, one.subset, -1, one.fields, reason, cut), f"{cut.origin}: {wrong}", skip_bad=skip_bad
            )
            continue
        assert label is not None
        notes = [f"overlaps {identity}_{other.line:03d}" for other in good if _overlap(row, other)]
        if row.start < 1:
            notes.append(f"frames {row.start} to {row.end}: cut at the video's first")
        plan.samples.append(Sample(clip, one.subset, label, one.fields, one.file, cut, "; ".join(notes)))
    if len(good) == len(rows):  # the frames of a damaged row would count as background
        numbered = (
            replace(row, action=label + 1) for row, label in zip(rows, labels, strict=True) if label is not None
        )
        plan.videos.append(Video(identity, one.subset, one.fields, one.file, tuple(numbered)))


def _damage(row: Segment, manifest: Manifest) -> str | None:
    if manifest.label_of(row.action) is None:
        return f"class {row.action} is not one of {manifest.numbering.removeprefix('numbered ')}"
    if row.end < row.start or row.end < 1:
        return f"frames {row.start} to {row.end} are no piece of a video"
    return None


def _overlap(one: Segment, other: Segment) -> bool:
    return one.line != other.line and one.start <= other.end and other.start <= one.end
