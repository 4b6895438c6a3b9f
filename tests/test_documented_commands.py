"""Every command of README and docs has options that exist; those of the pages for beginners run, in small."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import documented
import pytest
from click.testing import CliRunner
from documented import Line

from skelpipe.cli import COMMANDS
from skelpipe.cli import main as skelpipe
from skelpipe.plugins import unload
from skelpipe.plugins.tables import LOADED

# Pages whose commands run one after another in an empty folder. Those of the others are checked for their options.
RUN = (
    "README.md",
    "docs/augmentation.md",
    "docs/checkpoints.md",
    "docs/evaluation.md",
    "docs/first-hour.md",
    "docs/fusion-and-embedding.md",
)
# Pages whose Python runs after their commands, block after block with the same names.
PYTHON = ("README.md", "docs/augmentation.md", "docs/dataset.md", "docs/evaluation.md", "docs/loaders.md")
# What such a page shows and cannot run here: parts of its lines, with the reason.
NEEDS = {
    "--raw MSRAction3D": "recordings of MSR Action3D",
    "--shards msr ": "recordings of MSR Action3D",
    "real": "recordings of NTU RGB+D",
    "runs/aimclr-ntu60": "a training on NTU RGB+D",
    "aimclr_ntu60_xview_joint_linear.pt": "a released checkpoint",
    "aimclr_epoch100.pt": "a released checkpoint",
    "s3://bucket/ntu60": "a bucket; tests/pipeline/storage has one",
    "skelpipe demo": "minutes; `make demo` runs it",
    "--paper": "the datasets of a table; tests/train/reproduction",
    "--actions 50": "minutes",
    "skelpipe bench": "seconds; tests/pipeline/bench",
    "perf_counter": "seconds",
    "pkummd1": "a dataset with whole videos; tests/pipeline/dataset/test_untrimmed.py",
    "Accelerator": "tests/pipeline/loader runs accelerate",
}
# A folder of the machine, a bucket, a GPU, processes, and more clips than there are here.
INSTEAD = {
    "/tmp/": "tmp/",
    "s3://bucket/gym": "bucket/gym",
    '"cuda"': '"cpu"',
    "num_workers=2": "num_workers=0",
    ", pin_memory=True": "",
    "batch_size=64": "batch_size=4",
    "batch_size=128": "batch_size=4",
}
DATASET = """
skelpipe synth --dataset ntu60
skelpipe prepare --dataset ntu60 --split xsub --out ds
"""
# The size at which they run: what is added to the words of a command, where the last value of an option counts.
NETWORK = ["encoder.width=2", "encoder.out_channels=8", "head.hidden=8", "head.dim=4", "queue=8"]
SMALLER: dict[str, tuple[str, ...]] = {
    "synth": ("--subjects", "3", "--repeats", "1"),
    "prepare": ("--workers", "1"),
    "pretrain": ("--epochs", "1", "--batch-size", "8"),
    "linear": ("--epochs", "1", "--batch-size", "4"),
    "finetune": ("--epochs", "1", "--batch-size", "4", "--set", "encoder.width=2"),
}


@pytest.fixture(autouse=True)
def readers_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The default dataset and the plug-in of the examples are there; after a test no plug-in is loaded."""
    monkeypatch.setenv("SKELPIPE_SHARDS", "ds")
    monkeypatch.syspath_prepend(str(documented.ROOT / "docs/examples/plugin"))
    yield
    for module in list(LOADED):
        unload(module)


def complaint(line: Line, *accepted: type[click.ClickException]) -> str | None:
    """What the command says of the words of a line; the runs and files that they name need not exist."""
    try:
        with patch("skelpipe.train.running.script_options.check_weights_exist"):
            line.parsed()
    except accepted:
        return None
    except click.ClickException as error:
        return f"{line.page}: {line.text}: {error.format_message()}"
    return None


def test_every_command_has_options_that_exist() -> None:
    found = [complaint(line) for page in documented.pages() for line in documented.commands(page)]
    assert len(found) > 150
    assert not list(filter(None, found))


def test_every_command_inside_a_sentence_has_options_that_exist() -> None:
    """Its arguments may be left out."""
    partial = (click.MissingParameter, click.BadOptionUsage)
    found = [complaint(line, *partial) for page in documented.pages() for line in documented.spans(page)]
    assert len(found) > 30
    assert not list(filter(None, found))


def test_every_example_of_a_help_has_options_that_exist() -> None:
    for name in COMMANDS:
        command = skelpipe.get_command(click.Context(skelpipe), name)
        assert command is not None
        (line,) = documented.lines(name, str(command.epilog))
        assert line.name == name
        assert not complaint(line)


def test_a_wrong_option_is_found() -> None:
    wrong = "skelpipe info --shard ds\nOMP_NUM_THREADS=1 python train/knn.py --view bones  # comment\n"
    texts = [complaint(line) for line in documented.lines("page", wrong)]
    assert ["No such option" in str(texts[0]), "'bones' is not one of" in str(texts[1])] == [True, True]


def run(text: str, *, frames: int = 8) -> None:
    """Run the commands of a text in this process, at the small size."""
    for line in documented.lines("a page", text):
        if any(part in line.text for part in NEEDS):
            continue
        words = [*line.words, *SMALLER.get(line.name, ())]
        if line.name == "synth":
            words += ["--actions", "6" if "pkummd2" in words else "3"]
        if line.name == "prepare":
            words += ["--frames", str(frames)]
        if line.name == "pretrain" and "--plugin" not in words:  # whose method has other settings
            words += [word for pair in NETWORK for word in ("--set", pair)]
        result = CliRunner().invoke(line.command, [instead(word) for word in words])
        assert result.exit_code == 0, f"{line.text}\n{result.output[-2000:]}\n{result.exception!r}"


def instead(text: str) -> str:
    for written, local in INSTEAD.items():
        text = text.replace(written, local)
    return text


def what_readers_have() -> None:
    """Write what README takes for granted: NTU's archive, recordings with a manifest, the folder of the demo."""
    run("skelpipe synth --dataset ntu60 --out ntu")
    with zipfile.ZipFile("nturgbd_skeletons_s001_to_s017.zip", "w") as archive:
        for path in sorted(Path("ntu").iterdir()):
            archive.write(path, f"nturgb+d_skeletons/{path.name}")
    own = list(documented.blocks("docs/own-dataset.md"))
    exec(next(text for language, text in own if language == "python"), {})
    Path("gym.yaml").write_text(next(text for language, text in own if language == "yaml"))
    Path("gym").rename("recordings")
    Path("new.npy").write_bytes(Path("recordings/eve-1-row.npy").read_bytes())
    run(
        """skelpipe prepare --dataset ntu60 --split xsub --raw ntu --out demo/ntu60-xsub
        skelpipe pretrain --shards demo/ntu60-xsub --recipe demo --out demo/run"""
    )


@pytest.mark.parametrize("page", sorted({*RUN, *PYTHON}))
def test_commands_and_python_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SKELPIPE_SHARDS")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hugging-face")
    if page == "README.md":
        what_readers_have()
    found = list(documented.blocks(page))
    first = "\n".join(text for language, text in found if language == "") if page in RUN else DATASET
    run(first, frames=64 if page == "docs/augmentation.md" else 8)
    names: dict[str, Any] = {}
    for language, text in found if page in PYTHON else ():
        if language == "python" and not any(part in text for part in NEEDS):
            exec(compile(instead(text), page, "exec"), names)


def test_all_python_compiles() -> None:
    for page in documented.pages():
        for language, text in documented.blocks(page):
            if language == "python":
                compile(text, page, "exec")
