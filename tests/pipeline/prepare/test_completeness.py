"""The summary of what is real, against sums by hand."""

from typing import Any

import pyarrow as pa
import pytest

from skelpipe.prepare.completeness import completeness, completeness_lines

CARD: dict[str, Any] = {
    "shape": [3, 64, 25, 2],
    "profile": {"name": "crosclr"},
    "options": {"body_choice": "motion"},
}


def table(*rows: tuple[str, int, int, int, int, int]) -> pa.Table:
    """Rows (id, frames, real_frames, joints, real_joints, bodies_left_out), and a dropped sample."""
    names = ("id", "frames", "real_frames", "joints", "real_joints", "bodies_left_out")
    columns = {name: [*column, None] for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return pa.table(
        {**columns, "id": [row[0] for row in rows] + ["gone"], "shard": ["000000"] * len(rows) + [None]}
    )


def test_shares_are_those_of_all_samples_and_the_worst_five_are_named() -> None:
    rows = [
        ("a", 100, 100, 100 * 25, 100 * 25, 0),
        ("b", 60, 12, 12 * 25, 12 * 25, 0),
        ("c", 50, 49, 49 * 25, 49 * 25 - 1000, 1),
        ("d", 50, 45, 45 * 25, 45 * 25, 0),
        ("e", 50, 48, 48 * 25, 48 * 25, 3),
        ("f", 50, 49, 49 * 25, 49 * 25, 0),
        ("g", 1000, 999, 999 * 25, 999 * 25, 0),
    ]
    real = completeness(table(*rows), CARD)
    assert real is not None
    assert real["frames"] == pytest.approx(1302 / 1360)
    assert real["joints"] == pytest.approx((1302 * 25 - 1000) / (1302 * 25))
    assert [row["id"] for row in real["worst"]] == ["c", "b", "d", "e", "f"]
    assert (real["bodies_left_out"], real["clips_with_fewer_bodies"]) == (4, 2)
    assert completeness_lines(real) == [
        "real: 95.7 % of frames, 96.9 % of joints; worst: c 225 of 1,225 joints, b 12 of 60 frames,"
        " d 45 of 50 frames, e 48 of 50 frames, f 49 of 50 frames",
        "bodies: 4 left out of 2 clips, which hold 2: those that move most are kept (--bodies, --body-choice)",
    ]


def test_nothing_is_said_where_nothing_is_missing() -> None:
    real = completeness(table(("a", 100, 100, 2500, 2500, 0)), CARD)
    assert real is not None
    assert (real["frames"], real["joints"], real["worst"]) == (1, 1, [])
    assert completeness_lines(real) == []


def test_little_that_is_missing_is_not_rounded_away() -> None:
    real = completeness(table(("a", 100_000, 99_999, 2_499_975, 2_499_975, 0)), CARD)
    assert completeness_lines(real) == [
        "real: 99.9 % of frames, 100.0 % of joints; worst: a 99,999 of 100,000 frames"
    ]


def test_samples_of_older_datasets_do_not_say_it() -> None:
    assert completeness(pa.table({"id": ["a"], "shard": ["000000"]}), CARD) is None
    assert completeness_lines(None) == []
