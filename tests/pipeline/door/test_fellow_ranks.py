"""Ranks that die: another one says which and why, whatever it is doing and however the end came."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from skelpipe.door import fellow_ranks
from skelpipe.door.fellow_ranks import Fellows
from skelpipe.errors import UsageError

WAIT = 60.0
PROGRAM = """
import os, signal, sys, time
from skelpipe.door import fellow_ranks
from skelpipe.door.answer import program
from skelpipe.errors import UsageError
fellow_ranks.GRACE_SECONDS = 0.1
fellow_ranks.LINGER_SECONDS = 20.0
def ends():
    {end}
def main():
    if os.environ["RANK"] == "{who}":
        if {late}:
            while fellow_ranks._here[0].lost() is None and not fellow_ranks._here[0]._peers: time.sleep(0.01)
            time.sleep(0.05)
        ends()
    elif {busy}:
        print("begun", flush=True)
        time.sleep(60)
program(lambda: main, ranks=True)
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(world: int, who: int, end: str, late: bool = True, busy: bool = True) -> list[tuple[int, str, int]]:
    """Run `world` ranks of which one does `end`; return the exit code, stderr and the process id of each."""
    common = {**os.environ, "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    common.pop("TORCHELASTIC_USE_AGENT_STORE", None)
    code = PROGRAM.format(end=end, who=who, late=late, busy=busy)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    survivors = [rank for rank in range(world) if rank != who]  # first: a parent that asks loses the exit code
    said = {rank: processes[rank].communicate(timeout=WAIT)[1] for rank in [*survivors, who]}
    return [(process.returncode, said[rank], process.pid) for rank, process in enumerate(processes)]


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "(process PID on HOST) was killed by SIGKILL"),
        ("os._exit(7)", "(process PID on HOST) ended with exit code 7 and without a word"),
        ("raise MemoryError", "ended: there is not enough memory; --debug shows the traceback"),
        ("raise UsageError('no recipe')", "ended: no recipe"),
    ],
)
def test_a_survivor_says_who_has_ended_and_why(who: int, end: str, why: str) -> None:
    ended = run(2, who, end)
    code, said, _ = ended[1 - who]
    expected = why.replace("PID", str(ended[who][2])).replace("HOST", socket.gethostname())
    assert said.splitlines()[-1:] == [f"Error: another rank has ended: rank {who} of 2 {expected}"] or (
        expected.startswith("ended:") and f"rank {who} of 2 ended: " in said and expected[7:] in said
    )
    assert code == 1


def test_of_three_one_says_it_and_all_end() -> None:
    ended = run(3, 2, "os._exit(7)")
    assert [code for code, _, _ in ended] == [1, 1, 7]
    assert "another rank has ended: rank 2 of 3 " in ended[0][1]
    assert ended[1][1] == ended[2][1] == ""


def test_a_rank_0_that_fails_at_once_is_heard_by_those_that_start_later() -> None:
    """It ends within moments, before another has connected; that one must not wait for the store's timeout."""
    (code, own, _), (other, said, _) = run(2, 0, "raise UsageError('there is no recipe x')", late=False)
    assert (code, other) == (2, 1)
    assert own == "Error: there is no recipe x\n"
    assert said == "Error: another rank has ended: rank 0 of 2 ended: there is no recipe x\n"


def test_ranks_that_end_well_say_nothing() -> None:
    assert [(code, said) for code, said, _ in run(3, 1, "pass", late=False, busy=False)] == [(0, "")] * 3


def test_the_port_of_the_store_reaches_the_others_and_strangers_do_no_harm() -> None:
    first, second = Fellows(0, 2), Fellows(1, 2)
    port = first.listen("127.0.0.1", 0)
    for content in (
        b"GET / HTTP/1.0\r\n\r\n",
        b'{"rank": 7, "pid": 1, "host": "x"}\n',
        b'{"end": "x"}\n',
        b'{"ready": true}\n',
        b"x" * 9999,
    ):
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(content)
            with suppress(OSError):  # hung up already
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(4096):
                    pass
    second.connect("127.0.0.1", port)
    assert second.store_port(0.05) is None
    first.announce(1234)
    assert second.store_port(WAIT) == 1234
    assert first.lost() is second.lost() is None
    for one in (second, first):
        one.end(None)
    time.sleep(0.05)
    assert first.lost() is second.lost() is None
    for one in (second, first):
        one.close()


def test_ranks_that_meet_and_one_that_does_not_come() -> None:
    first, second, third = (Fellows(rank, 3) for rank in range(3))
    port = first.listen("127.0.0.1", 0)
    second.connect("127.0.0.1", port)
    assert second.meet(0.2) == [0]  # who waits for whom is rank 0's to say
    assert first.meet(0.2) == [2]
    third.connect("127.0.0.1", port)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda one: one.meet(WAIT), (third, second, first))) == [[], [], []]
    assert first.lost() is second.lost() is third.lost() is None
    for one in (third, second, first):
        one.end(None)
        one.close()


def test_a_rank_that_ends_before_it_comes_is_named_at_once() -> None:
    first, second = Fellows(0, 2), Fellows(1, 2)
    second.connect("127.0.0.1", first.listen("127.0.0.1", 0))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first.meet, WAIT)
        second.end("there is no recipe x")
        assert waiting.result(timeout=WAIT) == [1]
    assert first.lost() == "another rank has ended: rank 1 of 2 ended: there is no recipe x"
    for one in (first, second):
        one.end(None)
        one.close()


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_rank_that_waits_for_another(rank: int, number: int, code: int) -> None:
    program = (
        "from skelpipe.door.answer import program\n"
        "def load():\n"
        "    from skelpipe.train.running.ranks import ranks\n"
        "    print('waits', flush=True)\n"
        "    return ranks\n"
        "program(load, ranks=True)\n"
    )
    there = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **there},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.5)
        process.send_signal(number)
        sent = time.monotonic()
        said = process.communicate(timeout=WAIT)[1]
    assert time.monotonic() - sent < 10
    assert process.returncode == code, said
    assert said.count("\n") == (rank == 0)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError) as caught:
        Fellows(0, 2).listen("127.0.0.1", taken.getsockname()[1])
    assert "Address already in use; MASTER_PORT names another" in str(caught.value)


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="exit codes of other processes are read from /proc"
)
def test_the_exit_code_of_another_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert fellow_ranks._exit_code(process.pid) is None  # it runs
    process.send_signal(signal.SIGTERM)
    assert fellow_ranks._exit_code(process.pid) == -signal.SIGTERM
    process.wait()
    assert fellow_ranks._exit_code(process.pid) is None  # nobody knows any more


def test_text_of_other_ranks_is_shown_escaped_and_short() -> None:
    peer = fellow_ranks._Peer(1)
    peer.introduce({"rank": 1, "pid": 5, "host": "a\x1b[2Jb" + "c" * 9999}, 2)
    assert re.search(r"[\x00-\x1f]", peer.why(0)) is None
    assert len(peer.why(0)) < 600
