"""The folder of a reproduction: which of its parts are finished, and running those that are not."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.files import write_json
from skelpipe.storage import shown_url
from skelpipe.train.evaluation.outcome import RESULT
from skelpipe.train.reporting.report import write_report
from skelpipe.train.reproduction.work_plan import FUSE, PRETRAIN, Part
from skelpipe.train.running.run_folder import RunFolder
from skelpipe.train.running.run_log import Console

__all__ = ["Work"]

RESUMING = (PRETRAIN, "finetune")  # scripts that go on where they were interrupted
SPREAD = (PRETRAIN, "finetune", "linear", "knn")  # scripts that several processes share


class Work:
    """Runs lie in `out`/runs, a record of each part in `out`/parts; `ranks` processes train, by torchrun.

    `urls` says by its digest where a dataset is read from; one that is not there from its folder.
    """

    def __init__(
        self, out: Path, urls: Mapping[str, str] | None = None, *, overwrite: bool = False, ranks: int = 1
    ) -> None:
        self.out = out
        self.urls = dict(urls or {})
        self.overwrite = overwrite
        self.ranks = ranks

    def run_of(self, part: Part) -> Path:
        """Return the folder of a part's run."""
        return self.out / "runs" / part.name

    def state(self, part: Part) -> str:
        """Return `done`, `begun`, `changed` (what is there was run with something else) or `to do`.

        A part is done when its record has its key and the run's files are still there, of the same dataset.
        """
        record = self._record(part)
        if record is None:
            return "to do"
        if record.get("key") != part.key:
            return "changed"
        return "done" if "result" in record and self._is_whole(part) else "begun"

    def command(self, part: Part, *, shown: bool = False) -> list[str]:
        """Return the command of a part as the state it is in asks for; `shown` without what URLs hide."""
        state = self.state(part)
        launch = [sys.executable, "-m"]
        if self.ranks > 1 and part.module in SPREAD:
            launch += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(self.ranks), "-m"]
        words = [self._word(each, shown) for each in part.arguments]
        anew = state == "changed" or part.module not in RESUMING
        again = ["--overwrite"] if anew else ["--resume"]
        return [
            *launch,
            f"skelpipe.train.{part.module}",
            *words,
            "--out",
            str(self.run_of(part)),
            *again,
            "--json",
        ]

    def run(self, part: Part, console: Console) -> dict[str, Any]:
        """Return what a part printed; run it first if it is not done.

        Raises UsageError where another run is in its place, SkelpipeError where its command fails.
        """
        state = self.state(part)
        if state == "done":
            result: dict[str, Any] = (self._record(part) or {})["result"]
            return result
        if state == "changed" and not self.overwrite:
            raise UsageError(
                f"{self.run_of(part)} was run with other settings or on another dataset: give --overwrite to run "
                "it anew, or another --out"
            )
        command, shown = self.command(part), shlex.join(self.command(part, shown=True))
        begun = {"key": part.key, "digest": part.dataset.digest, "command": shown}
        write_json(self._place(part), begun)
        console.say(f"{part.name}: {shown}")
        start = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SkelpipeError(
                f"{part.name} failed with exit code {done.returncode}; the same command goes on from there"
            )
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise SkelpipeError(f"{part.name}: printed no JSON object: {done.stdout[:200]!r}") from None
        seconds = round(time.monotonic() - start, 1)
        if part.module == FUSE:  # which reads scores, and does not know where their dataset is
            write_report(self.run_of(part), part.dataset)
        write_json(self._place(part), {**begun, "seconds": seconds, "result": result})
        return result

    def _word(self, argument: str | Dataset | Part, shown: bool) -> str:
        if isinstance(argument, str):
            return argument
        if isinstance(argument, Part):
            return str(self.run_of(argument))
        url = self.urls.get(argument.digest, str(argument.path))
        return shown_url(url)[0] if shown else url

    def _place(self, part: Part) -> Path:
        return self.out / "parts" / f"{part.name}.json"

    def _record(self, part: Part) -> dict[str, Any] | None:
        try:
            content = json.loads(self._place(part).read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SkelpipeError(f"{self._place(part)}: cannot be read: {error}") from None
        return content if isinstance(content, dict) else {}

    def _is_whole(self, part: Part) -> bool:
        folder = self.run_of(part)
        if part.module == PRETRAIN:
            return RunFolder(folder).weights.is_file()
        try:
            result = json.loads((folder / RESULT).read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(result, dict) and result.get("digest") == part.dataset.digest
