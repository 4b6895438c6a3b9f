"""What docs/robustness.md and docs/threat-model.md promise, asked of the commands as a user starts them.

Nothing of skelpipe is imported, and no fixture of other tests is used: the file can be run on any commit, to see
what that commit did, by `pytest --noconftest`.
"""

import hashlib
import http.server
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SECONDS: Final = 60  # within which a command ends; a hang is a failure
MOST_MEMORY: Final = 1 << 30  # bytes that a command may take; an endless answer would take the machine's
SMALL: Final = (
    "frames=16",
    "encoder.width=4",
    "encoder.out_channels=16",
    "head.hidden=16",
    "head.dim=8",
    "queue=16",
)


class Done(NamedTuple):
    """A command that has ended: its exit code and output, and the most memory it took in bytes."""

    code: int
    out: str
    err: str
    memory: int

    @property
    def last(self) -> str:
        return (self.err.strip().splitlines() or [""])[-1]

    def refused(self, *words: str) -> None:
        """Assert that the command ended in one line, without a traceback, that has these words."""
        assert self.code in (1, 2), (self.code, self.out, self.err)
        assert "Traceback" not in self.err, self.err
        assert all(word in self.last for word in words), self.err
        assert len(self.last) < 1000


def command(*words: object) -> list[str]:
    """The program, or a training script where the first word names one."""
    module = "skelpipe.train" if words[0] in ("pretrain", "knn") else "skelpipe"
    name = [f"{module}.{words[0]}"] if module == "skelpipe.train" else ["skelpipe", str(words[0])]
    return [sys.executable, "-m", *name, *map(str, words[1:])]


def start(*words: object, **more: Any) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command(*words), env=environment, **{**pipes, **more})


def ended(process: "subprocess.Popen[str]", seconds: float = SECONDS) -> Done:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        pytest.fail(f"{process.args} hangs")
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return Done(process.returncode, out, err, after * 1024 if after > before else 0)


def run(*words: object, seconds: float = SECONDS, **more: Any) -> Done:
    return ended(start(*words, **more), seconds)


def succeeds(*words: object, **more: Any) -> Done:
    done = run(*words, **more)
    assert done.code == 0, (words, done.err)
    return done


def training(shards: Path, out: Path, *words: object, epochs: int = 1, recipe: str = "demo") -> list[object]:
    sets = [word for each in SMALL for word in ("--set", each)]
    more = ["--epochs", epochs, "--batch-size", 4, "--knn-every", 0, "--device", "cpu", "--save-every", 1]
    return ["pretrain", "--shards", shards, "--out", out, "--recipe", recipe, *sets, *more, *words]


def wait_for(true: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    end = time.monotonic() + SECONDS
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def prepared(raw: Path, out: Path, *words: object, per_shard: int = 2) -> list[object]:
    sizes = ["--frames", 16, "--shard-size", per_shard, "--workers", 1]
    return ["prepare", "--dataset", "ntu60", "--split", "xview", "--raw", raw, "--out", out, *sizes, *words]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw recordings of 12 clips, 8 of them for training. Tests must not change them."""
    folder = tmp_path_factory.mktemp("robust") / "raw"
    counts = ["--subjects", 2, "--actions", 2, "--repeats", 1, "--frames", 20, "--seed", 3]
    succeeds("synth", "--out", folder, *counts)
    return folder


@pytest.fixture(scope="module")
def many(raw: Path) -> Path:
    """Raw recordings of 60 clips, 40 of them for training. Tests must not change them."""
    folder = raw.parent / "many"
    succeeds("synth", "--out", folder, "--subjects", 2, "--actions", 5, "--repeats", 2, "--frames", 20)
    return folder


@pytest.fixture(scope="module")
def made(raw: Path) -> Path:
    """Their dataset, in shards. Tests must not change it."""
    folder = raw.parent / "made"
    succeeds(*prepared(raw, folder))
    return folder


@pytest.fixture(scope="module")
def both(raw: Path) -> Path:
    """Their dataset, in shards and HDF5. Tests must not change it."""
    folder = raw.parent / "both"
    succeeds(*prepared(raw, folder, "--format", "both"))
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "dataset")


def vouch(dataset: Path, file: Path, write: Callable[[], None]) -> None:
    """Change a file, and let the card say the hash of what it is now."""
    card = dataset / "dataset.json"
    old = hashlib.sha256(file.read_bytes()).hexdigest()
    write()
    text = card.read_text("utf-8").replace(old, hashlib.sha256(file.read_bytes()).hexdigest())
    card.write_text(text, "utf-8")


def other_labels(dataset: Path) -> None:
    file = dataset / "samples.parquet"
    table = pq.read_table(file)
    labels = pa.array([1 - label for label in table["label"].to_pylist()], pa.int32())
    place = table.column_names.index("label")
    vouch(dataset, file, lambda: pq.write_table(table.set_column(place, table.field("label"), labels), file))


def other_anchor(dataset: Path) -> None:
    (file,) = (dataset / "anchors").glob("joint*")
    vouch(dataset, file, lambda: np.save(file, np.load(file) + 1))


def other_formats(dataset: Path) -> None:
    card = dataset / "dataset.json"
    content = json.loads(card.read_text("utf-8"))
    content["formats"] = ["hdf5"]
    card.write_text(json.dumps(content), "utf-8")


def other_clips(dataset: Path) -> None:
    """Another number in an HDF5 file, under its new hash."""
    import h5py

    file = dataset / "train.h5"

    def write() -> None:
        with h5py.File(file, "r+") as opened:
            clips = next(each for each in opened.values() if getattr(each, "ndim", 0) == 5)
            clips[0] = clips[0] + 1

    vouch(dataset, file, write)


@pytest.mark.parametrize("rewrite", [other_labels, other_anchor, other_formats, other_clips])
def test_a_digest_vouches_for_all_that_reaches_training(
    rewrite: Callable[[Path], None], both: Path, tmp_path: Path
) -> None:
    dataset = shutil.copytree(both, tmp_path / "dataset")
    assert succeeds("verify", "--shards", dataset).out
    rewrite(dataset)
    done = run("verify", "--shards", dataset)
    assert done.code == 1
    assert f"{dataset}/" in done.err  # the name of one of its files
    assert not done.out


def test_training_notices_a_shard_that_changed(copied: Path, tmp_path: Path) -> None:
    (shard,) = copied.glob("train/joint/000000.tar")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "SKELPIPE_CHECK_SHARDS": "yes"}
    run(*training(copied, tmp_path / "run", epochs=2), env=cache).refused("000000.tar")


@pytest.fixture
def recordings(raw: Path, tmp_path: Path) -> Path:
    return shutil.copytree(raw, tmp_path / "raw")


def change(file: Path, count: int = 0) -> None:
    """Exchange six digits of the last frame, so that the size stays, and give the file an older time."""
    before = file.stat()
    content = file.read_bytes()
    place = max(found.end() for found in re.finditer(rb"\b[01]\.(?=\d{6})", content))
    other = file.with_suffix(".new")
    other.write_bytes(content[:place] + f"{count:06}".encode() + content[place + 6 :])
    os.utime(other, ns=(before.st_mtime_ns - 10**12, before.st_mtime_ns - 10**12))
    other.replace(file)
    assert file.stat().st_size == before.st_size


def test_a_raw_file_of_equal_size_and_older_time_is_noticed(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "ds"
    succeeds(*prepared(recordings, out))
    changed = sorted(recordings.rglob("*.skeleton"))[3]
    change(changed)
    run(*prepared(recordings, out)).refused(changed.name)


def test_a_raw_file_that_changes_meanwhile_is_named(recordings: Path, tmp_path: Path) -> None:
    """It changes all the time, so also between its reading and the end."""
    changing = sorted(recordings.rglob("*.skeleton"))[3]
    with start(*prepared(recordings, tmp_path / "ds")) as process:
        for count in range(10**6):
            change(changing, count)
            if process.poll() is not None:
                break
        done = ended(process)
    done.refused(changing.name)
    assert not (tmp_path / "ds" / "dataset.json").exists()


def test_a_clip_is_traced_to_its_raw_file(made: Path, raw: Path) -> None:
    file = sorted(raw.rglob("*.skeleton"))[0]
    done = succeeds("info", "--shards", made, "--id", file.stem, "--json")
    assert file.name in done.out


class Endless(http.server.BaseHTTPRequestHandler):
    """Answers each request with a card that does not end."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            for _ in range(1 << 16) if self.command == "GET" else ():
                self.wfile.write(b" " * (1 << 16))


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/ds"
        server.shutdown()
        thread.join()


def limited_memory() -> None:
    """Let a command ask for eight times what it may use: addresses are not memory, but an endless list is both."""
    resource.setrlimit(resource.RLIMIT_AS, (8 * MOST_MEMORY, 8 * MOST_MEMORY))


def test_an_answer_without_end_is_left() -> None:
    with serving(Endless) as url:
        done = run("info", "--shards", url, env={"NO_PROXY": "127.0.0.1"}, preexec_fn=limited_memory)
    done.refused("dataset.json")
    assert done.memory < MOST_MEMORY


ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(ALIASES, id="aliases of aliases"),
        pytest.param(MERGES, id="merged aliases of aliases"),
        pytest.param("name: " + "[" * 900 + "]" * 900, id="depth"),
        pytest.param("epochs: 2026-02-30\nname: 2026-02-30\n", id="no such day"),
        pytest.param("? [a, b]\n: 1\n", id="list as a key"),
        pytest.param("method: skeletonclr\nname: a\nname: b\nmethod: aimclr\n", id="a key given twice"),
        pytest.param("epochs: " + "9" * 5000 + "\nname: " + "9" * 5000, id="digits"),
        pytest.param("a: &a [*a]\nname: *a\n", id="a list in itself"),
    ],
)
def test_a_kilobyte_of_yaml_neither_hangs_nor_fills(text: str, made: Path, raw: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    manifest = ["prepare", "--dataset", file, "--split", "xsub", "--raw", raw, "--out", tmp_path / "ds"]
    recipe = training(made, tmp_path / "run", recipe=str(file))
    for words in (manifest, recipe):
        run(*words, preexec_fn=limited_memory).refused("mine.yaml")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("samples", float("nan")),
        ("views", None),
        ("shape", [-1, 10**30]),
        ("classes", "\x1b[31m"),
        ("layout", []),
        ("formats", {}),
        ("digest", [[[[]]]]),
    ],
)
def test_a_card_with_an_odd_value_is_refused_in_a_line(place: str, value: object, copied: Path) -> None:
    card = copied / "dataset.json"
    card.write_text(json.dumps({**json.loads(card.read_text("utf-8")), place: value}), "utf-8")
    done = run("info", "--shards", copied)
    done.refused("dataset.json")
    assert "\x1b" not in done.err


def test_a_library_that_does_not_import_is_one_line(made: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so: cannot open shared object file')\n")
    run(*training(made, tmp_path / "run"), env={"PYTHONPATH": str(tmp_path)}).refused("libtorch.so")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_in_a_line(number: int, code: int, many: Path, tmp_path: Path) -> None:
    handled = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    words = prepared(many, tmp_path / "ds", per_shard=1)
    with start(*words, preexec_fn=handled, start_new_session=True) as process:
        wait_for(lambda: list(tmp_path.rglob("*.tar")), process)
        process.send_signal(number)
        done = ended(process)
    assert done.code == code, (done.out, done.err)
    assert done.last
    assert "Traceback" not in done.err


def test_names_of_others_are_shown_escaped(recordings: Path, tmp_path: Path) -> None:
    first = sorted(recordings.rglob("*.skeleton"))[0]
    folder = tmp_path / "\x1b]0;mine\x07"
    shutil.move(recordings, folder)
    (folder / first.name).write_text("no numbers\n")
    done = run(*prepared(folder, tmp_path / "ds"))
    done.refused(first.name)
    assert "\x1b" not in done.err + done.out


def test_a_second_training_in_a_folder_is_refused(made: Path, tmp_path: Path) -> None:
    words = training(made, tmp_path / "run", "--resume", epochs=10_000)
    with start(*words) as first:
        wait_for(lambda: list((tmp_path / "run").glob("**/*.pt")), first)
        second = run(*words)
        first.kill()
    second.refused(str(first.pid))
    succeeds(*training(made, tmp_path / "run", "--overwrite"))  # what a killed process held is taken over


def test_a_folder_removed_in_mid_run_is_one_line(made: Path, tmp_path: Path) -> None:
    with start(*training(made, tmp_path / "run", epochs=10_000)) as process:
        wait_for(lambda: list((tmp_path / "run").glob("**/*.pt")), process)
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        shutil.rmtree(tmp_path / "elsewhere", ignore_errors=True)
        ended(process).refused(str(tmp_path / "run"))


def test_a_full_disk_is_called_so(made: Path, tmp_path: Path) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (9000, 9000))
    done = run(*training(made, tmp_path / "run"), preexec_fn=limit)
    done.refused(str(tmp_path / "run"), "ulimit -f")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (partial(os.truncate, length=1000), "now it has 1,000"),
        (partial(os.truncate, length=0), "now it has 0"),
        (os.unlink, "was removed while it was in use"),
    ],
    ids=["short", "empty", "gone"],
)
def test_a_shard_that_is_lost_while_it_is_read_is_named(
    damage: Callable[[Path], None], said: str, copied: Path, tmp_path: Path
) -> None:
    """Bytes beyond the end of a mapped file are a SIGBUS, which no handler of Python sees."""
    run_folder = tmp_path / "run"
    with start(*training(copied, run_folder, epochs=10_000)) as process:
        wait_for(lambda: list(run_folder.glob("**/*.pt")), process)
        for shard in copied.glob("train/joint/*.tar"):
            damage(shard)
        ended(process).refused(f"Error: {copied}/train/joint/", ".tar: ", said)


def test_many_shards_need_few_open_files(many: Path, tmp_path: Path) -> None:
    """40 shards of each of three views, and 64 files that may be open."""
    succeeds(*prepared(many, tmp_path / "ds", per_shard=1))
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (64, 64))
    succeeds(*training(tmp_path / "ds", tmp_path / "run", recipe="crosclr", epochs=2), preexec_fn=limit)


@pytest.mark.parametrize("gone", [0, 1])
def test_a_rank_that_dies_is_named_by_the_other(gone: int, made: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = training(made, tmp_path / "run", "--batch-norm", "rank", epochs=10_000)
    names = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    team = [start(*words, env={**names, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in (0, 1)]
    wait_for(lambda: list((tmp_path / "run").glob("**/*.pt")), team[0])
    team[gone].kill()
    begun = time.monotonic()
    done = ended(team[1 - gone])
    team[gone].communicate()
    assert time.monotonic() - begun < 10
    assert re.search(rf"\brank {gone}\b", done.last), done.err
    assert "SIGKILL" in done.last or "killed" in done.last
    assert "Traceback" not in done.err
