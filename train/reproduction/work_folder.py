"""The folder of a reproduction: it runs commands, and knows which of them are finished."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.door.signals import Ended
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import write_json
from skelpipe.plugins import loaded
from skelpipe.storage import shown_url
from skelpipe.train.evaluation.outcome import RESULT
from skelpipe.train.reporting.report import write_report
from skelpipe.train.reproduction.work_plan import FUSE, PRETRAIN, Command, Read, WorkPlan
from skelpipe.train.running.run_folder import BEST, RunFolder
from skelpipe.train.running.run_log import Console

__all__ = ["WorkFolder", "run_passing_signals"]

RESUMING = (PRETRAIN, "finetune")  # scripts that continue from their newest checkpoint
PARALLEL = (PRETRAIN, "finetune", "linear", "knn")  # scripts that can run in several processes
Launch = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


class WorkFolder:
    """A folder with one run per command in `out`/runs and one record per command in `out`/parts.

    `urls` maps the digest of a dataset to the URL that commands read it from; others are read from their folder.
    With `overwrite`, runs with other settings are replaced. `ranks` is the number of processes, by torchrun.
    """

    def __init__(
        self, out: Path, urls: Mapping[str, str] | None = None, *, overwrite: bool = False, ranks: int = 1
    ) -> None:
        self.out = out
        self.urls = dict(urls or {})
        self.overwrite = overwrite
        self.ranks = ranks

    def run_of(self, command: Command) -> Path:
        """Return the folder of a command's run."""
        return self.out / "runs" / command.name

    def state(self, command: Command) -> str:
        """Return `done`, `begun`, `changed` (there is a run, and it depends on something else) or `to do`.

        A command is done if its record has its key and the run's files are still there, of the same dataset.
        Whether a run has the best weights that others read from it is said by `without_best`.
        """
        record = self._record(command)
        if record is None:
            return "to do"
        if record.get("key") != command.key:
            return "changed" if self._has_begun(command) else "to do"
        return "done" if "result" in record and self._is_complete(command) else "begun"

    def without_best(self, plan: WorkPlan) -> list[str]:
        """Return what to say of each finished pre-training that lacks the best weights a command still needs.

        Versions before these were kept left such runs.
        """
        said = {}
        for command in plan.commands.values():
            for each in command.arguments:
                if not isinstance(each, Read) or each.after != f"/{BEST}" or self.state(command) == "done":
                    continue
                run = self.run_of(each.command)
                if self.state(each.command) == "done" and not RunFolder(run).best.weights.is_file():
                    name = each.command.name
                    said[name] = (
                        f"{name} has no weights of its best kNN figure, which {command.name} needs: an earlier "
                        f"version trained it. Remove {run} to train it again, or copy the last weights, "
                        f"encoder.safetensors, into {run / BEST}"
                    )
        return list(said.values())

    def words(self, command: Command, *, shown: bool = False) -> list[str]:
        """Return the words of the command line for the command's state; if `shown`, without secrets in URLs."""
        launch = [sys.executable, "-m"]
        if self.ranks > 1 and command.module in PARALLEL:
            launch += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(self.ranks), "-m"]
        arguments = [self._word(each, shown) for each in command.arguments]
        anew = self.state(command) == "changed" or command.module not in RESUMING
        how = ["--out", str(self.run_of(command)), "--overwrite" if anew else "--resume", "--json"]
        plugins = [word for each in loaded() for word in ("--plugin", each.module)]
        return [*launch, f"skelpipe.train.{command.module}", *plugins, *arguments, *how]

    def run(self, command: Command, console: Console, launch: Launch | None = None) -> dict[str, Any]:
        """Return the result that a command printed; run it first, by `launch`, if it is not done.

        `launch` takes the words of a command and returns its exit code and output. Raises UsageError if the folder
        holds a run with other settings, SkelpipeError if the command fails.
        """
        state = self.state(command)
        if state == "done":
            result: dict[str, Any] = (self._record(command) or {})["result"]
            return result
        if state == "changed" and not self.overwrite:
            raise UsageError(
                f"{self.run_of(command)} was run with other settings or on another dataset: give --overwrite to "
                "replace it, or another --out"
            )
        words, shown = self.words(command), shlex.join(self.words(command, shown=True))
        begun = {"key": command.key, "digest": command.dataset.digest, "command": shown}
        write_json(self._record_path(command), begun)
        console.say(f"{command.name}: {shown}")
        start = time.monotonic()
        done = (launch or run_passing_signals)(words)
        if done.returncode:
            raise SkelpipeError(
                f"{command.name} failed with exit code {done.returncode}; give the same command again to continue"
            )
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise SkelpipeError(f"{command.name}: printed no JSON object: {done.stdout[:200]!r}") from None
        seconds = round(time.monotonic() - start, 1)
        if command.module == FUSE:  # fusion reads scores and does not know where their dataset is
            write_report(self.run_of(command), command.dataset)
        write_json(self._record_path(command), {**begun, "seconds": seconds, "result": result})
        return result

    def _word(self, argument: str | Dataset | Command | Read, shown: bool) -> str:
        if isinstance(argument, str):
            return argument
        if isinstance(argument, Read):
            return f"{argument.before}{self.run_of(argument.command)}{argument.after}"
        if isinstance(argument, Command):
            return str(self.run_of(argument))
        url = self.urls.get(argument.digest, str(argument.path))
        return shown_url(url)[0] if shown else url

    def _record_path(self, command: Command) -> Path:
        return self.out / "parts" / f"{command.name}.json"

    def _record(self, command: Command) -> dict[str, Any] | None:
        try:
            content = json.loads(self._record_path(command).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SkelpipeError(f"{self._record_path(command)}: cannot be read: {error}") from None
        return content if isinstance(content, dict) else {}

    def _has_begun(self, command: Command) -> bool:
        """Say whether there is a run; a command that failed on wrong usage leaves a record and no run."""
        folder = self.run_of(command)
        return RunFolder(folder).is_run() or (folder / RESULT).is_file()

    def _is_complete(self, command: Command) -> bool:
        folder = self.run_of(command)
        if command.module == PRETRAIN:
            return RunFolder(folder).weights.is_file()
        try:
            result = json.loads((folder / RESULT).read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(result, dict) and result.get("digest") == command.dataset.digest

    def seconds(self, command: Command) -> float | None:
        """Return how long a finished command took; None where that is not known."""
        record = self._record(command) or {}
        known = record.get("key") == command.key and isinstance(record.get("seconds"), int | float)
        return float(record["seconds"]) if known else None


def run_passing_signals(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and return its exit code and output.

    A signal that ends this process (see `ending_on_signals`) is sent on as SIGTERM, and this process waits until
    the command has ended: a training writes its checkpoint first.
    """
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            out, _ = process.communicate()
        except Ended:
            process.terminate()
            process.communicate()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out)
