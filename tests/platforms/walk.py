"""From raw recordings to a kNN figure, in a folder of its own: what each system must be able to do.

    python tests/platforms/walk.py FOLDER

The recordings are synthetic; training and evaluation read the dataset that two worker processes have prepared.
"""

import json
import sys
from pathlib import Path

from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.dataset import Dataset
from skelpipe.export import export
from skelpipe.loader import Stream
from skelpipe.storage.cache import Cache
from skelpipe.train import knn, pretrain

SMALL = {"encoder.width": 2, "encoder.out_channels": 8, "head.hidden": 8, "head.dim": 8, "queue": 8}
TINY = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]


def run(command: object, *words: str) -> str:
    """Run a command in this process; return what it printed."""
    result = CliRunner().invoke(command, words)
    if result.exit_code:
        raise SystemExit(f"{words}: exit code {result.exit_code}: {result.output} {result.exception!r}")
    return result.stdout


def walk(folder: Path) -> dict[str, object]:
    raw, dataset, out = folder / "raw", folder / "dataset", folder / "run"
    few = ["--dataset", "ntu60", "--subjects", "3", "--actions", "2", "--repeats", "1", "--seed", "0"]
    run(main, "synth", *few, "--out", str(raw))
    common = ["--dataset", "ntu60", "--split", "xsub", "--raw", str(raw), "--frames", "8", "--shard-size", "2"]
    for workers, place in (("2", dataset), ("1", folder / "alone")):
        run(main, "prepare", *common, "--out", str(place), "--workers", workers)
    digests = [Dataset.open(place).digest for place in (dataset, folder / "alone")]
    run(main, "verify", "--shards", str(dataset))
    batches = list(Stream(Dataset.open(dataset), "train", ["joint"], 2))
    cache = Cache(folder / "cache", 100)
    for number in range(4):  # the third has no room beside the first two, which nobody uses
        cache.store(f"{number}" * 64, 40, lambda file: file.write(bytes(40))).close()
    options = ["--shards", str(dataset), "--out", str(out), "--device", "cpu", "--batch-size", "2", *TINY]
    for epochs in ("1", "2"):
        run(pretrain.main, *options, "--epochs", epochs, "--knn-every", "1", "--save-every", "1", "--resume")
    said = run(knn.main, "--shards", str(dataset), "--checkpoint", str(out), "--json", "--device", "cpu")
    export(Dataset.open(dataset), "npy", folder / "exported")
    run(main, "prepare", *common, "--out", str(folder / "alone"), "--overwrite", "--bodies", "1", "--workers", "1")
    return {
        "digests": digests,
        "batches": len(batches),
        "cached": sorted(path.name[0] for path in (folder / "cache" / "files").rglob("*") if path.is_file()),
        "knn": json.loads(said)["figures"],
        "log": (out / "log.jsonl").read_bytes().decode(),
    }


if __name__ == "__main__":
    print(json.dumps(walk(Path(sys.argv[1]))))
