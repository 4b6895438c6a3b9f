"""`browse`: datasets and runs are told apart, and what is neither is refused in one line."""

import json
from pathlib import Path

from click.testing import CliRunner

from skelpipe.dataset import Dataset
from skelpipe.train.browse import main


def test_datasets_and_runs_make_one_page(tiny_dataset: Dataset, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("epochs: 2\n")
    (run / "log.jsonl").write_text('{"epoch": 1, "loss": 2.5}\n')
    out = tmp_path / "new" / "page.html"
    words = [str(tiny_dataset.path), str(run), "--out", str(out), "--clips", "6", "--json"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told == {"out": str(out), "bytes": out.stat().st_size, "shown": 6, "clips": 48, "runs": 1}
    text = out.read_text("utf-8")
    assert 'aria-label="loss: run 1 ends at 2.5"' in text
    sections = ("clips", "runs", "figures", "curves")
    assert [each for each in sections if f'id="{each}"' in text] == ["clips", "runs", "curves"]


def test_what_is_neither_a_dataset_nor_a_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "page.html")])
    assert result.exit_code == 2
    assert f"{tmp_path}: is neither a dataset (it has no dataset.json) nor a run" in result.stderr
    assert not (tmp_path / "page.html").exists()
