"""A whole table on a tiny dataset: run, interrupted, continued, changed."""

import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import CARD, card_digest
from skelpipe.ownership import owned
from skelpipe.plugins import unload
from skelpipe.train.commands import reproduce as commands_reproduce
from skelpipe.train.papers.tables import builtin_papers, load_paper
from skelpipe.train.reproduce import main
from skelpipe.train.reproduction import work_folder

PAPER = {
    "name": "Mine",
    "cite": "Me, 2024",
    "recipe": "demo",
    "fusion": {"joint": 0.6, "bone": 0.6, "motion": 0.4},
    "tables": {
        "linear": {
            "number": 1,
            "section": "Results",
            "title": "Tiny",
            "protocol": "linear",
            "rows": [
                {"name": "Mine", "recipe": "demo", "stream": "joint", "figures": {"ntu60-xsub": 50.0}},
                {"name": "Mine", "recipe": "demo", "stream": "joint+motion", "figures": {"ntu60-xsub": 60.0}},
                {"name": "Other", "recipe": "aimclr", "stream": "joint", "figures": {"ntu120-xset": 70.0}},
            ],
        },
        "knn": {
            "number": 2,
            "section": "Results",
            "title": "Tiny",
            "protocol": "knn",
            "rows": [{"name": "Mine", "recipe": "demo", "stream": "joint", "figures": {"ntu60-xsub": 40.0}}],
        },
    },
}
PARTS = [
    "pretrain-demo-ntu60-xsub-joint",
    "linear-ntu60-xsub-joint-demo",
    "pretrain-demo-ntu60-xsub-motion",
    "linear-ntu60-xsub-motion-demo",
    "fuse-linear-ntu60-xsub-joint-motion-demo",
]
SECRET = "wJalrXUtnFEMI"
SMALL = {"encoder.width": 2, "encoder.out_channels": 8, "head.hidden": 8, "head.dim": 8, "queue": 20, "epochs": 2}


@pytest.fixture
def root(tiny_dataset: Dataset, tmp_path: Path) -> Path:
    """A folder with the tiny dataset."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ntu60-xsub").symlink_to(tiny_dataset.path)
    return tmp_path / "data"


@pytest.fixture
def ask(root: Path, tmp_path: Path) -> Callable[..., Result]:
    """Run `reproduce` for the paper above with a small budget."""
    paper = tmp_path / "mine.yaml"
    paper.write_text(yaml.safe_dump(PAPER))
    small = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    given = ["--paper", str(paper), "--shards-root", str(root), "--out", str(tmp_path / "out"), "--device", "cpu"]
    given += ["--frames", "8"]
    fast = ["--pretraining", "knn-every=0", *small]

    def run(*words: str, table: str = "linear", estimate: bool = False) -> Result:
        epochs = [] if table == "knn" else ["--evaluation", "epochs=2"]
        more = [] if estimate else ["--no-estimate"]
        return CliRunner().invoke(main, [*given, *fast, *epochs, *more, "--table", table, *words])

    return run


class InProcess:
    """Runs commands in this process, which saves the start of others; `calls` has them all."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fails: str | None = None

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:2] == [sys.executable, "-m"]
        assert all(isinstance(word, str) for word in command)
        self.calls.append(command)
        if self.fails is not None and self.fails in " ".join(command):
            return subprocess.CompletedProcess(command, 137, "")
        script = importlib.import_module(command[2])
        done = CliRunner().invoke(script.main, command[3:])
        assert done.exit_code == 0, done.output
        return subprocess.CompletedProcess(command, 0, done.stdout)

    @property
    def modules(self) -> list[str]:
        return [call[2].rpartition(".")[2] for call in self.calls]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    running = InProcess()
    monkeypatch.setattr(work_folder, "run_passing_signals", running.run)
    return running


def test_a_table_runs_continues_and_is_printed_beside_the_papers(
    ask: Callable[..., Result], in_process: InProcess, tmp_path: Path
) -> None:
    in_process.fails = "skelpipe.train.linear --shards"
    failed = ask()
    assert failed.exit_code == 1
    assert "linear-ntu60-xsub-joint-demo failed with exit code 137" in failed.output
    assert in_process.modules == ["pretrain", "linear"]
    in_process.fails = None
    in_process.calls.clear()

    done = ask("--json")
    assert done.exit_code == 0, done.output
    assert in_process.modules == ["linear", "pretrain", "linear", "fuse"]  # the first pre-training was finished
    printed = json.loads(done.stdout)
    assert list(printed["runs"]) == PARTS
    evaluated = {name: Path(folder) for name, folder in printed["runs"].items() if not name.startswith("pretrain")}
    runs = {name: json.loads((folder / "result.json").read_text()) for name, folder in evaluated.items()}
    measured = {(cell["stream"], cell["dataset"]): (cell["paper"], cell["measured"]) for cell in printed["cells"]}
    assert measured == {
        ("joint", "ntu60-xsub"): (50.0, runs[PARTS[1]]["figures"]["top1"]),
        ("joint+motion", "ntu60-xsub"): (60.0, runs[PARTS[4]]["figures"]["top1"]),
    }
    assert runs[PARTS[4]]["weights"] == [0.6, 0.4]
    assert runs[PARTS[1]]["epochs"] == 2
    text = printed["markdown"]
    assert text.startswith("Me, 2024, table 1 (Results): Tiny\n\n| method | stream | ntu60-xsub paper |")
    assert f"| Mine | joint | 50.0 | {runs[PARTS[1]]['figures']['top1']:.2f}" in text
    conditions = (
        "- ntu60-xsub: the paper's figures are on all 40,091 + 16,487 clips, which this dataset does not have: it "
        "has 24 + 24\n- ntu60-xsub: the paper's figures are with 32 frames per clip, here 8\n"
    )
    assert conditions in text
    assert "streams are fused with the weights of Mine: joint 0.6, bone 0.6, motion 0.4" in text
    assert "changed with --set: encoder.width=2" in text
    assert (tmp_path / "out" / "tables" / "mine-linear.md").read_text() == text
    tex = (tmp_path / "out" / "tables" / "mine-linear.tex").read_text()
    assert f"Mine & joint & 50.0 & {runs[PARTS[1]]['figures']['top1']:.2f}" in tex
    for name in (PARTS[1], PARTS[4]):
        assert '<svg class="clip"' in (Path(printed["runs"][name]) / "report.html").read_text()

    in_process.calls.clear()
    again = ask()
    assert again.exit_code == 0, again.output
    assert in_process.calls == []
    assert again.stdout == text
    _changes(ask, in_process, tmp_path)


def test_a_second_one_is_refused_before_it_measures_anything(
    ask: Callable[..., Result], in_process: InProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_reproduce, "estimate", lambda *_: pytest.fail("a table of another process"))
    with owned(tmp_path / "out" / "tables" / "mine-linear", "other", file=True):
        second = ask(estimate=True)
        assert second.exit_code == 2
        assert second.stderr.count("\n") <= 3
        assert "mine-linear: another other: process" in second.stderr
        assert ask("--dry-run").exit_code == 0  # it writes nothing
    assert in_process.calls == []
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def _changes(ask: Callable[..., Result], in_process: InProcess, tmp_path: Path) -> None:
    """A run with other settings is not replaced, unless that is asked for; a run that is lost is run again."""
    (tmp_path / "out" / "runs" / PARTS[4] / "result.json").unlink()
    assert ask().exit_code == 0
    assert in_process.modules == ["fuse"]
    in_process.calls.clear()
    other = ask("--seed", "1")
    assert other.exit_code == 2
    assert "was run with other settings or on another dataset: give --overwrite" in other.output
    assert in_process.calls == []
    states = [line for line in ask("--seed", "1", "--dry-run").stdout.splitlines() if line.startswith("# ")]
    assert states == [f"# {name}: changed" for name in PARTS]
    done = ask("--seed", "1", "--overwrite", "--streams", "joint")
    assert done.exit_code == 0, done.output
    assert in_process.modules == ["pretrain", "linear"]
    assert all(call[-2] == "--overwrite" for call in in_process.calls)


def test_commands_run_as_processes_of_their_own(ask: Callable[..., Result], tmp_path: Path, single: dict[str, str],
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", single["OMP_NUM_THREADS"])
    done = ask(table="knn")
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "parts" / "knn-ntu60-xsub-joint-demo.json").read_text())
    assert f"| Mine | joint | 40.0 | {record['result']['figures']['knn@20']:.2f} |" in done.stdout
    assert record["seconds"] > 0


def test_a_dry_run_prints_the_commands_and_leaves_nothing(
    ask: Callable[..., Result], in_process: InProcess, tmp_path: Path
) -> None:
    done = ask("--dry-run", "--json")
    parts = json.loads(done.stdout)["parts"]
    assert [(part["name"], part["state"]) for part in parts] == [(name, "to do") for name in PARTS]
    first = parts[0]["command"]
    assert first[:3] == [sys.executable, "-m", "skelpipe.train.pretrain"]
    assert first[first.index("--out") + 1] == str(tmp_path / "out" / "runs" / PARTS[0])
    assert first[-2:] == ["--resume", "--json"]
    assert in_process.calls == []
    assert not (tmp_path / "out").exists()


def test_the_commands_load_the_plugins_that_it_loads(
    ask: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one_plugin.py").write_text("def register(registry):\n    registry.chain('mine', ['crop'])\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        done = ask("--dry-run", "--json", "--plugin", "one_plugin")
        commands = [part["command"] for part in json.loads(done.stdout)["parts"]]
        assert all(command[3:5] == ["--plugin", "one_plugin"] for command in commands), done.output
    finally:
        unload("one_plugin")
    assert "ntu120-xset is left out" in done.stderr
    assert "left out: Other: of other methods; --method all runs them too" in done.stderr


class WithToken(SimpleHTTPRequestHandler):
    """Serves files only for requests with the token."""

    def do_GET(self) -> None:
        if self.path.partition("?")[2] == f"token={SECRET}":
            super().do_GET()
        else:
            self.send_error(403)

    def do_HEAD(self) -> None:
        if self.path.partition("?")[2] == f"token={SECRET}":
            super().do_HEAD()
        else:
            self.send_error(403)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def guarded(root: Path) -> Iterator[str]:
    """The URL of the folder of datasets on a web server that needs a token."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(WithToken, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/?token={SECRET}"
        server.shutdown()


def test_datasets_are_read_from_a_url_whose_secret_is_not_printed(
    ask: Callable[..., Result], in_process: InProcess, guarded: str, tmp_path: Path
) -> None:
    there = ("--shards-root", guarded)
    planned = ask("--dry-run", *there, table="knn")
    assert "/ntu60-xsub" in planned.stdout
    done = ask(*there, table="knn")
    assert done.exit_code == 0, done.output
    url = guarded.replace("/?", "/ntu60-xsub?")
    assert [call[call.index("--shards") + 1] for call in in_process.calls] == [url, url]
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) > 5
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert SECRET not in planned.output + done.output
    wrong = ask("--shards-root", guarded.replace(SECRET, "other"), table="knn")
    assert wrong.exit_code == 1
    assert "ntu60-xsub" in wrong.output


def test_several_ranks_are_started_by_torchrun(ask: Callable[..., Result]) -> None:
    parts = json.loads(ask("--dry-run", "--json", "--ranks", "4").stdout)["parts"]
    start = ["torch.distributed.run", "--standalone", "--nproc-per-node", "4", "-m", "skelpipe.train.pretrain"]
    assert parts[0]["command"][2:8] == start
    assert parts[-1]["command"][2] == "skelpipe.train.fuse"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dataset", "ntu60-xview"], "table linear has no ntu60-xview; it has: ntu60-xsub, ntu120-xset"),
        (["--dataset", "ntu120-xset"], "nothing of table linear is left"),
        (["--dataset", "ntu120-xset", "--method", "all"], "has no ntu120-xset of 8 frames"),
        (["--set", "frames=16"], "--set frames: the frames are those of the dataset: choose it with --frames"),
        (["--method", "zen"], "table linear has no method zen; it has: demo, aimclr, all"),
        (["--streams", "face"], "'face' is none of joint, bone, motion"),
        (["--method", "aimclr"], "nothing of table linear is left"),
        (["--evaluation", "view=bone"], "--view follows from the table"),
    ],
)
def test_what_cannot_be_run_is_refused(ask: Callable[..., Result], words: list[str], says: str) -> None:
    done = ask(*words)
    assert done.exit_code == 2
    assert says in done.output


def test_datasets_are_found_by_their_cards(ask: Callable[..., Result], root: Path) -> None:
    (root / "ntu60-xsub").rename(root / "some folder")
    parts = json.loads(ask("--dry-run", "--json").stdout)["parts"]
    words = parts[0]["command"]
    assert words[words.index("--shards") + 1] == str(root / "some folder")
    (root / "again").symlink_to((root / "some folder").resolve())
    assert ask("--dry-run").exit_code == 0  # the same dataset, twice
    (root / "broken").mkdir()
    (root / "broken" / CARD).write_text("{}")
    assert "broken is left out" in ask("--dry-run").stderr
    card = json.loads((root / "again" / CARD).read_text())
    write_card(root / "other", {**card, "classes": [*card["classes"], "another"]})
    done = ask("--dry-run")
    assert done.exit_code == 2
    assert "again and other are different datasets, both ntu60-xsub of 8 frames: move one" in done.output


def write_card(folder: Path, card: dict[str, Any]) -> None:
    folder.mkdir()
    (folder / CARD).write_text(json.dumps({**card, "digest": card_digest(card)}))


@pytest.fixture(scope="session")
def cards(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the card alone of every dataset of every paper, in the two lengths that papers use."""
    root, card = tmp_path_factory.mktemp("cards"), json.loads((tiny_dataset.path / CARD).read_text())
    tables = [table for paper in builtin_papers() for table in load_paper(paper).tables.values()]
    names = {name for table in tables for name in (*table.datasets, *table.pretrained.values())}
    for name in sorted(names):
        for frames in (50, 64):
            dataset, split = name.split("-")
            shape = [3, frames, 25, 2]
            write_card(root / f"{name} of {frames}", {**card, "name": dataset, "split": split, "shape": shape})
    return root


@pytest.mark.parametrize("paper", builtin_papers())
def test_every_table_of_every_paper_can_be_planned(cards: Path, paper: str) -> None:
    for key, table in load_paper(paper).tables.items():
        words = [
            "--paper",
            paper,
            "--table",
            key,
            "--shards-root",
            str(cards),
            "--method",
            "all",
            "--dry-run",
            "--json",
        ]
        done = CliRunner().invoke(main, [*words, "--dry-run", "--json"])
        assert done.exit_code == 0, (key, done.output)
        assert "left out" not in done.stderr
        parts = json.loads(done.stdout)["parts"]
        shown = {part["name"].removeprefix("fuse-").split("-")[0] for part in parts} - {"pretrain"}
        assert shown == {table.protocol_of(row) for row in table.rows}


def test_an_ablation_runs_whole(root: Path, in_process: InProcess, tmp_path: Path) -> None:
    """Every row of one ablation, tiny, on a dataset of another length: the table says so."""
    table = load_paper("skelemixclr").table("ablation-weight")
    small = {**SMALL, "epochs": 1, "skelemixclr.blocks": "[1,2]", "batch_size": 8, "init": "default"}
    words = ["--paper", "skelemixclr", "--table", table.key, "--shards-root", str(root), "--device", "cpu"]
    words += ["--out", str(tmp_path / "out"), "--frames", "8", "--pretraining", "knn-every=0", "--no-estimate"]
    words += ["--evaluation", "epochs=1", "--evaluation", "batch-size=8", "--json"]
    done = CliRunner().invoke(main, [*words, *(w for k, v in small.items() for w in ("--set", f"{k}={v}"))])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    here = [cell for cell in printed["cells"] if cell["dataset"] == "ntu60-xsub"]
    assert [cell["name"] for cell in here] == [row.name for row in table.rows]
    assert all(0 <= cell["measured"] <= 100 for cell in here)
    assert in_process.modules == ["pretrain", "linear"] * len(table.rows)
    assert any(remark.endswith("with 64 frames per clip, here 8") for remark in printed["remarks"])


def test_hours_and_disk_are_estimated(ask: Callable[..., Result], in_process: InProcess) -> None:
    """Before anything runs from timed steps, afterwards from what runs took; a finished table needs neither."""
    first = ask("--dry-run", "--estimate", "--streams", "joint", "--method", "demo", estimate=True)
    assert first.exit_code == 0, first.output
    assert re.search(r"2 parts to run: about \d+\.\d minutes and [\de.-]+ GB of disk", first.stderr)
    assert " GB of disk (0 parts from runs in this folder, the others from a few timed steps)" in first.stderr
    assert in_process.calls == []
    done = ask("--streams", "joint", "--method", "demo")
    assert done.exit_code == 0, done.output
    assert "nothing is left to run" in ask("--streams", "joint", "--method", "demo", estimate=True).stderr


def test_a_root_without_any_of_the_datasets_is_refused(ask: Callable[..., Result], root: Path) -> None:
    (root / "ntu60-xsub").unlink()
    done = ask()
    assert done.exit_code == 2
    assert "holds none of the datasets of table linear: ntu60-xsub, ntu120-xset" in done.output


def test_a_command_that_prints_no_json_is_named(
    ask: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "hello")

    monkeypatch.setattr(work_folder, "run_passing_signals", run)
    done = ask()
    assert done.exit_code == 1
    assert f"{PARTS[0]}: printed no JSON object: 'hello'" in done.output


def test_help_ends_in_an_example() -> None:
    assert "Example: skelpipe reproduce --paper aimclr" in CliRunner().invoke(main, ["--help"]).output
