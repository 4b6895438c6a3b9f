"""The moments from a command's first line to its `program`: its imports.

A signal ends the command at once, since there is nothing yet to bring in order; an error in an import is answered
as any other. Nothing is imported here that Python does not need for itself.
"""

import os
import signal
import sys
from types import TracebackType

__all__ = ["begin", "script"]


def script(name: str) -> None:
    """Answer for the imports of a script, whose `__name__` is `name`, until it runs as a `program`."""
    if name == "__main__":
        begin()


def begin() -> None:
    """Answer for the imports of this process until it runs as a `program`."""
    sys.excepthook = _uncaught
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it has it ignored
        signal.signal(signal.SIGINT, _interrupted)
    for name in ("SIGTERM", "SIGUSR1", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _ended)


def _interrupted(_number: int, _frame: object) -> None:
    _say("Interrupted: nothing is done yet, run the command again")
    os._exit(130)


def _ended(number: int, _frame: object) -> None:
    _say(f"{signal.Signals(number).name}: ended; nothing is done yet, run the command again")
    os._exit(128 + signal.SIGTERM)


def _say(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"{line}\n".encode())


def _uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    from skelpipe.door.answer import answer
    from skelpipe.door.visible import visible_streams

    with visible_streams():
        os._exit(answer(error))
