"""Read pickles that hold arrays, numbers, texts, lists, tuples, dicts and sets, and nothing else.

Python's own unpickler calls whatever a file names. This reader knows the opcodes (Lib/pickletools.py describes
each) but neither imports nor calls anything: where a file asks for another name than the few below, the file is
refused by that name. Nothing is recursive, and no more is allocated than the file's bytes account for. Arrays stay
where they are in the file, so a file that is mapped into memory is shared by all processes that read it.
"""

import codecs
import math
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from skelpipe.errors import RawError
from skelpipe.untrusted import described, shown

__all__ = ["PickledArray", "load_pickle"]

MOST_OBJECTS = 20_000_000  # lists, dicts, arrays, …: an opcode of one byte makes an object of a hundred
PLAIN = "arrays, numbers, texts, lists, tuples, dicts and sets"
LARGE = 4096  # bytes; longer texts and bytes are decoded only where they are used
LONGEST_NUMBER = 32  # bytes of an integer
LAST_PROTOCOL = 5
NEWLINE = 10
DTYPE = re.compile(r"[|<>=]?(?:[?b](?:1)?|[iu][1248]|f[248]|[SU][0-9]{1,6})")
OBJECTS = re.compile(r"[|<>=]?O8?")
OTHERS = {b"PK": "a .zip or .npz archive", b"\x93N": "an .npy array", b"\x1f\x8b": "gzip: unpack it first"}
UNREADABLE = (ValueError, TypeError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError)
SCALAR_KEYS = (str, bytes, int, float, bool, type(None))

CONSTRUCTORS = {"numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
FROM_BUFFER = {"numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"}
SCALARS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
ARRAY_TYPES = {"numpy.ndarray"}
DTYPES = {"numpy.dtype"}
BYTES = {"_codecs.encode"}
EMPTY_BYTES = {"__builtin__.bytes", "builtins.bytes"}
SETS = {"__builtin__.set", "builtins.set", "__builtin__.frozenset", "builtins.frozenset"}
KNOWN = CONSTRUCTORS | FROM_BUFFER | SCALARS | ARRAY_TYPES | DTYPES | BYTES | EMPTY_BYTES | SETS


class _Name(str):
    """A name that the file asks for, one of KNOWN."""

    __slots__ = ()


class _Mark:
    """The place on the stack where a list, tuple or dict begins."""


class _LongText:
    """A long text as it stands in the file, UTF-8."""

    def __init__(self, data: memoryview) -> None:
        self.data = data


class _LatinBytes:
    """Bytes that protocols 0 to 2 write as a text of the characters 0 to 255, here still UTF-8."""

    def __init__(self, data: memoryview) -> None:
        self.data = data

    def decode(self) -> bytes:
        return str(self.data, "utf-8").encode("latin-1")


class _Raw(tuple[Any, ...]):
    """A tuple that holds names, dtypes, or texts and bytes as they stand in the file: the parts of an array."""


class _Dtype:
    """A numpy dtype under construction."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def objects(self) -> bool:
        return OBJECTS.fullmatch(self.name) is not None

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.name)


RAW = frozenset((_Name, _LongText, _LatinBytes, _Dtype, _Raw, memoryview))


class PickledArray:
    """An array in a pickle: `shape`, `dtype`, and its values by `np.asarray`, which copies only encoded ones."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype: np.dtype[Any] = np.dtype("u1")
        self.file = ""
        self._by_columns = False
        self._data: Any = b""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        data, count = self._data, math.prod(self.shape)
        if isinstance(data, list):
            array = np.empty(count, object)
            array[:] = data
            return array.reshape(self.shape)
        if not count:
            return np.zeros(self.shape, self.dtype if dtype is None else dtype)
        if isinstance(data, _LatinBytes):
            try:
                data = data.decode()
            except UnicodeError:
                data = b""
            if len(data) != count * self.dtype.itemsize:
                raise RawError(f"{self.file}: the bytes of an array of shape {list(self.shape)} are damaged")
        array = np.frombuffer(data, self.dtype, count).reshape(self.shape, order="F" if self._by_columns else "C")
        return array if dtype is None else array.astype(dtype, copy=False)


class _DamageError(Exception):
    """What is wrong with the file, without its name."""


def load_pickle(content: Any, name: str) -> Any:
    """Return the object in the pickle `content`, a bytes-like object that must outlive it; `name` is for messages.

    Arrays are `PickledArray`. Texts that Python 2 wrote are read as Latin-1. Raises RawError for a damaged pickle,
    and for one that asks for anything else than arrays, numbers, texts, lists, tuples, dicts and sets.
    """
    try:
        return _Machine(memoryview(content).cast("B"), name).run()
    except _DamageError as error:
        raise RawError(f"{name}: {error}") from None
    except (IndexError, struct.error):
        raise RawError(f"{name}: no whole pickle: it ends early (cut off in download?)") from None
    except UNREADABLE as error:
        raise RawError(f"{name}: a damaged pickle, or none: {shown(error)}") from None


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, data: memoryview, file: str) -> None:
        self.data, self.file, self.at, self.objects = data, file, 0, 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        if not len(self.data):
            raise _DamageError("the file is empty")
        if bytes(self.data[:2]) in OTHERS:
            raise _DamageError(f"no pickle but {OTHERS[bytes(self.data[:2])]}")
        opcodes, data, stop = OPCODES, self.data, ord(".")
        while True:
            code = data[self.at]
            self.at += 1
            if code == stop:
                break
            action = opcodes.get(code)
            if action is None:
                raise _DamageError(f"no pickle, or a damaged one: byte {self.at} is no opcode")
            action(self)
        if len(self.stack) != 1 or isinstance(self.stack[0], _Mark):
            raise _DamageError("a damaged pickle: nothing, or too much, is left at its end")
        return _plain(self.stack[0])

    def take(self, size: int) -> memoryview:
        """Return the next bytes of the file."""
        start, self.at = self.at, self.at + size
        if size < 0 or self.at > len(self.data):
            raise IndexError
        return self.data[start : self.at]

    def number(self, form: struct.Struct) -> int:
        start, self.at = self.at, self.at + form.size
        return int(form.unpack_from(self.data, start)[0])

    def line(self) -> bytes:
        """Return the next line, without its end; lines hold names and numbers and are short."""
        for size in (256, 1 << 16):
            piece = bytes(self.data[self.at : self.at + size])
            if (end := piece.find(b"\n")) >= 0:
                self.at += end + 1
                return piece[:end]
        raise IndexError

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def make(self, value: Any) -> None:
        self.objects += 1
        if self.objects > MOST_OBJECTS:
            raise _DamageError(f"holds more than {MOST_OBJECTS:,} lists, dicts and arrays: refused")
        self.stack.append(value)

    def pop(self) -> Any:
        return _plain(self.pop_raw())

    def pop_raw(self) -> Any:
        """Return the top of the stack; long texts and bytes stay as they are in the file."""
        value = self.stack.pop()
        if isinstance(value, _Mark):
            raise _DamageError("a damaged pickle: a value is missing")
        return value

    def to_mark(self) -> list[Any]:
        """Remove and return everything above the last mark."""
        return [_plain(value) for value in self.to_mark_raw()]

    def to_mark_raw(self) -> list[Any]:
        """Do the same; long texts and bytes stay as they are in the file."""
        stack = self.stack
        at = len(stack) - 1
        while not isinstance(stack[at], _Mark):
            at -= 1
            if at < 0:
                raise _DamageError("a damaged pickle: a mark is missing")
        values = stack[at + 1 :]
        del stack[at:]
        return values

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise _DamageError(f"a damaged pickle: a {kind.__name__} is expected")
        return self.stack[-1]

    def name(self, module: str, attribute: str) -> None:
        asked = f"{module}.{attribute}"
        if asked not in KNOWN:
            shown = "".join(c if c.isprintable() else "?" for c in asked)[:100]
            raise _DamageError(f"asks for {shown}: only {PLAIN} are read from pickles")
        self.push(_Name(asked))

    def reduce(self) -> None:
        arguments = self.pop_raw()
        called = self.pop_raw()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise _DamageError("a damaged pickle: it calls what is no name")
        value = _called(called, arguments)
        if isinstance(value, PickledArray):
            value.file = self.file
        self.make(value)

    def build(self) -> None:
        state = self.pop_raw()
        target = self.stack[-1]
        if isinstance(target, _Dtype):
            _complete_dtype(target, state)
        elif isinstance(target, PickledArray):
            _complete_array(target, state)
        else:
            raise _DamageError("sets the state of an object: only arrays have one that is read")

    def remember(self, key: int) -> None:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise _DamageError("a damaged pickle: nothing is there to remember")
        self.memo[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        if key not in self.memo:
            raise _DamageError("a damaged pickle: it recalls what it did not store")
        self.push(self.memo[key])


def _plain(value: Any) -> Any:
    """Return a value as the caller may see it; names and dtypes are parts of arrays only."""
    if isinstance(value, _LongText):
        return str(value.data, "utf-8", "surrogatepass")
    if isinstance(value, _LatinBytes):
        return value.decode()
    if isinstance(value, memoryview):
        return bytes(value)
    if type(value) is _Raw:
        return tuple(map(_plain, value))
    if isinstance(value, _Name | _Dtype):
        value = value if isinstance(value, _Name) else "a numpy.dtype"
        raise _DamageError(f"holds {shown(value)} itself: only {PLAIN} are read from pickles")
    return value


def _called(name: str, arguments: tuple[Any, ...]) -> Any:
    """Return what numpy's or Python's function of this name makes of its arguments."""
    if name in CONSTRUCTORS:
        if len(arguments) != 3 or arguments[0] not in ARRAY_TYPES:
            raise _DamageError("holds an array of a class of its own: only plain arrays are read")
        return PickledArray()
    if name in FROM_BUFFER:
        data, dtype, shape, order = arguments
        array = PickledArray()
        _complete_array(array, (1, shape, dtype, order == "F", data))
        return array
    if name in DTYPES:
        return _Dtype(_dtype_name(arguments[0]))
    if name in SCALARS:
        dtype, data = arguments
        return _scalar(dtype, data)
    if name in BYTES:
        return _encoded(arguments)
    if name in EMPTY_BYTES:
        if arguments:
            raise _DamageError(f"calls {shown(name)} with arguments: refused")
        return b""
    if name in SETS:
        (values,) = arguments
        if not isinstance(values, list | tuple):
            raise _DamageError(f"calls {shown(name)} with something else than a list: refused")
        return {_key(value) for value in values}
    raise _DamageError(f"calls {shown(name)}: refused")


def _encoded(arguments: tuple[Any, ...]) -> Any:
    text, encoding = arguments
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str | _LongText):
        raise _DamageError("encodes a text otherwise than as Latin-1: refused")
    return _LatinBytes(text.data) if isinstance(text, _LongText) else text.encode("latin-1")


def _dtype_name(name: Any) -> str:
    text = name.decode("ascii") if isinstance(name, bytes) else name
    if not isinstance(text, str):
        raise _DamageError("a damaged pickle: the name of a dtype is expected")
    if not DTYPE.fullmatch(text) and not OBJECTS.fullmatch(text):
        raise _DamageError(
            f"holds an array of {described(text)}: only plain numbers and texts are read from arrays"
        )
    return text


def _complete_dtype(dtype: _Dtype, state: Any) -> None:
    order, fields = state[1], state[3:5]
    if any(fields) or state[2]:
        raise _DamageError("holds an array with named fields: only plain numbers and texts are read from arrays")
    order = order.decode("ascii") if isinstance(order, bytes) else order
    if order not in ("<", ">", "|", "="):
        raise _DamageError("a damaged pickle: a byte order is expected")
    bare = dtype.name.lstrip("|<>=")
    dtype.name = bare if order == "|" else order + bare


def _complete_array(array: PickledArray, state: Any) -> None:
    _, shape, dtype, by_columns, data = state
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise _DamageError("a damaged pickle: the shape of an array is expected")
    if not isinstance(dtype, _Dtype):
        raise _DamageError("a damaged pickle: the dtype of an array is expected")
    count = math.prod(shape)
    if dtype.objects:
        if not isinstance(data, list) or len(data) != count:
            raise _DamageError(
                f"a damaged pickle: {count} objects are expected in an array of shape {list(shape)}"
            )
        array.dtype = np.dtype(object)
    else:
        array.dtype = dtype.dtype()
        data = _bytes_like(data)
        expected = count * array.dtype.itemsize
        if not isinstance(data, _LatinBytes) and len(data) != expected:
            raise _DamageError(
                f"{expected} bytes are expected for {array.dtype} of shape {list(shape)}, found {len(data)}"
            )
        if isinstance(data, _LatinBytes) and not expected <= len(data.data) <= 2 * expected:
            raise _DamageError(f"the bytes of an array of {array.dtype} of shape {list(shape)} are missing")
    if not count:
        np.zeros(shape)  # refuses sizes that no array can have
    array.shape, array._by_columns, array._data = shape, bool(by_columns), data


def _bytes_like(data: Any) -> Any:
    if isinstance(data, str):  # written by Python 2
        return data.encode("latin-1")
    if not isinstance(data, bytes | bytearray | memoryview | _LatinBytes):
        raise _DamageError("a damaged pickle: the bytes of an array are expected")
    return data


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.objects:
        raise _DamageError("holds a numpy scalar of Python objects: only plain numbers and texts are read")
    data = _bytes_like(data)
    data = data.decode() if isinstance(data, _LatinBytes) else data
    kind = dtype.dtype()
    if len(data) != kind.itemsize:
        raise _DamageError(f"a damaged pickle: {kind.itemsize} bytes are expected for a {kind}")
    return np.frombuffer(data, kind, 1)[0].item()


def _key(value: Any) -> Any:
    """Return a key of a dict or a member of a set: numbers and texts, whose hash is not recursive."""
    if not isinstance(value, SCALAR_KEYS):
        raise _DamageError("holds a dict or set whose keys are neither numbers nor texts: refused")
    return value


# The opcodes. U1 to U8 are little-endian unsigned numbers.
U1, U2, U4, U8 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
S4, DOUBLE = struct.Struct("<i"), struct.Struct(">d")


def _text(machine: _Machine, size: struct.Struct) -> None:
    data = machine.take(machine.number(size))
    machine.push(_LongText(data) if len(data) > LARGE else str(data, "utf-8", "surrogatepass"))


def _bytes(machine: _Machine, size: struct.Struct) -> None:
    data = machine.take(machine.number(size))
    machine.push(data if len(data) > LARGE else bytes(data))


def _python2_text(machine: _Machine, size: struct.Struct) -> None:
    data = machine.take(machine.number(size))
    machine.push(data if len(data) > LARGE else str(data, "latin-1"))


def _binary_long(machine: _Machine, size: struct.Struct) -> None:
    count = machine.number(size)
    if count > LONGEST_NUMBER:
        raise _DamageError(f"holds an integer of {count} bytes: refused")
    machine.push(int.from_bytes(machine.take(count), "little", signed=True))


def _decimal(machine: _Machine) -> None:
    word = machine.line()
    if word in (b"00", b"01"):
        machine.push(word == b"01")
        return
    digits = word.removesuffix(b"L")
    if len(digits) > 3 * LONGEST_NUMBER or b"_" in digits:
        raise _DamageError("holds an integer that is too long: refused")
    machine.push(int(digits))


def _python2_string(machine: _Machine) -> None:
    word = machine.line().strip()
    if len(word) < 2 or word[:1] != word[-1:] or word[:1] not in (b"'", b'"'):
        raise _DamageError("a damaged pickle: a text in quotes is expected")
    machine.push(codecs.escape_decode(word[1:-1])[0].decode("latin-1"))


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _appends(machine: _Machine) -> None:
    values = machine.to_mark()
    machine.top(list).extend(values)


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise _DamageError("a damaged pickle: a dict has a key without a value")
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _set_items(machine: _Machine) -> None:
    values = machine.to_mark()
    machine.top(dict).update(_pairs(values))


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.top(dict)[_key(key)] = value


def _add_items(machine: _Machine) -> None:
    values = machine.to_mark()
    machine.top(set).update(map(_key, values))


def _tuple_of(machine: _Machine, count: int) -> None:
    if len(machine.stack) < count:
        raise _DamageError("a damaged pickle: a value is missing")
    values = machine.stack[-count:]
    if _Mark in map(type, values):
        raise _DamageError("a damaged pickle: a value is missing")
    del machine.stack[-count:]
    machine.make(_tuple(values))


def _tuple(values: list[Any]) -> tuple[Any, ...]:
    if not RAW.isdisjoint(map(type, values)):
        return _Raw(tuple(map(_plain, value)) if type(value) is _Raw else value for value in values)
    return tuple(values)


def _frame(machine: _Machine) -> None:
    machine.number(U8)  # the size of a frame helps only those who read a file piece by piece


def _protocol(machine: _Machine) -> None:
    version = machine.number(U1)
    if version > LAST_PROTOCOL:
        raise _DamageError(f"a pickle of protocol {version}: 0 to {LAST_PROTOCOL} are known")


def _global(machine: _Machine) -> None:
    module, attribute = machine.line(), machine.line()
    machine.name(module.decode("utf-8", "replace"), attribute.decode("utf-8", "replace"))


def _stack_global(machine: _Machine) -> None:
    attribute, module = machine.pop(), machine.pop()
    if not isinstance(attribute, str) or not isinstance(module, str):
        raise _DamageError("a damaged pickle: a name is expected")
    machine.name(module, attribute)


def _instance(machine: _Machine) -> None:
    module, attribute = machine.line(), machine.line()
    asked = f"{module.decode('latin-1')}.{attribute.decode('latin-1')}"[:100]
    raise _DamageError(f"makes an object of the class {shown(asked)}: only {PLAIN} are read from pickles")


def _refuse(what: str) -> Callable[[_Machine], None]:
    def refuse(_machine: _Machine) -> None:
        raise _DamageError(f"{what}: only {PLAIN} are read from pickles")

    return refuse


def _discard(machine: _Machine) -> None:
    machine.stack.pop()


def _duplicate(machine: _Machine) -> None:
    if isinstance(machine.stack[-1], _Mark):
        raise _DamageError("a damaged pickle: a value is missing")
    machine.push(machine.stack[-1])


def _float_line(machine: _Machine) -> None:
    machine.push(float(machine.line()))


def _binary_float(machine: _Machine) -> None:
    start, machine.at = machine.at, machine.at + DOUBLE.size
    machine.push(DOUBLE.unpack_from(machine.data, start)[0])


OPCODES: dict[int, Callable[[_Machine], None]] = {
    ord(code): action
    for code, action in {
        "(": lambda m: m.stack.append(_Mark()),
        "0": _discard,
        "1": lambda m: m.to_mark_raw() and None,
        "2": _duplicate,
        "N": lambda m: m.push(None),
        "\x88": lambda m: m.push(True),
        "\x89": lambda m: m.push(False),
        "I": _decimal,
        "L": _decimal,
        "J": lambda m: m.push(m.number(S4)),
        "K": lambda m: m.push(m.number(U1)),
        "M": lambda m: m.push(m.number(U2)),
        "\x8a": lambda m: _binary_long(m, U1),
        "\x8b": lambda m: _binary_long(m, U4),
        "F": _float_line,
        "G": _binary_float,
        "S": _python2_string,
        "T": lambda m: _python2_text(m, U4),
        "U": lambda m: _python2_text(m, U1),
        "V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        "X": lambda m: _text(m, U4),
        "\x8c": lambda m: _text(m, U1),
        "\x8d": lambda m: _text(m, U8),
        "B": lambda m: _bytes(m, U4),
        "C": lambda m: _bytes(m, U1),
        "\x8e": lambda m: _bytes(m, U8),
        "\x96": lambda m: _bytes(m, U8),
        "]": lambda m: m.make([]),
        "l": lambda m: m.make(m.to_mark()),
        "a": _append,
        "e": _appends,
        ")": lambda m: m.push(()),
        "t": lambda m: m.make(_tuple(m.to_mark_raw())),
        "\x85": lambda m: _tuple_of(m, 1),
        "\x86": lambda m: _tuple_of(m, 2),
        "\x87": lambda m: _tuple_of(m, 3),
        "}": lambda m: m.make({}),
        "d": lambda m: m.make(_pairs(m.to_mark())),
        "s": _set_item,
        "u": _set_items,
        "\x8f": lambda m: m.make(set()),
        "\x90": _add_items,
        "\x91": lambda m: m.make(set(map(_key, m.to_mark()))),
        "p": lambda m: m.remember(int(m.line())),
        "q": lambda m: m.remember(m.number(U1)),
        "r": lambda m: m.remember(m.number(U4)),
        "\x94": lambda m: m.remember(len(m.memo)),
        "g": lambda m: m.recall(int(m.line())),
        "h": lambda m: m.recall(m.number(U1)),
        "j": lambda m: m.recall(m.number(U4)),
        "c": _global,
        "\x93": _stack_global,
        "R": lambda m: m.reduce(),
        "b": lambda m: m.build(),
        "i": _instance,
        "o": _refuse("makes an object of a class"),
        "\x81": _refuse("makes an object of a class"),
        "\x92": _refuse("makes an object of a class"),
        "P": _refuse("refers to an object outside of the file (a persistent id)"),
        "Q": _refuse("refers to an object outside of the file (a persistent id)"),
        "\x82": _refuse("asks for an entry of the extension registry"),
        "\x83": _refuse("asks for an entry of the extension registry"),
        "\x84": _refuse("asks for an entry of the extension registry"),
        "\x97": _refuse("refers to a buffer outside of the file"),
        "\x98": _refuse("refers to a buffer outside of the file"),
        "\x80": _protocol,
        "\x95": _frame,
    }.items()
}
