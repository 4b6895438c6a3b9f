"""What a card may hold: the kinds and bounds of its values, and what of it must agree.

A card comes from whoever wrote the dataset, perhaps over a network: names in it become paths, and numbers in it
sizes of memory and places in files.
"""

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from annotated_types import Ge, Gt, Le, Len
from pydantic import Strict, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from skelpipe.dataset.table_columns import why_no_columns
from skelpipe.door.native_imports import holding
from skelpipe.errors import UsageError
from skelpipe.manifest import SUBSETS
from skelpipe.skeleton import Layout
from skelpipe.untrusted import described, shown

__all__ = ["why_no_card"]

MOST_CLIP_BYTES = 1 << 30
MOST_ROWS = 1 << 24  # of the sample table, which is read whole
MOST_LEVELS = 16  # of lists and objects within each other

Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(max_length=100_000)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
# Without what moves a cursor or turns the direction of writing: names are shown in terminals.
Name = Annotated[Word, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+$")]
Whole = Annotated[int, Strict(), Ge(0), Le(1 << 53)]
Dimension = Annotated[int, Strict(), Ge(1), Le(1 << 20)]
Joint = Annotated[int, Strict(), Ge(0), Le(1 << 20)]
Groups = list[tuple[Name, list[Joint]]]
View = Literal["joint", "bone", "motion"]
ShardName = Annotated[str, StringConstraints(pattern=r"^[0-9]{6,12}$")]


class Hashed(TypedDict):
    sha256: Hash


class Profile(TypedDict):
    name: Name
    version: Whole


class PlainLayout(TypedDict):
    name: Name
    joints: Annotated[list[Name], Len(1)]
    parents: list[Joint]
    centre: Joint
    left_shoulder: Joint
    right_shoulder: Joint
    mirror: list[Joint]
    parts: Groups
    levels: dict[Name, Groups]


class StoredView(TypedDict):
    stride: Annotated[int, Strict(), Gt(0), Le(1 << 40)]
    data_offset: Whole


class ShardFile(TypedDict):
    sha256: Hash
    idx_sha256: Hash
    bytes: Whole


class Shard(TypedDict):
    name: ShardName
    samples: Dimension
    views: dict[View, ShardFile]


class Subset(TypedDict):
    samples: Whole
    shards: list[Shard]


class Subsets(TypedDict):
    train: Subset
    test: Subset


class SampleTable(TypedDict):
    rows: Annotated[int, Strict(), Ge(0), Le(MOST_ROWS)]
    columns: list[Name]
    sha256: Hash


class Provenance(TypedDict):
    columns: list[Name]
    sha256: Hash
    raw_times: Hash


class Hdf5File(TypedDict):
    file: Literal["train.h5", "test.h5"]
    sha256: Hash
    bytes: Whole


class Hdf5Files(TypedDict, total=False):
    train: Hdf5File
    test: Hdf5File


class Video(TypedDict):
    id: Name
    frames: Whole
    joint_offset: Whole
    label_offset: Whole


class VideoShard(TypedDict):
    name: ShardName
    sha256: Hash
    bytes: Whole
    videos: list[Video]


class VideoSubset(TypedDict):
    videos: Whole
    frames: Whole
    shards: list[VideoShard]


class VideoSubsets(TypedDict):
    train: VideoSubset
    test: VideoSubset


class Card(TypedDict):
    """A card of version 1, 2 or 3; further keys may stand in it."""

    name: Name
    split: Name
    title: Text
    options: dict[Name, Any]
    profile: Profile
    shape: Annotated[list[Dimension], Len(4, 4)]
    dtype: Literal["float32", "float16"]
    layout: PlainLayout
    classes: list[Text]
    views: Annotated[dict[View, StoredView], Len(1)]
    splits: Subsets
    anchors: dict[Literal["joint", "bone", "motion", "absent"], Hashed | Text]
    samples: SampleTable
    formats: Annotated[list[Literal["shards", "hdf5"]], Len(1, 2)]
    definition: Text
    raw_fingerprint: Text
    samples_file: Hashed
    published: dict[Literal["train", "test"], Whole]
    dropped: dict[Text, Whole]
    terms: Text
    digest: Hash
    channels: NotRequired[Annotated[list[Name], Len(3, 4)]]
    hdf5: NotRequired[Hdf5Files]
    provenance: NotRequired[Provenance]
    untrimmed: NotRequired[VideoSubsets]
    units: NotRequired[Text]
    like_score: NotRequired[Whole | None]


@cache
def _adapter() -> TypeAdapter[Card]:
    with holding():  # an error of a signal would come out as one of the schema
        return TypeAdapter(Card)


def why_no_card(card: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a card, the key first; None where kinds, bounds and sums are those of a card."""
    try:
        _adapter().validate_python(card)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = shown(".".join(str(each) for each in first["loc"] if each != "[key]"))
        if first["type"] == "missing":
            return f"the key {key!r} is missing"
        return f"{key} is {described(first['input'])}: {first['msg'].removeprefix('Input ')}"
    for key, value in card.items():
        if (key == "options" or key not in Card.__annotations__) and not _is_flat(value):
            return f"{shown(key)} is nested more than {MOST_LEVELS} levels deep"
    return next(_contradictions(card), None)


def _is_flat(content: Any) -> bool:
    """Whether nothing is nested too deeply to be copied and hashed."""
    level: list[Any] = [[content]]
    for _ in range(MOST_LEVELS + 1):
        level = [
            each
            for held in level
            for each in (held.values() if isinstance(held, dict) else held)
            if isinstance(each, (dict, list))
        ]
    return not level


def _contradictions(card: Mapping[str, Any]) -> Iterator[str]:
    channels, _, joints, _ = card["shape"]
    if len(card.get("channels", "xyz")) != channels:
        yield f"shape has {channels} channels, channels {len(card['channels'])}"
    if math.prod(card["shape"]) * np.dtype(card["dtype"]).itemsize > MOST_CLIP_BYTES:
        yield f"a clip of shape {described(card['shape'])} has more than {MOST_CLIP_BYTES:,} bytes"
    try:
        body = Layout.from_plain(card["layout"])
    except UsageError as error:
        yield f"layout: {error}"
        return
    if len(body) != joints:
        yield f"shape has {joints} joints, the layout {len(body)}"
    numbers = (
        *(body.centre, body.left_shoulder, body.right_shoulder, *body.parents, *body.mirror),
        *(joint for groups in (body.parts, *body.levels.values()) for group in groups.values() for joint in group),
    )
    if len(body.parents) != len(body) or len(body.mirror) != len(body) or max(numbers) >= len(body):
        yield f"the layout's numbers are not those of its {len(body)} joints"
    raw = card["provenance"]["columns"] if "provenance" in card else []
    if (wrong := why_no_columns(card["samples"]["columns"], raw)) is not None:
        yield f"the sample table: {wrong}"
    if "absent" in card["anchors"]:
        absent = card["anchors"]
        if len(absent) > 1 or not isinstance(absent["absent"], str):
            yield "anchors: either they are absent, or each has a hash"
    elif any(isinstance(each, str) for each in card["anchors"].values()):
        yield "anchors: each has a hash"
    for subset in SUBSETS:
        shards = card["splits"][subset]["shards"]
        stored, counted = card["splits"][subset]["samples"], sum(shard["samples"] for shard in shards)
        if stored != counted:
            yield f"splits.{subset}: {stored} samples, and {counted} in its shards"
        if len({shard["name"] for shard in shards}) != len(shards):
            yield f"splits.{subset}: two shards have one name"
        if any(shard["views"].keys() != card["views"].keys() for shard in shards):
            yield f"splits.{subset}: a shard has other views than the dataset"
        if (
            "hdf5" in card["formats"]
            and shards
            and card.get("hdf5", {}).get(subset, {}).get("file") != f"{subset}.h5"
        ):
            yield f"hdf5.{subset} does not name {subset}.h5"
