"""The command `skelpipe synth`: the files it writes, and the requests it refuses."""

import json

import pytest
from click.testing import CliRunner

from skelpipe.cli.synth import synth

SMALL = ("--subjects", "2", "--actions", "2", "--repeats", "1", "--frames", "8", "--workers", "1")


def run(*arguments):
    return CliRunner().invoke(synth, [str(argument) for argument in arguments])


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_counts_are_printed_and_written(tmp_path):
    result = run("--out", tmp_path / "raw", *SMALL)
    assert result.exit_code == 0, result.output
    files = content(tmp_path / "raw")
    assert len(files) == 2 * 2 * 1 * 3
    assert all(name.endswith(".skeleton") for name in files)
    assert "12 recordings of ntu60" in result.stdout
    assert "xsub: 6 train, 6 test" in result.stdout
    assert "xview: 8 train, 4 test" in result.stdout


def test_with_json_nothing_else_is_printed(tmp_path):
    result = run("--dataset", "ntu120", "--out", tmp_path / "raw", *SMALL, "--json")
    summary = json.loads(result.stdout)
    assert summary["recordings"] == 12
    assert summary["bytes"] == sum(map(len, content(tmp_path / "raw").values()))
    assert summary["splits"] == {"xsub": {"train": 6, "test": 6}, "xset": {"train": 6, "test": 6}}


def test_the_default_folder_is_that_of_prepare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--dataset", "ntu120", *SMALL).exit_code == 0
    assert len(content(tmp_path / "raw" / "ntu120")) == 12


@pytest.mark.parametrize(
    ("dataset", "recordings", "clips"), [("msr-action3d", 4, 4), ("pkummd1", 2 * 3, 2 * 2 * 3), ("pkummd2", 6, 12)]
)
def test_recordings_clips_and_frames_are_counted(tmp_path, dataset, recordings, clips):
    result = run("--dataset", dataset, "--out", tmp_path / "raw", *SMALL)
    assert result.exit_code == 0, result.output
    assert f"{recordings} recordings of {dataset}" in result.stdout
    files = content(tmp_path / "raw")
    summary = json.loads(run("--dataset", dataset, "--out", tmp_path / "raw", *SMALL, "--json").stdout)
    assert content(tmp_path / "raw") == files
    assert (summary["recordings"], summary["clips"]) == (recordings, clips)
    assert summary["bytes"] == sum(map(len, files.values()))
    lines = sum(text.count(b"\n") for name, text in files.items() if "skeleton" in name)
    assert summary["frames"] == (lines / 20 if dataset == "msr-action3d" else lines)
    assert f"{clips} labelled clips, {summary['frames']} frames" in result.stdout


@pytest.mark.parametrize("dataset", ["ntu60", "msr-action3d", "nw-ucla", "pkummd1", "pkummd2"])
def test_workers_do_not_change_a_byte(tmp_path, dataset):
    options = ("--dataset", dataset, *SMALL[:-1])
    assert run("--out", tmp_path / "one", *options, "1").exit_code == 0
    assert run("--out", tmp_path / "two", *options, "2").exit_code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two") != {}


@pytest.mark.parametrize("dataset", ["ntu60", "msr-action3d", "nw-ucla", "pkummd1"])
def test_a_rerun_completes_and_rewrites_nothing(tmp_path, dataset):
    assert run("--out", tmp_path, "--dataset", dataset, *SMALL).exit_code == 0
    before = content(tmp_path)
    kept, lost = sorted(before)[0], sorted(before)[3]
    (tmp_path / lost).unlink()
    stamp = (tmp_path / kept).stat().st_mtime_ns
    assert run("--out", tmp_path, "--dataset", dataset, *SMALL).exit_code == 0
    assert content(tmp_path) == before
    assert (tmp_path / kept).stat().st_mtime_ns == stamp


CHANGES = [("--seed", "1"), ("--actions", "1"), ("--difficulty", "0.5")]


@pytest.mark.parametrize(
    ("dataset", "change"),
    [
        *(("ntu60", change) for change in CHANGES),
        *(("pkummd1", change) for change in (*CHANGES, ("--subjects", "3"), ("--dataset", "pkummd2"))),
        *(("msr-action3d", change) for change in (*CHANGES, ("--dataset", "ntu60"))),
        *(("nw-ucla", change) for change in (*CHANGES, ("--subjects", "1"), ("--dataset", "msr-action3d"))),
    ],
)
def test_a_folder_of_other_recordings_is_refused_and_left_alone(tmp_path, dataset, change):
    assert run("--out", tmp_path, "--dataset", dataset, *SMALL).exit_code == 0
    before = content(tmp_path)
    result = run("--out", tmp_path, "--dataset", dataset, *SMALL, *change)
    assert result.exit_code == 2
    assert "choose another --out" in result.stderr
    assert content(tmp_path) == before


def test_other_files_and_folders_are_ignored(tmp_path):
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "ntu120").mkdir()
    assert run("--out", tmp_path, *SMALL).exit_code == 0
    assert len(list(tmp_path.glob("*.skeleton"))) == 12


@pytest.mark.parametrize(
    ("dataset", "arguments"),
    [
        ("ntu60", ("--subjects", "0")),
        ("ntu60", ("--subjects", "41")),
        ("ntu60", ("--repeats", "99")),
        ("ntu60", ("--seed", "-1")),
        ("ntu60", ("--difficulty", "9")),
        ("msr-action3d", ("--subjects", "11")),
        ("msr-action3d", ("--actions", "21")),
        ("msr-action3d", ("--repeats", "4")),
        ("nw-ucla", ("--subjects", "11")),
        ("nw-ucla", ("--actions", "11")),
        ("nw-ucla", ("--repeats", "12")),
        ("pkummd1", ("--actions", "52")),
        ("pkummd1", ("--subjects", "67")),
        ("pkummd1", ("--repeats", "2000")),
        ("pkummd2", ("--subjects", "14")),
        ("pkummd2", ("--repeats", "99")),
    ],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(tmp_path, dataset, arguments):
    result = run("--out", tmp_path / "raw", "--dataset", dataset, *SMALL, *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
    assert not (tmp_path / "raw").exists()
