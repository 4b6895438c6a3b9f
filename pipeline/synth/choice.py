"""Choosing a few of many: people from both subsets of a split, classes of one person and of two."""

from collections.abc import Iterator, Sequence

from skelpipe.errors import UsageError

__all__ = ["choose_classes", "in_turns", "require_between"]

SMALLEST_WITH_INTERACTION = 5  # classes


def in_turns(queues: Sequence[Sequence[int]]) -> Iterator[int]:
    """Yield the first of each queue, the second of each, and so on; what is left of the longest at the end."""
    for place in range(max(map(len, queues))):
        yield from (queue[place] for queue in queues if place < len(queue))


def choose_classes(singles: Sequence[int], pairs: Sequence[int], count: int) -> list[int]:
    """Choose `count` classes in the order given, those of one person and of two in their own proportion."""
    wanted = 0
    if count >= SMALLEST_WITH_INTERACTION:
        wanted = max(round(count * len(pairs) / (len(pairs) + len(singles))), 1)
    return sorted([*pairs[:wanted], *singles[: count - wanted]])


def require_between(option: str, count: int, low: int, high: int, reason: str) -> None:
    """Raise UsageError unless an option's `count` lies between two limits; `reason` tells where they come from."""
    if not low <= count <= high:
        raise UsageError(f"--{option} {count}: {reason}")
