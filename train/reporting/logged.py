"""What a finished run tells the programs that it is logged to: settings, curves, figures and pictures."""

import io
from pathlib import Path

from skelpipe.drawing.plot import new_figure
from skelpipe.errors import UsageError
from skelpipe.settings import flat
from skelpipe.train.evaluation.outcome import EMBEDDING, PICTURE, TIMELINES
from skelpipe.train.reporting.record import Record, read_record
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
        loggers.params(flat(record.settings))
        for number, line in enumerate(record.log, 1):
            loggers.scalars(int(line.get("epoch", number)), line, "train")
    last = int(record.log[-1].get("epoch", len(record.log))) if record.log else 0
    loggers.scalars(last, record.result.get("figures") or {}, "figures")
    for name, file in PICTURES.items():
        if (folder / file).is_file():
            loggers.picture(name, (folder / file).read_bytes())
    if record.log and (png := _curves(record)):
        loggers.picture("curves", png)
    loggers.close()


def _curves(record: Record) -> bytes | None:
    """Return a picture of all numbers of the log over the epochs; None without matplotlib."""
    names = [
        name
        for name in dict.fromkeys(name for line in record.log for name in line)
        if name != "epoch" and any(isinstance(line.get(name), int | float) for line in record.log)
    ]
    try:
        figure = new_figure(8, 1.8 * max(len(names), 1))
    except UsageError:
        return None
    for at, name in enumerate(names, 1):
        axes = figure.add_subplot(len(names), 1, at)
        own = [line for line in record.log if isinstance(line.get(name), int | float)]
        axes.plot([line.get("epoch", 0) for line in own], [line[name] for line in own])
        axes.set_ylabel(name)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
