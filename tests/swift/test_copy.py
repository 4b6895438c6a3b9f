"""`copy` to a real server and back: every byte, whatever happens on the way."""

import re
import signal
import subprocess
import sys
import time

from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.prepare.copy import copy_dataset
from skelpipe.prepare.remote_lock import OWNER_FILE as OWNER
from skelpipe.storage import open_filesystem


def test_there_and_back(prepared, store, proxy, tmp_path) -> None:
    """Through a connection that breaks in both directions."""
    up = proxy.add(r"P.* .*/train/joint/000000\.tar", then="reset", sent=20_000)
    down = proxy.add(r"GET .*/test/joint/000000\.tar", then="reset", after=90_000, times=2)
    url = store.url(port=proxy.port)
    there = CliRunner().invoke(main, ["copy", str(prepared.folder), url, "--workers", "3"])
    assert there.exit_code == 0, there.output
    assert f"digest {prepared.digest}" in there.stdout
    assert store.files() == prepared.files()
    copy_dataset(open_filesystem(url), open_filesystem(tmp_path / "back"), workers=2, quiet=True)
    assert up.times == down.times == 0
    back = {str(path.relative_to(tmp_path / "back")): path for path in (tmp_path / "back").rglob("*.*")}
    assert {name: path.read_bytes() for name, path in back.items()} == prepared.files()
    again = CliRunner().invoke(main, ["copy", str(prepared.folder), url])
    assert "already complete" in again.stdout


def test_killed_in_the_middle_a_rerun_goes_on(prepared, store, proxy) -> None:
    cut = r"P.* .*/test/joint/000000\.tar"
    proxy.add(cut, then="hang", sent=0, times=1000)
    words = ["copy", str(prepared.folder), store.url(port=proxy.port), "--workers", "1"]
    with subprocess.Popen([sys.executable, "-m", "skelpipe", *words], stderr=subprocess.DEVNULL) as killed:
        deadline = time.monotonic() + 240
        while not any(re.search(cut, request) for request in list(proxy.requests)):
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    left = store.files()
    assert 0 < len(left) < len(prepared.files())
    assert "dataset.json" not in left
    proxy.clear()
    report = copy_dataset(
        open_filesystem(prepared.folder), open_filesystem(store.url(port=proxy.port)), quiet=True
    )
    assert OWNER in left  # of the killed one
    assert (report.digest, report.skipped) == (prepared.digest, len(left) - 1)
    assert store.files() == prepared.files()


def test_a_prepare_under_way_is_not_copied_over(prepared, store) -> None:
    store.filesystem().write(".prepare-settings.json", [b"{}"])
    done = CliRunner().invoke(main, ["copy", str(prepared.folder), store.url()])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "a prepare is unfinished there" in done.stderr
