"""The command line: help, defaults, exit codes, JSON."""

import hashlib
import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from skelpipe import manifests
from skelpipe.cli import DATA, main
from skelpipe.dataset.card import card_digest


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder; return its result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKELPIPE_SHARDS", raising=False)
    return lambda *words: CliRunner().invoke(main, list(map(str, words)))


PREPARE = ("prepare", "--dataset", "ntu60", "--split", "xsub", "--frames", "8", "--workers", "1")


def test_every_command_is_documented_and_has_an_example() -> None:
    for name, command in main.commands.items():
        assert command.help, name
        assert command.epilog.startswith(f"Example: skelpipe {name}"), name
        for option in command.params:
            if isinstance(option, click.Argument):
                continue
            assert isinstance(option, click.Option)
            assert option.help, (name, option.name)


def test_shared_options_are_the_same_everywhere() -> None:
    """Those of training say in addition which view is the default, and where several datasets are read."""
    seen: dict[str, tuple] = {}
    for name, command in main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option) and option.name in {
                "shards",
                "view",
                "seed",
                "device",
                "workers",
                "as_json",
            }:
                if main.table[name].section != DATA and option.name in ("shards", "view"):
                    continue
                facts = (option.opts, option.help, option.default, option.envvar)
                assert seen.setdefault(option.name, facts) == facts
    assert {"shards", "workers", "as_json"} <= set(seen)


def test_help_answers_at_once() -> None:
    """The help imports no heavy package; this checks the modules, not the time."""
    code = (
        "import sys; from skelpipe.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numba', 'pyarrow', 'numpy', 'h5py', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Datasets:" in done.stdout


def test_the_list_of_commands_says_what_they_say() -> None:
    """Their help is not imported for the list, which therefore has a copy of its first sentence."""
    for name, each in main.table.items():
        command = each.load()
        assert each.short_help == command.get_short_help_str(200), name
        assert command.epilog.startswith(f"Example: skelpipe {name} "), name


def test_names_are_completed_without_importing_commands() -> None:
    code = (
        "import os, sys; os.environ['_SKELPIPE_COMPLETE'] = 'bash_complete'\n"
        "os.environ |= {'COMP_WORDS': 'skelpipe pr', 'COMP_CWORD': '1'}\n"
        "from skelpipe.cli import main\n"
        "try: main(prog_name='skelpipe')\n"
        "except SystemExit: pass\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('skelpipe.')}\n"
        "print(sorted(rooms - {'cli', 'door', 'errors'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == ["plain,prepare", "plain,pretrain", "plain,predict", "[]"]


def test_preparing_does_without_torch() -> None:
    """Importing torch takes seconds and 200 MB, in every worker."""
    code = (
        "import sys, skelpipe.manifest_file, skelpipe.prepare.report, skelpipe.prepare.import_plan\n"
        "sys.exit(f'imported {found}' if (found := {'torch', 'webdataset'} & set(sys.modules)) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_prepare_to_info_with_defaults_only(run, raw_folder, ntu_names, tmp_path) -> None:
    raw_folder(ntu_names(), folder="raw/ntu60")
    assert run(*PREPARE).exit_code == 0
    assert (tmp_path / "data" / "ntu60-xsub" / "dataset.json").is_file()
    for words in (("verify",), ("info",), ("stats", "--average-motion")):
        result = run(*words)
        assert result.exit_code == 0, result.output
        assert "12" in result.output or words == ("verify",)
    facts = json.loads(run("info", "--json").stdout)
    assert facts["sides"]["train"]["samples"] == 12
    assert facts["shape"] == [3, 8, 25, 2]
    averages = json.loads(run("stats", "--average-motion", "--json").stdout)["average_motion"]
    assert set(averages) == {"joint", "bone", "motion"}
    assert max(averages.values()) < 1e-6
    assert json.loads(run("verify", "--json").stdout)["damages"] == []


def test_json_is_one_object_only(run, raw_folder, ntu_names) -> None:
    raw_folder([*ntu_names(), "S020C001P008R001A061", "S001C002P005R002A008"], folder="raw/ntu60")
    report = json.loads(run(*PREPARE, "--json").stdout)
    assert (report["train"], report["test"]) == (12, 12)
    assert report["published"] == {"train": 40091, "test": 16487}
    assert sum(report["dropped"].values()) == 1
    assert sum(report["outside"].values()) == 1
    assert report["absent"] == 56578 - 18  # subject 1 is in no published recording of setup 2


def test_a_dry_run_reports_and_writes_nothing(run, raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder([*ntu_names(), "S020C001P008R001A061", "S001C002P005R002A008"], folder="raw/ntu60")
    (raw / f"{ntu_names()[0]}.skeleton").write_text("damaged, but only the name is used")
    report = json.loads(run(*PREPARE, "--dry-run", "--json").stdout)
    assert report["dry_run"] is True
    assert not (tmp_path / "data").exists()
    assert "dry run: nothing is written" in run(*PREPARE, "--dry-run").output
    (raw / f"{ntu_names()[0]}.skeleton").write_bytes((raw / f"{ntu_names()[1]}.skeleton").read_bytes())
    done = json.loads(run(*PREPARE, "--json").stdout)
    same = ("train", "test", "dropped", "outside", "published", "absent", "first_absent", "out", "split")
    assert {key: report[key] for key in same} == {key: done[key] for key in same}


def test_the_default_dataset(run, raw_folder, ntu_names, tmp_path, monkeypatch) -> None:
    result = run("info")
    assert result.exit_code == 2
    assert "no dataset found" in result.output
    raw_folder(ntu_names(), folder="raw/ntu60")
    run(*PREPARE)
    run(*PREPARE, "--out", "data/other")
    result = run("info")
    assert result.exit_code == 2
    assert "data/ntu60-xsub, data/other" in result.output
    monkeypatch.setenv("SKELPIPE_SHARDS", "data/other")
    assert json.loads(run("info", "--json").stdout)["shards"] == "data/other"
    assert json.loads(run("info", "--shards", "data/ntu60-xsub", "--json").stdout)["shards"] == "data/ntu60-xsub"
    monkeypatch.delenv("SKELPIPE_SHARDS")
    monkeypatch.chdir(tmp_path / "data" / "other")
    assert CliRunner().invoke(main, ["info"]).exit_code == 0


def test_exit_codes_and_no_tracebacks(run, raw_folder, ntu_names, tmp_path) -> None:
    assert run("prepare", "--dataset", "ntu61", "--split", "xsub").exit_code == 2
    result = run("prepare", "--dataset", "ntu60", "--split", "xset")
    assert result.exit_code == 2
    assert "there are: xsub, xview" in result.output
    raw = raw_folder(ntu_names(), folder="raw/ntu60")
    (raw / "S001C001P001R001A001.skeleton").write_text("")
    result = run(*PREPARE)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ") or "\nError: " in result.output
    assert "S001C001P001R001A001.skeleton: the file is empty" in result.output
    assert run(*PREPARE, "--on-error", "skip").exit_code == 0
    shard = tmp_path / "data" / "ntu60-xsub" / "train" / "bone" / "000000.tar"
    content = bytearray(shard.read_bytes())
    content[5000] ^= 4
    shard.write_bytes(content)
    result = run("verify")
    assert result.exit_code == 1
    assert "train/bone/000000.tar: damaged" in result.output
    (tmp_path / "data" / "ntu60-xsub" / "dataset.json").unlink()
    for command in ("info", "stats", "verify"):
        result = run(command, "--shards", "data/ntu60-xsub")
        assert result.exit_code == 2
        assert "no dataset.json here: not a dataset, or one that prepare did not finish" in result.output


def test_an_empty_train_subset_is_a_warning(run, raw_folder, ntu_names) -> None:
    raw_folder(ntu_names(subjects=[3]), folder="raw/ntu60")
    result = run(*PREPARE)
    assert result.exit_code == 0
    assert "Warning: the train subset of split xsub is empty" in result.output
    result = run("stats", "--average-motion")
    assert result.exit_code == 1
    assert "the train subset is empty" in result.output


def test_average_motion_is_drawn_and_a_wrong_anchor_is_reported(run, raw_folder, ntu_names, tmp_path) -> None:
    import numpy as np

    raw_folder(ntu_names(), folder="raw/ntu60")
    run(*PREPARE)
    assert run("stats", "--average-motion", "--plot", "anchor.png").exit_code == 0
    assert (tmp_path / "anchor.png").read_bytes().startswith(b"\x89PNG")
    assert run("stats", "--plot", "anchor.xyz").exit_code == 2
    folder = tmp_path / "data" / "ntu60-xsub"
    path, card = folder / "anchors" / "bone.npy", json.loads((folder / "dataset.json").read_text())
    np.save(path, np.load(path) + np.float32(1e-4))
    result = run("stats", "--average-motion")
    assert result.exit_code == 1
    assert "bone.npy: damaged" in result.output
    # Also where the card vouches for it.
    card["anchors"]["bone"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps({**card, "digest": card_digest(card)}))
    result = run("stats", "--average-motion")
    assert result.exit_code == 1
    assert "anchor of view bone is off by 1.0e-04" in result.output


def test_real_recordings_as_in_the_readme(run, shared, tmp_path) -> None:
    command = ["prepare", "--dataset", "ntu60", "--split", "xview", "--raw", shared / "data" / "ntu"]
    result = run(*command, "--out", "real", "--frames", "50")
    assert result.exit_code == 0
    facts = json.loads(run("info", "--shards", "real", "--json").stdout)
    assert facts["sides"]["test"]["samples"] == 3
    assert facts["sides"]["train"]["samples"] == 0


def test_info_lists_the_joints_of_a_layout(run, tmp_path) -> None:
    lines = run("info", "--layout", "kinect-v1-20").stdout.splitlines()
    assert lines[0] == "kinect-v1-20: 20 joints, centre shoulder centre"
    assert lines[1].startswith("source https://")
    assert lines[2].split() == ["index", "joint", "parent", "mirror", "part"]
    assert [line.split()[0] for line in lines[3:]] == list(map(str, range(20)))
    assert " ".join(lines[3 + 4].split()) == "4 left shoulder shoulder centre right shoulder left arm"
    facts = json.loads(run("info", "--layout", "openpose-25", "--json").stdout)
    assert facts["joints"][8] == "middle hip"
    assert facts["joints"][facts["parents"][8]] == facts["joints"][facts["centre"]] == "neck"
    refused = run("info", "--layout", "kinect")
    assert refused.exit_code == 2
    assert all(name in refused.stderr for name in manifests.names("layouts"))
    own = {"joints": ["a", "b"], "centre": "a", "shoulders": {"left": "a", "right": "b"}, "bones": {"b": "a"}}
    content = {
        **{"name": "mine", "reader": "npy", "layout": {**own, "parts": {"all": ["a", "b"]}}},
        **{"name_pattern": "(?P<action>.)", "suffix": ".npy", "classes": ["x"]},
        "splits": {"one": {"field": "action", "train": ["x"]}},
    }
    (tmp_path / "my.yaml").write_text(json.dumps(content))
    assert (
        run("info", "--layout", tmp_path / "my.yaml").stdout.splitlines()[2] == "0      a                      all"
    )


def test_a_title_that_controls_the_terminal_is_shown(run, raw_folder, ntu_names, tmp_path) -> None:
    """Nothing but the card says it, which anybody may have written."""
    raw_folder(ntu_names(), folder="raw/ntu60")
    assert run(*PREPARE).exit_code == 0
    card = tmp_path / "data" / "ntu60-xsub" / "dataset.json"
    title, shown = "NTU\x1b[2J\r\u202e\nError: none", r"NTU\x1b[2J\r\u202e\nError: none"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"title": title}))
    result = run("info")
    if result.exit_code == 0:  # else the card is refused
        assert result.stdout.splitlines()[0] == f"{shown}, split xsub, 60 classes"
    assert not set(result.output) & set("\x1b\r\u202e")
