"""Choose subjects from both subsets of a split, and classes of one and of two people; check option limits."""

from collections.abc import Iterator, Sequence

from skelpipe.errors import UsageError

__all__ = ["choose_classes", "in_turns", "require_between"]

SMALLEST_WITH_INTERACTION = 5  # classes


def in_turns(queues: Sequence[Sequence[int]]) -> Iterator[int]:
    """Yield the first item of each queue, then the second of each, and so on; shorter queues end earlier."""
    for index in range(max(map(len, queues))):
        yield from (queue[index] for queue in queues if index < len(queue))


def choose_classes(singles: Sequence[int], pairs: Sequence[int], count: int) -> list[int]:
    """Choose `count` classes, sorted: the first of `singles` and of `pairs`, in proportion to their lengths."""
    chosen = 0
    if count >= SMALLEST_WITH_INTERACTION:
        chosen = max(round(count * len(pairs) / (len(pairs) + len(singles))), 1)
    return sorted([*pairs[:chosen], *singles[: count - chosen]])


def require_between(option: str, count: int, low: int, high: int, reason: str) -> None:
    """Raise UsageError unless an option's `count` is between two limits; `reason` explains them."""
    if not low <= count <= high:
        raise UsageError(f"--{option} {count}: {reason}")
