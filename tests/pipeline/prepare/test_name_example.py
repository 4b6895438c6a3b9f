"""Examples of names: every one matches its pattern, or says that it is a pattern."""

import re
from dataclasses import replace

import pytest

from skelpipe import manifests
from skelpipe.manifest_file import load_manifest
from skelpipe.prepare.name_example import example_file

NTU = load_manifest("ntu60")
PATTERNS = [
    r"(?P<a>\d{3})-(?P<b>[LMR])",
    r"(?P<a>train|test)/(?P<b>walk|run)/\d+",
    r"[a-z]+_\w+\s?[^x].",
    r"(?:a|b)*?c{2,}",
    r"^x.y$",
    r"[^/]+",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_example_matches(pattern) -> None:
    manifest = replace(NTU, recordings=None, name_pattern=re.compile(pattern), suffixes=(".npy", ".x"))
    found = example_file(manifest)
    assert found.endswith(".npy")
    assert re.fullmatch(pattern, found.removesuffix(".npy"))


@pytest.mark.parametrize("name", manifests.names("datasets"))
def test_examples_of_built_in_datasets(name) -> None:
    manifest = load_manifest(name)
    found = manifest.identity(example_file(manifest))
    assert found is not None
    assert manifest.fields(found) is not None


def test_ntu_and_a_pattern_without_a_short_example() -> None:
    assert example_file(NTU) == "S001C001P001R001A001.skeleton"
    odd = replace(NTU, recordings=None, name_pattern=re.compile(r"(?P<a>\d)(?=x)x(?P=a)"))
    assert example_file(odd) == r"(?P<a>\d)(?=x)x(?P=a).skeleton (a regular expression)"
