"""What a command says when something goes wrong: one line on stderr, and the exit code of its kind.

    2    wrong usage
    1    the data or the run failed, or skelpipe has a fault
    130  Ctrl-C
    141  who reads the output has closed it, as `head` does: nothing is said
    143  SIGTERM, SIGUSR1 or, on Windows, Ctrl-Break

A traceback is printed only with `--debug`, or where $SKELPIPE_DEBUG is set, which also reaches the processes that
a command starts. This module imports nothing but the standard library, so that it answers for imports that fail.
"""

import atexit
import gc
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from skelpipe.door import native_imports
from skelpipe.door.native_imports import native_imports_held
from skelpipe.door.refusals import FULL, why
from skelpipe.door.signals import PREEMPTING, TERMINATED, Ended, saying_what_ended
from skelpipe.door.visible import visible, visible_streams
from skelpipe.errors import SkelpipeError, UsageError

__all__ = [
    "CLOSED_PIPE",
    "DEBUG",
    "INTERRUPTED",
    "answer",
    "answering",
    "debug",
    "last_words",
    "program",
]

DEBUG = "SKELPIPE_DEBUG"
INTERRUPTED = 130  # 128 + SIGINT, as in shells
CTRL_C = getattr(signal, "CTRL_C_EVENT", signal.SIGINT)
CLOSED_PIPE = 141  # 128 + SIGPIPE
BEGUN = "nothing is done yet, run the command again"
AGAIN_SECONDS = 0.02
YOUNG_OBJECTS = 10_000  # between two collections: with Python's 700, an eighth of torch's import are collections
LONGEST = 400  # characters of a message that is not our own
PACKAGE = Path(__file__).resolve().parents[1]
IMPORT_HOOK = Path(native_imports.__file__)  # below the imports of native packages


class _Door:
    """Whether a command is being answered for, and whether it was asked to show tracebacks."""

    inside = False
    debug = False
    said = ""  # the last line about an error


def debug() -> None:
    """Show tracebacks until the command that is running has ended."""
    _Door.debug = True


def last_words(line: str) -> None:
    """Note the line with which this process ends, for the other ranks; it is printed elsewhere."""
    _Door.said = line


def _debugging() -> bool:
    return _Door.debug or os.environ.get(DEBUG, "0") not in ("", "0")


@contextmanager
def answering(*passing: type[BaseException], advice: str = BEGUN) -> Iterator[None]:
    """Turn whatever goes wrong inside into one line on stderr and SystemExit with its exit code.

    Errors of the kinds `passing` pass. `advice` ends the line about a signal that ended the command. What the
    outermost of several prints shows control characters as escapes; errors of threads and of what is being
    released become lines as well.
    """
    with ExitStack() as stack:
        if not _Door.inside:
            stack.enter_context(_at_the_door())
        try:
            with saying_what_ended(advice):
                yield
                sys.stdout.flush()
        except BaseException as error:
            if isinstance(error, (SystemExit, *passing)):
                raise
            raise SystemExit(answer(error)) from None


@contextmanager
def _at_the_door() -> Iterator[None]:
    hooks = threading.excepthook, sys.unraisablehook
    _Door.inside, _Door.debug = True, "--debug" in sys.argv[1:]
    try:
        with visible_streams(), native_imports_held():
            threading.excepthook = lambda failed: _of_a_thread(failed, hooks[0])
            sys.unraisablehook = lambda failed: _while_releasing(failed, hooks[1])
            yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks
        _Door.inside = _Door.debug = False


def answer(error: BaseException) -> int:
    """Say in one line what went wrong, after the traceback if that is asked for; return the exit code."""
    if isinstance(error, KeyboardInterrupt):
        _forget_interrupt()
        if _debugging():
            traceback.print_exception(error)
        if os.environ.get("RANK", "0") == "0":
            _say("Interrupted: finished work is kept; see --help for how to continue.")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError) and _output_is_closed():
        return CLOSED_PIPE
    if _debugging():
        with suppress(Exception):
            traceback.print_exception(error)
    _say(f"Error: {_line(error)}")
    return 2 if isinstance(error, UsageError) else 1


def _line(error: BaseException) -> str:
    if isinstance(error, SkelpipeError):
        return visible(str(error))
    said = visible(" ".join(str(error).split()))[:LONGEST]
    of_rank = ""
    if os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE", "1") != "1":
        of_rank = f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: "
    shows = "" if _debugging() else "; --debug shows the traceback"
    if isinstance(error, OSError) and (error.errno in FULL or error.filename is not None):
        names = [name for name in (error.filename, error.filename2) if name is not None]
        where = " and ".join(
            visible(os.fsdecode(name) if not isinstance(name, int) else str(name)) for name in names
        )
        return f"{of_rank}{where or 'a file'}: {why(error)}{shows}"
    if isinstance(error, ImportError):
        return f"{of_rank}{_not_imported(error, said)}{shows}"
    if isinstance(error, MemoryError):
        return f"{of_rank}there is not enough memory{f' ({said})' if said else ''}{shows}"
    if isinstance(error, RecursionError):
        return f"{of_rank}something is nested too deeply ({said}), {_place(error)}{shows}"
    name = type(error).__name__
    if _is_of_numba_cache(error):
        return (
            f"{of_rank}numba cannot use what it has compiled earlier ({name}: {said}): remove __pycache__ of the "
            f"package, or set NUMBA_CACHE_DIR to a new folder that can be written{shows}"
        )
    return f"{of_rank}{name}{f': {said}' if said else ''}, {_place(error)}{shows}"


def _not_imported(error: ImportError, said: str) -> str:
    name = visible(error.name or "")
    if isinstance(error, ModuleNotFoundError):
        return f"the package {name.partition('.')[0]} is not installed, or not whole ({said})"
    return f"{name or 'a package'} cannot be imported: {said}"


def _place(error: BaseException) -> str:
    """Say where in skelpipe the error came from, or else where it came up."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if (path := Path(frame.filename)).is_relative_to(PACKAGE) and path != IMPORT_HOOK
    ]
    if not frames:
        return "at an unknown place"
    frame = (own or frames)[-1]
    return f"at {visible(Path(frame.filename).name)}:{frame.lineno}"


def _is_of_numba_cache(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).parts[-3:] == ("numba", "core", "caching.py") for frame in frames[-8:])


def _say(line: str) -> None:
    """Print a line on stderr, where that is possible."""
    last_words(line)
    with suppress(OSError, ValueError, AttributeError):
        print(visible(line), file=sys.stderr, flush=True)


def _output_is_closed() -> bool:
    """Return whether who reads stdout or stderr has gone; both then lead nowhere, so that nothing fails again."""
    if not hasattr(select, "poll"):  # Windows
        return True
    looking = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            looking.register(stream.fileno(), select.POLLERR)
    closed = [number for number, event in looking.poll(0) if event & select.POLLERR]
    for number in closed:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), number)
    return bool(closed)


def _of_a_thread(failed: threading.ExceptHookArgs, before: Callable[[Any], object]) -> None:
    if _debugging():
        before(failed)
    elif failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        _say(f"Warning: a thread has ended: {_line(failed.exc_value)}")


def _while_releasing(failed: "sys.UnraisableHookArgs", before: Callable[[Any], object]) -> None:
    """Python ignores errors in what releases things; a Ctrl-C or SIGTERM in that moment must not be lost."""
    lost = failed.exc_value
    if isinstance(lost, (KeyboardInterrupt, Ended)):
        number = lost.number if isinstance(lost, Ended) else CTRL_C
        # Not now: it would be ignored again.
        again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
    elif _debugging():
        before(failed)


def _forget_interrupt() -> None:
    """Let Python exit with the code it is told: it else ends by SIGINT after a KeyboardInterrupt in an `exec`.

    Python remembers one that has left the code of a string, as dataclasses are made by, though it was caught
    since; the next such code resets that (`run_eval_code_obj` in CPython).
    """
    exec("")  # noqa: S102


def program(load: Callable[[], Callable[[], object]], *, ranks: bool = False) -> NoReturn:
    """Run the command that `load` imports as all that this process does, and exit.

    A command of several `ranks` is in touch with the others from here on, if the environment names any.
    """
    code: object = 0
    gc.set_threshold(YOUNG_OBJECTS)
    atexit.register(_ignore_signals)  # before all others, so that it is called after them
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as of a command in the background
            signal.signal(signal.SIGINT, signal.default_int_handler)  # `first_moments` had another
        with answering():
            if ranks and os.environ.get("WORLD_SIZE", "1") != "1":
                from skelpipe.door.fellow_ranks import begin

                begin()
            load()()
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:  # Ctrl-C before the door, or behind it
        code = answer(error)
    _leave(code)


def _leave(code: object) -> NoReturn:
    """Exit; a signal that comes in the meantime ends the process at once, with the code that it had earned."""
    number = code if isinstance(code, int) else int(code is not None)

    def now(*_: object) -> None:
        os._exit(number)

    with suppress(ValueError):  # not the main thread
        for each in (signal.SIGINT, *PREEMPTING):
            signal.signal(each, now)
    fellows = sys.modules.get("skelpipe.door.fellow_ranks")
    if fellows is not None:
        words = (_Door.said.removeprefix("Error: ") or f"exit code {number}") if number else None
        fellows.leave(words, linger=number not in (INTERRUPTED, TERMINATED))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or (CLOSED_PIPE if _output_is_closed() else 1)
        except (ValueError, AttributeError):
            pass
    sys.exit(code)  # type: ignore[arg-type]


def _ignore_signals() -> None:
    """Let nothing change the exit code while Python takes itself down, where signals would have their defaults."""
    with suppress(ValueError):  # not the main thread
        for each in (signal.SIGINT, *PREEMPTING):
            signal.signal(each, signal.SIG_IGN)
