"""Runs the commands of a plan, several at once: each as soon as those that it needs are done."""

import subprocess
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import Any

from skelpipe.door.signals import Ended
from skelpipe.errors import SkelpipeError
from skelpipe.train.reproduction.work_folder import WorkFolder
from skelpipe.train.reproduction.work_plan import Command, WorkPlan
from skelpipe.train.running.run_log import Console

__all__ = ["run_plan"]


class _Processes:
    """The processes that run now; what they say on stderr goes to a file of each."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False

    def run(self, words: Sequence[str], log: Path) -> subprocess.CompletedProcess[str]:
        """Run a command and return its exit code and output."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as said:
            with self._lock:
                if self._ended:
                    raise SkelpipeError("ended by a signal before it began")
                process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, text=True)
                self._running.add(process)
            try:
                out, _ = process.communicate()
            finally:
                with self._lock:
                    self._running.discard(process)
        return subprocess.CompletedProcess(words, process.returncode, out)

    def end(self) -> None:
        """Send SIGTERM to all: a training then writes its checkpoint. No further process begins."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


def run_plan(plan: WorkPlan, work: WorkFolder, jobs: int, console: Console) -> dict[str, str]:
    """Run what is not done of a plan, `jobs` commands at once, the first in the plan's order first.

    Returns what failed, by name, with the reason; all others are run but for those that need it. A signal that
    ends this process (see `ending_on_signals`) is sent on as SIGTERM, and the processes are waited for. What a
    command says on stderr goes to `logs/NAME.log` of the work folder.
    """
    done = {name for name, command in plan.commands.items() if work.state(command) == "done"}
    waiting = {name: command for name, command in plan.commands.items() if name not in done}
    failed: dict[str, str] = {}
    running: dict[Future[dict[str, Any]], str] = {}
    processes = _Processes()
    console.say(f"{len(done)} of {len(plan.commands)} parts are done")

    def run(command: Command) -> dict[str, Any]:
        log = work.out / "logs" / f"{command.name}.log"
        return work.run(command, console, lambda words: processes.run(words, log))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                for name, command in list(waiting.items()):
                    needs = {each.name for each in command.needs}
                    if lost := sorted(needs & failed.keys()):
                        failed[name] = f"needs {', '.join(lost)}"
                        del waiting[name]
                    elif needs <= done and len(running) < jobs:
                        running[pool.submit(run, waiting.pop(name))] = name
                finished = wait(running, return_when=FIRST_COMPLETED).done
                for future in finished:
                    name = running.pop(future)
                    try:
                        future.result()
                    except SkelpipeError as error:
                        failed[name] = str(error)
                        console.say(f"{name}: {error}; see {work.out / 'logs' / f'{name}.log'}")
                    else:
                        done.add(name)
                        console.say(f"{name}: done, {len(done)} of {len(plan.commands)}")
        except (Ended, KeyboardInterrupt):
            processes.end()
            raise
    return failed
