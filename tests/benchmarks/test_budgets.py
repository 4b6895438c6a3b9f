"""What a training step asks of a GPU stays as BENCHMARKS.md says, and is counted as it says."""

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from skelpipe.bench.synthetic_clips import synthetic_clips
from skelpipe.dataset import Dataset

sys.path.append(str(Path(__file__).parent))  # as for the benchmarks run as scripts
from budgets import BATCH, RECIPES, asked, row
from launches import Launches, paper_ms
from on_meta import META

BENCHMARKS = (Path(__file__).parents[2] / "BENCHMARKS.md").read_text("utf-8")
ROOM = 0.03  # of a figure; where steps ask for less, the table is to be brought up to date


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Dataset]:
    folder = tmp_path_factory.mktemp("budgets")
    return cache(lambda frames: synthetic_clips(folder / str(frames), frames, BATCH))


ONCE = "encoder.absent_bodies=once"


@pytest.mark.parametrize(
    ("name", "amp"), [("aimclr", False), *((name, True) for name in RECIPES), (f"aimclr, {ONCE}", True)]
)
def test_a_step_asks_for_what_the_table_says(dataset: Callable[[int], Dataset], name: str, amp: bool) -> None:
    (line,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", BENCHMARKS, re.MULTILINE)
    network, whole, ms, rate = line.split(" | ")[4 * amp :][:4]
    recipe, *settings = name.split(", ")
    found = row(asked(recipe, dataset, settings, amp=amp))
    for text, work in ((network, found["network"]), (whole, found["total"])):
        kernels, moved = (float(each.replace(",", "")) for each in text.split(" / "))
        assert work["kernels"] == pytest.approx(kernels, rel=ROOM)
        assert work["gb"] == pytest.approx(moved, rel=ROOM)
    assert found["ms_on_paper"] == pytest.approx(float(ms), rel=ROOM)
    assert found["clips_per_s_on_paper"] == pytest.approx(1e3 * float(rate), rel=ROOM)


def test_a_layer_is_counted_by_hand() -> None:
    """A linear layer and a rectifier on 6 rows, forward and backward, of float32: sizes in numbers."""
    layer, x = nn.Linear(4, 3, device=META), torch.zeros(6, 4, device=META)
    with Launches() as counted:
        (layer(x).relu().sum() * 2.0).backward()
    forward = (24 + 12 + 3 + 18) + (18 + 18) + (18 + 1) + (1 + 1)  # addmm, relu, sum, mul
    # ones_like, mul, threshold_backward (of one expanded number), mm for the weight, sum for the bias
    backward = (1 + 1) + (1 + 1) + (1 + 18 + 18) + (18 + 24 + 12) + (18 + 3)
    assert counted.total.kernels == 4 + 5
    assert counted.total.moved == 4 * (forward + backward)


def test_views_cost_nothing_and_gathers_what_they_take() -> None:
    table, rows = torch.zeros(1000, 8, device=META), torch.zeros(5, dtype=torch.int64, device=META)
    with Launches() as counted:
        table.T.reshape(2, 4, 1000)[0].expand(4, 1000).unsqueeze(0)
        torch.empty_like(table)
    assert counted.total.kernels == 0
    with Launches() as counted:
        table.index_select(0, rows)
    assert (counted.total.kernels, counted.total.moved) == (1, 2 * 5 * 8 * 4 + 5 * 8)
    with Launches() as counted:
        table.index_copy_(0, rows, torch.empty(5, 8, device=META))
    assert (counted.total.kernels, counted.total.moved) == (1, 2 * 5 * 8 * 4 + 5 * 8)


def test_a_kernel_over_many_tensors_is_packed_as_torch_packs_it() -> None:
    """At most 64 pairs of tensors per launch, and 320 chunks of 65,536 numbers."""

    def launches(tensors: int, numbers: int) -> int:
        ours = [torch.zeros(numbers, device=META) for _ in range(tensors)]
        with Launches() as counted:
            torch._foreach_add_(ours, [each.clone() for each in ours])
        return counted.by_name["aten._foreach_add_.List"]

    assert [launches(64, 10), launches(65, 10), launches(129, 10)] == [1, 2, 3]
    assert [launches(1, 320 * 65536), launches(1, 320 * 65536 + 1)] == [1, 2]


def test_time_on_paper() -> None:
    with Launches() as counted:
        torch.zeros(10**9, device=META).clone()  # 4 GB written, then read and written
    assert paper_ms(counted.total) == pytest.approx(2 * 0.004 + 3.0)
