"""Reports are parsed and compared with the files of the run that they are made from."""

import base64
import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from skelpipe.dataset import Dataset
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.train.outcome import Scores, write_outcome
from skelpipe.train.report import main, write_report
from skelpipe.train.reporting.charts import number, ticks
from skelpipe.train.reporting.markup import el
from skelpipe.train.reporting.matrix import worst_pairs

NASTY = """<img src=x onerror=alert(1)> & "q" 'a' </script><script>alert(2)</script> {{title}} <!--"""
EXTERNAL = {"src", "srcset", "data", "action", "poster", "formaction", "background", "style"}


class Page(HTMLParser):
    """Tags in order, the text inside each element by its tag, and the rows of all tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("meta", "br", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.tags if name in (attributes.get("class") or "").split()]


def judged(dataset: Dataset, folder: Path, seed: int = 0, **more: Any) -> np.ndarray:
    """Write the outcome of made scores; return their confusion matrix, counted one by one."""
    labels, classes = dataset.labels("test"), list(dataset.classes)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(len(labels), len(classes))).astype(np.float32)
    scores[np.arange(len(labels)), labels] += 2
    about = {
        "protocol": "linear",
        "dataset": "ntu60-xsub",
        "digest": dataset.digest,
        "split": "test",
        "view": "joint",
        "what": "aimclr, 300 epochs on ntu60-xsub",
        "classes": json.dumps(classes),
    }
    counts = np.zeros((len(classes), len(classes)), int)
    for truth, row in zip(labels, scores, strict=True):
        counts[truth, max(range(len(classes)), key=lambda k: (row[k], -k))] += 1
    result = {
        **{name: about[name] for name in ("protocol", "dataset", "digest", "split", "view", "what")},
        "figures": {"top1": 100 * counts.trace() / counts.sum(), "top5": 91.25, "best_top1": 77.5},
        "chance": 33.25,
        "trained_on": "ntu60-xsub",
        "reported": {"top1": 74.3, "source": "AimCLR, table 2", "clips": {"train": 40091, "test": 16487}},
        "labels": 1.0,
        **more,
    }
    result["reported"] = result["reported"] and {**result["reported"], "complete": False}
    log = [{"epoch": e, "loss": 3 / e, "lr": 3.0, "top1": 10.0 * e} for e in (1, 2, 3, 4)]
    folder.mkdir(parents=True, exist_ok=True)
    scored = Scores(dataset.ids("test"), labels, scores, about)
    write_outcome(
        folder, scored, result, log=log, settings={"epochs": 4, "optimiser": {"lr": 3.0}}, dataset=dataset
    )
    return counts


@pytest.fixture(scope="module")
def folder(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished evaluation; nobody writes to it."""
    path = tmp_path_factory.mktemp("evaluation") / "linear-run"
    judged(tiny_dataset, path)
    return path


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of the finished evaluation, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@pytest.fixture
def edit(own: Path) -> Callable[..., Path]:
    """Change a JSON file of the copy by a mapping."""

    def change(**values: Any) -> Path:
        path = own / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
        return own

    return change


def read(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def test_an_evaluation_leaves_a_report_with_its_figures_beside_the_papers(folder: Path) -> None:
    page = read(folder)
    figures = json.loads((folder / "result.json").read_text())["figures"]
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["top1"] == [f"{figures['top1']:.2f}", "74.30", f"{figures['top1'] - 74.3:+.2f}"]
    assert rows["top5"] == ["91.25", "", ""]
    assert rows["chance"] == ["33.25", "", ""]
    assert page.texts["h1"] == ["Linear on ntu60-xsub (joint)"]
    assert "40091" in "".join(page.texts["p"])


def test_the_papers_table_has_this_run_in_its_cell(folder: Path) -> None:
    """Table 2 of AimCLR: four streams; the run is the joint one of NTU-60 xsub."""
    page = read(folder)
    top1 = json.loads((folder / "result.json").read_text())["figures"]["top1"]
    found = [row for row in page.rows if row[:1] in (["AimCLR"], ["3s-AimCLR"])]
    assert found == [
        ["AimCLR", "joint", f"74.3 {top1:.2f}", "79.7", "83.4", "63.4", "63.4"],
        ["AimCLR", "motion", "66.8", "70.6", "72.0", "57.3", "54.4"],
        ["AimCLR", "bone", "73.2", "77.0", "82.0", "62.9", "63.4"],
        ["3s-AimCLR", "3s", "78.9", "83.8", "87.8", "68.2", "68.8"],
    ]
    assert len(page.with_class("here")) == 1


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"reported": None}, []),  # of a random network, or a recipe of one's own
        ({"what": "my-method, 3 epochs"}, []),
        ({"view": "joint+bone+motion", "reported": {"top1": 78.9}}, ["3s"]),
        ({"view": "bone", "reported": {"top1": 73.2}}, ["bone"]),
        ({"view": "bone", "reported": {"top1": 99.0}}, [""]),  # not this table's figure: nothing is marked
    ],
)
def test_only_the_cell_that_the_run_is_held_against_is_marked(
    tiny_dataset: Dataset, edit: Callable[..., Path], more: dict[str, Any], expected: list[str]
) -> None:
    page = read(write_report(edit(**more)).parent)
    marked = [row[1] for row in page.rows if row[:1] in (["AimCLR"], ["3s-AimCLR"]) and any(" " in c for c in row)]
    assert marked == [name for name in expected if name]
    assert any("The paper's table" in text for text in page.texts["h3"]) == bool(expected)


def test_the_page_needs_nothing_from_outside(folder: Path) -> None:
    text = (folder / "report.html").read_text("utf-8")
    page = Page(text)
    for tag, attributes in page.tags:
        assert not EXTERNAL & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
    assert not re.search(r"https?:|@import|url\(", text)


def test_only_the_pages_own_script_and_style_may_run(folder: Path) -> None:
    """The policy names the hashes of exactly the inline script and style that are there."""
    text = (folder / "report.html").read_text("utf-8")
    policy = next(a["content"] for tag, a in Page(text).tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for kind, pattern in (("style", r"<style>(.*?)</style>"), ("script", r"<script>(.*?)</script>")):
        content = re.findall(pattern, text, re.DOTALL)
        assert len(content) == 1
        digest = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not [a for _, a in Page(text).tags if any(name.startswith("on") for name in a)]


def test_whatever_a_user_names_stays_text(own: Path, tiny_dataset: Dataset) -> None:
    plain = [tag for tag, _ in read(own).tags]
    path = own / "classes.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    for row in rows[1:]:
        row[1] = NASTY
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    result = json.loads((own / "result.json").read_text())
    for name in ("protocol", "dataset", "view", "what"):
        result[name] = NASTY
    result["reported"]["source"] = NASTY
    result[NASTY] = NASTY
    (own / "result.json").write_text(json.dumps(result))
    (own / "recipe.yaml").write_text(yaml.safe_dump({NASTY: {NASTY: NASTY}, "epochs": NASTY}))
    (own / "log.jsonl").write_text(json.dumps({"epoch": 1, NASTY: 2.0, "loss": NASTY}) + "\n")
    write_report(own)
    page = read(own)
    assert set(page.texts) <= set(plain) | {"details"}
    assert page.texts["h1"][0] == f"{NASTY.capitalize()} on {NASTY} ({NASTY})"
    assert [tag for tag, _ in page.tags].count("script") == plain.count("script")
    data = next(text for text in page.texts["script"] if text.startswith('{"names"'))
    assert json.loads(data)["names"][0] == f"0 {NASTY}"


def test_confusions_are_drawn_and_told(tiny_dataset: Dataset, folder: Path) -> None:
    counts = judged(tiny_dataset, folder)
    page = read(folder)
    data = json.loads(next(text for text in page.texts["script"] if text.startswith('{"names"')))
    used = [k for k in range(60) if any(counts[k, j] or counts[j, k] for j in range(60))]
    assert data["counts"] == [[int(counts[k, j]) for j in used] for k in used]
    assert data["names"] == [f"{k} {tiny_dataset.classes[k]}" for k in used]
    cells: dict[tuple[int, int], float] = {}
    for tag, attributes in page.tags:
        if tag == "path" and "fill-opacity" in attributes:
            for x, y, wide in re.findall(r"M(\d+) (\d+)h(\d+)v1", attributes["d"] or ""):
                for column in range(int(x), int(x) + int(wide)):
                    cells[int(y), column] = float(attributes["fill-opacity"] or 0)
    assert {(used[y], used[x]) for y, x in cells} == set(zip(*np.nonzero(counts), strict=True))
    for (y, x), shade in cells.items():
        share = counts[used[y], used[x]] / counts[used[y]].sum()
        assert share - 1e-9 <= shade < share + 0.1 + 1e-9  # ten shades, rounded up


def test_worst_pairs_are_the_most_frequent_confusions() -> None:
    counts = np.array([[5, 0, 3], [1, 0, 0], [4, 2, 4]])
    assert worst_pairs(counts, ["a", "b", "c"]) == [
        ("c", "a", 4, 40.0),
        ("a", "c", 3, 37.5),
        ("c", "b", 2, 20.0),
        ("b", "a", 1, 100.0),
    ]


def test_the_hardest_classes_come_with_a_clip_that_was_mistaken(tiny_dataset: Dataset, folder: Path) -> None:
    counts = judged(tiny_dataset, folder)
    page = read(folder)
    clips, right = counts.sum(axis=1), counts.diagonal()
    order = sorted(
        (k for k in range(len(clips)) if right[k] < clips[k]), key=lambda k: (right[k] / clips[k], -clips[k], k)
    )
    cards = [text for text in page.texts["article"] if "test clips" in text]
    assert [int(card.split(" ", 1)[0]) for card in cards] == order[:6]
    assert order, "the made scores have no mistakes"
    assert all("taken for" in card.split("test clips")[1] for card in cards)
    for card, label in zip(cards, order, strict=False):
        shown = re.search(r"(S\d{3}C\d{3}P\d{3}R\d{3}A(\d{3})): taken for", card)
        assert shown is not None
        assert int(shown[2]) == label + 1  # the recording's own name says its class
        assert shown[1] in tiny_dataset.ids("test")
    assert len(page.with_class("clip")) == len(cards)


def test_a_faultless_run_has_no_hardest_class(edit: Callable[..., Path]) -> None:
    folder = edit()
    path = folder / "classes.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n0,drink water,3,3,100.0\n")
    (folder / "confusion.csv").write_text("class,0\n0,3\n")
    page = read(write_report(folder).parent)
    assert "article" not in page.texts
    assert "Most frequent confusions" not in page.texts["h3"]
    assert ["0 drink water", "3", "3", "100.0"] in page.rows


def test_without_the_dataset_there_are_no_drawings_but_the_way_to_them(own: Path) -> None:
    page = read(write_report(own).parent)
    assert not page.with_class("clip")
    assert any(f"python -m skelpipe.train.report {own}" in text for text in page.texts["p"])


def test_nothing_is_said_of_how_a_clip_fared_that_was_not_judged(own: Path, tiny_dataset: Dataset) -> None:
    """As with untrimmed videos, whose frames are what is judged."""
    (own / "scores.parquet").unlink()
    page = read(write_report(own, tiny_dataset).parent)
    cards = [text for text in page.texts["article"] if "test clips" in text]
    assert cards
    for card in cards:
        assert re.search(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}$", card)
    assert len(page.with_class("clip")) == len(cards)


def test_a_class_without_clips_has_no_accuracy(own: Path) -> None:
    write_report(own)
    rows = [row for row in read(own).rows if len(row) == 4 and row[0][:1].isdigit() and not row[3]]
    with (own / "classes.csv").open() as file:
        empty = [row["class"] for row in csv.DictReader(file) if row["clips"] == "0"]
    assert [row[0].split(" ")[0] for row in rows] == empty != []


def test_curves_say_what_the_log_says(own: Path) -> None:
    lines = [{"epoch": e, "loss": 4.0 - e, "flag": True, "word": "x"} for e in range(1, 4)]
    lines[1]["knn@20"] = 12.5
    (own / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = read(write_report(own).parent)
    labels = [a["aria-label"] for a in page.with_class("chart")]
    assert labels == [
        "loss: at the end 1; lowest 1 (epoch 3), highest 3 (epoch 1)",
        "knn@20: 12.5 throughout",
    ]
    points = next(a["points"] for a in page.with_class("curve"))
    assert points is not None
    spots = np.array([[float(v) for v in pair.split(",")] for pair in points.split()])
    steps = np.diff(spots, axis=0)
    np.testing.assert_allclose(steps[0], steps[1], atol=0.11)  # a straight line down; down is more in SVG
    assert steps[0, 0] > 0
    assert steps[0, 1] > 0


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.11, 0.52, 4) == [0.2, 0.3, 0.4, 0.5]
    assert ticks(-3, 3, 3) == [-2, 0, 2]
    assert ticks(7, 7) == [7]
    assert [number(v) for v in (3, 0.5, 1234567.0, 0.00001234, 12.3456, -2.0)] == [
        "3", "0.5", "1.23e+06", "1.23e-05", "12.35", "-2",
    ]  # fmt: skip


def test_markup_escapes_all_but_markup() -> None:
    inner = el("b", "<x>")
    assert el("p", "a<b", inner, None, class_="q\"'&", hidden=True, open=False, data_x=1) == (
        '<p class="q&quot;&#x27;&amp;" hidden data-x="1">a&lt;b<b>&lt;x&gt;</b></p>'
    )


def test_the_same_files_give_the_same_page(own: Path, tiny_dataset: Dataset) -> None:
    first = write_report(own, tiny_dataset).read_bytes()
    assert write_report(own, tiny_dataset).read_bytes() == first


def test_a_pre_training_has_a_report_too(finished: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    page = read(write_report(run, tiny_dataset).parent)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert page.texts["h1"] == ["Pre-training of skeletonclr on ntu60-xsub (joint)"]
    rows = {row[0]: row[1:] for row in page.rows if row}
    assert rows["knn@20"][0] == f"{log[-1]['knn@20']:.2f}"
    assert rows["digest"] == [tiny_dataset.digest]
    assert rows["temperature"] == ["0.2"]
    assert "source" not in "".join(rows)  # the papers' figures are no settings
    assert {"loss", "knn@20", "lr"} <= {
        a["aria-label"].split(":")[0] for a in page.with_class("chart") if a["aria-label"]
    }
    assert any(text == "query and key" for text in page.texts["h3"])
    assert len(page.with_class("clip")) == 2


def test_a_run_that_has_only_begun_has_a_report(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "begun"
    run.mkdir()
    shutil.copy(finished / "recipe.yaml", run)
    assert "0 of 6 epochs" in "".join(read(write_report(run).parent).texts["p"])


def test_fusions_are_listed(edit: Callable[..., Path]) -> None:
    entry = {"figures": {"top1": 50.0}}
    folder = edit(
        streams=[{"view": "joint", **entry}, {"view": "bone", **entry}],
        fusions=[{"name": "given", "weights": [0.6, 1], "counts": True, "figures": {"top1": 61.5}}],
    )
    rows = read(write_report(folder).parent).rows
    assert ["joint", "50.00", ""] in rows
    assert ["0.6:1 given", "61.50", "counts"] in rows


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("result.json", "{", "result.json: cannot be read as JSON"),
        ("result.json", "[1]", "result.json: holds no JSON object"),
        ("recipe.yaml", "a: [", "recipe.yaml: cannot be read as YAML"),
        ("recipe.yaml", "- 1", "recipe.yaml: holds no `key: value` lines"),
        ("classes.csv", "class,name,clips,right,accuracy\n0,a,many,1,2\n", "classes.csv:2: expected class"),
        ("confusion.csv", "class,0\n0,1\n", "confusion.csv: expected a row and a column"),
        ("scores.parquet", "no parquet", "scores.parquet: cannot be read as Parquet"),
    ],
)
def test_a_damaged_file_is_named(own: Path, name: str, content: str, says: str) -> None:
    (own / name).write_text(content)
    with pytest.raises(SkelpipeError, match=re.escape(says)):
        write_report(own)


def test_another_dataset_and_no_run_are_refused(
    own: Path, tmp_path: Path, make_dataset: Callable[..., Dataset], ntu_names: Callable[..., list[str]]
) -> None:
    other = make_dataset(ntu_names(actions=2))
    before = (own / "report.html").read_bytes()
    with pytest.raises(UsageError, match="has digest"):
        write_report(own, other)
    assert (own / "report.html").read_bytes() == before
    with pytest.raises(UsageError, match="is no run"):
        write_report(tmp_path)


def test_the_command_writes_and_tells(own: Path, tiny_dataset: Dataset, tmp_path: Path) -> None:
    (own / "report.html").unlink()
    done = CliRunner().invoke(main, [str(own), "--shards", str(tiny_dataset.path), "--json"])
    assert done.exit_code == 0, done.output
    told: Mapping[str, Any] = json.loads(done.output)
    assert told == {"report": str(own / "report.html"), "bytes": (own / "report.html").stat().st_size}
    failed = CliRunner().invoke(main, [str(tmp_path / "none")])
    assert failed.exit_code == 2
    assert failed.output.startswith("Error: ")
    assert "Example: python train/report.py" in CliRunner().invoke(main, ["--help"]).output
