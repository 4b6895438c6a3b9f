"""Pre-training on a dataset in a bucket: the result equals local training, bit for bit."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file

from skelpipe.prepare.copy import copy_dataset
from skelpipe.storage import open_filesystem
from skelpipe.train.pretrain import main as pretrain

SMALL = {"encoder.width": 2, "encoder.out_channels": 8, "head.hidden": 8, "head.dim": 8, "queue": 8}
SETTINGS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
SETTINGS += ["--batch-size", "4", "--knn-every", "0", "--device", "cpu"]
WAIT = 300  # seconds until a test gives up; nothing here takes more than some ten
EPOCHS = 20  # some seconds, in which one rank is killed


@pytest.fixture(autouse=True)
def there(prepared, store) -> None:
    copy_dataset(open_filesystem(prepared.folder), store.filesystem(), workers=4, quiet=True)


def train(shards: list[str], out: Path, *more: str) -> str:
    """Train in this process; return what was said."""
    done = CliRunner().invoke(pretrain, ["--shards", *shards, "--out", str(out), *SETTINGS, *more])
    assert done.exit_code == 0, done.output
    return done.output


def result(out: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return what a run leaves that training decides: its log and the bytes of its weights."""
    tensors = load_file(out / "encoder.safetensors")
    return (out / "log.jsonl").read_bytes(), {key: tensor.numpy().tobytes() for key, tensor in tensors.items()}


def test_pretraining_from_a_bucket_is_the_local_training(prepared, store, proxy, tmp_path) -> None:
    """The same losses and weights with and without cache, no request where it is warm, and no secret anywhere."""
    url = store.url(user="lab:reader", port=proxy.port)
    cached = [url, "--cache", str(tmp_path / "cache")]
    for name, where in {"near": [str(prepared.folder)], "far": [url], "cached": cached, "warm": cached}.items():
        proxy.requests.clear()
        said = train(where, tmp_path / name, "--epochs", "2", "--knn-every", "2")
        assert "with=signs" not in said
        assert bool(proxy.requests) == (name in ("far", "cached")), name
        assert result(tmp_path / name) == result(tmp_path / "near"), name
    assert len(result(tmp_path / "near")[0].splitlines()) == 2
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        content = file.read_bytes()
        assert b"a+secret/with=signs" not in content, file
        assert b"a%2Bsecret" not in content, file


def test_two_ranks_share_a_cache_and_one_goes_on_after_a_kill(store, proxy, starter, tmp_path) -> None:
    """Two ranks fetch each file once, also after a kill; a single one goes on from their cache.

    Equality of one and two ranks, and resuming, are tested with local datasets.
    """
    far = [store.url(port=proxy.port), "--cache", str(tmp_path / "cache")]
    out = tmp_path / "far"
    words = ["--shards", *far, "--out", str(out), *SETTINGS, "--save-every", "1", "--epochs", str(EPOCHS)]
    ranks = starter.start("pretrain", 2, words)
    deadline = time.monotonic() + WAIT
    while not (out / "checkpoints" / "epoch-0001.pt").exists():
        assert time.monotonic() < deadline, ranks.text(0)
        time.sleep(0.005)
    os.kill(ranks.pids[1], signal.SIGKILL)
    assert ranks.codes() == [1, -signal.SIGKILL]
    assert ranks.text(0).splitlines()[-1].startswith("Error: another rank has ended")
    assert not (out / "encoder.safetensors").exists()
    asked = shards_asked(proxy)
    assert asked
    assert max(asked.values()) == 1, asked

    done = int(max((out / "checkpoints").iterdir()).stem.removeprefix("epoch-"))
    proxy.requests.clear()
    assert f"{done} epochs are done" in train(far, out, "--epochs", str(EPOCHS), "--resume")
    assert not proxy.requests
    epochs = [json.loads(text)["epoch"] for text in result(out)[0].splitlines()]
    assert epochs == list(range(1, EPOCHS + 1))


def shards_asked(proxy: Any) -> dict[str, int]:
    """Return how often each shard's bytes were asked for."""
    paths = [request.split()[1] for request in proxy.requests if request.startswith("GET")]
    return {path: paths.count(path) for path in paths if path.endswith(".tar")}


def test_ctrl_c_ends_training_that_waits_for_a_shard(store, proxy, starter, tmp_path) -> None:
    """At once, with one line; the thread that reads, and those that fetch, do not delay the exit."""
    proxy.add(r"GET .*/train/joint/.*\.tar", then="hang", after=20_000, times=1000)
    words = ["--shards", store.url(port=proxy.port), "--out", str(tmp_path / "run"), *SETTINGS, "--epochs", "1"]
    training = starter.start("pretrain", 1, words)
    deadline = time.monotonic() + WAIT
    while not shards_asked(proxy):
        assert time.monotonic() < deadline, training.text(0)
        time.sleep(0.02)
    time.sleep(0.5)
    begun = time.monotonic()
    os.kill(training.pids[0], signal.SIGINT)
    assert training.codes() == [130]
    assert time.monotonic() - begun < 20  # the client itself would wait for half a minute
    said = training.text(0)
    assert said.splitlines()[-1].startswith("Interrupted: ")
    assert "Traceback" not in said
