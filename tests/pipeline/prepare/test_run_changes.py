"""`prepare` when something changed between two runs: definitions, files of a killed run, remaining processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from skelpipe.dataset import Dataset
from skelpipe.dataset.card import card_digest
from skelpipe.dataset.verify import damages
from skelpipe.errors import DatasetError, RawError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare

NTU60 = load_manifest("ntu60")
SMALL = Options("xsub", frames=16, shard_size=5)
GYM = {
    "name": "gym",
    "reader": "npy",
    "layout": "coco-17",
    "name_pattern": r"(?P<subject>[a-z]+)-(?P<action>[a-z]+)",
    "suffix": ".npy",
    "classes": ["squat", "lunge"],
    "splits": {"xsub": {"field": "subject", "train": ["ada", "bob"]}},
}
EDITS = {
    "another subset": {"splits": {"xsub": {"field": "subject", "train": ["ada"]}}},
    "another order of classes": {"classes": ["lunge", "squat"]},
    "another layout": {"layout": {"joints": [f"j{n}" for n in range(17)], "centre": "j0"}},
    "y downwards": {"y": "down"},
}


@pytest.fixture
def gym(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(1)
    for subject in ("ada", "bob", "cyd"):
        for action in ("squat", "lunge"):
            np.save(tmp_path / "raw" / f"{subject}-{action}.npy", rng.normal(size=(12, 17, 3)))
    return tmp_path


def gym_manifest(folder: Path, **changes):
    content = {**GYM, **changes}
    if isinstance(content["layout"], dict):
        joints = content["layout"]["joints"]
        rest = {"shoulders": {"left": joints[1], "right": joints[2]}, "parts": {"all": joints}}
        content["layout"] = {**content["layout"], **rest, "bones": {joint: "j0" for joint in joints[1:]}}
    (folder / "gym.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load_manifest(str(folder / "gym.yaml"))


def digest(manifest, folder: Path, out: str, **kwargs) -> str:
    options = Options("xsub", frames=8, bodies=1, shard_size=1)
    return prepare(manifest, [folder / "raw"], folder / out, options, quiet=True, **kwargs).card["digest"]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_manifest_is_another_dataset(gym, edit, monkeypatch) -> None:
    """Neither a finished nor an unfinished dataset is mistaken for, or mixed with, that of the edited manifest."""
    before = digest(gym_manifest(gym), gym, "finished")
    with monkeypatch.context() as patch:
        patch.setattr("skelpipe.prepare.run.assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            digest(gym_manifest(gym), gym, "cut-off")
    edited = gym_manifest(gym, **EDITS[edit])
    clean = digest(edited, gym, "clean")
    assert clean != before
    for out in ("finished", "cut-off"):
        with pytest.raises(UsageError, match="definition or its split's lists have changed since"):
            digest(edited, gym, out)
        assert digest(edited, gym, out, overwrite=True) == clean
        assert damages(Dataset.open(gym / out), quiet=True) == []


def test_receipts_of_other_settings_are_ignored(raw_folder, ntu_names, tmp_path) -> None:
    """A kill while the work folder is removed may leave receipts, but no settings to compare."""
    names = ntu_names()
    raw = raw_folder(names, frames=20)
    last = raw / f"{names[-1]}.skeleton"
    good = last.read_bytes()
    last.write_bytes(b"")
    with pytest.raises(RawError):
        prepare(NTU60, [raw], tmp_path / "ds", SMALL, quiet=True)
    last.write_bytes(good)
    assert list((tmp_path / "ds" / ".prepare").glob("*-*.json"))
    (tmp_path / "ds" / ".prepare" / "settings.json").unlink()
    other = Options("xsub", frames=16, shard_size=5, profile="ctrgcn")
    mixed = prepare(NTU60, [raw], tmp_path / "ds", other, quiet=True).card["digest"]
    assert mixed == prepare(NTU60, [raw], tmp_path / "clean", other, quiet=True).card["digest"]


def test_a_half_removed_work_folder_beside_a_card(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names())
    prepare(NTU60, [raw], tmp_path / "ds", SMALL, quiet=True)
    (tmp_path / "ds" / ".prepare").mkdir()
    (tmp_path / "ds" / ".prepare" / "lock").touch()
    assert prepare(NTU60, [raw], tmp_path / "ds", SMALL, quiet=True).was_complete
    assert not (tmp_path / "ds" / ".prepare").exists()
    assert damages(Dataset.open(tmp_path / "ds"), quiet=True) == []


def test_workers_end_with_their_parent(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names(actions=30), frames=200)
    out = tmp_path / "ds"
    options = ["--dataset", "ntu60", "--split", "xsub", "--frames", "16", "--shard-size", "5", "--workers", "2"]
    command = [sys.executable, "-m", "skelpipe", "prepare", *options, "--raw", str(raw), "--out", str(out)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while parent.poll() is None and not list(out.glob("*/joint/*.tar")):
        time.sleep(0.005)
    workers = descendants(str(parent.pid))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert parent.returncode == -signal.SIGKILL
    assert len(workers) >= 2
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(alive(pid) for pid in workers):
        time.sleep(0.05)
    assert not [pid for pid in workers if alive(pid)]


def descendants(pid: str) -> list[str]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return children + [further for child in children for further in descendants(child)]


def alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_the_sample_table_of_another_dataset_is_refused(raw_folder, ntu_names, tmp_path) -> None:
    raw = raw_folder(ntu_names())
    for name, size in (("a", 5), ("b", 100)):
        prepare(NTU60, [raw], tmp_path / name, Options("xsub", frames=8, shard_size=size), quiet=True)
    shutil.copy(tmp_path / "b" / "samples.parquet", tmp_path / "a")
    with pytest.raises(DatasetError, match=r"samples\.parquet: damaged, or of another dataset"):
        Dataset.open(tmp_path / "a").labels("train")


@pytest.mark.parametrize("key", ["formats", "published", "samples_file", "classes"])
def test_a_card_without_a_key_is_refused(raw_folder, ntu_names, tmp_path, key) -> None:
    prepare(NTU60, [raw_folder(ntu_names())], tmp_path / "ds", SMALL, quiet=True)
    path = tmp_path / "ds" / "dataset.json"
    card = json.loads(path.read_bytes())
    del card[key]
    if key != "classes":
        card["digest"] = card_digest(card)
    path.write_text(json.dumps(card))
    with pytest.raises(DatasetError, match=f"the key '{key}' is missing"):
        Dataset.open(tmp_path / "ds")


def test_urls_do_not_show_their_secrets(tmp_path, monkeypatch) -> None:
    """Neither for wrong usage (2) nor if nobody answers (1)."""
    monkeypatch.chdir(tmp_path)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    url = "s3://AKIA:topsecret@bucket/x?endpoint_override=127.0.0.1:1&scheme=http"
    prefix = ["prepare", "--dataset", "ntu60", "--split", "xsub"]
    commands = {(command, "--shards", url): 1 for command in ("info", "verify", "stats")}
    commands |= {(*prefix, "--out", "s3:/AKIA:topsecret@bucket/x"): 2, (*prefix, "--raw", url): 2}
    commands[*prefix, "--out", url] = 1
    begun = {words: subprocess.Popen([sys.executable, "-m", "skelpipe", *words], **pipes) for words in commands}
    for words, process in begun.items():  # side by side: each waits for an answer for a while
        said = process.communicate()
        assert process.returncode == commands[words], words
        assert "topsecret" not in "".join(said)
        assert "Traceback" not in said[1]
        assert said[1].count("\n") == 1
    assert os.listdir(tmp_path) == []
