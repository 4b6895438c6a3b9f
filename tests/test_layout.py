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
MODULES_AT_THE_TOP = 12  # of pipeline/; the others have a room


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
