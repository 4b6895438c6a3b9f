import numpy as np

from skelpipe.dataset.byte_kernels import copy_bytes, numbers_at, prefetch_pages
from skelpipe.kernels import njit


@njit
def _copied(source: np.ndarray, target: np.ndarray, first: int, size: int) -> None:
    copy_bytes(target.ctypes.data + first, source.ctypes.data + first, size)


@njit
def _asked(address: int, size: int) -> int:
    prefetch_pages(address, size)
    return size


@njit
def _doubled(address: int, count: int) -> None:
    numbers = numbers_at(address, count)
    for i in range(count):
        numbers[i] *= 2


def test_numbers_are_those_at_the_address() -> None:
    numbers = np.arange(10, dtype=np.float32)
    _doubled(numbers.ctypes.data + 4 * 3, 5)
    assert numbers.tolist() == [0, 1, 2, 6, 8, 10, 12, 14, 8, 9]


def test_only_the_bytes_asked_for_are_copied() -> None:
    source = np.random.default_rng(0).integers(0, 256, 9000).astype(np.uint8)
    for first, size in ((0, 0), (0, 1), (3, 8191), (17, 64), (0, 9000)):
        target = np.zeros(9000, np.uint8)
        _copied(source, target, first, size)
        inside = slice(first, first + size)
        expected = np.zeros(9000, np.uint8)
        expected[inside] = source[inside]
        assert np.array_equal(target, expected)


def test_asking_for_memory_that_is_not_there_does_nothing() -> None:
    assert _asked(0, 100_000) == 100_000
