"""What training with labels may start from, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from skelpipe.dataset import Dataset
from skelpipe.errors import UsageError
from skelpipe.manifest_file import load_manifest
from skelpipe.models.released.checkpoint import load_released
from skelpipe.prepare import Options, prepare
from skelpipe.train.finetune import main
from skelpipe.train.running.run_log import Console
from skelpipe.train.training.finetuning_start import Request, choose_start

SMALL = ["--set", "encoder.width=2", "--set", "encoder.out_channels=8", "--batch-size", "8", "--device", "cpu"]


SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def run(dataset: Dataset, out: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["--shards", str(dataset.path), "--out", str(out), *options])


def test_a_checkpoint_that_does_not_fit_is_told_field_by_field(
    make_dataset: Callable[..., Dataset], ntu_names, finished: Path, tmp_path: Path
) -> None:
    longer = make_dataset(ntu_names(actions=2), frames=12, bodies=2)
    refused = run(longer, tmp_path / "x", "--checkpoint", str(finished), "--view", "bone")
    assert refused.exit_code == 2
    for words in ("view: trained on joint, asked for bone", "frames: trained on 8, asked for 12", "bodies:"):
        assert words in refused.stderr


def test_another_layout_is_told(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    rng = np.random.default_rng(0)
    for person in (1, 2):
        lines = rng.normal(size=(10 * 20, 4))
        text = "\n".join(" ".join(f"{value:.4f}" for value in row) for row in lines)
        (tmp_path / "raw" / f"a01_s{person:02}_e01_skeleton3D.txt").write_text(text + "\n")
    options = Options("xsub", frames=8, bodies=1)
    prepare(load_manifest("msr-action3d"), [tmp_path / "raw"], tmp_path / "set", options, quiet=True)
    other = Dataset.open(tmp_path / "set")
    refused = run(other, tmp_path / "x", "--checkpoint", str(finished))
    assert refused.exit_code == 2
    assert "layout: trained on kinect-v2-25, asked for msr-action3d-20" in refused.stderr


def test_another_backbone_than_the_checkpoints_is_told(
    tiny_dataset: Dataset, finished: Path, tmp_path: Path
) -> None:
    options = ["--checkpoint", str(finished), "--recipe", "supervised"]
    wider = run(tiny_dataset, tmp_path / "x", *options, "--set", "encoder.width=9")
    assert wider.exit_code == 2
    assert "encoder.width: trained with 2, asked for 9" in wider.stderr
    dsta = run(tiny_dataset, tmp_path / "x", *options, "--set", "encoder.name=dsta")
    assert dsta.exit_code == 2
    assert "encoder.name: trained with stgcn, asked for dsta" in dsta.stderr
    assert not (tmp_path / "x").exists()


def test_a_released_file_is_a_start(make_dataset: Callable[..., Dataset], ntu_names, tmp_path: Path) -> None:
    path = SHARED / "checkpoints" / "aimclr_ntu60_xview_joint_linear.pt"
    if not path.is_file():
        pytest.skip(f"the released checkpoint is not here: {path} is missing")
    dataset = make_dataset(ntu_names(actions=1), frames=50, bodies=2)
    start = choose_start(dataset, Request(checkpoint=str(path), view="joint", labels=0.1), Console())
    theirs = load_released(path).branch().encoder.state_dict()
    ours = start.classifier.encoder.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (start.protocol, start.recipe_name) == ("semi-10", "finetune-semi")
    wider = Request(checkpoint=str(path), view="joint", recipe="supervised", settings=("encoder.width=64",))
    with pytest.raises(UsageError, match=r"encoder\.width: trained with 16, asked for 64"):
        choose_start(dataset, wider, Console())


def test_what_contradicts_itself_is_refused(tiny_dataset: Dataset, tmp_path: Path) -> None:
    for options, words in (
        (["--recipe", "finetune"], "describes no network"),
        (["--recipe", "linear"], "there is no recipe 'linear'"),
        (["--set", "encoder.widht=3"], "unknown key 'encoder.widht'"),
        (["--set", "modes=both"], "modes"),
        (["--set", "epochs"], "expected KEY=VALUE"),
        (["--labels", "1.5"], "--labels 1.5"),
        (["--checkpoint", str(tmp_path / "none")], "there is no such run or file"),
    ):
        refused = run(tiny_dataset, tmp_path / "x", *options)
        assert refused.exit_code == 2, refused.output
        assert words in refused.stderr
        assert "Traceback" not in refused.output
    assert not (tmp_path / "x").exists()
