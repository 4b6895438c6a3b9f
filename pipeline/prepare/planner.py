"""From file names (and label files) to a plan: which recordings are kept, in which subset of the split."""

from collections.abc import Iterable

from skelpipe.dataset.tar_shard import LONGEST_NAME
from skelpipe.manifest import Manifest, Split
from skelpipe.prepare.plan import Drop, Found, Plan, Sample
from skelpipe.prepare.untrimmed_planner import plan_segments, split_label_files
from skelpipe.raw.frame_files import joined
from skelpipe.raw.pose_formats import reads_frame_files
from skelpipe.raw.source import RawFile

__all__ = ["make_plan"]

LONGEST_ID = LONGEST_NAME - len("_0000.motion.npy")
MISNAMED = "its name is no recording's name of this dataset"
DOUBLED = "the id is found more than once"
MISSING = "on the dataset's list of missing or incomplete skeletons"
DOTTED = "its id holds a '.', where the key of a WebDataset sample ends"
UNPRINTABLE = "its id holds a character that cannot be written"
NO_SUCH_CLASS = "its name says a class that the dataset does not have"
ON_NO_LIST = "on neither list of the split"


def make_plan(manifest: Manifest, split_name: str, files: Iterable[RawFile], *, skip_bad: bool) -> Plan:
    """Sort the files into samples, drops and other files; cut untrimmed recordings by their label files.

    Files that each hold a frame are joined first (`skelpipe.raw.frame_files`).

    A recording with a wrong name or an unknown class, or an id found twice, is a RawError that names the files, or
    a drop with `skip_bad`. Of an id found twice no file is used then, since either may be the right one.
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
        for identity, one in _find(manifest, split, files, plan, skip_bad=skip_bad).items():
            label = manifest.class_of(one.fields)
            if label is None:
                drop = _drop(manifest, identity, one, NO_SUCH_CLASS)
                plan.refuse(drop, f"{one.file.path}: {NO_SUCH_CLASS}", skip_bad=skip_bad)
            else:
                plan.samples.append(Sample(identity, one.subset, label, one.fields, one.file))
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
    for file in files:
        identity = manifest.identity(file.relative.rpartition("/")[2])
        fields = None if identity is None else manifest.fields(identity)
        if identity is None or (fields is None and not manifest.strict_names):
            plan.others += 1
            continue
        if reason := MISNAMED if fields is None else _wrong_with(identity):
            drop = Drop(_printable(identity), "", -1, {}, reason)
            plan.refuse(drop, f"{_printable(file.path)}: {reason}", skip_bad=skip_bad)
            continue
        assert fields is not None
        if reason := manifest.outside(fields):
            plan.outside[reason] += 1
            continue
        subset = split.subset(fields, identity)
        if subset is None:
            plan.outside[ON_NO_LIST] += 1
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
    for identity in found.keys() & manifest.missing:
        plan.drops.append(_drop(manifest, identity, found.pop(identity), MISSING))
    return found


def _wrong_with(identity: str) -> str | None:
    """Return why an id cannot name a sample (WebDataset's rules, the length of a tar header), or None."""
    if "." in identity:
        return DOTTED
    if _printable(identity) != identity:
        return UNPRINTABLE
    if len(identity.encode()) > LONGEST_ID:
        return f"its id is longer than {LONGEST_ID} bytes"
    return None


def _printable(text: str) -> str:
    """Replace unprintable characters, such as bytes that are not UTF-8, by escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode-escape", "replace").decode() for c in text)


def _drop(manifest: Manifest, identity: str, one: Found, reason: str) -> Drop:
    label = None if manifest.segments else manifest.class_of(one.fields)
    return Drop(identity, one.subset, -1 if label is None else label, one.fields, reason)
