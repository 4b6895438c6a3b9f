"""A real S3 server for the tests of this folder, an unreliable proxy in front of it, and a dataset."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from skelpipe.manifest_file import load_manifest
from skelpipe.prepare import Options, prepare
from skelpipe.storage import open_filesystem
from skelpipe.storage.filesystem import Filesystem

BUCKET = "lab"
OPTIONS = Options("xsub", frames=16, shard_size=8)


def _sibling(name: str) -> ModuleType:
    """Load a module of this folder, which is neither a package nor on the path."""
    full = f"skelpipe_tests_swift_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The server, one per process of pytest; tests skip where it cannot run."""
    server = _sibling("server")
    try:
        with server.running(tmp_path_factory.mktemp("swift")) as running:
            running.make_bucket(BUCKET)
            yield running
    except server.NotHereError as reason:
        pytest.skip(str(reason))


@dataclass(frozen=True)
class Store:
    """A prefix of the bucket that no other test has."""

    server: Any
    prefix: str

    def url(self, name: str = "ds", **how: Any) -> str:
        return str(self.server.url(f"{BUCKET}/{self.prefix}/{name}", **how))

    def filesystem(self, name: str = "ds") -> Filesystem:
        return open_filesystem(self.url(name))

    def files(self, name: str = "ds") -> dict[str, bytes]:
        filesystem = self.filesystem(name)
        return {file: filesystem.read(file) for file in filesystem.names()}


@pytest.fixture
def store(swift: Any, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in swift.environment.items():
        monkeypatch.setenv(name, value)
    return Store(swift, uuid4().hex)


@pytest.fixture
def proxy(swift: Any) -> Iterator[Any]:
    """A proxy in front of the server, which disturbs its connections as a test asks."""
    with _sibling("proxy").FaultProxy(swift.port) as running:
        yield running


@dataclass(frozen=True)
class Prepared:
    """Raw recordings and the dataset that `prepare` makes of them in a folder, with its options and files."""

    raw: Path
    folder: Path
    options: Options
    digest: str

    def files(self) -> dict[str, bytes]:
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def arguments(self, out: str) -> list[str]:
        """Return the command line that makes this dataset at `out`."""
        options = ["--frames", str(self.options.frames), "--shard-size", str(self.options.shard_size)]
        return ["prepare", "--dataset", "ntu60", "--split", "xsub", "--raw", str(self.raw), "--out", out, *options]


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    ntu_names: Callable[..., list[str]],
    skeleton_text: Callable[..., str],
    moving_bodies: Callable[..., Any],
) -> Prepared:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "raw").mkdir()
    for seed, name in enumerate(ntu_names(actions=2)):
        (folder / "raw" / f"{name}.skeleton").write_text(skeleton_text(moving_bodies(seed, 12 + seed % 5)))
    card = prepare(load_manifest("ntu60"), [folder / "raw"], folder / "ds", OPTIONS, quiet=True).card
    return Prepared(folder / "raw", folder / "ds", OPTIONS, card["digest"])
