"""From file names (and label files) to a plan: which recordings are kept, in which subset of the split."""

import os
from collections.abc import Iterable, Sequence

from skelpipe.dataset.tar_shard import LONGEST_NAME
from skelpipe.door.visible import visible
from skelpipe.errors import RawError, UsageError
from skelpipe.manifest import BY_ID, SUBSETS, Manifest, Split, Value
from skelpipe.prepare.name_example import example_file
from skelpipe.prepare.plan import Cut, Drop, Found, Plan, Sample
from skelpipe.prepare.untrimmed_planner import plan_segments, split_label_files
from skelpipe.raw.collections.formats import import_hint
from skelpipe.raw.frame_files import joined
from skelpipe.raw.poses.formats import reads_frame_files
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.source import RawFile
from skelpipe.sample_ids import name_of_sample, sample_id

__all__ = ["LONGEST_ID", "make_plan", "unmatched_split", "unmatched_values"]

LONGEST_ID = LONGEST_NAME - len("_0000.motion.npy")
LONGEST_CUT = LONGEST_NAME - len("_000000.motion.npy")  # of a recording that is cut into windows
MISNAMED = "its name is no recording's name of this dataset"
DOUBLED = "the id is found more than once"
MISSING = "on the dataset's list of missing or incomplete skeletons"
ON_NO_LIST = "on neither list of the split"
SHOWN = 5  # values that a message lists


def make_plan(manifest: Manifest, split_name: str, files: Iterable[RawFile], *, skip_bad: bool) -> Plan:
    """Sort the files into samples, drops and other files; cut recordings by their label files or into windows.

    Files that each hold a frame are joined first (`skelpipe.raw.frame_files`).

    A recording with a wrong name or an unknown class, or an id found twice, is a RawError that names the files, or
    a drop with `skip_bad`. Of an id found twice no file is used then, since either may be the right one. Raises
    UsageError if class numbers seem to count from 0, or if a subset is empty because no recording has a value that
    the split lists.
    """
    plan = Plan()
    split = manifest.split(split_name)
    if reads_frame_files(manifest.reader):
        files = joined(files, manifest.suffixes)
    if manifest.segments:
        files, label_files = split_label_files(manifest, manifest.segments, files)
        found = _find(manifest, split, files, plan, skip_bad=skip_bad)
        plan_segments(manifest, manifest.segments, split, found, label_files, plan, skip_bad=skip_bad)
    else:
        found = _find(manifest, split, files, plan, skip_bad=skip_bad)
        for identity, one in found.items():
            label = manifest.class_of(one.fields)
            if label is None:
                reason = _no_such_class(manifest, one)
                plan.refuse(
                    _drop(manifest, identity, one, reason), f"{one.file.path}: {reason}", skip_bad=skip_bad
                )
            else:
                plan.samples.append(Sample(identity, one.subset, label, one.fields, one.file))
        if manifest.windows:
            _cut_into_windows(manifest, plan, skip_bad=skip_bad)
    if plan.samples:
        _require_values(manifest, split, plan)
    plan.samples.sort(key=lambda sample: sample.id)
    plan.videos.sort(key=lambda video: video.id)
    plan.drops.sort(key=lambda drop: (drop.id, drop.reason))
    return plan


def _find(
    manifest: Manifest, split: Split, files: Iterable[RawFile], plan: Plan, *, skip_bad: bool
) -> dict[str, Found]:
    """Return the recordings by id; add drops and the numbers of other files to the plan."""
    found: dict[str, Found] = {}
    twice: set[str] = set()
    missing = {sample_id(name) for name in manifest.missing}
    reason: str | None
    for file in files:
        name = manifest.identity(file.named)
        fields = None if name is None else manifest.fields(name)
        if name is None or (fields is None and not manifest.strict_names):
            plan.others += 1
            plan.other = plan.other or file.path
            continue
        identity = sample_id(name)
        if fields is None:
            if not skip_bad and (hint := import_hint(file.path)):
                raise RawError(hint)
            reason, wanted = MISNAMED, f"; one of its names is {example_file(manifest)}"
        else:
            reason, wanted = _wrong_with(manifest, name), ""
            if reason and manifest.table:
                wanted = f"; its name is {name}, those of the rows are like {next(iter(manifest.table.rows))}"
        if reason:
            where = visible(file.path)
            plan.refuse(Drop(identity, "", -1, {}, reason), f"{where}: {reason}{wanted}", skip_bad=skip_bad)
            continue
        assert fields is not None
        if reason := manifest.outside(fields):
            plan.outside[reason] += 1
            continue
        subset = split.subset(fields, name)
        if subset is None:
            plan.outside[ON_NO_LIST] += 1
            plan.unlisted.add(name if split.field == BY_ID else fields.get(split.field, ""))
            continue
        if identity in found:
            if identity not in twice:
                message = f"{file.path}: the id is found twice, first as {found[identity].file.path}"
                plan.refuse(_drop(manifest, identity, found[identity], DOUBLED), message, skip_bad=skip_bad)
            twice.add(identity)
            continue
        found[identity] = Found(file, fields, subset)
    for identity in twice:
        del found[identity]
    for identity in found.keys() & missing:
        plan.drops.append(_drop(manifest, identity, found.pop(identity), MISSING))
    return found


def _wrong_with(manifest: Manifest, name: str) -> str | None:
    """Return why a recording of this name cannot be a sample, or None."""
    longest = LONGEST_CUT if manifest.windows else LONGEST_ID
    if len(sample_id(name).encode()) > longest:
        return f"its id is longer than {longest} bytes"
    if manifest.table and manifest.table.get(name) is None:
        return f"no row of {manifest.table.file} names it"
    return None


def _no_such_class(manifest: Manifest, one: Found) -> str:
    """Return what is wrong with a recording's class; UsageError if the classes seem to be counted from 0."""
    value = one.fields.get(manifest.label, "")
    source = manifest.table.file if manifest.table else "its name"
    if isinstance(value, str):
        return f"{source} says class {value!r}; the dataset's are {_few(manifest.classes)}"
    reason = f"{source} says class {value}; the dataset's are {manifest.numbering}"
    if value == 0 and manifest.first_label == 1 and not manifest.class_numbers:
        raise UsageError(
            f"{one.file.path}: {reason}: if 0 is the first class, write first_label: 0 in the dataset's YAML, or"
            " all labels are off by one"
        )
    return reason


def _cut_into_windows(manifest: Manifest, plan: Plan, *, skip_bad: bool) -> None:
    """Replace each sample by its windows. Recordings are read for their number of frames."""
    assert manifest.windows is not None
    windows, reader = manifest.windows, RecordingReader(manifest)
    whole, plan.samples = sorted(plan.samples, key=lambda sample: sample.id), []
    for one in whole:
        path = one.file.path
        try:
            frames = reader.read(one.file).frames
        except RawError as error:
            reason = str(error).replace(path, path.replace(os.sep, "/").rpartition("/")[2])
            plan.refuse(Drop(one.id, one.subset, one.label, one.fields, reason), str(error), skip_bad=skip_bad)
            continue
        for start in windows.starts(frames):
            end = min(start + windows.length, frames)
            note = "" if end - start == windows.length else f"shorter than a window of {windows.length} frames"
            cut = Cut(one.id, start + 1, end, windows.length, f"{path}:frames {start + 1} to {end}")
            name = f"{one.id}_{start + 1:06d}"
            plan.samples.append(Sample(name, one.subset, one.label, one.fields, one.file, cut, note))


def _require_values(manifest: Manifest, split: Split, plan: Plan) -> None:
    """Raise UsageError if a subset of a user's dataset is empty since no recording has a value listed for it."""
    if not manifest.own:
        return
    clips: list[Sample | Drop] = [*plan.samples, *plan.drops]
    names = {(clip.cut.recording if clip.cut else clip.id): clip.fields for clip in clips}
    filled = {clip.subset for clip in clips}
    for subset in SUBSETS:
        listed = getattr(split, subset)
        if not listed or subset in filled:
            continue
        seen: set[Value] = set()
        for identity, fields in names.items():
            seen.add(name_of_sample(identity) if split.field == BY_ID else fields.get(split.field, ""))
        if hints := [hint for value in sorted(listed, key=str) if (hint := _meant(manifest, split, value, seen))]:
            meant = "; ".join(hints[:SHOWN])
        else:
            meant = f"there are: {_some(seen)}"
        raise UsageError(
            f"split {split.name}: no recording has a value of {split.field} that {subset} lists"
            f" ({_some(listed)}), so that the {subset} subset is empty; {meant}"
        )


def unmatched_split(manifest: Manifest, split_name: str, plan: Plan) -> str:
    """Return why a split finds no recording, where its lists hold no value that one has; else nothing."""
    split = manifest.split(split_name)
    if not plan.unlisted:
        return ""
    listed = (split.train or frozenset()) | (split.test or frozenset())
    order = sorted(listed, key=str)
    hints = [hint for value in order if (hint := _meant(manifest, split, value, plan.unlisted))]
    meant = "; ".join(hints[:SHOWN]) or f"there are: {_some(plan.unlisted)}"
    return (
        f"split {split.name}: none of {plan.outside[ON_NO_LIST]:,} recordings has a value of {split.field} that"
        f" its lists hold ({_some(listed) or 'nothing'}); {meant}"
    )


def unmatched_values(split: Split, seen: set[Value]) -> list[str]:
    """Return the values in a split's lists that no recording has; of ids, `seen` are the names."""
    if split.field == BY_ID:
        seen = seen | {sample_id(str(name)) for name in seen}
    return sorted(str(value) for value in ((split.train or frozenset()) | (split.test or frozenset())) - seen)


def _meant(manifest: Manifest, split: Split, value: Value, seen: set[Value]) -> str:
    """Return in words which value that recordings have a value of the split stands for, or ""."""
    if isinstance(value, int):
        octal = int(f"{value:o}")
        if octal != value and octal in seen:
            return f"YAML reads 0{octal} as the octal number {value}: write {octal}"
        near: Value = str(value)
    else:
        near = manifest.identity(value) or value if split.field == BY_ID else value
        near = near if near in seen else value.rpartition("/")[2]
        if near != value and near in seen:
            return f"{value} is named {near} here, without folders and suffix"
    same = next((other for other in sorted(seen, key=str) if str(other).lower() == str(near).lower()), None)
    return f"{value} is written {same} in the names" if same is not None else ""


def _some(values: Iterable[Value]) -> str:
    return _few(sorted(values, key=lambda value: (isinstance(value, str), value)))


def _few(values: Sequence[Value]) -> str:
    more = f" and {len(values) - SHOWN:,} more" if len(values) > SHOWN else ""
    return ", ".join(map(str, values[:SHOWN])) + more


def _drop(manifest: Manifest, identity: str, one: Found, reason: str) -> Drop:
    label = None if manifest.segments else manifest.class_of(one.fields)
    return Drop(identity, one.subset, -1 if label is None else label, one.fields, reason)
