"""The processes that train or evaluate together, one per GPU: their ranks, their messages, how they end.

The environment of torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) describes them. Without it
there is a single process, and nothing here costs anything.
"""

import functools
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from skelpipe.door import fellow_ranks
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.loader.epoch_order import rank_share
from skelpipe.train.running.sigterm import Stopped, ending_on_sigterm

__all__ = ["ALONE", "RankLostError", "Ranks", "ranks", "together"]

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT = timedelta(minutes=10)  # a rank waits so long for others, which load, compile and save at their own pace
REPORTED = "skelpipe/reported"
FELLOWS = "skelpipe/fellows"
EXIT_WAIT_SECONDS = 3.0
ASK_SECONDS = 0.05  # between two looks whether rank 0 has come
CAUSE_SECONDS = 2.0  # from the error of a message to the news of who has ended
GO_ON = "--resume continues from the newest checkpoint, with any number of ranks"
AGAIN = "nothing is kept: start all ranks again"
TOLD_TO_END = "ended by SIGTERM: another rank has ended, or the whole run was stopped; the launcher says which"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class RankLostError(SkelpipeError):
    """Another rank has ended or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """Process `rank` of `world`. All ranks call the same methods in the same order.

    Tensors are exchanged on their device: by gloo on a CPU, by NCCL on GPUs. In a single process every method
    returns its input at once. A RankLostError is raised where another rank has ended, or after `TIMEOUT`.
    """

    rank: int = 0
    world: int = 1
    _store: Any = field(default=None, repr=False, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes and prints."""
        return self.rank == 0

    def shares(self, size: int) -> list[int]:
        """Return how many of `size` consecutive items each rank has, as `Stream` divides a batch."""
        return [len(rank_share(size, rank, self.world)) for rank in range(self.world)]

    def own(self, size: int) -> range:
        """Return which of `size` items are this rank's."""
        return rank_share(size, self.rank, self.world)

    def sum(self, x: Tensor) -> Tensor:
        """Add up `x` of all ranks, in place; afterwards it is bit-identical on every rank."""
        if self.world > 1:
            with _reaching_others():
                dist.all_reduce(x)
        return x

    def gather(self, x: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Return all ranks' rows x [n_r, ...], joined in the order of ranks.

        `counts` are all n_r, if they are known; otherwise they are exchanged first.
        """
        if self.world == 1:
            return x
        if counts is None:
            counts = self._all(torch.tensor([len(x)])).flatten().tolist()
        most = max(counts)
        if len(x) < most:
            x = torch.cat([x, x.new_zeros((most - len(x), *x.shape[1:]))])
        everyone = self._all(x)
        if min(counts) == most:
            return everyone.flatten(0, 1)
        return torch.cat([everyone[r, :count] for r, count in enumerate(counts)])

    def send(self, content: bytes, source: int = 0) -> bytes:
        """Return what rank `source` has as `content`."""
        if self.world == 1:
            return content
        size = torch.tensor([len(content)])
        with _reaching_others():
            dist.broadcast(size, source)
            sent = torch.zeros(int(size), dtype=torch.uint8)
            if self.rank == source and content:
                sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            dist.broadcast(sent, source)
        return sent.numpy().tobytes()

    def from_main(self, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returns on rank 0, the only one that calls it; all ranks raise its SkelpipeErrors."""
        if self.world == 1:
            return make()
        made, said, failed = b"", b"", None
        if self.is_main:
            try:
                made = make()
            except SkelpipeError as error:
                failed = error
                said = json.dumps([isinstance(error, UsageError), str(error)]).encode()
        said = self.send(said)
        if failed is not None:
            raise failed
        if said:
            usage, text = json.loads(said)
            raise (UsageError if usage else SkelpipeError)(text)
        return self.send(made)

    def on_main(self, action: Callable[[], None]) -> None:
        """Run `action` on rank 0 only; the others wait for it, and all raise its SkelpipeError."""

        def make() -> bytes:
            action()
            return b""

        self.from_main(make)

    def check_equal_text(self, what: str, content: str) -> None:
        """Raise SkelpipeError, on all ranks, if the `content` of one differs from that of rank 0."""
        if self.world == 1:
            return
        digest = hashlib.sha256(content.encode()).digest()
        everyone = self._all(torch.frombuffer(bytearray(digest), dtype=torch.uint8))
        other = (everyone != everyone[0]).any(1)
        if other.any():
            raise SkelpipeError(f"rank {int(other.nonzero()[0])} has {what} than rank 0")

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.sum(torch.zeros(1))

    def reports_first(self) -> bool:
        """Say whether this rank is the first to report an error, and so the one that prints it."""
        if self.world == 1 or self._store is None:
            return True
        try:
            return int(self._store.add(REPORTED, 1)) == 1
        except RuntimeError:  # the store was lost with the rank that held it
            return True

    def wait_before_exit(self) -> None:
        """Let the others call `reports_first` before this rank, which may hold the store, ends."""
        until = time.monotonic() + EXIT_WAIT_SECONDS
        while self.is_main and self._store is not None and time.monotonic() < until:
            if int(self._store.add(REPORTED, 0)) >= self.world:
                return
            time.sleep(0.02)

    def _all(self, x: Tensor) -> Tensor:
        """Return all ranks' `x`, of one shape, as [world, *shape]."""
        everyone = x.new_empty((self.world, *x.shape))
        with _reaching_others():
            dist.all_gather(list(everyone.unbind(0)), x.contiguous())
        return everyone


ALONE = Ranks()


@functools.cache
def ranks() -> Ranks:
    """Return this process's rank among those that torchrun started; the first call connects to the others.

    Raises UsageError if the environment is incomplete, RankLostError if the others do not connect.
    """
    world = _number("WORLD_SIZE", 1)
    if world <= 1:
        return ALONE
    rank, local = _number("RANK"), _number("LOCAL_RANK", 0)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing or not 0 <= rank < world:
        wrong = f"{missing[0]} is not set" if missing else f"RANK is {rank}"
        raise UsageError(f"WORLD_SIZE is {world}, and {wrong}: start the ranks with torchrun")
    backend = "gloo"
    if torch.cuda.is_available() and dist.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
        if local < torch.cuda.device_count():
            torch.cuda.set_device(local)
    with _reaching_others():
        store, fellows = _store(rank, world)
        if missing_ranks := fellows.meet(TIMEOUT.total_seconds()):
            raise RankLostError(fellows.lost() or _not_here(missing_ranks, world))
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    return Ranks(rank, world, store)


def _store(rank: int, world: int) -> tuple[Any, fellow_ranks.Fellows]:
    """Return torch's store, the launcher's or one that rank 0 provides, and the connections to the other ranks."""
    address = os.environ["MASTER_ADDR"]
    if fellow_ranks.started_alone():
        fellow_ranks.begin()
        fellows = fellow_ranks.begun(rank, world)
        if rank == 0:
            store: Any = dist.TCPStore(  # type: ignore[attr-defined]
                address, 0, world, True, TIMEOUT, wait_for_workers=False
            )
            fellows.announce(store.port)
            return store, fellows
        port = fellows.store_port(TIMEOUT.total_seconds())
        if port is None:
            raise RuntimeError(f"rank 0 cannot be reached at {address}:{os.environ['MASTER_PORT']}")
        return dist.TCPStore(address, port, world, False, TIMEOUT), fellows  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    store = next(rendezvous("env://", timeout=TIMEOUT))[0]
    # torchrun keeps its store, with the entries of an earlier attempt.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"skelpipe/{attempt}", store)  # type: ignore[attr-defined]
    fellows = fellow_ranks.begun(rank, world)
    if rank == 0:
        store.set(FELLOWS, str(fellows.listen(address, 0)))
    else:
        until = time.monotonic() + TIMEOUT.total_seconds()
        while not store.check([FELLOWS]) and time.monotonic() < until:  # `get` would wait for no signal
            time.sleep(ASK_SECONDS)
        fellows.connect(address, int(store.get(FELLOWS)))
    return store, fellows


def _not_here(missing: Sequence[int], world: int) -> str:
    numbers = ", ".join(map(str, missing))
    return f"rank {numbers} of {world} was not there within {TIMEOUT.total_seconds() / 60:.0f} minutes"


def together(command: F) -> F:
    """Run a command as one of several ranks: only rank 0 prints, and if one fails all end with one line.

    The command prints the line (`skelpipe.door.answer`). If its options lack `resume`, it is to be started again.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        advice = GO_ON if "resume" in kwargs else AGAIN
        team = _connected(advice)
        if team.world == 1:
            return command(*args, **kwargs)
        where = "" if team.is_main else f"rank {team.rank} of {team.world}: "
        fellows = fellow_ranks.begun(team.rank, team.world)
        fellows.advice = f". {advice}"

        def told_to_end() -> str | None:
            lost = fellows.lost(CAUSE_SECONDS)
            said = fellows.speaks if lost else team.reports_first()
            fellows.end(None)  # this rank is not the cause
            return f"{where}{lost or TOLD_TO_END}. {advice}" if said else None

        with ending_on_sigterm(told_to_end) as ending:
            try:
                with _silent_unless_main(team):
                    result = command(*args, **kwargs)
                    team.barrier()  # rank 0 may still be writing, and others may need what it holds
            except SkelpipeError as error:
                ending()
                kind = UsageError if isinstance(error, UsageError) else SkelpipeError
                is_lost = isinstance(error, RankLostError) and fellows.lost() is not None
                fellows.end(f"{where}{error}")
                reported = not team.reports_first()
                if is_lost:
                    reported = not fellows.speaks
                else:
                    team.wait_before_exit()
                if reported:
                    sys.exit(2 if kind is UsageError else 1)
                raise kind(f"{where}{_advised(error, advice)}") from None
            except KeyboardInterrupt:
                fellows.end("Interrupted")
                if team.is_main:
                    raise
                sys.exit(INTERRUPTED)
            except Stopped:  # on all ranks, after the same step
                fellows.end(None)
                dist.destroy_process_group()
                raise
            except Exception as error:  # what it means is said at the door
                fellows.end(f"{type(error).__name__}: {' '.join(str(error).split())}")
                raise
        fellows.end(None)
        dist.destroy_process_group()
        ranks.cache_clear()
        fellow_ranks.forget()
        return result

    return wrapped  # type: ignore[return-value]


@contextmanager
def _silent_unless_main(team: Ranks) -> Iterator[None]:
    """Let only rank 0 print."""
    if team.is_main:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def _reaching_others() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # torch has no single kind of error between processes
        lost = fellow_ranks.cause(CAUSE_SECONDS)
        reason = re.sub(r"^\[[^]]*\]\s*", "", str(error)).partition("\n")[0].partition(". ")[0][:200]
        text = lost or (
            f"another rank has ended or cannot be reached ({reason}); its message, or the launcher's, says why"
        )
        raise RankLostError(text) from None


def _connected(advice: str) -> Ranks:
    try:
        return ranks()
    except RankLostError as error:
        raise RankLostError(_advised(error, advice)) from None


def _advised(error: SkelpipeError, advice: str) -> str:
    return f"{error}. {advice}" if isinstance(error, RankLostError) else str(error)


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise UsageError(f"{name} is {text!r}, and must be a number: start the ranks with torchrun") from None
