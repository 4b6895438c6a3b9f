"""What happens where a memory-mapped file can no longer be read: zeros and a note, in place of the signal SIGBUS.

The system has no other way to say that a page of a mapped file is gone (the file became shorter, the disk or the
server fails): it ends the process. Whoever reads mapped files compares the count of faults before and after
(`skelpipe.mapped_files`), so that the zeros reach nobody.

The handler is compiled code that takes no lock and allocates nothing, since a thread that reads need not hold
Python's global lock. It is for 64-bit Linux; elsewhere the signal does what it always did.
"""

import ctypes
import mmap
import signal
import sys
from functools import cache
from typing import Any

import numpy as np

__all__ = ["END", "FAULT", "START", "FaultTable", "libc"]

START, END, FAULT = range(3)  # columns of the table: first address, address after the last, address that failed
FAULTS = 0  # column of the table's last row: the number of faults
MAP_FIXED, SA_SIGINFO = 0x10, 4
SI_ADDR = 16  # offset in siginfo_t


class FaultTable:
    """The mapped files of this process, one per row: uintp [rows+1,3]; the last row counts faults.

    A file's row is START, END and FAULT, the address at which reading failed last, 0 if it never did. From there
    to the end its memory is zeros.
    """

    def __init__(self, rows: int) -> None:
        self.rows = np.zeros((rows + 1, 3), np.uintp)
        self._count = memoryview(self.rows[-1])  # asked before and after whatever is read: quicker than an array
        self._code: Any = None
        self._previous = ctypes.create_string_buffer(512)
        if sys.platform == "linux" and sys.maxsize > 2**32:
            self._install()

    @property
    def faults(self) -> int:
        """How often reading has failed in this process."""
        count: int = self._count[FAULTS]
        return count

    def keep(self) -> None:
        """Take the signal back from a library that has taken it: Lightning's trainer sets all signals back."""
        if self._code is None:
            return
        now = _SigAction()
        libc().sigaction(int(signal.SIGBUS), None, ctypes.byref(now))
        if now.handler != self._code[1]:
            self._take()

    def _install(self) -> None:
        self._code = _compiled(self.rows, ctypes.addressof(self._previous))
        self._take()

    def _take(self) -> None:
        action = _SigAction(handler=self._code[1], flags=SA_SIGINFO)
        libc().sigaction(int(signal.SIGBUS), ctypes.byref(action), self._previous)


@cache
def libc() -> ctypes.CDLL:
    """Return the C library, with the types of the functions that map memory."""
    found = ctypes.CDLL(None, use_errno=True)
    word, number = ctypes.c_size_t, ctypes.c_int
    found.mmap.restype, found.mmap.argtypes = ctypes.c_void_p, (word, word, number, number, number, ctypes.c_int64)
    found.munmap.argtypes = (word, word)
    return found


class _SigAction(ctypes.Structure):
    """`struct sigaction` of glibc and musl, on x86-64 and aarch64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_byte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _compiled(table: np.ndarray, previous: int) -> tuple[Any, int]:
    """Return the compiled handler: what keeps it in memory, and its address.

    It looks for the row of the address that failed. If there is one, it notes the address, maps zeros from its
    page to the end of the file's memory, and counts. Else the handler that was there before gets the signal, as
    soon as the instruction is repeated.
    """
    import llvmlite.binding as llvm  # type: ignore[import-untyped]
    from llvmlite import ir

    word, number = ir.IntType(64), ir.IntType(32)
    module = ir.Module()
    handler = ir.Function(module, ir.FunctionType(ir.VoidType(), (number, word, word)), "on_bus_error")
    signal_number, info, _ = handler.args
    entry, look, on, ours, other, end = (handler.append_basic_block() for _ in range(6))
    rows = ir.Constant(word, len(table) - 1)

    def at(address: Any, offset: Any) -> Any:
        return build.inttoptr(build.add(address, offset), word.as_pointer())

    def constant(value: int, kind: Any = word) -> Any:
        return ir.Constant(kind, value)

    def call(function: Any, kinds: tuple[Any, ...], *values: Any) -> Any:
        address = ctypes.cast(function, ctypes.c_void_p).value
        kind = ir.FunctionType(word, kinds).as_pointer()
        return build.call(build.inttoptr(constant(address or 0), kind), values)

    build = ir.IRBuilder(entry)
    failed = build.load(at(info, constant(SI_ADDR)))
    page = build.and_(failed, constant(-mmap.PAGESIZE))
    build.branch(look)

    build.position_at_end(look)
    row = build.phi(word)
    row.add_incoming(constant(0), entry)
    place = build.add(constant(table.ctypes.data), build.mul(row, constant(table.strides[0])))
    first, last = (build.load(at(place, constant(8 * column))) for column in (START, END))
    inside = build.and_(build.icmp_unsigned(">=", failed, first), build.icmp_unsigned("<", failed, last))
    build.cbranch(inside, ours, on)

    build.position_at_end(on)
    following = build.add(row, constant(1))
    row.add_incoming(following, on)
    build.cbranch(build.icmp_unsigned("<", following, rows), look, other)

    build.position_at_end(ours)
    build.store(failed, at(place, constant(8 * FAULT)))
    kinds = (word, word, number, number, number, word)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED
    size = build.sub(last, page)
    none = (constant(mmap.PROT_READ, number), constant(flags, number), constant(-1, number), constant(0))
    mapped = call(libc().mmap, kinds, page, size, *none)
    count = at(constant(table.ctypes.data + table.nbytes - table.strides[0]), constant(8 * FAULTS))
    build.atomic_rmw("add", count, constant(1), "seq_cst")
    build.cbranch(build.icmp_unsigned("==", mapped, page), end, other)

    build.position_at_end(other)
    call(libc().sigaction, (number, word, word), signal_number, constant(previous), constant(0))
    build.branch(end)
    ir.IRBuilder(end).ret_void()

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    code = llvm.parse_assembly(str(module))
    engine = llvm.create_mcjit_compiler(code, llvm.Target.from_default_triple().create_target_machine(jit=True))
    engine.finalize_object()
    return engine, engine.get_function_address("on_bus_error")
