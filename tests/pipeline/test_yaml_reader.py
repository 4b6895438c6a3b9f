"""YAML that people write: safe values, no key twice, and messages that name file, line and key."""

from pathlib import Path

import pytest

from skelpipe import manifests
from skelpipe.errors import UsageError
from skelpipe.yaml_reader import Section, parse_yaml, read_yaml


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: 2\na: 3\n", "outer:\n  b: 2\n  b: 2\n", "true: 1\nyes: 2\n", "1: a\n1.0: b\n"],
)
def test_a_key_given_twice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^here:\d: is no YAML: the key .* is given twice"):
        parse_yaml(text, "here")


def test_merged_keys_may_be_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n"
    assert parse_yaml(text, "here")["mine"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [", r"x\.yaml:1: is no YAML"), (b"\xff", "is no UTF-8 text"), (b"2001-02-30: a", "is no YAML")],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_yaml(path)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_an_unknown_key_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"^a\.yaml: unknown key 'splits\.xsub\.tran'; did you mean 'splits\.xsub\.train'"
    ):
        Section({"tran": 1}, "a.yaml: splits.xsub", ("train", "test"))


@pytest.mark.parametrize("kind", ["datasets", "layouts", "recordings"])
def test_built_in_facts_hold_no_key_twice(kind: str) -> None:
    assert manifests.names(kind)
    for name in manifests.names(kind):
        assert isinstance(parse_yaml(manifests.read_text(kind, name), name), dict)
