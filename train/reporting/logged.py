"""What a finished run tells the programs that it is logged to: settings, figures and pictures."""

from pathlib import Path

from skelpipe.settings import flat
from skelpipe.train.evaluation.outcome import EMBEDDING, PICTURE, TIMELINES
from skelpipe.train.reporting.record import read_record
from skelpipe.train.running.run_loggers import loggers_asked, open_loggers

__all__ = ["log_outcome"]

PICTURES = {"confusion": PICTURE, "embedding": EMBEDDING, "timelines": TIMELINES}


def log_outcome(folder: Path, *, trained: bool = False) -> None:
    """Tell the programs of `--log` what is in the folder of a run; without such programs, do nothing.

    `trained` says that the run told its settings and epochs while it trained. Only rank 0 may call this.
    """
    if not loggers_asked():
        return
    record = read_record(folder)
    loggers = open_loggers(folder)
    if not trained:
        said = {name: value for name, value in record.result.items() if isinstance(value, str | int | float)}
        loggers.params({**flat(record.settings), **said})
        for number, line in enumerate(record.log, 1):
            loggers.scalars(int(line.get("epoch", number)), {"train": line})
    last = int(record.log[-1].get("epoch", len(record.log))) if record.log else 0
    loggers.figures(last, record.result.get("figures") or {})
    for name, file in PICTURES.items():
        if (folder / file).is_file():
            loggers.picture(name, (folder / file).read_bytes())
    loggers.close()
