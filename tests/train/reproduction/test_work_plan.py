"""The commands of a table, against lists written by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.train.papers.tables import builtin_papers, load_paper
from skelpipe.train.reproduction.shelf import Shelf
from skelpipe.train.reproduction.work_plan import Command, Read, Selection, plan_table

LENGTHS = (50, 64)


class NamedDataset(Dataset):
    """A dataset that has only a path, a digest and a number of frames."""

    def __init__(self, name: str, frames: int = 50, digest: str = "d") -> None:
        self.path = Path("data") / (name if frames == 50 else f"{name}-{frames}")
        self.digest = f"{digest}{frames}"
        self.frames = frames


def shelf(*datasets: tuple[str, Dataset]) -> Shelf:
    return Shelf("data", {(name, each.frames): each for name, each in datasets}, {})


def words(command: Command) -> list[str]:
    """The words of a command, with names in place of what it reads."""
    return [command.module, *(each if isinstance(each, str) else _name(each) for each in command.arguments)]


def _name(each: Any) -> str:
    if isinstance(each, Read):
        return f"{each.before}<{each.command.name}>{each.after}"
    return f"<{each.name}>" if isinstance(each, Command) else f"[{each.path.name}]"


@pytest.fixture
def select() -> Callable[..., Selection]:
    def make(*names: str, lengths: tuple[int, ...] = LENGTHS, **more: Any) -> Selection:
        datasets = [(name, NamedDataset(name, frames)) for name in names for frames in lengths]
        return Selection(columns=names, shelf=shelf(*datasets), **more)

    return make


def test_three_streams_and_their_fusion(select: Callable[..., Selection]) -> None:
    plan = plan_table(load_paper("aimclr").table("linear"), select("ntu60-xsub", recipes=["aimclr"], device="cpu"))
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
    assert [words(command) for command in plan.commands.values()] == expected
    assert {cell: command.name for cell, command in plan.cells.items()} == {
        (1, "ntu60-xsub"): "linear-ntu60-xsub-joint-aimclr",
        (3, "ntu60-xsub"): "linear-ntu60-xsub-motion-aimclr",
        (5, "ntu60-xsub"): "linear-ntu60-xsub-bone-aimclr",
        (7, "ntu60-xsub"): "fuse-linear-ntu60-xsub-joint-bone-motion-aimclr",
    }


def test_rows_need_all_their_streams(select: Callable[..., Selection]) -> None:
    table = load_paper("aimclr").table("linear")
    plan = plan_table(table, select("ntu60-xsub", recipes=["aimclr"], streams=("joint", "bone")))
    assert {table.rows[row].stream for row, _ in plan.cells} == {"joint", "bone"}
    with pytest.raises(UsageError, match="nothing of table semi-1 is left"):
        plan_table(load_paper("aimclr").table("semi-1"), select("ntu60-xsub", streams=("joint",)))


def test_networks_that_train_together_are_trained_once(select: Callable[..., Selection]) -> None:
    plan = plan_table(load_paper("crosclr").table("linear"), select("ntu60-xsub"))
    trained = [words(command) for command in plan.commands.values() if command.module == "pretrain"]
    assert len(trained) == 1
    assert trained[0][3:7] == ["--recipe", "crosclr", "--view", "joint"]
    evaluated = [words(command) for command in plan.commands.values() if command.module == "linear"]
    asked = [line[5:7] for line in evaluated]  # three heads that learn together, as the figure is of
    assert asked == [["--view", "joint"], ["--heads", "joint,bone,motion"]]
    assert not [command for command in plan.commands.values() if command.module == "fuse"]
    assert {line[line.index("--checkpoint") + 1] for line in evaluated} == {"<pretrain-crosclr-ntu60-xsub-all>"}


def test_labels_supervised_rows_and_a_papers_own_schedule(select: Callable[..., Selection]) -> None:
    plan = plan_table(load_paper("skeattnclr").table("semi-10"), select("ntu60-xsub", recipes=["skeattnclr"]))
    evaluated = words(plan.commands[plan.cells[3, "ntu60-xsub"].needs[1].name])
    assert evaluated[1:5] == [
        *("--shards", "[ntu60-xsub-64]"),
        *("--checkpoint", "<pretrain-skeattnclr-ntu60-xsub-bone>/best"),
    ]
    assert evaluated[evaluated.index("--labels") + 1] == "0.1"
    assert evaluated[evaluated.index("--recipe") + 1] == "finetune-skeattnclr"
    plan = plan_table(
        load_paper("actclr").table("finetune"), select("ntu60-xsub", recipes=[None], streams=("joint",))
    )
    assert [words(command)[:5] for command in plan.commands.values()] == [
        ["finetune", "--shards", "[ntu60-xsub]", "--recipe", "supervised"]
    ]


def test_rows_that_differ_only_in_options_or_frames_have_runs_of_their_own(
    select: Callable[..., Selection],
) -> None:
    table = load_paper("aimclr").table("linear")
    usual = table.rows[1]
    rows = (usual, replace(usual, options=("lr=1",)), replace(usual, options=("lr=2",)), replace(usual, frames=64))
    plan = plan_table(replace(table, rows=rows), select("ntu60-xsub"))
    assert [
        len({command.name for command in found}) for found in (plan.cells.values(), plan.commands.values())
    ] == [4, 6]
    assert [words(command)[2] for command in plan.cells.values()] == [*["[ntu60-xsub]"] * 3, "[ntu60-xsub-64]"]


def test_one_folder_takes_the_tables_of_all_papers(select: Callable[..., Selection]) -> None:
    """A name stands for one run, whichever paper's table it is of: fusions have each paper's weights."""
    known: dict[str, str] = {}
    for name in builtin_papers():
        for table in load_paper(name).tables.values():
            columns = [*table.datasets]
            shelved = [*columns, *table.pretrained.values()]
            selection = replace(select(*columns), shelf=select(*shelved).shelf)
            for command in plan_table(table, selection).commands.values():
                assert known.setdefault(command.name, command.key) == command.key, command.name


def test_transfer_trains_on_another_dataset(select: Callable[..., Selection]) -> None:
    table = load_paper("skeattnclr").table("transfer")
    plan = plan_table(table, select("pkummd1-xsub", "pkummd2-xsub", "ntu60-xsub"))
    assert list(plan.commands) == [
        "pretrain-skeattnclr-ntu60-xsub-joint",
        "linear-pkummd1-xsub-joint-skeattnclr-best-from-ntu60-xsub",
        "linear-pkummd2-xsub-joint-skeattnclr-best-from-ntu60-xsub",
    ]
    with pytest.raises(
        UsageError, match="nothing of table transfer is left.*data has no ntu60-xview of 64 frames"
    ):
        plan_table(table, select("pkummd1-xview"))


def test_every_row_has_the_frames_of_its_paper(select: Callable[..., Selection]) -> None:
    """SkeletonCLR is cited with 50 frames and was run again with SkeleMixCLR's 64."""
    table = load_paper("skelemixclr").table("linear")
    plan = plan_table(table, select("ntu60-xsub", streams=("joint",)))
    read = {table.rows[row].name: command.dataset.frames for (row, _), command in plan.cells.items()}
    assert read == {"SkeletonCLR": 50, "SkeletonCLR†": 64, "SkeleMixCLR": 64, "SkeleMixCLR+": 64}
    short = plan_table(table, select("ntu60-xsub", lengths=(50,), streams=("joint",)))
    assert {table.rows[row].name for row, _ in short.cells} == {"SkeletonCLR"}
    assert short.left_out == [
        "left out: SkeletonCLR† (joint), SkeleMixCLR (joint), SkeleMixCLR+ (joint): data has no ntu60-xsub of 64 "
        "frames, only of 50: prepare it with --frames 64, or run on the other length with --frames 50"
    ]
    asked = select("ntu60-xsub", lengths=(50,), streams=("joint",), asked=True)
    with pytest.raises(UsageError, match="SkeletonCLR† on ntu60-xsub: data has no ntu60-xsub of 64 frames"):
        plan_table(table, asked)
    every = plan_table(table, replace(asked, frames=50))
    assert {command.dataset.frames for command in every.commands.values()} == {50}
    assert len(every.cells) == 4


def test_streams_are_embedded_together_and_costs_need_no_training(select: Callable[..., Selection]) -> None:
    plan = plan_table(load_paper("aimclr").table("nmi"), select("ntu60-xsub"))
    one = words(plan.commands["nmi-ntu60-xsub-joint-bone-motion-aimclr"])
    assert one[:12] == [
        *(
            "map",
            "--shards",
            "[ntu60-xsub]",
            "--checkpoint",
            "<pretrain-aimclr-ntu60-xsub-joint>",
            "--view",
            "joint",
        ),
        *(
            "--join",
            "bone=<pretrain-aimclr-ntu60-xsub-bone>",
            "--join",
            "motion=<pretrain-aimclr-ntu60-xsub-motion>",
        ),
        "--seed",
    ]
    crossed = words(plan.commands["nmi-ntu60-xsub-joint-bone-motion-crosclr"])
    assert [word for word in crossed if "<" in word] == [
        f"{before}<pretrain-crosclr-ntu60-xsub-all>" for before in ("", "bone=", "motion=")
    ]
    plan = plan_table(load_paper("msmclr").table("cost"), select("ntu60-xsub"))
    assert {command.module for command in plan.commands.values()} == {"cost"}
    assert len(plan.cells) == 4


def test_the_best_weights_need_a_knn_figure(select: Callable[..., Selection]) -> None:
    with pytest.raises(UsageError, match="SkeAttnCLR takes the weights with the best kNN figure, which --pre"):
        plan_table(load_paper("skeattnclr").table("knn"), select("ntu60-xsub", pretraining=["knn-every=0"],
                                                                  recipes=["skeattnclr"]))  # fmt: skip


def test_a_table_of_a_paper_is_planned_whole(select: Callable[..., Selection]) -> None:
    """Every table of every paper, with all of its datasets in both lengths: each row gets its commands."""
    for paper in builtin_papers():
        for table in load_paper(paper).tables.values():
            names = dict.fromkeys([*table.datasets, *table.pretrained.values()])
            plan = plan_table(table, replace(select(*names), columns=table.datasets))
            wanted = {(n, name) for n, row in enumerate(table.rows) for name in row.figures}
            assert set(plan.cells) == wanted, (paper, table.key)
            assert not plan.left_out
            done: set[str] = set()
            for command in plan.commands.values():
                assert {each.name for each in command.needs} <= done, command.name
                done.add(command.name)


def test_rows_of_one_recipe_with_other_settings_are_apart(select: Callable[..., Selection]) -> None:
    plan = plan_table(
        load_paper("skelemixclr").table("ablation-weight"), select("ntu60-xsub", settings=["epochs=2"])
    )
    trained = [words(command) for command in plan.commands.values() if command.module == "pretrain"]
    settings = [[line[i + 1] for i, word in enumerate(line) if word == "--set"] for line in trained]
    assert settings == [
        ["skelemixclr.weight=0.1", "epochs=2"],
        ["epochs=2"],
        ["skelemixclr.weight=10", "epochs=2"],
    ]
    assert len(plan.commands) == 6


def test_a_key_identifies_what_a_run_depends_on(select: Callable[..., Selection]) -> None:
    """It changes with everything that changes the run or the runs it reads, and not with the path of a dataset."""
    table = load_paper("aimclr").table("linear")
    last = "fuse-linear-ntu60-xsub-joint-bone-motion-aimclr"

    def key(given: Selection) -> str:
        return plan_table(table, given).commands[last].key

    plain = select("ntu60-xsub", recipes=["aimclr"])
    moved = NamedDataset("ntu60-xsub")
    moved.path = Path("another/folder")
    assert key(replace(plain, shelf=shelf(("ntu60-xsub", moved)))) == key(plain)
    others = [
        replace(plain, shelf=shelf(("ntu60-xsub", NamedDataset("ntu60-xsub", digest="e")))),
        replace(plain, settings=["epochs=2"]),
        replace(plain, pretraining=["amp"]),
        replace(plain, evaluation=["epochs=2"]),
        replace(plain, seed=1),
    ]
    assert len({key(plain), *map(key, others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"evaluation": ["out=x"]}, "--evaluation out=x: --out follows from the table"),
        ({"pretraining": ["shards=x"]}, "--pretraining shards=x: --shards follows"),
        ({"evaluation": ["--epochs=2"]}, "expected NAME=VALUE"),
        ({"evaluation": ["=2"]}, "expected NAME=VALUE"),
    ],
)
def test_options_that_follow_from_the_table_are_refused(
    select: Callable[..., Selection], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        plan_table(load_paper("aimclr").table("linear"), select("ntu60-xsub", **more))


def test_options_go_to_the_scripts_they_are_for(select: Callable[..., Selection]) -> None:
    given = select("ntu60-xsub", streams=("joint",), recipes=["aimclr"], pretraining=["amp"], evaluation=["lr=3"])
    trained, evaluated = map(words, plan_table(load_paper("aimclr").table("linear"), given).commands.values())
    assert "--amp" in trained
    assert "--amp" not in evaluated
    assert evaluated[evaluated.index("--lr") + 1] == "3"
    assert "--lr" not in trained


def test_each_script_of_a_table_is_given_the_options_that_it_has(select: Callable[..., Selection]) -> None:
    table = load_paper("actclr").table("ablation-safp")  # rows of linear and of knn
    plan = plan_table(table, select("ntu60-xview", evaluation=["epochs=2", "temperature=0.2"]))
    given = {command.module: words(command) for command in plan.commands.values()}
    assert given["linear"][-6:-4] == ["--epochs", "2"]
    assert "--temperature" not in given["linear"]
    assert given["knn"][-6:-4] == ["--temperature", "0.2"]
    assert "--epochs" not in given["knn"]
    with pytest.raises(UsageError, match="epoch=2: knn and linear of table ablation-safp have no --epoch$"):
        plan_table(table, select("ntu60-xview", evaluation=["epoch=2"]))
