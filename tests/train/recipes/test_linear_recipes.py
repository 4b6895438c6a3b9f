from pathlib import Path

import pytest

from skelpipe.errors import UsageError
from skelpipe.train.recipes.linear import (
    builtin_schedules,
    default_schedule,
    load_schedule,
    nested,
    with_settings,
)

# Spec E2, by hand: epochs, batch, rate, milestones.
PAPERS = {
    "linear": (100, 128, 3.0, [80]),
    "linear-skelemixclr-released": (150, 128, 3.0, [80]),
    "linear-skeattnclr": (100, 128, 3.0, [60]),
    "linear-skeattnclr-released": (150, 128, 3.0, [60, 100]),
    "linear-actclr-released": (100, 1024, 24.0, [80]),
    "linear-actclr-released-ntu120": (150, 1024, 24.0, [80, 120]),
}


def test_the_papers_schedules() -> None:
    assert builtin_schedules() == sorted(PAPERS)
    for name, numbers in PAPERS.items():
        s = load_schedule(name)
        assert (s["epochs"], s["batch_size"], s["optimiser.lr"], s["optimiser.milestones"]) == numbers
        assert (s["optimiser.momentum"], s["optimiser.weight_decay"], s["test_every"]) == (0.9, 0.0, 5)


def test_each_method_has_its_own() -> None:
    assert default_schedule("skeattnclr") == "linear-skeattnclr"
    assert {default_schedule(name) for name in ("aimclr", "skelemixclr", "actclr", None)} == {"linear"}


def test_overrides_and_files(tmp_path: Path) -> None:
    changed = with_settings(load_schedule("linear"), ["optimiser.milestones=[3, 5]"], epochs=7, lr=0.5)
    assert nested(changed)["optimiser"] == {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.0, "milestones": [3, 5]}
    assert changed["epochs"] == 7
    path = tmp_path / "own.yaml"
    path.write_text(
        "protocol: linear\nepochs: 2\nbatch_size: 4\ntest_every: 1\n"
        "optimiser: {lr: 1, momentum: 0, weight_decay: 0, milestones: []}\n"
    )
    assert load_schedule(str(path))["optimiser.lr"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: [", "cannot be read"),
        ("- 3", "expected `key: value` lines"),
        ("protocol: linear", "missing: epochs, batch_size"),
        ("protocol: finetune", "missing|known: linear"),
        ("colour: red", "unknown key 'colour'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_schedule(str(path))
