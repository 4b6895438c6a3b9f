"""The folder of an evaluation: the names of its files, and which of what is there may make room for another one.

Nothing here imports torch or numpy: a folder that must not be touched is refused before they are.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

from skelpipe.errors import UsageError
from skelpipe.files import PART
from skelpipe.ownership import LOCK
from skelpipe.train.running.run_folder import CLASSIFIER, LOGGER_IDS
from skelpipe.train.running.run_loggers import LOGGER_FOLDERS

__all__ = [
    "CLASSES",
    "CONFUSION",
    "EMBEDDING",
    "FEATURES",
    "LOG",
    "OF_MAP",
    "OF_SEGMENT",
    "OUTCOME_FILES",
    "PICTURE",
    "POINTS",
    "REPORT",
    "RESULT",
    "SCORES",
    "SEGMENTS",
    "SETTINGS",
    "SUBSET_FEATURES",
    "TIMELINES",
    "removable",
]

RESULT, SCORES, FEATURES = "result.json", "scores.parquet", "features.parquet"
SUBSET_FEATURES = {subset: f"features-{subset}.parquet" for subset in ("train", "test")}
CLASSES, CONFUSION, PICTURE = "classes.csv", "confusion.csv", "confusion.png"
EMBEDDING = "embedding.png"
TIMELINES = "timelines.png"
LOG, SETTINGS, REPORT = "log.jsonl", "recipe.yaml", "report.html"
TABLES = (SCORES, FEATURES, *SUBSET_FEATURES.values(), CLASSES, CONFUSION)
OUTCOME_FILES = (RESULT, *TABLES, PICTURE, LOG, SETTINGS, REPORT, CLASSIFIER)
POINTS, SEGMENTS = "embedding.csv", "segments.csv"
OF_MAP, OF_SEGMENT = (EMBEDDING, POINTS), (TIMELINES, SEGMENTS)  # files that one protocol alone writes


def removable(folder: Path, *, overwrite: bool, also: Sequence[str] = ()) -> list[str]:
    """Return the names in a folder that make room for another evaluation; UsageError for any other file.

    A finished evaluation makes room with `overwrite` only. `also` names further files that a protocol writes.
    """
    own = {*OUTCOME_FILES, *LOGGER_FOLDERS, LOGGER_IDS, LOCK, *also}
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: name another folder with --out")
    found = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = [name for name in found if _whose(name, own) not in own]
    if foreign:
        raise UsageError(f"{folder} holds {foreign[0]}, which no evaluation wrote: name another with --out")
    if RESULT in found and not overwrite:
        raise UsageError(f"{folder} already holds an evaluation: give --overwrite, or --out for another folder")
    return [name for name in found if name != LOCK]


def _whose(name: str, own: Collection[str]) -> str:
    """Return the name of the file that a file is an incomplete one of; of any other file its own."""
    if not name.endswith(PART):
        return name
    return next((each for each in own if name.startswith(f"{each}.")), name)
