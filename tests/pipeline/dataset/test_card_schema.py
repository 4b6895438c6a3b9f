"""Cards whose values were changed, with a digest that is right again: each is refused in one line, or harmless."""

import copy
import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from skelpipe.dataset import Dataset, card_schema
from skelpipe.dataset.card import CARD, card_digest, parse_card
from skelpipe.door.signals import Ended, ending_on_signals
from skelpipe.errors import DatasetError, SkelpipeError

REMOVED = object()
NESTED: Any = []
for _ in range(900):
    NESTED = [NESTED]
ODD: list[Any] = [
    *(REMOVED, None, True, 0, -1, 1.5, 2**70, 1e300, float("nan"), float("-inf"), NESTED),
    *("", "0", "../../x", "\x1b[31m", "٣", "a" * 5000, [], {}, [[]], [None], {"a": 1}, {"\x1b": {}}),
]


@pytest.fixture
def opened(folder: Path) -> Dataset:
    return Dataset.open(folder)


@pytest.fixture
def card(opened: Dataset) -> dict[str, Any]:
    return copy.deepcopy(dict(opened.card))


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Walk over a card: every key, and the first entry of lists."""
    if path:
        yield path
    for key in (
        content if isinstance(content, dict) else range(min(len(content), 1)) if isinstance(content, list) else ()
    ):
        yield from places(content[key], (*path, key))


def changed(card: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    card = copy.deepcopy(card)
    inner = card
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return {**card, "digest": card_digest(card)} if path[0] != "digest" and set(card) >= {"views"} else card


def each_mutation(card: dict[str, Any]) -> Iterator[bytes]:
    """Yield the card with each odd value at each of its places, the digest made anew where that can be done."""
    for path in list(places(card)):
        inner: Any = card
        for key in path[:-1]:
            inner = inner[key]
        before, digest = inner[path[-1]], card["digest"]
        items = list(inner.items()) if isinstance(inner, dict) else None
        for value in ODD:
            if value is REMOVED:
                if items is None:  # of a list: other mutations shorten it
                    continue
                del inner[path[-1]]
            else:
                inner[path[-1]] = value
            if path[0] != "digest":
                with suppress(KeyError, ValueError, TypeError, RecursionError):
                    card["digest"] = card_digest(card)
            yield json.dumps(card).encode()
            if items is not None:
                inner.clear()
                inner.update(items)
            inner[path[-1]], card["digest"] = before, digest


def test_each_changed_value_is_refused_in_a_line_or_harmless(opened: Dataset, card: dict[str, Any]) -> None:
    refused, tried = [], 0
    for number, content in enumerate(each_mutation(card)):
        tried += 1
        try:
            dataset = Dataset(opened.path, parse_card(content, "ds"))
            assert repr(dataset)
            assert len(dataset.layout) == dataset.shape[2]
            if number % 24 == 0:  # the table is read, which takes ten times as long
                assert len(dataset.ids("train")) == dataset.count("train")
                dataset.reader("test", dataset.views[0])
        except SkelpipeError as error:
            refused.append(str(error))
    assert tried > 840
    assert len(refused) > tried / 2
    assert [text for text in refused if not text.isprintable() or len(text) > 600] == []


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("splits", "train", "shards", 0, "name"), "../../x", r"splits\.train\.shards\.0\.name is '\.\./\.\./x'"),
        (("splits", "train", "samples"), 3, r"splits\.train: 3 samples, and \d+ in its shards"),
        (("shape",), [3, 2**20, 2**10, 2], r"a clip of shape .* has more than 1,073,741,824 bytes"),
        (("shape", 2), 24, r"shape has 24 joints, the layout 25"),
        (("layout", "parents", 3), 25, r"numbers are not those of its 25 joints"),
        (("dtype",), "object", r"dtype is 'object': should be 'float32' or 'float16'"),
        (
            ("anchors",),
            {"absent": "none", "joint": {"sha256": "0" * 64}},
            "either they are absent, or each has a hash",
        ),
        (("formats",), ["pickle"], r"formats\.0 is 'pickle'"),
        (("further",), NESTED, r"further is nested more than 16 levels deep"),
        (("options", "further"), NESTED, r"options is nested more than 16 levels deep"),
        (("units",), 3, r"units is 3"),
        (("like_score",), "x", r"like_score is 'x'"),
        (("samples", "columns", 0), "name", r"the sample table: the column id is missing"),
        (("samples", "columns", 20), "reason", r"the sample table: the column reason comes 2 times"),
        (("provenance", "columns", 0), "label", r"the sample table: the column label comes 2 times"),
        (("provenance", "columns", 0), "action", r"the sample table: the column action comes 2 times"),
        (
            ("provenance", "columns", 0),
            "weather",
            r"the sample table: the column weather says nothing of raw files",
        ),
    ],
)
def test_what_contradicts_itself_or_leaves_the_folder_is_named(
    card: dict[str, Any], path: tuple[Any, ...], value: Any, says: str
) -> None:
    with pytest.raises(DatasetError, match=f"^ds/{CARD}: .*{says}"):
        parse_card(json.dumps(changed(card, path, value)).encode(), "ds")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"format": {"name": "skelpipe-dataset", "version": NaN}}',
        b'{"format": {"name": "skelpipe-dataset", "version": ' + b"9" * 5000 + b"}}",
        b'{"format": {}, "format": {"name": "skelpipe-dataset", "version": 2}}',
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_card_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{CARD}: is not the card of a skelpipe dataset$"):
        Dataset.open(tmp_path)


def test_a_signal_while_the_schema_is_made_comes_after_it(
    card: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within pydantic it would come out as an error of the schema."""
    made: list[TypeAdapter[Any]] = []

    def making(kind: Any) -> TypeAdapter[Any]:
        signal.raise_signal(signal.SIGTERM)
        made.append(TypeAdapter(kind))
        return made[-1]

    monkeypatch.setattr(card_schema, "TypeAdapter", making)
    card_schema._adapter.cache_clear()
    with pytest.raises(Ended), ending_on_signals():
        card_schema.why_no_card(card)
    assert len(made) == 1
    card_schema._adapter.cache_clear()
    monkeypatch.undo()
    assert card_schema.why_no_card(card) is None
