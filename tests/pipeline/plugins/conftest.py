"""A folder for plug-ins that a test writes; they are gone after it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from skelpipe.plugins import unload
from skelpipe.plugins.tables import LOADED


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, which Python searches for modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("SKELPIPE_PLUGINS", raising=False)
    yield tmp_path
    for module in list(LOADED):
        unload(module)
    for each in tmp_path.glob("*.py"):
        sys.modules.pop(each.stem, None)
