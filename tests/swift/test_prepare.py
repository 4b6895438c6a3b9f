"""`prepare --out s3://…` against a real server: the bytes of a local prepare, whatever happens on the way."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from skelpipe.cli import main
from skelpipe.errors import SkelpipeError, UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, Outcome, prepare, remote_owner
from skelpipe.storage import open_filesystem

NTU60 = load_manifest("ntu60")


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def make(prepared, out: str, options: Options | None = None, **how) -> Outcome:
    return prepare(NTU60, [prepared.raw], out, options or prepared.options, quiet=True, **how)


def test_a_bucket_gets_the_bytes_of_a_folder_and_the_card_last(prepared, store, proxy, tmp_path) -> None:
    url = store.url(port=proxy.port)
    outcome = make(prepared, url, work=tmp_path / "work")
    assert outcome.card["digest"] == prepared.digest
    assert not outcome.was_complete
    assert store.files() == prepared.files()
    names = [request.split("?")[0].rpartition("/ds/")[2] for request in proxy.requests if request.startswith("P")]
    assert [name for name in names if name][-1] == "dataset.json"  # no name: pyarrow creates the folder itself
    assert list((tmp_path / "work").iterdir()) == []
    proxy.requests.clear()
    assert make(prepared, url).was_complete
    assert not [request for request in proxy.requests if not request.startswith(("GET", "HEAD"))]


def test_workers_upload_and_the_command_tells(prepared, store, tmp_path) -> None:
    words = [*prepared.arguments(store.url()), "--work", str(tmp_path / "work"), "--workers", "2"]
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["digest"], report["out"]) == (prepared.digest, str(store.filesystem()))
    assert store.files() == prepared.files()
    again = run(*words)
    assert f"{store.filesystem()}: already complete, nothing to do" in again.stdout
    assert prepared.digest in again.stdout
    refused = run(*words, "--dtype", "float16")
    assert refused.exit_code == 2
    assert (
        "other settings (dtype was float32, is float16): choose another --out or pass --overwrite"
        in refused.stderr
    )
    assert run(*words, "--dtype", "float16", "--overwrite", "--workers", "1").exit_code == 0
    assert make(prepared, store.url(), Options("xsub", frames=16, shard_size=8, dtype="float16")).was_complete


def test_files_of_others_are_left_alone(prepared, store) -> None:
    store.filesystem().write("thesis.tex", [b"ten years"])
    with pytest.raises(UsageError, match="holds files that are not of a skelpipe dataset: choose an empty prefix"):
        make(prepared, store.url(), overwrite=True)
    assert store.files() == {"thesis.tex": b"ten years"}


def test_what_a_bucket_cannot_have_is_refused(prepared, store, tmp_path) -> None:
    hdf5 = run(*prepared.arguments(store.url()), "--format", "both")
    assert (hdf5.exit_code, hdf5.stderr.count("\n")) == (2, 1)
    assert "--format hdf5 and both need a local folder" in hdf5.stderr
    work = run(*prepared.arguments(str(tmp_path / "ds")), "--work", str(tmp_path))
    assert (work.exit_code, work.stderr.count("\n")) == (2, 1)
    assert "--work is for --out URL" in work.stderr
    assert store.files() == {}


@pytest.mark.parametrize("how", [{"then": "reset", "sent": 20_000}, {"then": "close", "after": 20}])
def test_a_line_that_breaks_in_an_upload(prepared, store, proxy, how) -> None:
    proxy.add(r"PUT .*/train/motion/000000\.tar", times=2, **how)
    make(prepared, store.url(port=proxy.port))
    assert store.files() == prepared.files()


def test_bytes_that_change_on_the_way_are_noticed(prepared, store, proxy) -> None:
    """Read back, an answer with a wrong byte says that the upload cannot be trusted; a rerun does it again."""
    proxy.add(r"GET .*/test/bone/000000\.tar", then="flip", after=20_000, times=1000)
    with pytest.raises(SkelpipeError, match=r"test/bone/000000\.tar: does not read back as it was written"):
        make(prepared, store.url(port=proxy.port))
    assert "dataset.json" not in store.files()
    proxy.clear()
    assert make(prepared, store.url(port=proxy.port)).card["digest"] == prepared.digest
    assert store.files() == prepared.files()


@pytest.mark.parametrize(
    ("cut", "has_card"),
    [
        (r"P.* .*/test/bone/000000\.tar", False),
        (r"P.* .*/dataset\.json", False),
        (r"DELETE .*/\.prepare-settings\.json", True),
        (r"DELETE .*/\.prepare-train-000000\.json", True),
    ],
)
def test_killed_anywhere_a_rerun_goes_on(prepared, store, proxy, tmp_path, cut, has_card) -> None:
    """While a shard is uploaded, just before the card or after it, and while receipts or settings are removed."""
    work = tmp_path / "work"
    proxy.add(cut, then="hang", sent=0, times=1000)
    words = [*prepared.arguments(store.url(port=proxy.port)), "--work", str(work), "--workers", "1"]
    killed = subprocess.Popen([sys.executable, "-m", "skelpipe", *words], stderr=subprocess.DEVNULL)
    wait_until(lambda: any_match(cut, proxy.requests), killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    left = store.files()
    assert ("dataset.json" in left) == has_card
    assert ".prepare-train-000000.json" in left
    proxy.clear()
    assert make(prepared, store.url(port=proxy.port), work=work).card["digest"] == prepared.digest
    assert not any_match(r"P.* .*/train/.*\.tar", proxy.requests)
    assert store.files() == prepared.files()
    assert list(work.iterdir()) == []  # what the killed one had there is gone as well


def test_ctrl_c_ends_a_prepare_that_waits_for_the_store(prepared, store, proxy, tmp_path) -> None:
    """It ends at once, with one line. The signal goes to all processes of the command, as from a terminal."""
    cut, work = r"P.* .*/train/bone/000000\.tar", tmp_path / "work"
    proxy.add(cut, then="hang", sent=0, times=1000)
    words = [*prepared.arguments(store.url(port=proxy.port)), "--work", str(work), "--workers", "2"]
    command = [sys.executable, "-m", "skelpipe", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_until(lambda: any_match(cut, proxy.requests), process)
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=240)
    assert time.monotonic() - begun < 20  # the client itself would wait for half a minute, five times
    assert process.returncode == 130
    lines = [one for one in said.splitlines() if not one.startswith("prepare ")]  # its progress
    assert len(lines) == 1, said
    assert lines[0].startswith("Interrupted: ")
    assert list(work.iterdir()) == []
    assert "dataset.json" not in store.files()


def any_match(pattern: str, requests: list[str]) -> bool:
    return any(re.search(pattern, request) for request in list(requests))


def wait_until(seen, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not seen():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_prepare_of_other_options_ends_the_first(prepared, store, proxy, tmp_path, monkeypatch) -> None:
    """The first, which does not answer, must not publish its card after the second took over."""
    monkeypatch.setattr(remote_owner, "WATCH_SECONDS", 0.0)
    proxy.add(r"P.*/anchors/joint\.npy", delay=600)
    words = prepared.arguments(store.url(port=proxy.port))
    first = subprocess.Popen([sys.executable, "-m", "skelpipe", *words], stderr=subprocess.PIPE)
    wait_until(lambda: any_match(r"anchors/joint\.npy", proxy.requests), first)
    other = Options("xview", frames=16, shard_size=8)
    digest = make(prepared, store.url(), other, overwrite=True).card["digest"]
    proxy.clear()
    proxy.cut()
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 1
    assert b"another prepare is writing there" in errors.splitlines()[-1]
    assert json.loads(store.files()["dataset.json"])["digest"] == digest


def test_a_cluster_uploads_the_same(prepared, store) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as cluster:
        make(prepared, store.url(), scheduler=cluster.scheduler_address)
    assert store.files() == prepared.files()


def test_wrong_credentials_are_one_line_without_them(prepared, store, monkeypatch) -> None:
    secret = "a-Secret/that+is=wrong"
    cases = [store.url(user="lab:reader", secret=secret), store.url(user="lab:nobody", secret=secret)]
    outputs = [run(*prepared.arguments(url)) for url in cases]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    outputs.append(run(*prepared.arguments(store.url())))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    outputs.append(run(*prepared.arguments(store.url())))
    for done in outputs:
        assert done.exit_code == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert f"Error: {open_filesystem(store.url())}" in done.stderr
        assert "access is refused" in done.stderr
        for hidden in (secret, "a-Secret%2Fthat", store.server.environment["AWS_SECRET_ACCESS_KEY"]):
            assert hidden not in done.stderr


def test_secrets_in_the_url_are_written_nowhere(prepared, store, tmp_path) -> None:
    """Neither printed, nor in the card, nor in any other file of the dataset or the work folder."""
    url = store.url(user="lab:reader")
    command = [
        sys.executable,
        "-m",
        "skelpipe",
        *prepared.arguments(url),
        "--work",
        str(tmp_path),
        "--workers",
        "2",
    ]
    bare = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(command, capture_output=True, env=bare, check=True)
    secret = store.server.environment["AWS_SECRET_ACCESS_KEY"].encode()
    quoted = url.partition("%3Areader:")[2].partition("@")[0].encode()
    assert quoted
    said = [done.stdout, done.stderr, *store.files().values()]
    said += [path.read_bytes() for path in Path(tmp_path).rglob("*") if path.is_file()]
    for text in said:
        assert secret not in text
        assert quoted not in text
