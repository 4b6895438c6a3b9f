"""The script `train/report.py`; what a page shows is tested in `reporting/`."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from skelpipe.dataset import Dataset
from skelpipe.train.report import main


def test_the_command_writes_the_page_and_prints_its_path(
    finished: Path, tiny_dataset: Dataset, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(finished, tmp_path / "run"))
    (own / "report.html").unlink()
    done = CliRunner().invoke(main, [str(own), "--shards", str(tiny_dataset.path), "--json"])
    assert done.exit_code == 0, done.output
    printed: Mapping[str, Any] = json.loads(done.output)
    assert printed == {"report": str(own / "report.html"), "bytes": (own / "report.html").stat().st_size}
    failed = CliRunner().invoke(main, [str(tmp_path / "none")])
    assert failed.exit_code == 2
    assert failed.output.startswith("Error: ")
    assert "Example: skelpipe report" in CliRunner().invoke(main, ["--help"]).output
