"""What `skelpipe import` finds in the files of pose estimators and in tables of positions."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from skelpipe import manifests
from skelpipe.errors import RawError, UsageError
from skelpipe.raw.collections.contents import UNLABELLED, Contents, ImportFormat, Request
from skelpipe.raw.collections.folders import is_metadata, organised, whole_subset
from skelpipe.raw.collections.utkinect_labels import with_action_labels
from skelpipe.raw.form import Form
from skelpipe.raw.frame_files import joined
from skelpipe.raw.json_text import parse_json
from skelpipe.raw.npy import read_array
from skelpipe.raw.poses.formats import POSE_FORMATS
from skelpipe.raw.poses.mediapipe import NPY
from skelpipe.raw.poses.people import SizeUnknownError, recording_of
from skelpipe.raw.recording import Recording
from skelpipe.raw.source import RawFile, TextBuffer
from skelpipe.raw.table import lines_of
from skelpipe.skeleton import layout

__all__ = ["POSE_IMPORTS"]

TITLES = {
    "openpose": "OpenPose's JSON, one file per frame",
    "alphapose": "AlphaPose's JSON of a video",
    "mmpose": "MMPose's JSON of a video",
    "mmpose-frames": "MMPose's JSON, a file per picture",
    "ultralytics": "Ultralytics' rows or JSON, one file per frame",
    "ultralytics-video": "Ultralytics' JSON of a video, one list per frame",
    "mediapipe": "MediaPipe's 33 landmarks as .npy, CSV or JSON",
    "azure-kinect": "the JSON of Azure Kinect's offline processor",
    "utkinect-text": "UTKinect's joints_s01_e01.txt",
    "table": "tables of positions, CSV or text",
}
LAYOUTS = {
    "openpose": ("openpose-25", "openpose-18"),
    "alphapose": ("coco-17", "openpose-18"),
    "mmpose": ("coco-17", "h36m-17"),
    "mmpose-frames": ("coco-17", "h36m-17"),
    "ultralytics": ("coco-17",),
    "ultralytics-video": ("coco-17",),
    "mediapipe": ("mediapipe-33",),
    "azure-kinect": ("azure-kinect-32",),
    "utkinect-text": ("kinect-v1-20",),
}
SOLID_ONLY = ("h36m-17",)  # lifted poses; 2D ones of 17 joints are COCO's
FLAT_LAYOUTS = ("coco-17", "openpose-18", "openpose-25")  # of estimators that know no depth
SUFFIXES = {
    "openpose": ("_keypoints.json", ".json"),
    "ultralytics": (".txt", ".json"),
    "mediapipe": (".npy", ".csv", ".tsv", ".txt", ".json"),
    "utkinect-text": (".txt",),
    "table": (".csv", ".tsv", ".txt"),
}
JSON = (".json",)
SEVERAL = ("openpose", "alphapose", "mmpose", "mmpose-frames", "ultralytics", "ultralytics-video", "azure-kinect")
UTKINECT = re.compile(r"joints_s[0-9]+_e[0-9]+\.txt")
ARCHIVE = re.compile(r".*\.(zip|tar|tgz|tar\.gz)", re.IGNORECASE)  # its name is no class
FRAME_OF = re.compile(r".*[0-9]+\.txt")
BEFORE = 5  # numbers of Ultralytics' rows before the joints
ONE_BODY = 3  # axes of the array of one body
METRES = 5  # positions that stay below are no pixels
MOST_BYTES = 1 << 28  # of a file of poses
TRIED = 64  # files that are looked at until one shows somebody
NO_RECORDING = ("actionlabel.txt", "readme.txt", "license.txt", "classes.txt", "labels.txt")


def _claims(reader: str, request: Request) -> bool:
    """Whether the first file with poses is of the format of a reader."""
    described = bool(request.axes or request.channels)  # as arrays: not the landmarks of MediaPipe
    for file in islice(_likely(request.files), TRIED):
        if described and file.relative.endswith(".npy"):
            return False
        if (kind := _kind(file)) is not None:
            return kind == reader
    return False


def _likely(files: Sequence[RawFile]) -> Iterator[RawFile]:
    for file in files:
        name = PurePosixPath(file.relative).name.lower()
        known = name.endswith((".json", ".csv", ".tsv", ".txt", ".npy")) and file.size <= MOST_BYTES
        if known and name not in NO_RECORDING and not is_metadata(file):
            yield file


@lru_cache(maxsize=TRIED)
def _kind(file: RawFile) -> str | None:
    """Return the reader of a file, by its content; None where it shows nobody or is something else."""
    name = PurePosixPath(file.relative).name
    text = TextBuffer().read_raw(file)
    if name.endswith(".json"):
        return _kind_of_json(parse_json(text, file.path))
    if name.endswith(".npy"):
        return "mediapipe" if _is_of_one_body(text, file.path) and _reads("mediapipe", text, file.path) else None
    if UTKINECT.fullmatch(name):
        return "utkinect-text"
    if name.endswith(".txt") and FRAME_OF.fullmatch(name) and _is_ultralytics(text, file.path):
        return "ultralytics"
    if _reads("mediapipe", text, file.path):
        return "mediapipe"
    return "table" if any(_reads("table", text, file.path, one) for one in manifests.names("layouts")) else None


def _is_of_one_body(text: np.ndarray, name: str) -> bool:
    try:
        return read_array(text[:-1], name).ndim <= ONE_BODY
    except RawError:
        return False


def _kind_of_json(content: Any) -> str | None:
    if isinstance(content, dict):
        if "instance_info" in content:
            return "mmpose"
        if "people" in content:
            return "openpose"
        if "frames" in content:
            frames = content["frames"]
            first = frames[0] if isinstance(frames, list) and frames else None
            return "azure-kinect" if isinstance(first, dict) and "bodies" in first else "mediapipe"
        first = next(iter(content.values()), None)
        return "alphapose" if isinstance(first, dict) and first.keys() & {"people", "bodies"} else None
    first = next((one for one in content if one), None) if isinstance(content, list) else None
    if isinstance(first, dict):
        return _kind_of_person(first)
    if isinstance(first, list) and first and isinstance(first[0], dict) and "keypoints" in first[0]:
        return "ultralytics-video"
    return "mediapipe" if isinstance(first, list) and first else None


def _kind_of_person(person: dict[str, Any]) -> str | None:
    if "image_id" in person:
        return "alphapose"
    if "keypoint_scores" in person:
        return "mmpose-frames"
    if isinstance(person.get("keypoints"), dict):
        return "ultralytics"
    return "mediapipe" if person.keys() & {"landmarks", "pose_landmarks", "pose_world_landmarks"} else None


def _is_ultralytics(text: np.ndarray, name: str) -> bool:
    try:
        _, words = next(lines_of(text, name))
    except (RawError, StopIteration):
        return False
    joints = len(layout(LAYOUTS["ultralytics"][0]))
    return any(0 <= len(words) - BEFORE - each * joints <= 2 for each in (2, 3))


def _reads(reader: str, text: np.ndarray, name: str, layout_name: str = "") -> bool:
    """Whether a file fits one of the channels of a format; the size of pictures does not matter here."""
    read = POSE_FORMATS[reader].read
    assert read is not None
    if text[:6].tobytes() == NPY and reader != "mediapipe":
        return False
    for channels in POSE_FORMATS[reader].channels or ((),):
        try:
            read(text, name, Form(layout(layout_name or LAYOUTS[reader][0]), 1, channels, image_size=(1, 1)))
        except RawError:
            continue
        return True
    return False


def _index(reader: str, request: Request) -> Contents:
    suffixes = SUFFIXES.get(reader, JSON)
    files = [file for file in request.files if _is_recording(reader, file)]
    if not files:
        raise UsageError(f"no file of {TITLES[reader]} is among the files ({', '.join(suffixes)})")
    if reader == "openpose" and not any(file.relative.endswith(suffixes[0]) for file in files):
        suffixes = suffixes[1:]
    recordings = files
    if POSE_FORMATS[reader].read_frame is not None:
        recordings = joined(files, suffixes)
    recordings = [_under_its_name(file, recordings, suffixes) for file in recordings]
    paths = {file.path for file in recordings}
    tables = [file for file in request.files if is_metadata(file)]
    notes = []
    if request.subset is None and not tables and not any(_says_subset(file) for file in recordings):
        request = replace(request, subset="train")
        notes.append(
            "no folder is called train or test: all recordings are for training (--subset says otherwise)"
        )
    found = organised(replace(request, files=[*recordings, *tables]), lambda file: file.path in paths)
    if len(found.classes) == 1 and not tables:  # one folder holds them all: it is no class
        unlabelled = [entry._replace(label=UNLABELLED) for entry in found.entries]
        found = replace(found, entries=unlabelled, classes=(), class_count=0)
    if reader == "utkinect-text":
        found = with_action_labels(found, request.files)
    fits, channels, sample = _tried(reader, recordings, request)
    flat = (bool(channels) and "z" not in channels) or (sample is not None and not sample.xyz[..., 2].any())
    if not found.classes and not found.class_count:
        notes.append("no folder and no metadata file names classes: the clips have no labels")
    kind = POSE_FORMATS[reader]
    return Contents(
        reader=reader,
        entries=found.entries,
        joints=request.joints or len(layout(fits[0])),
        bodies=2 if reader in SEVERAL else max(sample.bodies, 1) if sample is not None else 1,
        layouts=fits,
        class_count=found.class_count,
        all_classes=bool(found.classes),
        classes=found.classes,
        channels=channels,
        axes=request.axes,
        units=kind.units if kind.units and (flat or kind.units != "pixels") else _units(sample, flat),
        y_down=request.y_down if kind.y_down is None else kind.y_down,
        image_size=request.image_size,
        missing_joints="interpolated",
        notes=(*notes, *found.notes),
    )


def _units(sample: Recording | None, flat: bool) -> str:
    if sample is None or not len(sample.xyz):
        return "pixels" if flat else "metres"
    return "pixels" if np.nanmax(np.abs(sample.xyz[..., :2])) > METRES else "metres"


def _is_recording(reader: str, file: RawFile) -> bool:
    name = PurePosixPath(file.relative).name
    if reader == "utkinect-text":
        return UTKINECT.fullmatch(name) is not None
    return name.endswith(SUFFIXES.get(reader, JSON)) and file in set(_likely([file]))


def _says_subset(file: RawFile) -> bool:
    return any(whole_subset(part) for part in PurePosixPath(file.relative).parts[:-1])


def _under_its_name(file: RawFile, all_files: Sequence[RawFile], suffixes: Sequence[str]) -> RawFile:
    """Return a recording under its folder's name where the folder is its own: it holds nothing else.

    Its name is then the folder's, or the same as in other such folders (`alphapose-results.json`).
    """
    suffix = next(one for one in (*suffixes, "") if file.relative.endswith(one))
    within = [part for part in PurePosixPath(file.relative).parts[:-1] if not ARCHIVE.fullmatch(part)]
    place = PurePosixPath(*within, PurePosixPath(file.relative).name.removesuffix(suffix) + ".file")
    folder, stem = place.parent, place.stem
    plain = file._replace(relative=str(place))
    if folder == PurePosixPath("."):
        return plain
    beside, same = _neighbours(tuple(each.relative for each in all_files))
    if beside[str(PurePosixPath(file.relative).parent)] > 1 or not (
        stem == folder.name or same[PurePosixPath(file.relative).name] > 1
    ):
        return plain
    return file._replace(relative=f"{folder}.file")


@lru_cache(maxsize=1)
def _neighbours(relatives: tuple[str, ...]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of recordings in each folder, and of those with the same name."""
    beside: dict[str, int] = {}
    same: dict[str, int] = {}
    for relative in map(PurePosixPath, relatives):
        beside[str(relative.parent)] = beside.get(str(relative.parent), 0) + 1
        same[relative.name] = same.get(relative.name, 0) + 1
    return beside, same


def _tried(
    reader: str, recordings: Sequence[RawFile], request: Request
) -> tuple[tuple[str, ...], tuple[str, ...], Recording | None]:
    """Return the layouts and channels by which the first recording that shows somebody can be read, and it.

    Raises UsageError if nothing fits, with what the likeliest layout says.
    """
    names = (request.layout,) if request.layout else LAYOUTS.get(reader, tuple(manifests.names("layouts")))
    known = set(manifests.names("layouts"))
    if request.layout and request.layout not in known:  # of a YAML file
        return (request.layout,), request.channels or _first_channels(reader), None
    first_error: RawError | None = None
    for file in recordings[:TRIED]:
        fits: list[tuple[str, tuple[str, ...], Recording]] = []
        for name in names:
            for channels in [request.channels] if request.channels else POSE_FORMATS[reader].channels or ((),):
                if "z" not in channels and channels and name in SOLID_ONLY and not request.layout:
                    continue
                form = Form(layout(name), channels=channels, axes=request.axes, image_size=request.image_size)
                try:
                    recording = _read(reader, file, form)
                except SizeUnknownError as error:
                    what = str(error).partition(": say")[0]
                    raise UsageError(f"{what}: say --image-size, such as 1920x1080") from None
                except RawError as error:
                    first_error = first_error or error
                    continue
                fits.append((name, channels, recording))
                break
        shown = [fit for fit in fits if fit[2].bodies]
        if shown:
            flat = not any(fit[2].xyz[..., 2].any() for fit in shown)
            shown = [fit for fit in shown if (fit[0] in FLAT_LAYOUTS) == flat] or shown
            return tuple(fit[0] for fit in shown), shown[0][1], shown[0][2]
        if first_error is not None and not fits:
            raise UsageError(str(first_error))
    more = min(len(recordings), TRIED) - 1
    raise UsageError(f"{recordings[0].path}: shows nobody{f', nor do the next {more} files' if more else ''}")


def _first_channels(reader: str) -> tuple[str, ...]:
    channels = POSE_FORMATS[reader].channels
    return channels[0] if channels else ()


def _read(reader: str, file: RawFile, form: Form) -> Recording:
    """Return a recording; where each frame is a file, the first frame that shows somebody."""
    kind, text = POSE_FORMATS[reader], TextBuffer()
    if kind.read is not None:
        return kind.read(text.read_raw(file), file.path, form)
    assert kind.read_frame is not None
    people = {}
    for number, part in file.parts[:TRIED] or ((0, file),):
        people = {number: kind.read_frame(text.read_raw(part), part.path, form)}
        if len(people[number].xyz):
            break
    return recording_of(people, file.path, form, kind.adapt)


def _format(reader: str) -> ImportFormat:
    claims: Callable[[Request], bool] = partial(_claims, reader)
    return ImportFormat(reader, TITLES[reader], claims, partial(_index, reader))


POSE_IMPORTS = tuple(_format(reader) for reader in TITLES)
