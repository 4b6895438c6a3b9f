"""The ratios that BENCHMARKS.md aims at, and one line on whether a row reaches its own."""

from collections.abc import Iterable
from typing import Final

from skelpipe.bench.table import table
from skelpipe.bench.timing import BenchRow

__all__ = ["say", "target_of"]

STREAM: Final = 220_000  # clips per second, or `COPY` of the rate of a bare copy of rows where that is less
COPY: Final = 0.6
TARGETS: Final = {  # least ratio, by the first words of a row
    "augment normal": 12.0,
    "augment aimclr": 40.0,
    "augment skelemix": 25.0,
    "augment actclr": 35.0,
    "loader normal": 0.95,
    "loader aimclr": 0.95,
    "parse a .skeleton": 35.0,
    "features": 1.6,
    "step with `once`": 1.6,
    "epoch from the bucket, nothing kept": 0.8,
}
TWO_WORKERS: Final = 1.85


def target_of(row: BenchRow) -> float | None:
    """Return the ratio that a row should reach; None where there is no target."""
    if row.against == "a bare copy of rows":
        return min(COPY, STREAM / row.reference)
    if row.against == "one worker":
        return TWO_WORKERS
    return next((least for name, least in TARGETS.items() if row.what.startswith(name)), None)


def say(rows: Iterable[BenchRow]) -> str:
    """Return the table of some rows, and a line for each that has a target."""
    rows = list(rows)
    return "\n".join([table(rows), *filter(None, map(_verdict, rows))])


def _verdict(row: BenchRow) -> str:
    least = target_of(row)
    if least is None:
        return ""
    name = row.what.split(" (")[0]
    return f"target {least:.2f}: {name} {'reaches' if row.ratio >= least else 'misses'} it with {row.ratio:.2f}"
