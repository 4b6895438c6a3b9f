"""The papers' tables against the texts of the papers."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.train.papers.tables import Table, TableRow, builtin_papers, cells, latex, load_paper, markdown
from skelpipe.train.recipes.reader import load_recipe, with_overrides

TABLES = [(paper, key) for paper in builtin_papers() for key in load_paper(paper).tables]
ELSEWHERE = [("aimclr", "linear-released"), ("msmclr", "cost")]  # a README's figures, and powers of ten
# Who prints the tables that are not the paper's own.
CITED = {
    "SkeAttnCLR": "skeattnclr",
    "SkeleMixCLR": "skelemixclr",
    "AimCLR": "aimclr",
    "ActCLR": "actclr",
    "MsMCLR": "msmclr",
}
SPANNING = {"transfer": ("3s-AimCLR", "3s-ActCLR"), "linear": ("3s-CrosSCLR",)}
MINE = {
    "name": "Mine",
    "cite": "Me",
    "recipe": "aimclr",
    "fusion": {"joint": 1, "bone": 1, "motion": 1},
    "tables": {
        "linear": {
            "number": 3,
            "section": "Results",
            "title": "A | B",
            "protocol": "linear",
            "rows": [
                {
                    "name": "Mine",
                    "recipe": "aimclr",
                    "stream": "joint",
                    "figures": {"ntu60-xsub": 70, "x-y": 61.25},
                },
                {"name": "Mine|3", "recipe": "aimclr", "stream": "3s", "figures": {"ntu60-xsub": 80.5}},
                {"name": "Base", "stream": "joint", "figures": {"x-y": 50.0}},
            ],
        }
    },
}


def printed_lines(text: str) -> list[list[float]]:
    """The lines of a text, each as the numbers that it has, gains over a baseline left out."""
    plain = re.sub(r"[+↑†] ?\d+\.?\d*|\\bf|\*\*", " ", re.sub(r"</?b>", "", text))
    numbers = re.compile(r"(?<![\d.])\d{1,2}(?:\.\d+)?(?!\d|\.\d)")
    return [[float(text) for text in numbers.findall(line)] for line in plain.splitlines()]


def in_order(wanted: list[float], line: list[float]) -> bool:
    rest = iter(line)
    return all(value in rest for value in wanted)


@pytest.mark.parametrize(("paper", "key"), [each for each in TABLES if each not in ELSEWHERE])
def test_every_row_is_a_line_of_the_paper(shared: Path, paper: str, key: str) -> None:
    """The figures of a row stand in this order in one line of the text of the paper that prints the table."""
    table = load_paper(paper).table(key)
    names = [each for each in CITED if f"({each})" in table.source] or [load_paper(paper).name]
    texts = [shared / "papers" / f"{CITED[name]}.txt" for name in names]
    if not all(path.is_file() for path in texts):
        pytest.skip("the texts of the papers are not here")
    lines = [line for path in texts for line in printed_lines(path.read_text("utf-8"))]
    for row in table.rows:
        wanted = [value for figures in row.figures.values() for value in figures.values()]
        # These span two or three printed lines, of two figures each; those by epochs have a line for each dataset.
        size = 2 if row.name in SPANNING.get(key, ()) else 1 if key == "epochs" else len(wanted)
        parts = [wanted[i : i + size] for i in range(0, len(wanted), size or 1)]
        for part in parts:
            assert any(in_order(part, line) for line in lines), (row.name, part)


def by_hand(paper: str, key: str, name: str, stream: str) -> dict[str, float]:
    rows = [row for row in load_paper(paper).table(key).rows if (row.name, row.stream) == (name, stream)]
    assert len(rows) == 1
    return {dataset: next(iter(figures.values())) for dataset, figures in rows[0].figures.items()}


def test_figures_copied_by_hand() -> None:
    """Read off the papers, not off the data: the lines of AimCLR's table 7, ActCLR's 5, SkeAttnCLR's 18."""
    assert by_hand("aimclr", "semi-1", "3s-AimCLR", "3s") == {
        "pkummd1-xsub": 57.5, "pkummd2-xsub": 15.1, "ntu60-xsub": 54.8, "ntu60-xview": 54.3,
    }  # fmt: skip
    assert by_hand("aimclr", "semi-10", "3s-AimCLR", "3s") == {
        "pkummd1-xsub": 86.1, "pkummd2-xsub": 33.4, "ntu60-xsub": 78.2, "ntu60-xview": 81.6,
    }  # fmt: skip
    assert by_hand("actclr", "transfer", "3s-ActCLR", "3s") == {
        "pkummd1-xview": 91.6, "pkummd2-xview": 44.5, "pkummd1-xsub": 90.0, "pkummd2-xsub": 55.9,
    }  # fmt: skip
    assert by_hand("skeattnclr", "transfer-finetune", "SkeAttnCLR", "joint") == {
        "pkummd1-xsub": 94.5, "pkummd1-xview": 97.0, "pkummd2-xsub": 65.8, "pkummd2-xview": 58.8,
    }  # fmt: skip
    assert by_hand("skelemixclr", "epochs", "SkeletonCLR†, 200 epochs", "joint") == {
        "ntu60-xsub": 73.9, "ntu60-xview": 77.8,
    }  # fmt: skip
    assert by_hand("skelemixclr", "ablation-pairs", "L_g", "joint") == {"ntu60-xsub": 77.4, "ntu60-xview": 82.3}
    assert by_hand("aimclr", "linear-released", "AimCLR", "motion") == {
        "ntu60-xsub": 68.68, "ntu60-xview": 71.83, "pkummd1-xsub": 72.0,
    }  # fmt: skip
    assert by_hand("msmclr", "cost", "MsMCLR", "joint") == {"ntu60-xsub": 2.1}
    assert [row.figures["ntu60-xsub"] for row in load_paper("msmclr").table("cost").rows] == [
        {"parameters": parameters, "gflops": gflops}
        for parameters, gflops in ((1.8, 1.5e2), (3.7, 2.9e2), (1.8, 2.2e2), (2.1, 2.2e2))
    ]
    assert by_hand("skelemixclr", "epochs", "SkeletonCLR†, 100 epochs", "joint") == {
        "ntu60-xview": 75.5, "ntu60-xsub": 71.1,
    }  # fmt: skip
    segment = load_paper("actclr").table("segment").rows[-1]
    assert segment.figures == {"pkummd2-xview": {"acc": 59.09, "macc": 41.14, "fwiou": 41.54, "miou": 28.89}}


@pytest.mark.parametrize(("paper", "key"), TABLES)
def test_everything_that_a_table_names_exists(paper: str, key: str) -> None:
    table = load_paper(paper).table(key)
    for row in table.rows:
        if row.recipe is not None:
            with_overrides(load_recipe(row.recipe), row.settings)
    for dataset in (*table.datasets, *table.pretrained.values()):
        name, split = dataset.split("-")
        assert split in load_manifest(name).splits
    assert set(table.pretrained) <= set(table.datasets) | set(table.pretrained)
    named = {(row.name, row.stream, row.settings, table.protocol_of(row)) for row in table.rows}
    assert len(named) == len(table.rows)


def write(path: Path, content: object) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return load_paper(write(tmp_path / "mine.yaml", MINE)).table("linear")


def test_markdown_has_papers_and_measured_figures_side_by_side(table: Table) -> None:
    measured = {
        (0, "ntu60-xsub"): {"top1": 69.876, "best_top1": 71.0},
        (2, "x-y"): {"top1": 48.0, "best_top1": 48.0},
    }
    text = markdown(table, cells(table, measured, ["ntu60-xsub", "x-y"]))
    assert text == (
        "| method | stream | ntu60-xsub paper | ntu60-xsub measured | x-y paper | x-y measured |\n"
        "| --- | --- | ---: | ---: | ---: | ---: |\n"
        "| Mine | joint | 70.0 | 69.88 (71.00) | 61.25 | - |\n"
        "| Mine\\|3 | 3s | 80.5 | - | - | - |\n"
        "| Base | joint | - | - | 50.0 | 48.00 |\n"
    )
    only = markdown(table, cells(table, measured, ["x-y"]))
    assert "ntu60" not in only
    assert "Mine\\|3" not in only


def test_a_row_may_have_no_figure_and_a_protocol_of_its_own(tmp_path: Path) -> None:
    """A cell that the paper leaves empty is run and shown; and a supervised row may stand among linear ones."""
    content = changed(row__figures={"ntu60-xsub": None})
    content["tables"]["linear"]["rows"][2] |= {"protocol": "finetune"}
    table = load_paper(write(tmp_path / "mine.yaml", content)).table("linear")
    assert [table.protocol_of(row) for row in table.rows] == ["linear", "linear", "finetune"]
    text = markdown(table, cells(table, {(0, "ntu60-xsub"): {"top1": 3.0}}, ["ntu60-xsub"]))
    assert text.splitlines()[2:] == ["| Mine | joint | - | 3.00 |", "| Mine\\|3 | 3s | 80.5 | - |"]


def test_a_row_that_names_no_dataset_is_run_on_those_of_its_table(tmp_path: Path) -> None:
    rows = load_paper(write(tmp_path / "mine.yaml", changed(row__figures={}))).table("linear").rows
    assert rows[0].figures == {"ntu60-xsub": {}, "x-y": {}}
    assert [row.name for name in builtin_papers() for each in load_paper(name).tables.values()
            for row in each.rows if not row.figures] == []  # fmt: skip


def test_latex_has_the_same_cells_escaped(table: Table) -> None:
    measured = {(0, "ntu60-xsub"): {"top1": 69.876, "best_top1": 71.0}}
    text = latex(table, cells(table, measured, ["ntu60-xsub", "x-y"]), ["24 + 24 clips & 8_frames, 5 % of \\f"])
    lines = text.splitlines()
    assert lines[:4] == [
        r"\begin{table}", r"\centering", r"\caption{Me, table 3 (Results): A $|$ B}", r"\begin{tabular}{llrrrr}",
    ]  # fmt: skip
    assert r"& & \multicolumn{2}{c}{ntu60-xsub} & \multicolumn{2}{c}{x-y} \\" in lines
    assert r"Mine & joint & 70.0 & 69.88 (71.00) & 61.25 & - \\" in lines
    assert r"Mine$|$3 & 3s & 80.5 & - & - & - \\" in lines
    assert r"\par\footnotesize 24 + 24 clips \& 8\_frames, 5 \% of \textbackslash{}f" in lines
    assert text.count("{") == text.count("}")
    assert latex(table, []).count("&") == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("*ours", "{*}ours"),
        ("[1] ours", "{[}1] ours"),
        (r"a&b%c_d#e$f", r"a\&b\%c\_d\#e\$f"),
        (r"~^\{}", r"\textasciitilde{}\textasciicircum{}\textbackslash{}\{\}"),
    ],
)
def test_latex_takes_a_name_literally(name: str, expected: str, table: Table) -> None:
    named = replace(table, rows=[replace(row, name=name) for row in table.rows])
    lines = latex(named, cells(named, {}, ["ntu60-xsub"])).splitlines()
    rows = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert rows
    assert all(row.startswith(f"{expected} & ") for row in rows)


def test_segmentation_has_four_figures_a_dataset() -> None:
    table = load_paper("actclr").table("segment")
    found = cells(table, {(0, "pkummd2-xview"): {"acc": 1.0, "miou": 2.0}}, table.datasets)
    assert [cell.figure for cell in found[:4]] == ["acc", "macc", "fwiou", "miou"]
    assert [cell.measured for cell in found[:4]] == [1.0, None, None, 2.0]
    head = markdown(table, found).splitlines()[0]
    assert "pkummd2-xview miou paper | pkummd2-xview miou measured" in head


def test_a_row_knows_its_views() -> None:
    assert TableRow("a", "3s", None, {}).views == ("joint", "bone", "motion")
    assert TableRow("a", "joint+motion", None, {}).views == ("joint", "motion")
    assert TableRow("a", "bone", None, {}).views == ("bone",)


def changed(**at: object) -> dict:
    """The paper with values replaced, or taken away where None; `table__` and `row__` are sections of it."""
    content = yaml.safe_load(yaml.safe_dump(MINE))
    sections = {"table": content["tables"]["linear"], "row": content["tables"]["linear"]["rows"][0], "": content}
    for name, value in at.items():
        section, _, key = name.rpartition("__")
        if value is None:
            del sections[section][key]
        else:
            sections[section][key] = value
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1], "expected `key: value` lines"),
        (changed(recipe=None), "paper .*: missing: recipe"),
        (changed(table__number=None), "table linear: missing: number"),
        (changed(table__protocol="zen"), "table linear: unknown protocol 'zen'; known: knn, linear"),
        (changed(table__labels=2), "labels must be a share above 0 and up to 1, not 2"),
        (changed(row__stream="4s"), "row 1: unknown stream 4s; known: joint, bone, motion, 3s"),
        (changed(row__figures={"a": 101}), "row 1: figures of a must be numbers from 0 to 100"),
        (changed(row__figures={"a": "x"}), "row 1: figures of a must be numbers"),
        (changed(row__figures={"a": {"miou": 3}}), "row 1: linear has no figure miou"),
        (changed(row__name=None), "row 1: missing: name"),
        (changed(row__setting=["a=1"]), "row 1: unknown key 'setting'; known: name, stream, figures"),
        (changed(row__protocol="zen"), "row 1: unknown protocol 'zen'; known: knn, linear"),
        (changed(row__protocol="nmi", row__figures={"a": 2}), "row 1: figures of a must be numbers from 0 to 1"),
        (changed(row__checkpoint="first"), "row 1: checkpoint is 'first'; known: last, best"),
        (changed(row__frames=1), "row 1: frames must be a whole number from 2, not 1"),
    ],
)
def test_a_faulty_table_is_refused_by_name(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load_paper(write(tmp_path / "paper.yaml", content))


def test_unknown_names_list_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no paper 'nope'.*aimclr"):
        load_paper("nope")
    with pytest.raises(UsageError, match="AimCLR has no table 'nope'; known: linear"):
        load_paper("aimclr").table("nope")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(UsageError, match="bad.yaml:1: is no YAML"):
        load_paper(str(tmp_path / "bad.yaml"))
