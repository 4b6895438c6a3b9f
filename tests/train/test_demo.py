"""The script `train/demo.py`: its help, and the folders that it refuses; `make demo` runs the whole."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from skelpipe.errors import UsageError
from skelpipe.train.commands.demo import empty_folder
from skelpipe.train.demo import main
from skelpipe.train.running.named_paths import DEMO_MARK


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert "Example: skelpipe demo --out demo" in result.output


def test_only_the_folder_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    empty_folder(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [DEMO_MARK]
    (tmp_path / "new" / "curve.png").touch()
    empty_folder(tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == [DEMO_MARK]

    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("text")
    with pytest.raises(UsageError, match="has files that no demo wrote"):
        empty_folder(other)
    result = CliRunner().invoke(main, ["--out", str(other)])
    assert result.exit_code == 2
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]
