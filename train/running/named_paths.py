"""What the paths of a command line name, as far as it shows before torch is imported: by names and first bytes."""

import json
from pathlib import Path

from skelpipe.cli.options import CARD, is_no_folder
from skelpipe.errors import UsageError
from skelpipe.train.running.kept_network import RESULT, why_no_network
from skelpipe.train.running.run_folder import RunFolder, check_weights_exist

__all__ = ["DEMO_MARK", "check_demo", "check_run", "check_scores", "check_source", "check_weights"]

SCORES = "scores.parquet"
DEMO_MARK = ".skelpipe-demo"  # a file that marks the folder of a demo, which the next demo may remove
PICKLED = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # as `models.statefile` has it
KINDS = "a safetensors file, a checkpoint of a run, or a released file of PyTorch"
LONGEST_HEADER = 100_000_000  # bytes, as the safetensors format bounds it


def check_weights(source: str) -> None:
    """Raise UsageError where `source` is neither a folder nor a file that weights can be taken from."""
    check_weights_exist(source)
    path = Path(source)
    if path.is_dir():
        _check_folder(path)
    elif fault := _fault(path):
        whole = f": name its run, {path.parent}" if RunFolder(path.parent).is_run() else ""
        raise UsageError(f"{source}: {fault}; weights are in {KINDS}{whole}")


def check_run(source: str) -> None:
    """Raise UsageError where `source` is not the folder of a run."""
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{source}: there is no such folder")
    if not (path / RESULT).is_file() and not RunFolder(path).is_run():
        raise UsageError(f"{source}: is no run: it has neither {RESULT} nor {RunFolder(path).recipe.name}")


def check_source(source: str) -> None:
    """Raise UsageError where `source` is neither a dataset nor the folder of a run; URLs are not asked."""
    path = Path(source)
    if is_no_folder(source) or (path / CARD).is_file():
        return
    try:
        check_run(source)
    except UsageError:
        if not path.exists():
            raise
        raise UsageError(
            f"{source}: is neither a dataset (it has no {CARD}) nor a run (no {RESULT} and no recipe.yaml)"
        ) from None


def check_scores(source: str) -> None:
    """Raise UsageError where `source` is neither the folder of an evaluation with scores nor such a file."""
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{source}: there is no such folder or file")
    if path.is_dir() and not (path / SCORES).is_file():
        raise UsageError(f"{source}: holds no {SCORES}: name the folders of evaluations, such as linear's")
    file = path / SCORES if path.is_dir() else path
    if _start(file, 4) != b"PAR1":
        raise UsageError(f"{file}: is no Parquet file: scores are in the {SCORES} of an evaluation")


def check_demo(out: Path) -> None:
    """Raise UsageError where `out` is a file, or a folder with files that no demo wrote."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file, no folder: choose another")
    if out.exists() and any(out.iterdir()) and not (out / DEMO_MARK).exists():
        raise UsageError(f"--out {out}: has files that no demo wrote: choose another folder")


def _check_folder(path: Path) -> None:
    folder = RunFolder(path)
    weights = [*path.glob("encoder*.safetensors"), folder.classifier]
    if any(each.is_file() for each in weights) or any(_checkpoints(path)) or any(_checkpoints(folder.checkpoints)):
        return
    if why := why_no_network(path):
        raise UsageError(f"{path}: {why}")
    names = f"{folder.weights.name}, {folder.classifier.name}"
    raise UsageError(f"{path}: holds none of {names} and checkpoints")


def _checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("epoch-*.pt"))


def _fault(path: Path) -> str:
    """Return what shows in its first bytes that a file holds no weights; nothing where it may hold them."""
    start = _start(path, 9)
    if not start:
        return "is empty"
    if start[8:] != b"{":
        return "" if start[:2] in PICKLED else "holds no weights"
    length = int.from_bytes(start[:8], "little")
    if length > min(LONGEST_HEADER, path.stat().st_size - 8):
        return "is no safetensors file, or a damaged one"
    try:
        json.loads(_start(path, 8 + length)[8:])
    except (ValueError, RecursionError):
        return "is no safetensors file, or a damaged one"
    return ""


def _start(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
