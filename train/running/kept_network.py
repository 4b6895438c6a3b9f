"""Why the folder of an evaluation holds no network, and what to name instead of it."""

import json
from pathlib import Path
from typing import Any

from skelpipe.train.running.run_folder import CLASSIFIER, RunFolder

__all__ = ["why_no_classifier", "why_no_network"]

RESULT = "result.json"


def why_no_network(folder: Path) -> str:
    """Return in words why an evaluation left no network in its folder; nothing for other folders."""
    result = _content(folder / RESULT)
    if not result:
        return ""
    protocol, view = result.get("protocol", ""), str(result.get("view", ""))
    if streams := result.get("streams"):
        runs = " ".join(str(Path(each["scores"]).parent) for each in streams if isinstance(each, dict))
        return f"is a fusion of scores, which keeps no network: name the runs of its streams ({runs})"
    if protocol != "linear":
        return f"is an evaluation ({protocol}), which keeps no network: name the run that it evaluated"
    if "region" in result:
        return (
            f"classifies features of a region ({result['region']}), which need networks that are not exported: "
            "evaluate without --region, or name the run of actclr for its encoder"
        )
    if "+" in view or view == "3s":
        return (
            f"has classifiers that learned together ({view}), which are not kept: evaluate each view by --view "
            "instead of --heads, and name those runs"
        )
    if result.get("features") == "z":
        return "classifies the projection z, which is not kept: evaluate with --features h"
    return "is an evaluation that keeps no network: name the run that it evaluated"


def why_no_classifier(checkpoint: Path) -> str:
    """Return in words why a checkpoint of a training with labels is not used itself, and what to name instead."""
    run = RunFolder(checkpoint.parent.parent)
    if run.classifier.is_file():
        return f"is a checkpoint of a training with labels, whose network is in its finished run: name {run.path}"
    return (
        "is of a training with labels that is not finished: finish it with --resume, its run then has a "
        f"{CLASSIFIER}"
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
