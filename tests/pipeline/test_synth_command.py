"""`skelpipe synth` as a command: what it writes where, and what it refuses."""

import json

import pytest
from click.testing import CliRunner

from skelpipe.cli.synth import synth
from skelpipe.errors import SkelpipeError
from skelpipe.synth.generate import Options
from skelpipe.synth.names import plan_performances
from skelpipe.synth.store import write_recordings

SMALL = ("--subjects", "2", "--actions", "2", "--repeats", "1", "--frames", "8", "--workers", "1")


def run(*arguments):
    return CliRunner().invoke(synth, [str(argument) for argument in arguments])


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_counts_are_printed_and_written(tmp_path):
    result = run("--out", tmp_path / "raw", *SMALL)
    assert result.exit_code == 0, result.output
    files = content(tmp_path / "raw")
    assert len(files) == 2 * 2 * 1 * 3
    assert all(name.endswith(".skeleton") for name in files)
    assert "12 recordings of ntu60" in result.stdout
    assert "xsub: 6 train, 6 test" in result.stdout
    assert "xview: 8 train, 4 test" in result.stdout


def test_json_is_all_that_is_printed(tmp_path):
    result = run("--dataset", "ntu120", "--out", tmp_path / "raw", *SMALL, "--json")
    summary = json.loads(result.stdout)
    assert summary["recordings"] == 12
    assert summary["bytes"] == sum(map(len, content(tmp_path / "raw").values()))
    assert summary["splits"] == {"xsub": {"train": 6, "test": 6}, "xset": {"train": 6, "test": 6}}


def test_the_default_folder_is_that_of_prepare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("--dataset", "ntu120", *SMALL).exit_code == 0
    assert len(content(tmp_path / "raw" / "ntu120")) == 12


def test_workers_do_not_change_a_byte(tmp_path):
    assert run("--out", tmp_path / "one", *SMALL).exit_code == 0
    assert run("--out", tmp_path / "two", *SMALL[:-1], "2").exit_code == 0
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_rerun_completes_and_rewrites_nothing(tmp_path):
    assert run("--out", tmp_path, *SMALL).exit_code == 0
    before = content(tmp_path)
    kept, lost = sorted(before)[0], sorted(before)[5]
    (tmp_path / lost).unlink()
    stamp = (tmp_path / kept).stat().st_mtime_ns
    assert run("--out", tmp_path, *SMALL).exit_code == 0
    assert content(tmp_path) == before
    assert (tmp_path / kept).stat().st_mtime_ns == stamp


@pytest.mark.parametrize("change", [("--seed", "1"), ("--actions", "1"), ("--difficulty", "0.5")])
def test_a_folder_of_other_recordings_is_refused_and_left_alone(tmp_path, change):
    assert run("--out", tmp_path, *SMALL).exit_code == 0
    before = content(tmp_path)
    result = run("--out", tmp_path, *SMALL, *change)
    assert result.exit_code == 2
    assert "choose another --out" in result.stderr
    assert content(tmp_path) == before


def test_other_files_and_folders_do_not_matter(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "ntu120").mkdir()
    assert run("--out", tmp_path, *SMALL).exit_code == 0
    assert len(list(tmp_path.glob("*.skeleton"))) == 12


@pytest.mark.parametrize(
    "arguments",
    [("--subjects", "0"), ("--subjects", "41"), ("--repeats", "99"), ("--seed", "-1"), ("--difficulty", "9")],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(tmp_path, arguments):
    result = run("--out", tmp_path / "raw", *SMALL, *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
    assert not (tmp_path / "raw").exists()


def test_a_failed_write_leaves_no_partial_file(tmp_path, monkeypatch):
    done = []

    def full_disk(source, target):
        if len(done) == 4:
            raise OSError(28, "No space left on device")
        done.append(target)
        source.rename(target)

    monkeypatch.setattr("os.replace", full_disk)
    written = write_recordings(tmp_path, Options("ntu60", frames=8), plan_performances("ntu60", 2, 2, 1))
    with pytest.raises(SkelpipeError, match="No space left on device"):
        list(written)
    assert len(list(tmp_path.iterdir())) == 4
    assert all(path.suffix == ".skeleton" for path in tmp_path.iterdir())
