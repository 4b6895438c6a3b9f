"""Lets skelpipe on Linux see what Windows has; loaded by all processes that have this folder in PYTHONPATH.

Modules, functions and signals are missing in its imports, processes are spawned only, and an open or mapped file
can be neither removed nor renamed.
"""

import builtins
import multiprocessing
import multiprocessing.context
import os
import shutil
import signal
import sys
from typing import Any

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
FUNCTIONS = ("posix_fadvise", "posix_fallocate", "sched_getaffinity", "sched_setaffinity")
FUNCTIONS += ("fork", "forkpty", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg")
FUNCTIONS += ("mkfifo", "nice", "pread", "preadv", "pwrite", "pwritev", "register_at_fork", "setsid", "statvfs")
FUNCTIONS += ("O_CLOEXEC", "O_DIRECTORY", "uname", "wait3", "wait4")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "setitimer")


def is_open(path: str) -> bool:
    """Return whether this process has the file open or mapped, or a file in this folder."""
    real = os.path.realpath(path)
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    with open("/proc/self/maps", "rb") as maps:
        names += [os.fsdecode(line.split(None, 5)[5].rstrip()) for line in maps if b"/" in line]
    return any(name == real or name.startswith(f"{real}/") for name in names)


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse what Windows refuses; called before each of Python's own operations."""
    if event in ("os.remove", "os.rename"):
        for path in arguments[: 1 if event == "os.remove" else 2]:
            if isinstance(path, str | bytes | os.PathLike) and is_open(os.fsdecode(path)):
                raise PermissionError(
                    13, "The process cannot access the file: it is being used", os.fsdecode(path)
                )


def rename(source: object, target: object) -> None:
    """As os.rename of Windows, which replaces nothing."""
    if os.path.lexists(target):  # type: ignore[arg-type]
        raise FileExistsError(17, "Cannot create a file when that file already exists", target)
    os.replace(source, target)  # type: ignore[arg-type]


class Lacking:
    """A standard module as skelpipe sees it: without some names, and with others replaced."""

    def __init__(self, module: object, without: tuple[str, ...], **replaced: object) -> None:
        self.__dict__.update(module=module, without=without, **replaced)

    def __getattr__(self, name: str) -> object:
        if name in self.without:
            raise AttributeError(f"this system has no {self.module.__name__}.{name}")
        return getattr(self.module, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.module, name, value)


SEEN = {
    "os": Lacking(os, FUNCTIONS, supports_fd=os.supports_fd - {os.utime}, rename=rename),
    "signal": Lacking(signal, SIGNALS),
    "sys": Lacking(sys, (), platform="win32"),
}


def lacking(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    """Import as usual, except in skelpipe: torch and numpy ask for the system's name, and rely on what it has."""
    if globals is not None and str(globals.get("__name__")).startswith("skelpipe") and not level:
        if name in MODULES:
            raise ModuleNotFoundError(f"this system has no {name}", name=name)
        if name in SEEN:
            return SEEN[name]
    return usual(name, globals, locals, fromlist, level)


usual, builtins.__import__ = builtins.__import__, lacking
for name in ("fork", "forkserver"):
    multiprocessing.context._concrete_contexts.pop(name)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
multiprocessing.set_start_method("spawn")
os.supports_dir_fd.clear()
shutil._use_fd_functions = False
sys.addaudithook(refuse)
