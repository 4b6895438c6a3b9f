"""Which of the ranks that were started together has ended, and why, as far as that can be known.

Every rank holds one connection to rank 0, over which nothing is sent while all is well. The system closes it
when a process ends, however it ends; a machine that is gone is noticed by TCP's keep-alive. So rank 0 notices the
end of any other rank, and the others that of rank 0. A rank that ends with an error says the line first.

Where no launcher has a store of its own, rank 0 listens at MASTER_PORT from its first moment on, before torch is
imported and options are read, and tells there at which port torch's store is: so a rank 0 that dies while it
starts is noticed too. This module imports nothing but the standard library.
"""

import json
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from skelpipe.door.visible import visible
from skelpipe.errors import UsageError

__all__ = ["Fellows", "begin", "begun", "cause", "forget", "leave", "started_alone"]

GRACE_SECONDS = 5.0  # for a process to end with a message of its own, once another rank has ended
LINGER_SECONDS = 5.0  # in which a rank 0 that fails at its start tells those that come later
RETRY_SECONDS = 0.1
WAIT_SECONDS = 10.0  # after which a rank says for whom it waits
ZOMBIE_SECONDS = 0.2  # for the exit code of another process, until its parent has asked for it
LONGEST = 4096  # bytes of a message
WORDS = 400  # characters of a line that another rank said
KEEPALIVE = {"TCP_KEEPIDLE": 3, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}  # seconds, seconds, times
LOCAL = ("localhost", "127.0.0.1", "::1")

_here: list["Fellows"] = []  # of this process: one, from its start to its end


class Fellows:
    """The connections of rank `rank` with the other ranks of `world`."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self.advice = ""  # ends the line about another rank
        self._changed = threading.Condition()
        self._lost: tuple[int, str] | None = None
        self._store_port = 0
        self._over = False  # whether this process ends, or has no need of the others any more
        self._closed = False
        self._peers: dict[socket.socket, _Peer] = {}
        self._listening: list[socket.socket] = []
        self._ended: set[int] = set()  # ranks whose connection is closed
        self._ready: set[int] = set()  # ranks that are known to have called `meet`
        self._all_ready = False
        self._ooms = _out_of_memory_kills()

    def listen(self, address: str, port: int) -> int:
        """Let rank 0 accept the others; return the port. UsageError where it is taken."""
        host = address if address in LOCAL else ""
        family = socket.AF_INET6 if host == "::1" else socket.AF_INET
        try:
            dual = not host and socket.has_dualstack_ipv6()
            listener = socket.create_server(
                (host, port),
                family=socket.AF_INET6 if dual else family,
                backlog=self.world,
                dualstack_ipv6=dual,
            )
        except OSError as error:
            raise UsageError(
                f"rank 0 cannot listen at port {port} of {address}: {os.strerror(error.errno or 0)}; "
                "MASTER_PORT names another"
            ) from None
        self._listening.append(listener)
        self._begin(self._serve, listener)
        return int(listener.getsockname()[1])

    def connect(self, address: str, port: int) -> None:
        """Connect to rank 0, in the background, as soon as it listens there."""
        self._begin(self._follow, address, port)

    def announce(self, port: int) -> None:
        """Let rank 0 tell the others the port of torch's store."""
        with self._changed:
            self._store_port = port
        self._tell({"store": port})

    def store_port(self, seconds: float) -> int | None:
        """Wait for what rank 0 announces; None if it does not."""
        with self._changed:
            self._changed.wait_for(lambda: self._store_port or self._lost, seconds)
            return self._store_port or None

    def meet(self, seconds: float) -> list[int]:
        """Wait until every rank has called this; return the ranks for which this one waited in vain.

        Those are ranks that have not come within so many seconds, or one that has ended, as `lost` then says.
        Unlike torch's own wait, this one ends when a signal comes.
        """
        with self._changed:
            self._ready.add(self.rank)
            if self.rank:
                self._tell({"ready": True})
            self._changed.wait_for(lambda: self._lost or not self._absent(), seconds)
            if self._lost is not None:
                return [self._lost[0]]
            absent = self._absent()
            if self.rank == 0 and not absent:
                self._tell({"all ready": True})
            return absent

    def _absent(self) -> list[int]:
        """Return the ranks that have not called `meet`; only rank 0 knows them, and others wait for its word."""
        if self.rank:
            return [] if self._all_ready else [0]
        return [rank for rank in range(self.world) if rank not in self._ready]

    def lost(self, seconds: float = 0.0) -> str | None:
        """Say which other rank has ended and why, None if none has; wait so long for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._lost, seconds)
            if self._lost is None:
                return None
            rank, why = self._lost
        return f"another rank has ended: rank {rank} of {self.world} {why}"

    @property
    def speaks(self) -> bool:
        """Whether this rank says that another has ended: rank 0, or any if it is rank 0."""
        return self.rank == 0 or (self._lost is not None and self._lost[0] == 0)

    def end(self, words: str | None, *, linger: bool = True) -> None:
        """Say goodbye: this rank ends, after its own line `words` if it has failed.

        Rank 0 may `linger` for ranks that are yet to connect, to tell them.
        """
        with self._changed:
            if self._over:
                return
            self._over = True
            self._changed.notify_all()
        if words is not None and self.rank == 0 and linger:
            self._wait_for_all()
        self._tell({"end": None if words is None else visible(words)[:WORDS]})

    def close(self, *, inherited: bool = False) -> None:
        """Close all connections; `inherited` ones stay open in the process that this one was forked from."""
        self._over = self._closed = True
        for connection in [*self._listening, *self._peers]:
            with suppress(OSError):
                if not inherited:
                    connection.shutdown(socket.SHUT_RDWR)  # ends the wait of a thread
            connection.close()

    def _begin(self, work: Any, *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, name="skelpipe-ranks", daemon=True).start()

    def _wait_for_all(self) -> None:
        """Wait for the ranks that have not connected yet: they would wait for this one in vain."""
        until = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < until and self._lost is None:
            if not self._missing():
                return
            time.sleep(RETRY_SECONDS / 10)

    def _missing(self) -> list[int]:
        """Return the ranks that have not connected to this one, rank 0."""
        with self._changed:
            known = {peer.rank for peer in self._peers.values()} | self._ended
        return [rank for rank in range(1, self.world) if rank not in known]

    def _tell(self, message: Mapping[str, Any], only: socket.socket | None = None) -> None:
        content = json.dumps(message).encode() + b"\n"
        with self._changed:
            for peer in [only] if only is not None else list(self._peers):
                with suppress(OSError):
                    peer.sendall(content)

    def _serve(self, listener: socket.socket) -> None:
        """Accept the other ranks and wait for what they say, or for their end."""
        with selectors.DefaultSelector() as selector, listener:
            selector.register(listener, selectors.EVENT_READ)
            waiting = True
            while not self._closed:
                events = selector.select(WAIT_SECONDS if waiting else None)
                if not events and waiting and (missing := self._missing()):
                    _write(f"rank 0 waits for rank {', '.join(map(str, missing))} of {self.world} to start")
                waiting = waiting and bool(events)
                for key, _ in events:
                    connection: Any = key.fileobj
                    if connection is not listener:
                        if not self._hear(connection):
                            selector.unregister(connection)
                        continue
                    with suppress(OSError):
                        accepted = _kept_alive(listener.accept()[0])
                        selector.register(accepted, selectors.EVENT_READ)
                        with self._changed:
                            self._peers[accepted] = _Peer()
                        self._tell({**_introduction(0), "store": self._store_port}, accepted)
                        if self._lost is not None:
                            self._tell({"lost": self._lost}, accepted)

    def _follow(self, address: str, port: int) -> None:
        """Connect to rank 0 and wait for what it says, or for its end."""
        begun, told = time.monotonic(), False
        while True:
            try:
                connection = _kept_alive(socket.create_connection((address, port), timeout=WAIT_SECONDS))
                break
            except OSError:
                time.sleep(RETRY_SECONDS)
                if self._over:
                    return
                if not told and time.monotonic() - begun > WAIT_SECONDS:
                    told = True
                    _write(f"rank {self.rank} of {self.world} waits for rank 0 at {address}:{port}")
        with self._changed:
            self._peers[connection] = _Peer(rank=0)
            self._tell({**_introduction(self.rank), "ready": self.rank in self._ready}, connection)
        while self._hear(connection):
            pass

    def _hear(self, connection: socket.socket) -> bool:
        """Take what another rank says; return whether it may say more."""
        peer = self._peers.get(connection)
        if peer is None:
            return False
        try:
            received = connection.recv(LONGEST)
        except OSError:
            received = b""
        peer.unread += received
        *lines, peer.unread = peer.unread.split(b"\n")
        try:
            for line in lines:
                self._take(peer, json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):  # not one of ours
            peer.rank, received = -1, b""
        if received and len(peer.unread) <= LONGEST:
            return True
        with self._changed:
            self._peers.pop(connection, None)
        connection.close()
        self._ended.add(peer.rank)
        if peer.rank >= 0 and not peer.ended:
            self._note(peer.rank, peer.why(self._ooms))
        return False

    def _take(self, peer: "_Peer", message: Mapping[str, Any]) -> None:
        if "rank" in message:
            peer.introduce(message, self.world)
        if message.get("store"):
            with self._changed:
                self._store_port = int(message["store"])
                self._changed.notify_all()
        if message.get("ready") or message.get("all ready"):
            if peer.rank < 0:
                raise ValueError(message)
            with self._changed:
                self._ready.add(peer.rank)
                self._all_ready = bool(message.get("all ready"))
                self._changed.notify_all()
        if "lost" in message:
            rank, why = message["lost"]
            self._note(int(rank), visible(str(why))[: 2 * WORDS])
        if "end" in message:
            if peer.rank < 0:
                raise ValueError(message)
            peer.ended = True
            if message["end"] is not None:
                self._note(peer.rank, f"ended: {visible(str(message['end']))[:WORDS]}")

    def _note(self, rank: int, why: str) -> None:
        """Note that a rank has ended; tell it the others; and end this process if nothing else does."""
        with self._changed:
            if self._lost is not None:
                return
            self._lost = rank, why
            self._changed.notify_all()
            if self._over:
                return
        if self.rank == 0:
            self._tell({"lost": [rank, why]})
        self._begin(self._end_late)

    def _end_late(self) -> None:
        """End this process, which may wait for the other rank for ever, unless it does so by itself."""
        with self._changed:
            if self._changed.wait_for(lambda: self._over, GRACE_SECONDS):
                return
        if self.speaks:
            _write(f"Error: {self.lost()}{self.advice}")
        os._exit(1)


class _Peer:
    """What is known of the process at the other end of a connection; `rank` is -1 until it has said."""

    def __init__(self, rank: int = -1) -> None:
        self.rank, self.pid, self.host = rank, 0, ""
        self.unread, self.ended = b"", False

    def introduce(self, message: Mapping[str, Any], world: int) -> None:
        rank, self.pid, self.host = (
            int(message["rank"]),
            int(message["pid"]),
            visible(str(message["host"]))[:WORDS],
        )
        if not 0 <= rank < world:
            raise ValueError(rank)
        self.rank = rank

    def why(self, ooms: int) -> str:
        """Say how the process has ended, which has said nothing."""
        who = f"(process {self.pid} on {self.host})" if self.pid else "(at an unknown place)"
        if self.host != socket.gethostname():
            return f"{who} was killed, or its machine cannot be reached any more"
        code = _exit_code(self.pid)
        memory = ": the kernel has ended a process for lack of memory" if _out_of_memory_kills() > ooms else ""
        if code is None:
            return f"{who} was killed or left without a word{memory}"
        if code >= 0:
            return f"{who} ended with exit code {code} and without a word"
        with suppress(ValueError):
            return f"{who} was killed by {signal.Signals(-code).name}{memory}"
        return f"{who} was killed by signal {-code}{memory}"


def _write(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())


def _introduction(rank: int) -> dict[str, Any]:
    return {"rank": rank, "pid": os.getpid(), "host": socket.gethostname()}


def _kept_alive(connection: socket.socket) -> socket.socket:
    """Let the system ask now and then whether the other machine is there."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            with suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _exit_code(pid: int) -> int | None:
    """Return the exit code of a process, negative for a signal; None if its parent was faster to ask."""
    until = time.monotonic() + ZOMBIE_SECONDS
    while time.monotonic() < until:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            return None
        if fields[0] in "ZX":
            return os.waitstatus_to_exitcode(int(fields[49]))
        time.sleep(RETRY_SECONDS / 100)
    return None


def _out_of_memory_kills() -> int:
    """Return how many processes of this control group the kernel has killed for lack of memory."""
    with suppress(OSError, ValueError):
        group = Path("/proc/self/cgroup").read_text("utf-8").rpartition("::")[2].strip().lstrip("/")
        events = (Path("/sys/fs/cgroup") / group / "memory.events").read_text("utf-8")
        return sum(int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill "))
    return 0


def started_alone() -> bool:
    """Return whether rank 0 has to provide the store: no launcher does, as torchrun would."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "") != str(True)


def begin() -> None:
    """Reach the other ranks if the environment names any and no launcher watches them; once in a process."""
    if _here or not started_alone():
        return
    try:
        rank, world, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        address = os.environ["MASTER_ADDR"]
    except (KeyError, ValueError):  # what is missing is said where ranks are needed
        return
    if world < 2 or not 0 <= rank < world:
        return
    fellows = Fellows(rank, world)
    if rank:
        fellows.connect(address, port)
    else:
        fellows.listen(address, port)
    _here.append(fellows)


def begun(rank: int, world: int) -> Fellows:
    """Return the connections of this process, new ones if there are none yet."""
    if not _here:
        _here.append(Fellows(rank, world))
    return _here[0]


def leave(words: str | None, *, linger: bool = True) -> None:
    """Say goodbye to the other ranks, if there are any: this process ends, after its line `words` if it failed."""
    if _here:
        _here[0].end(words, linger=linger)


def cause(seconds: float) -> str | None:
    """Say which other rank has ended and why, if one has or does within these seconds."""
    return _here[0].lost(seconds) if _here else None


def forget() -> None:
    """Close the connections; the next group of this process makes new ones."""
    while _here:
        _here.pop().close()


def _forget_inherited() -> None:
    while _here:
        _here.pop().close(inherited=True)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        after_in_child=_forget_inherited
    )  # else a rank would seem alive as long as its workers are
