"""`prepare` with damaged recordings, with folders of other files, and with every kind of interruption."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from skelpipe.dataset import Dataset
from skelpipe.dataset.verify import damages
from skelpipe.errors import RawError, SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.prepare.folder_lock import locked

NTU60 = load_manifest("ntu60")
SMALL = Options("xsub", frames=16, shard_size=5)


def make(raw: Path, out: Path, options: Options = SMALL, **kwargs) -> dict:
    return prepare(NTU60, [raw], out, options, quiet=True, **kwargs).card


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Damage: (a function that damages the recording at a path, the error message)
def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _empty_frames(path: Path) -> None:
    path.write_text("3\n0\n0\n0\n")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _huge(path: Path) -> None:
    lines = path.read_text().split("\n")
    lines[6] = " ".join(["1e39", *lines[6].split()[1:]])
    path.write_text("\n".join(lines))


FAULTS = {
    "cut off": (_cut, r"S001C001P001R001A002\.skeleton:\d+: .*cut off in download"),
    "empty": (lambda path: path.write_text(""), r"S001C001P001R001A002\.skeleton: the file is empty"),
    "only empty frames": (_empty_frames, r"no body in any of its 3 frames"),
    "unreadable": (_dangling, r"cannot be read: No such file"),
    "beyond float32": (_huge, r"too large for float32"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_recording_fails_or_becomes_a_row(raw_folder, ntu_names, tmp_path, fault) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    act, message = FAULTS[fault]
    act(raw / f"{names[1]}.skeleton")
    with pytest.raises(RawError, match=message):
        make(raw, tmp_path / "ds")
    assert not (tmp_path / "ds" / "dataset.json").exists()
    assert not list((tmp_path / "ds").rglob("*.part"))
    card = make(raw, tmp_path / "ds", skip_bad=True)  # continues with the shards that are not finished
    dataset = Dataset.open(tmp_path / "ds")
    assert dataset.count("train") + dataset.count("test") == len(names) - 1
    assert len(card["dropped"]) == 1
    rows = pq.read_table(tmp_path / "ds" / "samples.parquet").to_pylist()
    (row,) = [row for row in rows if row["reason"]]
    assert row["id"] == names[1]
    assert str(tmp_path) not in row["reason"]  # paths of the machine stay private
    assert damages(dataset, quiet=True) == []


def test_a_shard_of_damaged_recordings_only_is_left_out(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    for name in [name for name in names if "P001" in name][:5]:
        (raw / f"{name}.skeleton").write_text("")
    card = make(raw, tmp_path / "ds", skip_bad=True)
    assert [shard["name"] for shard in card["splits"]["train"]["shards"]] == ["000001", "000002"]
    assert len(Dataset.open(tmp_path / "ds").reader("train", "joint")) == 7
    assert not list((tmp_path / "ds").rglob("train/*/000000.*"))


def test_misnamed_and_doubled_recordings_are_refused(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    shutil.copy(raw / f"{names[0]}.skeleton", raw / "S1C1P1R1A1.skeleton")
    with pytest.raises(RawError, match=r"S1C1P1R1A1\.skeleton: its name is no recording's"):
        make(raw, tmp_path / "ds")
    (raw / "S1C1P1R1A1.skeleton").unlink()
    (raw / "again").mkdir()
    shutil.copy(raw / f"{names[0]}.skeleton", raw / "again")
    with pytest.raises(RawError, match=r"the id is found twice, first as .*raw/S001C001P001R001A001\.skeleton"):
        make(raw, tmp_path / "ds")
    card = make(raw, tmp_path / "ds", skip_bad=True)
    assert card["dropped"] == {"the id is found more than once": 1}  # and neither of the two is used
    assert sum(card["splits"][subset]["samples"] for subset in ("train", "test")) == len(names) - 1


def test_drops_do_not_depend_on_the_machine(raw_folder, ntu_names, tmp_path) -> None:
    """Equal recordings, two of them doubled, in folders of other names and order have equal digests."""
    names = ntu_names()
    raw = raw_folder(names)
    digests = []
    for number, (first, second) in enumerate([("a", "b"), ("z", "y")]):
        folders = [tmp_path / str(number) / first, tmp_path / str(number) / second]
        shutil.copytree(raw, folders[number])
        folders[1 - number].mkdir(parents=True)
        for name in names[:2]:
            shutil.copy(raw / f"{name}.skeleton", folders[1 - number])
        out = tmp_path / f"ds{number}"
        digests.append(prepare(NTU60, folders, out, SMALL, quiet=True, skip_bad=True).card["digest"])
        assert str(tmp_path).encode() not in b"".join(files_of(out).values())
    assert digests[0] == digests[1]


@pytest.mark.parametrize("finished", [True, False])
def test_an_edited_recording_of_the_same_size_is_detected(raw_folder, ntu_names, tmp_path, finished) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    last = raw / f"{names[-1]}.skeleton"
    good = last.read_bytes()
    if not finished:
        last.write_bytes(b"")
        with pytest.raises(RawError):
            make(raw, tmp_path / "ds")
        last.write_bytes(good)
        os.utime(last, ns=(0, 0))
    else:
        make(raw, tmp_path / "ds")
    first = raw / f"{names[0]}.skeleton"
    lines = first.read_text().split("\n")
    lines[6] = lines[6][::-1].replace("2", "1", 1)[::-1] if finished else lines[6]
    first.write_text("\n".join(lines))
    with pytest.raises(
        UsageError, match=f"{first} has changed since" if finished else "the raw files have changed since"
    ):
        make(raw, tmp_path / "ds")
    assert make(raw, tmp_path / "ds", overwrite=True)["digest"] == make(raw, tmp_path / "new")["digest"]


def test_nothing_to_prepare(raw_folder, tmp_path) -> None:
    raw = raw_folder(["S020C001P008R001A061"])
    with pytest.raises(SkelpipeError, match="no recording of ntu60 .*setup 20 is outside 1 to 17"):
        make(raw, tmp_path / "ds")
    with pytest.raises(UsageError, match="there is no such folder or archive"):
        make(tmp_path / "absent", tmp_path / "ds")


def test_other_options_and_folders_of_other_files_are_refused(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names())
    out = tmp_path / "ds"
    before = make(raw, out)
    assert prepare(NTU60, [raw], out, SMALL, quiet=True).was_complete
    other = Options("xsub", frames=20, shard_size=5)
    with pytest.raises(UsageError, match="frames was 16, is 20.*--overwrite"):
        make(raw, out, other)
    assert Dataset.open(out).digest == before["digest"]
    gone = raw / f"{ntu_names()[0]}.skeleton"
    gone.unlink()
    with pytest.raises(UsageError, match=f"{gone.name} has been removed since"):
        make(raw, out)
    assert make(raw, out, other, overwrite=True)["shape"] == [3, 20, 25, 2]
    assert damages(Dataset.open(out), quiet=True) == []
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds files that are not of a skelpipe dataset"):
        make(raw, strange)
    with pytest.raises(UsageError, match="is a file"):
        make(raw, strange / "thesis.tex")


def run_prepare(raw: Path, out: Path, *extra: str, before: str = "") -> subprocess.Popen[bytes]:
    """Start `skelpipe prepare` in a new process, which runs `before` first."""
    code = f"import sys\nfrom skelpipe.cli import main\nif __name__ == '__main__':\n {before or 'pass'}\n main()"
    options = ["--dataset", "ntu60", "--split", "xsub", "--frames", "16", "--shard-size", "5"]
    options += [] if "--workers" in extra else ["--workers", "1"]
    command = [sys.executable, "-c", code, "prepare", *options, "--raw", str(raw), "--out", str(out), *extra]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_killed_and_rerun_gives_the_same_bytes(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names(actions=30), frames=40)
    make(raw, tmp_path / "whole")
    out = tmp_path / "killed"
    kills = 0
    for shards in (2, 5, 9):
        process = run_prepare(raw, out)
        while process.poll() is None and len(list(out.glob("*/motion/*.tar"))) < shards:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert not (out / "dataset.json").exists() or process.returncode == 0
    assert kills
    first = {path: path.stat().st_mtime_ns for path in out.glob("train/joint/000000.tar")}
    make(raw, out)
    assert files_of(out) == files_of(tmp_path / "whole")
    assert first  # finished shards were kept, not written again
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in first.items())


def test_drops_of_an_unfinished_run_are_errors_again_without_skip(
    raw_folder, ntu_names, tmp_path, monkeypatch
) -> None:
    """A run with skip is interrupted after the shards and continued with fail: the damage is an error again."""
    names = ntu_names()
    raw = raw_folder(names)
    (raw / f"{names[1]}.skeleton").write_text("")

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skelpipe.prepare.run.assemble", cut_off)
        with pytest.raises(KeyboardInterrupt):
            make(raw, tmp_path / "ds", skip_bad=True)
    with pytest.raises(RawError, match=rf"{names[1]}\.skeleton: the file is empty"):
        make(raw, tmp_path / "ds")
    assert len(make(raw, tmp_path / "ds", skip_bad=True)["dropped"]) == 1


def test_unfinished_work_is_not_mixed_with_other_options(raw_folder, ntu_names, tmp_path) -> None:
    names = ntu_names()
    raw = raw_folder(names)
    good = (raw / f"{names[-1]}.skeleton").read_bytes()
    (raw / f"{names[-1]}.skeleton").write_bytes(b"")
    with pytest.raises(RawError):
        make(raw, tmp_path / "ds")
    with pytest.raises(UsageError, match="frames was 16, is 8"):
        make(raw, tmp_path / "ds", Options("xsub", frames=8, shard_size=5))
    (raw / f"{names[-1]}.skeleton").write_bytes(good)
    assert make(raw, tmp_path / "ds", overwrite=True)["digest"] == make(raw, tmp_path / "new")["digest"]


def test_two_prepares_do_not_write_into_one_folder(raw_folder, ntu_names, tmp_path) -> None:
    with (
        locked(tmp_path / "ds", {"a": 1}, overwrite=False),
        pytest.raises(UsageError, match="another prepare: process .* is writing there"),
        locked(tmp_path / "ds", {"a": 1}, overwrite=False),
    ):
        pass


def test_full_disk_leaves_no_card_and_a_rerun_completes(raw_folder, ntu_names, tmp_path) -> None:
    """A file size limit of the operating system replaces the full disk: the write fails in the same way."""
    raw = raw_folder(ntu_names())
    limit = f"import resource; resource.setrlimit({int(resource.RLIMIT_FSIZE)}, (30000, 30000))"
    process = run_prepare(raw, tmp_path / "ds", before=limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"cannot be written: the file would be larger than" in errors
    assert b"Traceback" not in errors
    assert not (tmp_path / "ds" / "dataset.json").exists()
    assert not list((tmp_path / "ds").rglob("*.part"))
    assert make(raw, tmp_path / "ds")["digest"] == make(raw, tmp_path / "new")["digest"]


def children(pid: int | str) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_killed_worker_is_reported(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names(actions=30), frames=300)
    out = tmp_path / "ds"
    process = run_prepare(raw, out, "--workers", "2")
    killed = False
    while process.poll() is None and not killed:
        if list(out.glob("*/joint/*")):  # workers are at work
            workers = [worker for child in children(process.pid) for worker in children(child)]
            if workers:
                os.kill(int(workers[0]), signal.SIGKILL)
                killed = True
    _, errors = process.communicate(timeout=120)
    assert killed
    assert process.returncode == 1
    assert b"a worker process was killed" in errors
    assert make(raw, out)["digest"] == make(raw, tmp_path / "new")["digest"]


INTERRUPTED = "Interrupted: finished work is kept; see --help for how to continue."


@pytest.mark.parametrize("seconds", [0.0, 0.4, 0.8])
def test_ctrl_c_in_a_terminal_ends_workers_without_output(raw_folder, ntu_names, tmp_path, seconds) -> None:
    """It reaches all processes of the terminal at once, whatever they do."""
    raw = raw_folder(ntu_names(actions=20, subjects=(1, 2, 3)))
    options = ["--split", "xsub", "--workers", "2", "--shard-size", "1", "--out", str(tmp_path / "ds")]
    words = [sys.executable, "-m", "skelpipe", "prepare", "--dataset", "ntu60", "--raw", str(raw), *options]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        threads = Path(f"/proc/{process.pid}/task")
        while not any((thread / "children").read_text().strip() for thread in threads.iterdir()):
            time.sleep(0.01)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    if "Interrupted" in errors:
        assert process.returncode == 130
        assert [line for line in errors.splitlines() if not line.startswith("prepare ")] == [INTERRUPTED]
    else:  # it was done already
        assert process.returncode == 0
        assert seconds
        assert (tmp_path / "ds" / "dataset.json").is_file()
