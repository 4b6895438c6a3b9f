"""`skelpipe doctor`."""

import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from skelpipe.cli import main
from skelpipe.cli.doctor import examine


def test_what_is_here_is_named() -> None:
    done = CliRunner().invoke(main, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    found = {name: each["found"] for name, each in json.loads(done.output).items()}
    assert found["numpy"] == np.__version__
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert found["device"].startswith("CUDA" if torch.cuda.is_available() else "CPU")
    assert "GB free here" in found["disk"]
    lines = CliRunner().invoke(main, ["doctor"]).output.splitlines()
    assert sum(not line.startswith(" ") for line in lines) == len(found)


def test_secrets_are_named_and_not_shown() -> None:
    said = {each.name: each.found for each in examine({"AWS_ACCESS_KEY_ID": "AKIASECRET"})}
    assert "AWS_ACCESS_KEY_ID" in said["S3"]
    assert "AKIASECRET" not in str(said)


def test_few_open_files_and_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = {each.name: each for each in examine({})}
    assert found["open files"].advice.endswith("ulimit -n 4096")
    assert "NUMBA_CACHE_DIR" in found["kernel cache"].advice


@pytest.mark.parametrize("error", [OSError("libcudart.so.12: cannot be opened"), ValueError("\x1b[2Jmixed")])
def test_a_torch_that_does_not_import(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "torch":
                raise error

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1
    assert re.search(r"^device +does not import\n +-> import torch: ", done.output, re.MULTILINE)
    assert str(error).replace("\x1b", "\\x1b") in done.output
    assert "open files" in done.output


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    module = sys.modules["skelpipe.cli.doctor"]

    def absent(name: str) -> str:
        if name == "h5py":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(module, "version", absent)
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1
    assert "pip install h5py" in done.output
