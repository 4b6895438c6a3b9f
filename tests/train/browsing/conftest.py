"""An evaluation of the tiny dataset with a name and a class that are HTML, and two logs."""

import json

import numpy as np
import pytest

from skelpipe.dataset import Dataset
from skelpipe.train.evaluation.outcome import Scores, write_outcome
from skelpipe.train.reporting.record import Record, read_record

NASTY = "</script><img src=x onerror=\"document.title='owned'\">\x1b[31m\u202e"


@pytest.fixture(scope="session")
def evaluations(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Two evaluations: the first recognises the first 20 test clips only, the second all 24."""
    found = []
    labels, names = tiny_dataset.labels("test"), list(tiny_dataset.classes)
    names[5] = NASTY
    for number, right in enumerate((20, 24)):
        folder = tmp_path_factory.mktemp("runs") / f"run {number} <b>"
        scores = np.zeros((len(labels), len(names)), np.float32)
        scores[np.arange(len(labels)), np.where(np.arange(len(labels)) < right, labels, 5)] = 1
        about = {"protocol": "linear", "dataset": "ntu60-xsub", "digest": tiny_dataset.digest, "split": "test"}
        about |= {"view": "joint", "what": NASTY, "classes": json.dumps(names)}
        log = [{"epoch": e, "loss": 4 / e, "top1": 10.0 * e + number} for e in range(1, 8)]
        figures = {"top1": 100 * right / len(labels)}
        scored = Scores(tiny_dataset.ids("test"), labels, scores, about)
        write_outcome(folder, scored, {**about, "figures": figures}, log=log)
        found.append(read_record(folder))
    return found
