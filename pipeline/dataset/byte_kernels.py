"""For kernels that read memory by its address: bytes copied as the C library does, pages asked for in advance.

A processor fetches ahead by itself, but only to the end of a page, and it takes long to find out where the next
page of a mapped file lies. Whoever asks for the pages of the next rows while it works on others does not wait.
numba's cache does not see that other files call this one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.np.numpy_support import carray

from skelpipe.kernels import njit

__all__ = ["copy_bytes", "numbers_at", "prefetch_pages"]

Emitter = tuple[Any, Callable[..., Any]]
intrinsic: Any = extending.intrinsic  # its type would require that calls pass the compiler's context

PAGE = 4096  # bytes


@intrinsic
def copy_bytes(_context: Any, _target: Any, _source: Any, _count: Any) -> Emitter:
    """Copy so many bytes to one address from another, by `memcpy`."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word, byte = ir.IntType(64), ir.IntType(8).as_pointer()
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [byte, byte, word])
        target, source = (builder.inttoptr(address, byte) for address in args[:2])
        builder.call(memcpy, [target, source, args[2], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def _prefetch(_context: Any, _address: Any) -> Emitter:
    """Ask the processor for the cache line at an address; nothing happens where there is no memory."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(prefetch, [builder.inttoptr(args[0], byte), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), emit


@intrinsic
def _pointer(_context: Any, _address: Any) -> Emitter:
    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), emit


@njit(cache=True, forceinline=True)
def numbers_at(address: int, count: int) -> np.ndarray:
    """Return the float32[count] at an address, whose memory is the caller's."""
    return carray(_pointer(address), count, np.float32)


@njit(cache=True, forceinline=True)
def prefetch_pages(address: int, size: int) -> None:
    """Ask for the first line of each page of `size` bytes from an address on, without waiting for them."""
    for i in range(0, size, PAGE):
        _prefetch(address + i)
