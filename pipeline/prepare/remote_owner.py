"""Who writes to a bucket: a file there names process, machine and time, and is renewed while that process lives.

Buckets have no locks, and their clocks are not compared with a machine's. So an owner on this machine is looked
for among its processes, and one elsewhere is watched: its file changes every few seconds.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.ownership import Owner
from skelpipe.storage.filesystem import Filesystem

__all__ = ["RemoteOwner", "owned_remotely"]

BEAT_SECONDS = 10.0  # between two renewals
WATCH_SECONDS = 40.0  # without a renewal, after which an owner has ended
LOOK_SECONDS = 2.0  # between two looks while watching
ATTEMPTS = 3  # readings of a file that may just be replaced
LONGEST = 4096  # bytes of the file that are read


class RemoteOwner:
    """The file that says that this process writes to `target`."""

    def __init__(self, target: Filesystem, name: str, command: str) -> None:
        self._target, self._name, self._me = target, name, Owner.myself(command)
        self._beats = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="skelpipe-owner", daemon=True)

    def acquire(self, say: Callable[[str], None]) -> None:
        """Become the owner; UsageError where another process is, and still lives."""
        before, content = self._read()
        if before is not None and (_has_ended_here(before) or not self._has_finished(before, content, say)):
            say(f"{self._target}: taken over from {before}, which has ended")
        self._write()
        self.check()  # of two that come at the same moment the later one stays
        self._thread.start()

    def check(self) -> None:
        """Raise SkelpipeError where another process has become the owner."""
        now, _ = self._read()
        if now != self._me:
            whose = f", by {now}" if now else ""
            said = f"another {(now or self._me).command} is writing there{whose}"
            raise SkelpipeError(f"{self._target}: {said}: let one finish, then run the command again")

    def let_go(self) -> None:
        """Remove the file, if it is still this process's."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(SkelpipeError, OSError):
            if self._read()[0] == self._me:
                self._target.remove(self._name)

    def _has_finished(self, before: Owner, content: bytes, say: Callable[[str], None]) -> bool:
        """Watch the file of an owner elsewhere; return whether it was removed, UsageError where it is renewed."""
        say(f"{self._target}: looking for {WATCH_SECONDS:.0f} s whether {before} still writes there")
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            _, now = self._read()
            if not now:
                return True
            if now != content:
                raise UsageError(f"{self._target}: another {before} is writing there")
        return False

    def _read(self) -> tuple[Owner | None, bytes]:
        """Return the owner that the file names, and the file; None where there is none."""
        content = b""
        for _ in range(ATTEMPTS):
            if self._target.size(self._name) is None:
                return None, b""
            try:
                content = self._target.read(self._name, LONGEST)
            except SkelpipeError:
                if self._target.size(self._name) is not None:
                    raise
                continue
            if (owner := Owner.parsed(content)) is not None:
                return owner, content
        return None, content

    def _write(self) -> None:
        self._beats += 1
        self._target.write(self._name, [json.dumps({**asdict(self._me), "beats": self._beats}).encode()])

    def _renew(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            with suppress(SkelpipeError, OSError):
                if self._read()[0] != self._me:  # taken over: `check` says so
                    return
                self._write()


def _has_ended_here(owner: Owner) -> bool:
    """Return whether an owner is known to have ended: a process of this machine and boot that is no more."""
    me = Owner.myself("")
    if (owner.host, owner.boot) != (me.host, me.boot) or os.name == "nt":  # where signal 0 would end a process
        return False
    try:
        os.kill(owner.process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@contextmanager
def owned_remotely(
    target: Filesystem, name: str, command: str, say: Callable[[str], None] = lambda _: None
) -> Iterator[RemoteOwner]:
    """Be the only one that writes to `target`, as its file `name` says; UsageError where another process is."""
    owner = RemoteOwner(target, name, command)
    try:
        owner.acquire(say)
        yield owner
    finally:
        owner.let_go()
