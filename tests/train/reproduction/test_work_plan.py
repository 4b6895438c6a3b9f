"""The parts of a table, against what is written down by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.train.papers.tables import load_paper
from skelpipe.train.reproduction.work_plan import Choice, Part, make_plan


class Standin(Dataset):
    """A dataset of which nothing but place and digest is known."""

    def __init__(self, name: str, digest: str = "d") -> None:
        self.path = Path("data") / name
        self.digest = digest


def words(part: Part) -> list[str]:
    """A part's command with names in place of what it reads."""
    return [part.module, *(each if isinstance(each, str) else _name(each) for each in part.arguments)]


def _name(each: Any) -> str:
    return f"<{each.name}>" if isinstance(each, Part) else f"[{each.path.name}]"


@pytest.fixture
def choice() -> Callable[..., Choice]:
    def make(*names: str, **more: Any) -> Choice:
        return Choice(datasets={name: Standin(name) for name in names}, **more)

    return make


def test_three_streams_and_their_fusion(choice: Callable[..., Choice]) -> None:
    plan = make_plan(load_paper("aimclr").table("linear"), choice("ntu60-xsub", recipes=["aimclr"], device="cpu"))
    common = ["--seed", "0", "--device", "cpu"]
    expected: list[list[str]] = []
    for view in ("joint", "motion", "bone"):  # the order of the table's rows
        run = f"<pretrain-aimclr-ntu60-xsub-{view}>"
        expected += [
            ["pretrain", "--shards", "[ntu60-xsub]", "--recipe", "aimclr", "--view", view, *common],
            ["linear", "--shards", "[ntu60-xsub]", "--checkpoint", run, "--view", view, *common],
        ]
    scores = [f"<linear-ntu60-xsub-{view}-aimclr>" for view in ("joint", "bone", "motion")]
    expected.append(["fuse", *scores, "--weights", "0.6,0.6,0.4"])
    assert [words(part) for part in plan.parts.values()] == expected
    assert {cell: part.name for cell, part in plan.cells.items()} == {
        (1, "ntu60-xsub"): "linear-ntu60-xsub-joint-aimclr",
        (3, "ntu60-xsub"): "linear-ntu60-xsub-motion-aimclr",
        (5, "ntu60-xsub"): "linear-ntu60-xsub-bone-aimclr",
        (7, "ntu60-xsub"): "fuse-linear-ntu60-xsub-joint-bone-motion-aimclr",
    }


def test_rows_need_all_their_streams(choice: Callable[..., Choice]) -> None:
    table = load_paper("aimclr").table("linear")
    plan = make_plan(table, choice("ntu60-xsub", recipes=["aimclr"], streams=("joint", "bone")))
    assert {table.rows[row].stream for row, _ in plan.cells} == {"joint", "bone"}
    with pytest.raises(UsageError, match="nothing of table semi-1 is left"):
        make_plan(load_paper("aimclr").table("semi-1"), choice("ntu60-xsub", streams=("joint",)))


def test_networks_that_train_together_are_trained_once(choice: Callable[..., Choice]) -> None:
    plan = make_plan(load_paper("crosclr").table("linear"), choice("ntu60-xsub"))
    trained = [words(part) for part in plan.parts.values() if part.module == "pretrain"]
    assert len(trained) == 1
    assert trained[0][3:7] == ["--recipe", "crosclr", "--view", "joint"]
    judged = [words(part) for part in plan.parts.values() if part.module == "linear"]
    assert [line[line.index("--view") + 1] for line in judged] == ["joint", "bone", "motion"]
    assert {line[line.index("--checkpoint") + 1] for line in judged} == {"<pretrain-crosclr-ntu60-xsub-all>"}


def test_labels_supervised_rows_and_a_papers_own_schedule(choice: Callable[..., Choice]) -> None:
    plan = make_plan(load_paper("skeattnclr").table("semi-10"), choice("ntu60-xsub", recipes=["skeattnclr"]))
    judged = words(plan.parts["finetune-10-ntu60-xsub-bone-skeattnclr"])
    assert judged[judged.index("--labels") + 1] == "0.1"
    assert judged[judged.index("--recipe") + 1] == "finetune-skeattnclr"
    plan = make_plan(
        load_paper("actclr").table("finetune"), choice("ntu60-xsub", recipes=[None], streams=("joint",))
    )
    assert [words(part)[:5] for part in plan.parts.values()] == [
        ["finetune", "--shards", "[ntu60-xsub]", "--recipe", "supervised"]
    ]


def test_transfer_trains_elsewhere(choice: Callable[..., Choice]) -> None:
    table = load_paper("skeattnclr").table("transfer")
    plan = make_plan(table, choice("pkummd1-xsub", "pkummd2-xsub", "ntu60-xsub"))
    assert list(plan.parts) == [
        "pretrain-skeattnclr-ntu60-xsub-joint",
        "linear-pkummd1-xsub-joint-skeattnclr-from-ntu60-xsub",
        "linear-pkummd2-xsub-joint-skeattnclr-from-ntu60-xsub",
    ]
    with pytest.raises(UsageError, match="pre-trains on ntu60-xview, and that dataset is not there"):
        make_plan(table, choice("pkummd1-xview"))


def test_rows_of_one_recipe_with_other_settings_are_apart(choice: Callable[..., Choice]) -> None:
    plan = make_plan(
        load_paper("skelemixclr").table("ablation-weight"), choice("ntu60-xsub", settings=["epochs=2"])
    )
    trained = [words(part) for part in plan.parts.values() if part.module == "pretrain"]
    settings = [[line[i + 1] for i, word in enumerate(line) if word == "--set"] for line in trained]
    assert settings == [
        ["skelemixclr.weight=0.1", "epochs=2"],
        ["epochs=2"],
        ["skelemixclr.weight=10", "epochs=2"],
    ]
    assert len(plan.parts) == 6


def test_a_key_tells_what_a_run_is_of(choice: Callable[..., Choice]) -> None:
    """It changes with everything that changes the run, its own or that of what it reads, and with no place."""
    table = load_paper("aimclr").table("linear")
    last = "fuse-linear-ntu60-xsub-joint-bone-motion-aimclr"

    def key(given: Choice) -> str:
        return make_plan(table, given).parts[last].key

    plain = choice("ntu60-xsub", recipes=["aimclr"])
    moved = Standin("ntu60-xsub")
    moved.path = Path("elsewhere")
    assert key(replace(plain, datasets={"ntu60-xsub": moved})) == key(plain)
    others = [
        replace(plain, datasets={"ntu60-xsub": Standin("ntu60-xsub", "e")}),
        replace(plain, settings=["epochs=2"]),
        replace(plain, pretraining=["amp"]),
        replace(plain, evaluation=["epochs=2"]),
        replace(plain, seed=1),
    ]
    assert len({key(plain), *map(key, others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"evaluation": ["out=x"]}, "--evaluation out=x: what --out is follows from the table"),
        ({"pretraining": ["shards=x"]}, "--pretraining shards=x: what --shards is"),
        ({"evaluation": ["--epochs=2"]}, "expected NAME=VALUE"),
        ({"evaluation": ["=2"]}, "expected NAME=VALUE"),
    ],
)
def test_options_that_are_the_tables_are_refused(
    choice: Callable[..., Choice], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        make_plan(load_paper("aimclr").table("linear"), choice("ntu60-xsub", **more))


def test_options_go_to_the_scripts_they_are_for(choice: Callable[..., Choice]) -> None:
    given = choice("ntu60-xsub", streams=("joint",), recipes=["aimclr"], pretraining=["amp"], evaluation=["lr=3"])
    trained, judged = map(words, make_plan(load_paper("aimclr").table("linear"), given).parts.values())
    assert "--amp" in trained
    assert "--amp" not in judged
    assert judged[judged.index("--lr") + 1] == "3"
    assert "--lr" not in trained
