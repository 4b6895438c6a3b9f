"""The layout of the repository: rooms that say what they are for, and tests that mirror them."""

import ast
from configparser import ConfigParser
from pathlib import Path

import pytest

import skelpipe

ROOT = Path(__file__).resolve().parents[1]
MIRRORED = ("manifests", "pipeline", "models", "train")
PACKAGES = sorted(
    path.parent.relative_to(ROOT) for folder in MIRRORED for path in (ROOT / folder).rglob("__init__.py")
)
MODULES_AT_THE_TOP = 18  # of pipeline/; the others have a room
OVER_SEVERAL_MODULES = {  # tests that are named after what they test, as no module does it alone
    "manifests/test_ntu_facts.py",  # the data of the manifests against publications
    "manifests/test_other_facts.py",
    "models/test_plain_steps.py",  # all methods against steps written without their modules
    "models/test_recorded_steps.py",  # all methods against steps of their authors' code
    "pipeline/augment/test_recorded.py",  # all augmentations against clips of the authors' code
    "pipeline/augment/test_commute.py",  # every augmentation against deriving a view
    "pipeline/cli/test_cli.py",  # all commands of the package
    "pipeline/test_front_door.py",  # the names of the package itself
    "pipeline/dataset/test_remote_faults.py",  # a remote dataset, from storage to batches
    "pipeline/dataset/test_remote_processes.py",
    "pipeline/dataset/test_remote_replaced.py",
    "pipeline/dataset/test_remote_untrimmed.py",
    "pipeline/drawing/test_marks.py",  # marked joints in GIFs and in pages
    "pipeline/plugins/test_example.py",  # the plug-in of the documentation
    "pipeline/loader/test_resume.py",  # streams and loaders on any number of ranks
    "pipeline/storage/test_faulty_servers.py",  # all that servers answer wrongly, over HTTP and S3
    "pipeline/storage/test_interrupt.py",  # Ctrl-C during each kind of request
    "train/running/test_shared_batches.py",  # all methods on several ranks
    "train/test_ablations.py",  # the rows of all ablations in the papers' tables
    "train/test_broken_clips.py",  # a clip of NaN in all methods
    "train/test_every_dataset.py",  # from synth to training, all datasets and splits
    "train/test_learning.py",  # all methods learn
    "train/test_methods.py",  # all methods with their own recipes
    "train/test_methods_amp.py",  # all methods in bfloat16
    "train/test_start.py",  # all commands before and without heavy imports
    "train/test_without_labels.py",  # training, embedding and evaluation of clips without labels
    "train/test_methods_released.py",  # recipe, start and stages of the released ActCLR
    "train/training/test_resume.py",  # scripts that are killed and go on
    "train/training/test_stages.py",  # a method with stages, from training to evaluation
}


def modules(package: Path) -> set[str]:
    return {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__", "__main__"}


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_says_what_it_is_for(package: Path) -> None:
    assert ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text("utf-8")))


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_a_package_has_tests(package: Path) -> None:
    assert list((ROOT / "tests" / package).glob("test_*.py"))


def test_a_folder_of_tests_has_a_package() -> None:
    tests = {
        path.parent.relative_to(ROOT / "tests")
        for each in MIRRORED
        for path in (ROOT / "tests" / each).rglob("*.py")
    }
    assert tests <= set(PACKAGES)


def test_a_file_of_tests_is_named_after_a_module() -> None:
    """`test_X.py` or `test_X_more.py` tests module X of the same folder; the exceptions are listed, and exist."""
    others = set()
    for package in PACKAGES:
        known = modules(package)
        for path in (ROOT / "tests" / package).glob("test_*.py"):
            name = path.stem.removeprefix("test_")
            if name not in known and not any(name.startswith(f"{module}_") for module in known):
                others.add(path.relative_to(ROOT / "tests").as_posix())
    assert others == OVER_SEVERAL_MODULES


@pytest.mark.parametrize("script", sorted(modules(Path("train"))))
def test_a_script_has_tests(script: str) -> None:
    assert (ROOT / "tests" / "train" / f"test_{script}.py").exists()


def test_few_modules_lie_at_the_top_of_the_pipeline() -> None:
    assert len(modules(Path("pipeline"))) <= MODULES_AT_THE_TOP


def test_only_scripts_lie_at_the_top_of_train() -> None:
    for name in modules(Path("train")):
        assert 'if __name__ == "__main__":' in (ROOT / "train" / f"{name}.py").read_text("utf-8"), name


def test_the_package_lists_its_folders_and_its_version() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = sorted(config["options"]["packages"].split())
    assert listed == sorted(
        ".".join(("skelpipe", *each.parts)).replace("skelpipe.pipeline", "skelpipe") for each in PACKAGES
    )
    assert config["metadata"]["version"] == skelpipe.__version__
