"""The references of augmentation: what is measured is said in the row."""

from pathlib import Path

import torch

from skelpipe.bench.augmentations import augment_rows, copies
from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.bench.timing import Way
from skelpipe.bench.view_sets import ViewSet
from skelpipe.bench.workload import Workload

CPU = torch.device("cpu")


def test_rows_name_their_reference_and_run_it(tmp_path: Path) -> None:
    workload = Workload(synthetic_clips(tmp_path, 12, 9), 4, CPU, 0.0)
    runs: list[str] = []

    def reference(given: Workload, views: ViewSet) -> tuple[str, Way]:
        assert given is workload

        def work() -> int:
            runs.append(views.name)
            return 3

        return f"reference of {views.name}", work

    rows = [measure() for measure in augment_rows(workload, reference)]
    names = [row.what.split()[1] for row in rows]
    assert [row.against for row in rows] == [f"reference of {name}" for name in names]
    assert set(runs) == set(names)
    against, copy = copies(workload, ViewSet("two", "2 views", {"query": None, "key": None}))
    assert against == "copying the clips once per view"
    assert copy() == 4
