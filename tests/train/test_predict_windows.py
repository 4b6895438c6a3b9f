"""Recordings from a pipe, and windows over long ones, by the script."""

import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from skelpipe.manifest_file import load_manifest
from skelpipe.models.released.keys import stgcn_key
from skelpipe.models.stgcn import STGCN
from skelpipe.raw.readers import RecordingReader
from skelpipe.raw.source import RawFile
from skelpipe.skeleton import layout
from skelpipe.train.predict import main

NAME = "S001C001P001R001A001"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    encoder = STGCN(layout("kinect-v2-25"), "agcn", width=2, out_channels=4)
    found = {f"encoder_q.{stgcn_key(name)}": value for name, value in encoder.state_dict().items()}
    found = {name: value[..., None, None] if value.ndim == 2 else value for name, value in found.items()}
    found |= {f"encoder_q.fc.{name}": value for name, value in nn.Linear(4, 60).state_dict().items()}
    path = tmp_path_factory.mktemp("released") / "linear.pt"
    torch.save(found, path)
    return path


@pytest.fixture
def raw(raw_folder: Callable[..., Path]) -> Path:
    return next(raw_folder([NAME], bodies=2).glob("*.skeleton"))


@pytest.fixture
def call(checkpoint: Path) -> Callable[..., Result]:
    def run(*options: object, given: bytes | None = None) -> Result:
        every = ["--checkpoint", checkpoint, "--view", "joint", "--device", "cpu", *options]
        return CliRunner().invoke(main, [*map(str, every)], input=given)

    return run


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def frames_of(raw: Path) -> list[list[Any]]:
    """The frames of a file as a program that follows a camera would write them: lists of bodies."""
    recording = RecordingReader(load_manifest("ntu60"), 2).read(RawFile(raw.name, str(raw), 0))
    stops = np.cumsum(recording.counts)
    return [recording.xyz[b - n : b].tolist() for b, n in zip(stops, recording.counts, strict=True)]


def test_a_pipe_gives_what_its_file_gives(call: Callable[..., Result], raw: Path) -> None:
    """The same text, gzip of it, an array of numpy, and one line per frame."""
    expected = lines(call("--json", raw))[0]["recordings"]
    text = raw.read_bytes()
    assert lines(call("--json", "-", "--name", raw.name, given=text))[0]["recordings"] == expected
    assert lines(call("--json", "-", "--name", raw.name, given=gzip.compress(text)))[0]["recordings"] == expected
    frames = frames_of(raw)
    jsons = "\n".join(map(json.dumps, frames)).encode()
    array = io.BytesIO()
    np.save(array, np.array(frames))  # T,M,V,C
    for given in (jsons, array.getvalue()):
        found = lines(call("--json", "-", given=given))[0]["recordings"]
        assert [entry["id"] for entry in found] == ["stdin"]
        assert [each["action"] for each in found[0]["top"]] == [each["action"] for each in expected[0]["top"]]
        assert found[0]["top"][0]["probability"] == pytest.approx(expected[0]["top"][0]["probability"], rel=1e-5)


def test_a_window_over_the_whole_recording_is_its_prediction(call: Callable[..., Result], raw: Path) -> None:
    count = len(frames_of(raw))
    expected = lines(call("--json", raw))[0]["recordings"][0]
    whole = [{"id": NAME, "first": 1, "last": count, "top": expected["top"]}]
    assert lines(call("--json", "--window", count, raw)) == whole
    short = lines(call("--json", "--window", count + 9, "--fps", 30, raw))
    assert short == [{**whole[0], "begin": 0.0, "end": count / 30, "short": True}]
    table = call("--window", count + 9, raw).stdout
    assert "fewer frames than a window" in table
    assert expected["top"][0]["name"] in table


def test_a_file_and_its_frames_from_a_pipe_have_the_same_windows(call: Callable[..., Result], raw: Path) -> None:
    given = "\n".join(map(json.dumps, frames_of(raw))).encode()
    walk = ("--json", "--window", 5, "--stride", 2)
    of_file, of_pipe = lines(call(*walk, raw)), lines(call(*walk, "-", "--name", raw.name, given=given))
    assert of_file == of_pipe
    assert [each["first"] for each in of_file[:3]] == [1, 3, 5]
    assert of_file[-1]["last"] == len(frames_of(raw))


def test_a_named_pipe_is_read_as_a_file(call: Callable[..., Result], raw: Path, tmp_path: Path) -> None:
    """As a shell's `<(program)` is: its size is not known before its end."""
    pipe = tmp_path / raw.name
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(raw.read_bytes()), daemon=True)
    writer.start()
    assert lines(call("--json", pipe)) == lines(call("--json", raw))
    writer.join(60)


def test_predictions_come_while_the_pipe_stays_open(
    call: Callable[..., Result], raw: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second window's frames are written only after the first's prediction came."""
    taken, given = os.pipe()
    shown, result = os.pipe()
    frames = [json.dumps(frame).encode() + b"\n" for frame in frames_of(raw)[:6]]
    options = ["--checkpoint", checkpoint, "--view", "joint", "--device", "cpu", "--json"]
    options += ["--window", 3, "--stride", 3, "-"]

    def serve() -> None:
        monkeypatch.setattr(sys, "stdin", os.fdopen(taken))
        monkeypatch.setattr(sys, "stdout", os.fdopen(result, "w"))
        main.main([*map(str, options)], standalone_mode=False)
        sys.stdout.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with os.fdopen(shown, "rb") as answers:
        found = []
        for start in (0, 3):
            os.write(given, b"".join(frames[start : start + 3]))
            found.append(json.loads(answers.readline()))
        os.close(given)
        assert answers.read() == b""
    thread.join(60)
    monkeypatch.undo()
    assert [(each["first"], each["last"]) for each in found] == [(1, 3), (4, 6)]


@pytest.mark.parametrize(
    ("options", "given", "words", "code"),
    [
        (["-"], b"", "stdin: the pipe ended before a recording came", 1),
        (["-", "--name", "camera"], b"[]\n[[1, 2]]\n", "camera:2, body 1: 25 joints", 1),
        (["-"], b"null\n\n[]\n", "stdin: no body in any of its 2 frames", 1),
        (["-", "--window", "2"], b"[]\n{\n", "stdin:2: ends in the middle of its JSON", 1),
        (["-", "-"], b"", "there is one pipe", 2),
        (["a.skeleton", "--format", "lines"], b"", "--name and --format are about the pipe", 2),
        (["a.skeleton", "--stride", "3"], b"", "pass --window", 2),
        (["--shards", "s3://bucket/ds", "--window", "3"], b"", "takes neither --window nor a pipe", 2),
        ([], b"", "name the raw files", 2),
    ],
)
def test_what_a_pipe_cannot_be_is_said_in_a_line(
    call: Callable[..., Result], options: list[str], given: bytes, words: str, code: int
) -> None:
    result = call(*options, given=given)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
